"""A mail whose outcome nobody knows is looked up where that is permitted, or by its draft, or is sent again."""

from collections.abc import Callable
from typing import Any

import pytest

from postroom.jobs.job import Status

from .conftest import Room, a_mail, until

OpenRoom = Callable[..., Room]
SOON = {"POSTROOM_UNKNOWN_LOOKUPS": "100ms,400ms", "POSTROOM_LEASE": "10s"}
READER = ("Mail.Send", "Mail.Read")
WRITER = ("Mail.Send", "Mail.ReadWrite")
TWO_BODIES = {"html": "<p>Hi</p>"}  # beside a text: goes as MIME


def met(room: Room, job_id: str) -> list[tuple[str, str | None]]:
    delivery = room.settled(job_id)
    assert delivery.status is Status.ACCEPTED
    return [(attempt.outcome, attempt.reason) for attempt in delivery.attempts]


@pytest.mark.parametrize("fields", [{}, TWO_BODIES], ids=["json", "mime"])
@pytest.mark.parametrize("fault", [{"status": 504}, {"effect": "reset"}], ids=["504", "reset"])
def test_a_mail_that_left_in_spite_of_an_error_is_found_and_not_sent_again(
    open_room: OpenRoom, fields: dict[str, Any], fault: dict[str, Any]
) -> None:
    room = open_room(settings=SOON, roles=READER, sent_items_after=0.3)
    room.sandbox.add_fault(stage="graph", accepted=True, times=1, **fault)
    room.start_worker_process(slots=2)

    job = room.client().send(a_mail(**fields)).id

    outcomes = met(room, job)
    assert (outcomes[0][0], outcomes[-1]) == ("unknown", ("found", None))
    assert len(room.sandbox.messages(job=job)) == 1


def test_a_mail_that_is_not_found_after_all_look_ups_is_sent_again(open_room: OpenRoom) -> None:
    room = open_room(settings=SOON, roles=READER)
    room.sandbox.add_fault(stage="graph", status=504, times=1)
    room.start_worker_process(slots=2)

    job = room.client().send(a_mail()).id

    assert [outcome for outcome, _ in met(room, job)] == ["unknown", "notfound", "notfound", "accepted"]
    assert len(room.sandbox.messages(job=job)) == 1


def test_a_look_up_that_fails_says_nothing_and_one_that_is_not_permitted_holds_nobody(open_room: OpenRoom) -> None:
    room = open_room(settings=SOON)
    room.sandbox.add_fault(stage="graph", status=504, accepted=True, times=1)
    room.start_worker_process(slots=2)
    client = room.client()

    job = client.send(a_mail()).id

    assert [outcome for outcome, _ in met(room, job)] == ["unknown", "notpermitted", "accepted"]
    assert len(room.sandbox.messages(job=job)) == 2, "the documented price of not being allowed to look"
    assert room.settled(client.send(a_mail()).id).status is Status.ACCEPTED


def test_on_unknown_hold_leaves_it_to_a_person_once_it_was_not_found(open_room: OpenRoom) -> None:
    room = open_room(settings={**SOON, "POSTROOM_ON_UNKNOWN": "hold"}, roles=READER)
    room.sandbox.add_fault(stage="graph", status=504, times=1)
    room.start_worker_process(slots=2)

    delivery = room.settled(room.client().send(a_mail()).id)

    assert (delivery.status, delivery.reason, delivery.in_doubt) == (Status.DEAD, "unknown", True)
    assert delivery.http_status == 504


def test_a_draft_leaves_once_whatever_its_sending_was_answered_with(open_room: OpenRoom) -> None:
    room = open_room(settings={**SOON, "POSTROOM_DELIVERY": "draft", "POSTROOM_BACKOFF": "100ms"}, roles=WRITER)
    room.sandbox.add_fault(stage="graph", recipient="left@contoso.com", status=504, accepted=True, times=1)
    room.sandbox.add_fault(stage="graph", recipient="stayed@contoso.com", status=504, times=1)
    room.start_worker_process(slots=4)
    client = room.client()

    jobs = {name: client.send(a_mail(to=f"{name}@contoso.com")).id for name in ("plain", "left", "stayed")}

    assert {name: [outcome for outcome, _ in met(room, job)] for name, job in jobs.items()} == {
        "plain": ["accepted"],
        "left": ["unknown", "found"],
        "stayed": ["unknown", "stilldraft", "stilldraft", "accepted"],
    }
    assert {name: len(room.sandbox.messages(job=job)) for name, job in jobs.items()} == dict.fromkeys(jobs, 1)


def test_a_worker_killed_while_it_sends_a_draft_doubles_nothing(open_room: OpenRoom) -> None:
    room = open_room(settings={**SOON, "POSTROOM_DELIVERY": "draft", "POSTROOM_BACKOFF": "100ms"}, roles=WRITER)
    hang = room.sandbox.add_fault(stage="graph", effect="hang", accepted=True)
    room.start_worker_process(slots=2)
    job = room.client().send(a_mail()).id
    until(lambda: room.sandbox.messages(job=job), "the draft to be sent")
    room.kill()
    room.end_leases()
    room.sandbox.remove_fault(hang)

    room.start_worker_process(slots=2)

    assert [outcome for outcome, _ in met(room, job)] == ["unknown", "found"]
    assert len(room.sandbox.messages(job=job)) == 1
