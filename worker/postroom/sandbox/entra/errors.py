"""Entra's refusals."""

from __future__ import annotations


class EntraError(Exception):
    """Entra says no: the AADSTS number, OAuth's word for it, the text, and the HTTP status."""

    def __init__(self, number: int, error: str, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.number = number
        self.error = error
        self.text = text
        self.status = status or (401 if error == "invalid_client" else 400)
