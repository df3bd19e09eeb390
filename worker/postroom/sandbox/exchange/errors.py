"""Why Exchange, or Graph before it, refuses a request."""

from __future__ import annotations

from collections.abc import Mapping


class GraphError(Exception):
    """Graph says no: the HTTP status, Graph's code for it, the message, and headers of its own."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def invalid_body(message: str) -> GraphError:
    """The body does not fit the resource's type."""
    return GraphError(400, "RequestBodyRead", message)


def invalid_recipients(message: str) -> GraphError:
    """Exchange cannot send to these recipients."""
    return GraphError(400, "ErrorInvalidRecipients", f"At least one recipient is not valid., {message}")
