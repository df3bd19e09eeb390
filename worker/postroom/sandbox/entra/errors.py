"""Why Entra refuses a request."""

from __future__ import annotations


class EntraError(Exception):
    """A request is refused: with this AADSTS number, OAuth error code, text and HTTP status."""

    def __init__(self, number: int, error: str, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.number = number
        self.error = error
        self.text = text
        self.status = status or (401 if error == "invalid_client" else 400)
