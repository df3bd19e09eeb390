"""Keys and self-signed certificates for apps, and the forms in which Entra and its portal know them.

Entra takes RSA keys only. https://learn.microsoft.com/entra/identity-platform/certificate-credentials,
https://learn.microsoft.com/graph/api/resources/keycredential
"""

import base64
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import NAMESPACE_OID, UUID, uuid5

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from postroom.graph.credentials import Certificate, key_and_certificate

COMMON_NAME = x509.NameOID.COMMON_NAME
KEY_SIZE = 3072
CLOCK_SKEW = timedelta(minutes=10)  # another machine's clock may be behind this one's


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key and its certificate.

    `key_id` is the id of the certificate's entry in `keyCredentials`: an app cannot ask for it, so it is kept in the
    file if Entra chose it. Where we choose, it follows from the certificate.
    """

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    key_id: str = ""

    def __post_init__(self) -> None:
        if not self.key_id:
            object.__setattr__(self, "key_id", str(uuid5(NAMESPACE_OID, self.sha256)))

    @property
    def sha1(self) -> str:
        """The thumbprint as the portal and `az` show it: SHA-1, hexadecimal, in capitals."""
        return self.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - thumbprints are defined so

    @property
    def sha256(self) -> str:
        """The newer thumbprint: SHA-256, hexadecimal, in capitals."""
        return self.certificate.fingerprint(hashes.SHA256()).hex().upper()

    @property
    def x5t(self) -> str:
        """The thumbprint (SHA-1) as the header of a JWT has it."""
        return base64url(self.certificate.fingerprint(hashes.SHA1()))  # noqa: S303 - x5t is defined so

    @property
    def x5t_s256(self) -> str:
        """The newer thumbprint (SHA-256) as the header of a JWT has it."""
        return base64url(self.certificate.fingerprint(hashes.SHA256()))

    @property
    def ends(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def starts(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def object_id(self) -> str:
        """The object id of the application that this was made for; empty if the certificate names none."""
        try:
            names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ""
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        found = [re.fullmatch(r"urn:uuid:([0-9a-f-]{36})", uri) for uri in uris]
        return next((one[1] for one in found if one), "")

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """Key and certificate in one text, as POSTROOM_CLIENT_CERTIFICATE takes it.

        Text before the first PEM part is allowed and means nothing to others: https://www.rfc-editor.org/rfc/rfc7468
        """
        form = serialization.PrivateFormat.PKCS8
        key = self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return f"postroom keyId: {self.key_id}\n".encode() + key + self.certificate_pem

    def pfx(self, name: str, password: str) -> bytes:
        """Key and certificate as a PFX file with a password."""
        encryption = serialization.BestAvailableEncryption(password.encode())
        return pkcs12.serialize_key_and_certificates(name.encode(), self.key, self.certificate, None, encryption)

    def entry(self, name: str) -> dict[str, str]:
        """The certificate as an entry of an application's `keyCredentials`."""
        sha1 = self.certificate.fingerprint(hashes.SHA1())  # noqa: S303 - customKeyIdentifier is defined so
        return {
            "customKeyIdentifier": base64.b64encode(sha1).decode(),
            "displayName": name,
            "endDateTime": self.ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "keyId": self.key_id,
            "key": base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode(),
            "startDateTime": self.starts.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
        }


def make(name: str, life: timedelta, now: datetime, object_id: str = "") -> KeyPair:
    """A new key with a self-signed certificate, valid for `life` from now on.

    The certificate carries the application's object id, because an app may not look up its own: with it a worker can
    change the app's certificates (`rotation.py`).
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_SIZE)
    subject = x509.Name([x509.NameAttribute(COMMON_NAME, name[:64])])
    # A policy counts a certificate's life from its start, so that start must not be moved back past the end.
    starts = now - CLOCK_SKEW
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(starts + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if object_id:
        uri = x509.UniformResourceIdentifier(f"urn:uuid:{UUID(object_id)}")
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return KeyPair(key, builder.sign(key, hashes.SHA256()))


def read(path: Path, password: str | None = None) -> KeyPair:
    """The key and certificate in a PEM or PFX file. Raises CredentialFault."""
    key, certificate = key_and_certificate(Certificate(path, password))
    noted = re.match(rb"postroom keyId: ([0-9a-f-]{36})\n", path.read_bytes()[:100])
    return KeyPair(key, certificate, noted[1].decode() if noted else "")


def base64url(data: bytes) -> str:
    """Base64 as JOSE writes it: for URLs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read. At any moment there is the old content or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
