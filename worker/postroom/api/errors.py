"""The form of all errors, `{"error": {"code", "message", "details"}}`, and the status of each error."""

import http
import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from postroom.cloudevents.parsing import BadEvents, UnknownForm
from postroom.errors import InvalidMail, KeyConflict, PostroomError, TooLate, Unavailable, UnknownJob
from postroom.mail.validation import plainly
from postroom.store.queries import BadCursor

RETRY_AFTER_S = 5
# The statuses that any request with a key may get; and those that a request with a body may get.
ASKED = (401, 403, 422, 429, 503)
BROUGHT = (400, 408, 413, 415, *ASKED)


class ErrorBody(BaseModel):
    """What went wrong: a code for programs, a message for people, and details."""

    code: str
    message: str
    details: dict[str, Any]


class Error(BaseModel):
    """The answer to every request that failed."""

    error: ErrorBody


class _Text(JSONResponse):
    """An answer that may quote the request: JSON has half a surrogate pair there, which UTF-8 has not."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Refusal(Exception):
    """Raised for a request that is refused. It has the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.details, self.headers = dict(details or {}), dict(headers or {})
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """The error object of the answer."""
        return {"code": self.code, "message": self.message, "details": self.details}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return _Text({"error": self.body()}, self.status, self.headers)


class Unauthorized(Refusal):
    """Raised for a request without a key."""

    def __init__(self, message: str) -> None:
        super().__init__(401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="postroom"'})


class WrongKey(Unauthorized):
    """Raised for a request with a key that there is not."""


def rate_limited(message: str, wait_s: float) -> Refusal:
    """The answer to who asks too often, and may again in so many seconds."""
    return Refusal(429, "rate_limited", message, headers={"Retry-After": str(math.ceil(wait_s))})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses as FastAPI's `responses`, for OpenAPI."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"content": content, "description": http.HTTPStatus(status).phrase} for status in sorted(statuses)}


def refusal(error: PostroomError) -> Refusal:
    """The answer for an error of Postroom."""
    match error:
        case InvalidMail(faults=faults):
            return Refusal(422, "invalid_mail", "this mail cannot be sent as it is", {"faults": list(faults)})
        case KeyConflict(job_id=job_id):
            message = "this Idempotency-Key already belongs to another mail; use a new one for a new mail"
            return Refusal(409, "key_conflict", message, {"job_id": job_id})
        case UnknownJob():
            return Refusal(404, "not_found", "there is no such job, or its record is past its retention")
        case TooLate(status=status):
            return Refusal(409, "too_late", f"the job can no longer be cancelled: it is {status}", {"status": status})
        case Unavailable():
            message = "the mail room cannot be reached just now, and nothing was confirmed; send the same request again"
            return Refusal(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER_S)})
        case BadCursor():
            return Refusal(400, "invalid_cursor", str(error))
        case BadEvents(faults=faults):
            return Refusal(400, "invalid_event", "this is no event", {"faults": list(faults)})
        case UnknownForm():
            return Refusal(415, "unsupported_media_type", str(error))
        case _:
            return Refusal(500, "internal", "a fault of Postroom's; its log says where")


def install(app: FastAPI) -> None:
    """Makes the application answer every error in this form."""

    @app.exception_handler(Refusal)
    async def _refused(_: Request, error: Refusal) -> JSONResponse:
        return error.response()

    @app.exception_handler(WrongKey)
    async def _wrong_key(request: Request, error: WrongKey) -> JSONResponse:
        away_s = await request.app.state.services.wrong_keys.note(host_of(request))
        if away_s:
            return rate_limited("too many wrong keys from this address", away_s).response()
        return error.response()

    @app.exception_handler(PostroomError)
    async def _ours(_: Request, error: PostroomError) -> JSONResponse:
        refused = refusal(error)
        if refused.status == 500:
            raise error
        return refused.response()

    @app.exception_handler(RequestValidationError)
    async def _not_valid(_: Request, error: RequestValidationError) -> JSONResponse:
        return invalid_request(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def _routing(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        return Refusal(error.status_code, code, str(error.detail), headers=headers).response()


def host_of(request: Request) -> str:
    """The client's address; behind a proxy that is named to the server, the one that the proxy tells."""
    return request.client.host if request.client else ""


def _methods(request: Request) -> list[str]:
    """All methods of a path, for the header Allow. Each of our routes has one, and Starlette names only one route's."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    plainest_first = sorted(paths, key=lambda path: path.count("{"))
    fitting = next((path for path in plainest_first if compile_path(path)[0].match(request.url.path)), None)
    return sorted(map(str.upper, paths[fitting])) if fitting else []


def invalid_request(errors: Any) -> Refusal:
    """The answer for pydantic's faults of a request. It does not repeat the values that were given."""
    faults = [f"{'.'.join(map(str, one['loc']))}: {plainly(one['msg'])}" for one in errors]
    return Refusal(422, "invalid_request", "the request is not as it should be", {"faults": faults})
