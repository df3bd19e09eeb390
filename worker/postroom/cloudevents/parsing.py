"""Reads events from HTTP requests: CloudEvents 1.0 (structured, binary, batch) and Azure Event Grid's own format.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
https://learn.microsoft.com/azure/event-grid/event-schema
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from postroom.cloudevents import strict_json
from postroom.errors import PostroomError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
MOST_EVENTS = 500
LONGEST = 1024

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,100}")
_JSON_TYPE = re.compile(r"[\w.+-]+/([\w.+-]+\+)?json")
_GRID_FIELDS = {"eventType": "type", "topic": "source", "eventTime": "time", "dataVersion": "dataversion"}


class BadEvents(PostroomError):
    """The body has no valid events. `faults` has the reasons."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


class UnknownForm(PostroomError):
    """The content type is not one of an event format."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `attributes` is what rules see: the attributes by CloudEvents' names, and the event's `data`."""

    attributes: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.attributes["id"])

    @property
    def source(self) -> str:
        return str(self.attributes["source"])

    @property
    def type(self) -> str:
        return str(self.attributes["type"])


@dataclass(frozen=True, slots=True)
class Validation:
    """Event Grid's validation of this endpoint. The answer must repeat the code."""

    code: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """The events of one request. `several`: the format allows several events, so each gets its own result."""

    events: tuple[Event, ...]
    several: bool


def read(headers: Mapping[str, str], body: bytes) -> Arrived | Validation:
    """The events of a request. Header names must be in lower case. Raises BadEvents, UnknownForm."""
    content_type = media_type(headers.get("content-type", ""))
    if content_type == STRUCTURED:
        return Arrived((_cloud_event(_json(body), "the event"),), several=False)
    if content_type == BATCH:
        return Arrived(_each(_json(body), _cloud_event), several=True)
    if "ce-specversion" in headers:
        return Arrived((_binary(headers, body),), several=False)
    if content_type == PLAIN:
        value = _json(body)
        return _validation(value) or Arrived(_each(value, _grid_event), several=True)
    raise UnknownForm(
        f"events come as {STRUCTURED}, as {BATCH}, with ce- headers, or as {PLAIN} in the schema of Event Grid"
    )


def read_sample(text: bytes) -> Arrived:
    """The events of a file: one CloudEvent, a list of them, or a list in Event Grid's schema. Raises BadEvents."""
    value = _json(text)
    if isinstance(value, dict):
        return Arrived((_cloud_event(value, "the event"),), several=False)
    first = value[0] if isinstance(value, list) and value else {}
    grid = isinstance(first, dict) and "eventType" in first
    return Arrived(_each(value, _grid_event if grid else _cloud_event), several=True)


def media_type(content_type: str) -> str:
    """A content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def _json(body: bytes) -> Any:
    try:
        return strict_json.read(body)
    except ValueError as error:
        raise BadEvents(f"the body: {error}") from None


def _each(value: Any, read_one: Any) -> tuple[Event, ...]:
    if not isinstance(value, list):
        raise BadEvents("the body: a list of events is needed")
    if len(value) > MOST_EVENTS:
        raise BadEvents(f"the body: {len(value)} events; at most {MOST_EVENTS} may come at once")
    return tuple(read_one(one, f"event {place}") for place, one in enumerate(value))


def _cloud_event(value: Any, where: str) -> Event:
    if not isinstance(value, dict):
        raise BadEvents(f"{where}: an object is needed")
    attributes = dict(value)
    if "data_base64" in attributes:
        if "data" in attributes:
            raise BadEvents(f"{where}: it has both data and data_base64")
        given = attributes.pop("data_base64")
        content = _from_base64(given, where)
        try:
            attributes["data"] = _content(content, str(attributes.get("datacontenttype", "")), where)
        except BadEvents:
            if "datacontenttype" in attributes:
                raise
            attributes["data"] = given  # its type was not given
    return _event(attributes, where)


def _binary(headers: Mapping[str, str], body: bytes) -> Event:
    attributes: dict[str, Any] = {
        name.removeprefix("ce-"): unquote(value, errors="replace")
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    if body:
        attributes["datacontenttype"] = headers.get("content-type", PLAIN)
        attributes["data"] = _content(body, attributes["datacontenttype"], "the body")
    return _event(attributes, "the event")


def _grid_event(value: Any, where: str) -> Event:
    if not isinstance(value, dict):
        raise BadEvents(f"{where}: an object is needed")
    known = {_GRID_FIELDS.get(name, name.lower()): value for name, value in value.items() if value is not None}
    # A publisher may leave out the topic, which Event Grid then fills in.
    return _event({"source": "eventgrid", **known, "specversion": "1.0"}, where)


def _event(attributes: Mapping[str, Any], where: str) -> Event:
    faults = [
        f"{where}: {name} is missing, or is no text of at most {LONGEST} printable characters"
        for name in ("id", "source", "type")
        if not _is_line(attributes.get(name))
    ]
    faults += [
        f"{where}: {name[:100]!r} is no name of an attribute"
        for name in attributes
        if name not in {"data", "data_base64"} and not _ATTRIBUTE.fullmatch(name)
    ]
    if attributes.get("specversion") != "1.0":
        faults.append(f"{where}: specversion must be 1.0")
    if faults:
        raise BadEvents(*faults)
    return Event({name: value for name, value in attributes.items() if value is not None})


def _is_line(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _validation(value: Any) -> Validation | None:
    match value:
        case [{"eventType": kind, "data": {"validationCode": str() as code}}] if kind == VALIDATION:
            return Validation(code)
        case _:
            return None


def _from_base64(given: object, where: str) -> bytes:
    try:
        return base64.b64decode(given if isinstance(given, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise BadEvents(f"{where}: data_base64 is no base64") from None


def _content(body: bytes, content_type: str, where: str) -> Any:
    """The data as rules see it: JSON as its value, text as a str, anything else as base64."""
    kind = media_type(content_type)
    if not kind or _JSON_TYPE.fullmatch(kind):
        try:
            return strict_json.read(body)
        except ValueError as error:
            raise BadEvents(f"{where}: the data: {error}") from None
    if kind.startswith("text/"):
        return body.decode(errors="replace")
    return base64.b64encode(body).decode()
