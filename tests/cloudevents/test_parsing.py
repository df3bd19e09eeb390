"""The same event is read alike in each form, and what is no event is refused with the reason."""

import base64
import json
from typing import Any

import pytest

from postroom.cloudevents.parsing import Arrived, BadEvents, UnknownForm, Validation, read, read_sample

EVENT = {"specversion": "1.0", "id": "1", "source": "/sites", "type": "done", "time": "2026-11-22T09:41:00Z"}
DATA = {"name": "Ann"}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
GRID = {"content-type": "application/json; charset=utf-8", "aeg-event-type": "Notification"}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def only(found: Any) -> dict[str, Any]:
    assert isinstance(found, Arrived)
    (event,) = found.events
    return dict(event.attributes)


def test_one_event_is_the_same_in_every_form() -> None:
    data64 = base64.b64encode(body(DATA)).decode()
    binary = {f"ce-{name}": value for name, value in EVENT.items()} | {"content-type": "application/json"}
    grid = {"id": "1", "topic": "/sites", "eventType": "done", "eventTime": EVENT["time"], "data": DATA}
    forms = [
        read(STRUCTURED, body(EVENT | {"data": DATA})),
        read(STRUCTURED, body(EVENT | {"data_base64": data64})),
        read(BATCH, body([EVENT | {"data": DATA}])),
        read(binary, body(DATA)),
        read(GRID, body([grid])),
    ]
    for found in forms:
        told = only(found)
        told.pop("datacontenttype", None)
        assert told == EVENT | {"data": DATA}
    assert [found.several for found in forms if isinstance(found, Arrived)] == [False, False, True, False, True]


def test_what_a_binary_event_cannot_carry_in_a_header_is_percent_encoded() -> None:
    told = only(read({"ce-specversion": "1.0", "ce-id": "1%20%E2%82%AC", "ce-source": "a", "ce-type": "t"}, b""))
    assert (told["id"], "data" in told) == ("1 €", False)


@pytest.mark.parametrize(
    ("content_type", "content", "data"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/vnd.contoso+json; charset=utf-8", b"[1]", [1]),
        ("text/plain", "é".encode(), "é"),
        ("application/octet-stream", b"\x00\xff", "AP8="),
    ],
)
def test_data_is_json_text_or_base64_by_its_type(content_type: str, content: bytes, data: Any) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "a", "ce-type": "t", "content-type": content_type}
    assert only(read(headers, content))["data"] == data
    as_base64 = EVENT | {"datacontenttype": content_type, "data_base64": base64.b64encode(content).decode()}
    assert only(read(STRUCTURED, body(as_base64)))["data"] == data


def test_event_grid_s_validation_request_is_not_an_event() -> None:
    asked = {
        "id": "1",
        "topic": "/subscriptions/1",
        "subject": "",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://rp-eastus2.eventgrid.azure.net/…"},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": "2026-11-22T09:41:00Z",
        "metadataVersion": "1",
        "dataVersion": "1",
    }
    assert read(GRID, body([asked])) == Validation("512d38b6")


@pytest.mark.parametrize(
    ("headers", "content", "fault"),
    [
        (STRUCTURED, b"{", "no JSON"),
        (STRUCTURED, body([EVENT]), "an object is needed"),
        (STRUCTURED, body(EVENT | {"specversion": "0.3"}), "specversion must be 1.0"),
        (STRUCTURED, body({**EVENT, "id": ""}), "id is missing"),
        (STRUCTURED, body({**EVENT, "id": 17}), "id is missing"),
        (STRUCTURED, body({**EVENT, "source": "a\nb"}), "source is missing"),
        (STRUCTURED, body({**EVENT, "type": "t" * 1025}), "type is missing"),
        (STRUCTURED, body({**EVENT, "Name": "a"}), "'Name' is no name of an attribute"),
        (STRUCTURED, body(EVENT | {"data_base64": "?"}), "no base64"),
        (STRUCTURED, body(EVENT | {"data_base64": 17}), "no base64"),
        (STRUCTURED, body(EVENT | {"data_base64": "", "data": 1}), "both data and data_base64"),
        (STRUCTURED, body(EVENT)[:-1] + b', "id": "2"}', "twice"),
        (BATCH, body(EVENT), "a list of events is needed"),
        (BATCH, body([EVENT, 1]), "event 1: an object is needed"),
        (BATCH, body([EVENT] * 501), "501 events"),
        (GRID, body([{"id": "1"}]), "type is missing"),
        (GRID, body({"a": 1}), "a list of events is needed"),
        ({"ce-specversion": "1.0", "ce-type": "t"}, b"", "id is missing"),
        ({"ce-specversion": "1.0", "content-type": "application/json"}, b"{", "no JSON"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(headers: dict[str, str], content: bytes, fault: str) -> None:
    with pytest.raises(BadEvents) as wrong:
        read(headers, content)
    assert fault in str(wrong.value)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/cloudevents+xml"])
def test_an_unknown_form_is_refused_with_the_known_ones(content_type: str) -> None:
    with pytest.raises(UnknownForm, match="application/cloudevents-batch"):
        read({"content-type": content_type}, b"{}")


def test_a_sample_is_one_event_or_a_list_of_either_kind() -> None:
    assert only(read_sample(body(EVENT)))["id"] == "1"
    assert only(read_sample(body([EVENT])))["id"] == "1"
    assert only(read_sample(body([{"id": "1", "eventType": "t", "data": {}}])))["type"] == "t"
    with pytest.raises(BadEvents):
        read_sample(b"[1]")
