"""Surrounds all routes: limits that need no key, an answer to every fault, and one log line for each request."""

import time
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.api.errors import RETRY_AFTER_S, Refusal
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import place_of

MOST_HEADER_BYTES = 16 * 1024
GONE = 499  # in the log: the client hung up before it was answered
MOST_WAITING = 128  # requests that may wait for a thread; a thread is busy for a few seconds at most
_ALWAYS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Middleware:
    """An ASGI application that surrounds another one."""

    def __init__(self, app: ASGIApp, emit: Emit) -> None:
        self._app, self._emit = app, emit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 0, time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_ALWAYS]
            await send(message)

        try:
            if refused := _refused(scope):
                await refused.response()(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = GONE
        except Exception as error:  # noqa: BLE001 - whatever it was, the client is answered and the log says where
            self._emit("api.failed", where=place_of(error))
            if not status:
                fault = Refusal(500, "internal", "a fault of Postroom's; its log says where")
                await fault.response()(scope, receive, answer)
        self._log(scope, status, began)

    def _log(self, scope: Scope, status: int, began: float) -> None:
        # The route, never the path: a path may have an address in it.
        route: Any = scope.get("route")
        where = getattr(route, "path", None)
        if where in ("/healthz", "/readyz", "/metrics") and status < 500:
            return
        self._emit(
            "api.answered",
            method=scope["method"] if where else None,
            route=where,
            status=status,
            ms=round((time.monotonic() - began) * 1000),
        )


def _refused(scope: Scope) -> Refusal | None:
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
        message = f"the headers are larger than {MOST_HEADER_BYTES} bytes"
        return Refusal(431, "headers_too_large", message, headers={"Connection": "close"})
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
        # A proxy before us may have used the other of the two: https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        message = "Content-Length and Transfer-Encoding cannot come together"
        return Refusal(400, "bad_request", message, headers={"Connection": "close"})
    names = [name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)]
    if len(set(names)) < len(names):
        return Refusal(422, "invalid_request", "a parameter of the query is given twice")
    waiting = anyio.to_thread.current_default_thread_limiter().statistics().tasks_waiting
    if waiting >= MOST_WAITING and scope["path"] != "/healthz":
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return Refusal(503, "busy", "too many requests at once; send the same request again", headers=headers)
    return None
