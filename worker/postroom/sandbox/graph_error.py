"""Graph's refusals, in Graph's own shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from postroom.sandbox.connection import Answer
from postroom.sandbox.request_log import Arrival

DIAGNOSTIC = (
    '{"ServerInfo":{"DataCenter":"Sandbox","Slice":"E","Ring":"1","ScaleUnit":"001","RoleInstance":"POSTROOM"}}'
)
AUTHENTICATE = (
    'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
    'client_id="00000003-0000-0000-c000-000000000000"'
)


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


def unauthorized(message: str) -> GraphError:
    """The token is none, or not good enough."""
    return GraphError(401, "InvalidAuthenticationToken", message, {"www-authenticate": AUTHENTICATE})


def refuse(arrival: Arrival, error: GraphError) -> Answer:
    """The refusal as Graph sends it; noted in the record of the request."""
    arrival.code = error.code
    inner = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": arrival.request_id,
        "client-request-id": arrival.client_request_id,
    }
    body = {"error": {"code": error.code, "message": error.message, "innerError": inner}}
    headers = graph_headers(arrival.request_id, arrival.client_request_id)
    headers["content-type"] = "application/json"
    return Answer(error.status, headers | error.headers, json.dumps(body).encode())


def graph_headers(request_id: str, client_request_id: str) -> dict[str, str]:
    """What every answer of Graph carries."""
    return {
        "cache-control": "private",
        "request-id": request_id,
        "client-request-id": client_request_id,
        "x-ms-ags-diagnostic": DIAGNOSTIC,
    }
