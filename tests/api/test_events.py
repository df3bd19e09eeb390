"""Events over HTTP: each becomes its mails once, in whatever form it comes, and none is dropped silently."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from postroom.access.rights import Scope
from postroom.cloudevents import unmatched
from postroom.errors import ConfigError
from postroom.store.functions import PREFIX

from .conftest import EXAMPLES, OTHER, Door, code

COMPLETED: dict[str, Any] = json.loads((EXAMPLES / "events/completed.json").read_text())
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
GRID_QUESTION = [
    {
        "id": "1",
        "topic": "/subscriptions/1",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6"},
        "eventTime": "2026-11-22T09:41:00Z",
    }
]


def tell(door: Door, event: Any, headers: dict[str, str] | None = None, key: str | None = None) -> Any:
    return door.post("/v1/events", content=json.dumps(event).encode(), headers=headers or STRUCTURED, key=key)


def test_an_event_becomes_the_mails_of_its_rules_once_in_whatever_form_it_comes(door: Door) -> None:
    attributes: dict[str, Any] = {name: value for name, value in COMPLETED.items() if name != "data"}
    attributes["time"] = datetime.fromisoformat(attributes["time"])
    sdk = CloudEvent(attributes, COMPLETED["data"])
    first = tell(door, COMPLETED)
    again = [
        door.ask("POST", "/v1/events", headers=sent.headers, content=sent.body)
        for sent in (to_structured_event(sdk), to_binary_event(sdk))
    ]
    batch = tell(door, [COMPLETED], {"Content-Type": "application/cloudevents-batch+json"})

    assert (first.status_code, first.json()["results"][0]["unmatched"]) == (202, False)
    mails = first.json()["results"][0]["mails"]
    assert [(mail["rule"], mail["known"]) for mail in mails] == [("site-ready", False), ("site-ready-owner", False)]
    for answer in (*again, batch):
        assert answer.status_code == 202, answer.text
        told = answer.json()["results"][0]["mails"]
        assert [(mail["id"], mail["known"]) for mail in told] == [(mail["id"], True) for mail in mails]
    assert len(door.services.client.find()) == 2


def test_an_event_of_event_grid_becomes_a_mail(door: Door) -> None:
    event = {
        "id": "42",
        "topic": "/subscriptions/1/topics/sites",
        "subject": "sites/42",
        "eventType": "com.contoso.provisioning.failed",
        "eventTime": "2026-11-22T09:58:00Z",
        "data": json.loads((EXAMPLES / "events/failed.json").read_text())["data"],
        "dataVersion": "1.0",
        "metadataVersion": "1",
    }
    answer = tell(door, [event], {"Content-Type": "application/json; charset=utf-8", "aeg-event-type": "Notification"})

    assert answer.status_code == 202, answer.text
    (mail,) = answer.json()["results"][0]["mails"]
    assert [*door.services.letters.show(mail["id"]).mail["to"]] == ["operators@contoso.com"]  # type: ignore[index]


def test_an_event_that_would_be_another_mail_than_before_sends_none_and_is_noted(
    door: Door, open_door: Callable[..., Door], tmp_path: Any
) -> None:
    changed = tmp_path / "events.toml"
    changed.write_text(
        (EXAMPLES / "events.toml").read_text().replace("[rules.site-ready]", '[rules.site-ready]\ntags = ["a"]')
    )
    first = tell(door, COMPLETED).json()
    again = tell(open_door(events=str(changed)), COMPLETED, key=door.key())

    assert code(again) == (409, "key_conflict")
    assert again.json()["error"]["details"]["job_id"] in [mail["id"] for mail in first["results"][0]["mails"]]
    assert door.get("/v1/events/unmatched").json()["counts"] == {"key_conflict": 1}


def test_somebody_elses_event_of_the_same_id_does_not_take_the_place_of_the_real_one_in_silence(door: Door) -> None:
    forged = COMPLETED | {"data": COMPLETED["data"] | {"requester": {"name": "Eve", "mail": "eve@example.com"}}}
    assert tell(door, forged, key=door.key(Scope.SEND)).status_code == 202
    real = tell(door, COMPLETED)
    several = door.post("/v1/events", [COMPLETED], headers={"Content-Type": "application/cloudevents-batch+json"})

    assert code(real) == (409, "key_conflict")
    assert [mail["error"]["code"] for mail in several.json()["results"][0]["mails"] if mail["error"]]
    notes = door.get("/v1/events/unmatched").json()["newest"]
    assert {(note["reason"], note["event_id"]) for note in notes} == {("key_conflict", COMPLETED["id"])}
    assert notes[0]["key"] == "all"


# Nothing is lost without a word


def test_an_event_without_a_rule_is_answered_counted_and_shown(door: Door) -> None:
    answer = tell(door, COMPLETED | {"type": "com.contoso.unheard.of"})

    assert (answer.status_code, answer.json()["results"]) == (
        202,
        [{"event_id": COMPLETED["id"], "unmatched": True, "mails": []}],
    )
    told = door.get("/v1/events/unmatched").json()
    assert told["counts"] == {"unmatched": 1}
    (note,) = told["newest"]
    assert (note["type"], note["source"], note["event_id"]) == (
        "com.contoso.unheard.of",
        COMPLETED["source"],
        COMPLETED["id"],
    )
    assert [facts["reason"] for event, facts in door.log if event == "event.unmatched"] == ["unmatched"]


def test_an_event_without_a_recipient_is_refused_where_it_comes_alone_and_shown(door: Door) -> None:
    lost = COMPLETED | {"id": "lost", "data": {**COMPLETED["data"], "requester": {}}}

    alone = tell(door, lost)
    batch = tell(door, [lost, COMPLETED], {"Content-Type": "application/cloudevents-batch+json"})

    assert code(alone) == (422, "no_recipient")
    assert alone.json()["error"]["details"]["rule"] == "site-ready"
    assert batch.status_code == 202
    assert [[mail["error"] and mail["error"]["code"] for mail in one["mails"]] for one in batch.json()["results"]] == [
        ["no_recipient", None],
        [None, None],
    ]
    told = door.get("/v1/events/unmatched?limit=1").json()
    assert told["counts"] == {"no_recipient": 2}
    assert (told["newest"][0]["rule"], told["newest"][0]["faults"]) == (
        "site-ready",
        ["to: data.requester.mail finds no address in this event"],
    )


def test_a_key_with_senders_makes_no_mail_of_others(door: Door) -> None:
    bound = door.key(Scope.SEND, Scope.READ, senders=(OTHER,))

    assert code(tell(door, COMPLETED, key=bound)) == (403, "sender_not_allowed")
    assert [note["reason"] for note in door.get("/v1/events/unmatched", key=bound).json()["newest"]] == [
        "sender_not_allowed"
    ] * 2
    tell(door, COMPLETED | {"type": "unheard.of"})
    assert len(door.get("/v1/events/unmatched", key=bound).json()["newest"]) == 2
    assert not door.services.client.find()


def test_without_rules_events_are_refused(open_door: Callable[..., Door]) -> None:
    assert code(tell(open_door(events=""), COMPLETED)) == (404, "no_rules")


def test_wrong_rules_end_the_api_at_start(open_door: Callable[..., Door], tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="POSTROOM_EVENTS: cannot read"):
        open_door(events=str(tmp_path / "none.toml"))
    (tmp_path / "events.toml").write_text("[rules.a]")
    with pytest.raises(ConfigError, match="type: missing"):
        open_door(events=str(tmp_path / "events.toml"))


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"{", STRUCTURED, (400, "invalid_event")),
        (b"{}", STRUCTURED, (400, "invalid_event")),
        (b"{}", {"Content-Type": "text/xml"}, (415, "unsupported_media_type")),
        (b"[" * 100_000, STRUCTURED, (400, "invalid_event")),
        (b"", {"ce-specversion": "1.0"}, (400, "invalid_event")),
    ],
)
def test_what_is_no_event_is_refused(
    door: Door, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert code(door.post("/v1/events", content=body, headers=headers)) == expected


# Handshakes


def test_event_grid_s_validation_request_is_answered_without_a_key(door: Door) -> None:
    headers = {"Content-Type": "application/json", "aeg-event-type": "SubscriptionValidation"}
    answer = door.http.post("/v1/events", json=GRID_QUESTION, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"validationResponse": "512d38b6"})


def test_only_event_grid_s_validation_request_comes_in_without_a_key(door: Door) -> None:
    headers = {"aeg-event-type": "SubscriptionValidation"}
    event = [{"id": "1", "eventType": "com.contoso.provisioning.failed", "topic": "t", "data": {}}]
    forms = [
        door.http.post("/v1/events", json=event, headers=headers),
        door.http.post("/v1/events", json=GRID_QUESTION + event, headers=headers),
        door.http.post("/v1/events", content=json.dumps(COMPLETED).encode(), headers=headers | STRUCTURED),
    ]
    assert [code(answer) for answer in forms] == [(401, "unauthorized")] * 3
    assert code(door.http.post("/v1/events", json=GRID_QUESTION)) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("eventgrid.azure.net", "eventgrid.azure.net"),
        ("localhost:8080", "localhost:8080"),
        ("*", None),
        ("evil.example, x", None),
        ("", None),
    ],
)
def test_the_validation_request_of_cloudevents_is_answered(door: Door, origin: str, allowed: str | None) -> None:
    answer = door.http.options("/v1/events", headers={"WebHook-Request-Origin": origin, "WebHook-Request-Rate": "120"})
    assert answer.status_code == 200
    assert answer.headers.get("webhook-allowed-origin") == allowed
    assert ("webhook-allowed-rate" in answer.headers) == (allowed is not None)
    assert "POST" in answer.headers["allow"]


def test_the_newest_events_without_mail_are_kept_and_no_more(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmatched, "KEPT", 2)
    for number in range(3):
        tell(door, COMPLETED | {"type": "com.contoso.unheard.of", "id": str(number)})
    told = door.get("/v1/events/unmatched").json()
    assert told["counts"] == {"unmatched": 3}
    assert [note["event_id"] for note in told["newest"]] == ["2", "1"]


def test_without_a_key_only_a_short_question_is_read(door: Door) -> None:
    headers = {"Content-Type": "application/json", "aeg-event-type": "SubscriptionValidation"}
    long = door.http.post("/v1/events", content=b"[" + b"{}," * 20_000 + b"{}]", headers=headers)
    assert code(long) == (413, "too_large")


def test_the_values_of_a_body_are_counted_before_they_are_made(door: Door) -> None:
    many = b"[" + b"{}," * 600_000 + b"{}]"
    answer = door.post("/v1/events", content=many, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "500,000 values" in answer.text


def test_a_rule_s_task_at_the_end_is_kept_with_its_mail(open_door: Callable[..., Door], tmp_path: Path) -> None:
    rules = tmp_path / "events.toml"
    rules.write_text(
        '[rules.r]\ntype = "*"\ntemplate = "welcome"\nto = "\'ann@contoso.com\'"\n'
        'variables = {name = "\'Ann\'"}\non_accepted = {task = "shop.done"}\n'
    )
    door = open_door(events=rules)

    (mail,) = tell(door, COMPLETED).json()["results"][0]["mails"]

    assert b"shop.done" in door.services.connection.hget(f"{PREFIX}job:{mail['id']}", "on_accepted")
