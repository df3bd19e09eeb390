"""A seal: what is closed with it lies in Redis, and only workers with the same app credential can read it."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Seal:
    """Made from the app's own secret, so there is no key to hand out; a rotated secret opens nothing of before.

    Seals of the same secret and different purposes do not open each other's.
    """

    def __init__(self, secret: bytes, purpose: bytes = b"postroom upload session") -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret)
        self._fernet = Fernet(urlsafe_b64encode(key))

    def close(self, text: str) -> str:
        """`text`, so that only this seal opens it."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, closed: str) -> str | None:
        """The text that was closed; None if it was with another seal."""
        try:
            return self._fernet.decrypt(closed.encode()).decode()
        except InvalidToken:
            return None
