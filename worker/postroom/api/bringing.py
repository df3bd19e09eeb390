"""Requests that bring mail: key, body and answer in one step, because most requests are of this kind.

FastAPI would resolve each part on its own, and would pass each from the event loop to a thread and back. That takes
more CPU than the mail itself.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import Request, Response

from postroom.access.api_keys import ApiKey
from postroom.access.rights import Scope
from postroom.api.authorization import allowed
from postroom.api.dependencies import Services
from postroom.api.errors import Refusal
from postroom.api.request_bodies import json_object, owners_of, takes

# A body of this size is in memory before anybody asks for it: the server reads ahead. So it may be read before its key
# is checked. It is parsed after that.
SMALL = 16 * 1024
_IDEMPOTENCY_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")

Work = Callable[[Services, ApiKey, dict[str, Any], str | None], Response]


async def answer(request: Request, work: Work) -> Response:
    """What `work` answers, given the services, the key, the JSON object of the body and the Idempotency-Key.

    It runs in a thread. Refusal if the key may not send, or if the body is no JSON object.
    """
    services: Services = request.app.state.services
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    check = partial(allowed, services, request, secret if scheme.lower() == "bearer" else None, Scope.SEND)
    in_thread = anyio.to_thread.run_sync
    key = None if _is_small(request) else await in_thread(check)
    owners = owners_of(request)
    body = await services.bodies.read(request, owners)

    def whole() -> Response:
        allowed_key = key or check()
        return work(services, allowed_key, json_object(request, body), _idempotency_key(request))

    try:
        return await in_thread(whole)
    finally:
        services.bodies.give_back(len(body), owners)


def _is_small(request: Request) -> bool:
    size = request.headers.get("content-length", "")
    return size.isdigit() and len(size) < 10 and int(size) <= SMALL


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.get("idempotency-key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        fault = "header.idempotency-key: 1 to 255 printable ASCII characters are needed, no blank at either end"
        raise Refusal(422, "invalid_request", "the request is not as it should be", {"faults": [fault]})
    return given


def brings(schema: str) -> dict[str, Any]:
    """Describes such a route in OpenAPI."""
    key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]([ -~]*[!-~])?$"}
    parameter = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The same key with the same body is the same mail, for as long as its record is kept.",
        "schema": key,
    }
    return {**takes(schema), "parameters": [parameter], "security": [{"key": []}]}
