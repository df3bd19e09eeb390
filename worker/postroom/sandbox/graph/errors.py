"""How Graph refuses a request: the answer, with the headers that all its answers have."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from postroom.sandbox.connection import Answer
from postroom.sandbox.control.request_log import Arrival
from postroom.sandbox.exchange.errors import GraphError

DIAGNOSTIC = (
    '{"ServerInfo":{"DataCenter":"Sandbox","Slice":"E","Ring":"1","ScaleUnit":"001","RoleInstance":"POSTROOM"}}'
)
AUTHENTICATE = (
    'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
    'client_id="00000003-0000-0000-c000-000000000000"'
)


def unauthorized(message: str) -> GraphError:
    """The error for a token that is missing, broken or not valid."""
    return GraphError(401, "InvalidAuthenticationToken", message, {"www-authenticate": AUTHENTICATE})


def refuse(arrival: Arrival, error: GraphError) -> Answer:
    """The answer with which Graph refuses a request. Notes the error's code in the request's record."""
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
    """The headers that each answer of Graph has."""
    return {
        "cache-control": "private",
        "request-id": request_id,
        "client-request-id": client_request_id,
        "x-ms-ags-diagnostic": DIAGNOSTIC,
    }
