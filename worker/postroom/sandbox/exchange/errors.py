"""Why Exchange, or Graph before it, refuses a request."""

from __future__ import annotations

from collections.abc import Mapping


class GraphError(Exception):
    """A request is refused: with this HTTP status, Graph's code and message, and these further headers."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def invalid_body(message: str) -> GraphError:
    """The error for a body that does not fit the type that is expected."""
    return GraphError(400, "RequestBodyRead", message)


def invalid_recipients(message: str) -> GraphError:
    """The error for recipients that Exchange cannot send to."""
    return GraphError(400, "ErrorInvalidRecipients", f"At least one recipient is not valid., {message}")
