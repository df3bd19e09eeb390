"""Reads bodies of requests after the key was checked, within limits of size, time and memory.

Memory is shared by all requests. One key, and one address, gets half of it at most. A client that sends next to nothing
for some seconds is disconnected, so it does not keep its part for long.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, BeforeValidator, ValidationError

from postroom.access.failures import site
from postroom.api.errors import RETRY_AFTER_S, Refusal, host_of, invalid_request
from postroom.cloudevents import strict_json
from postroom.cloudevents.parsing import media_type
from postroom.mail.fields import ATime

DEADLINE_S = 60.0
SILENT_S, LEAST_BYTES = 10.0, 16 * 1024  # in each such time so much must arrive, or the rest
AT_ONCE = 4  # so many of the largest bodies may be in memory; reading one takes several times its size
OF_ONE = 2  # and so many of one key, or of one address
M = TypeVar("M", bound=BaseModel)


def _no_number(value: object) -> object:
    if not isinstance(value, str) or value.replace(".", "").lstrip("+-").isdigit():
        raise ValueError("an ISO 8601 time with its zone is needed")
    return value


# pydantic would also take a number of seconds.
Time = Annotated[ATime, BeforeValidator(_no_number)]
_CLOSE = {"Connection": "close"}


class Bodies:
    """Counts how many bytes of bodies are in memory, against the limits."""

    def __init__(self, largest: int, deadline_s: float = DEADLINE_S, silent_s: float = SILENT_S) -> None:
        self.largest, self.deadline_s, self.silent_s = largest, deadline_s, silent_s
        self._free = AT_ONCE * largest
        self._taken: Counter[str] = Counter()  # by key and by address

    async def read(self, request: Request, owners: tuple[str, ...]) -> bytes:
        """The whole body. Its size counts until `give_back`. Refusal if it is too large or slow, or memory is full."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "unsupported_media_type", "a body without Content-Encoding is needed", headers=_CLOSE)
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit():
            self._check(int(declared[:20]), getattr(request.state, "largest_body", self.largest))
        # A route may allow less, before the body is read.
        largest = min(self.largest, getattr(request.state, "largest_body", self.largest))
        body = bytearray()
        loop = asyncio.get_running_loop()
        end, counted = loop.time() + self.deadline_s, 0
        try:
            async with asyncio.timeout(min(self.silent_s, self.deadline_s)) as patience:
                async for part in request.stream():
                    body += part
                    self._take(len(part), owners)
                    self._check(len(body), largest, owners)
                    if len(body) - counted >= LEAST_BYTES:
                        counted = len(body)
                        patience.reschedule(min(loop.time() + self.silent_s, end))
        except BaseException as error:
            self.give_back(len(body), owners)
            if isinstance(error, TimeoutError):
                message = f"the body came too slowly, or took more than {self.deadline_s:g} s"
                raise Refusal(408, "too_slow", message, headers=_CLOSE) from None
            raise
        return bytes(body)

    def give_back(self, size: int, owners: Iterable[str] = ()) -> None:
        """Notes that so many bytes are no longer in memory."""
        self._take(-size, owners)

    def _take(self, size: int, owners: Iterable[str]) -> None:
        self._free -= size
        for owner in owners:
            self._taken[owner] += size
            if not self._taken[owner]:
                del self._taken[owner]

    def _check(self, size: int, largest: int, owners: Iterable[str] = ()) -> None:
        if size > largest:
            why = "POSTROOM_MAX_MESSAGE" if largest == self.largest else "without a key"
            message = f"the body is larger than {largest} bytes ({why})"
            raise Refusal(413, "too_large", message, {"most_bytes": largest}, _CLOSE)
        if self._free < 0 or any(self._taken[owner] > OF_ONE * self.largest for owner in owners):
            headers = {"Retry-After": str(RETRY_AFTER_S), **_CLOSE}
            raise Refusal(503, "busy", "too many large requests at once; send the same request again", None, headers)


async def _raw(request: Request) -> AsyncIterator[bytes]:
    bodies: Bodies = request.app.state.services.bodies
    owners = owners_of(request)
    body = await bodies.read(request, owners)
    try:
        yield body
    finally:
        bodies.give_back(len(body), owners)


def owners_of(request: Request) -> tuple[str, ...]:
    """Whose memory a body takes: its key's and its address's. An id has no colon or dot, an address has one."""
    key_id = getattr(request.state, "key_id", None)
    return (*([key_id] if key_id else []), site(host_of(request)))


Raw = Annotated[bytes, Depends(_raw)]


def json_object(request: Request, body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Refusal if it is none."""
    if media_type(request.headers.get("content-type", "")) != "application/json":
        raise Refusal(415, "unsupported_media_type", "Content-Type: application/json is needed")
    return _object(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = strict_json.read(body)
    except ValueError as error:
        raise Refusal(400, "invalid_json", f"the body cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise Refusal(422, "invalid_request", "the body must be a JSON object", {"faults": ["body: no object"]})
    return value


def body_of(model: type[M]) -> Callable[..., M]:
    """A dependency that reads a body as this model. A missing body counts as an empty object."""

    def read(request: Request, body: Raw) -> M:
        given = json_object(request, body) if body else {}
        try:
            return model.model_validate(given)
        except ValidationError as error:
            raise invalid_request(error.errors(include_url=False, include_context=False, include_input=False)) from None

    return read


def takes(schema: str, *, required: bool = True) -> dict[str, Any]:
    """Describes a route's body in OpenAPI. FastAPI cannot do it, because we read bodies ourselves."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"requestBody": {"required": required, "content": content}}
