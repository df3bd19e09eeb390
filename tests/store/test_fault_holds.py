"""A fault of the configuration holds its lane or its app until a probe succeeds."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from postroom.jobs.outcome import Answer, Deferred, Held, Refused, Scope
from postroom.jobs.retry import OnUnknown, Policy, after_lookup, decide

from .holds import events, hold, next_probe, probe, release, ticked
from .room import ACCEPTED, NO_ANSWER, NO_TOKEN, NOT_ALLOWED, OTHER, SENDER, Room, mail, throttled

REJECTED = Held(reason="token_rejected", scope=Scope.APP, answer=Answer(http_status=401))
SEND_AS_DENIED = Refused(reason="send_as_denied", answer=Answer(http_status=403, graph_code="ErrorSendAsDenied"))


# A mailbox whose configuration is at fault.


def test_a_held_lane_gives_no_claims_and_flows_again_by_itself(room: Room) -> None:
    first, second = room.take(), room.take()
    room.send(NOT_ALLOWED)
    assert room.claim() is None
    room.rounds()

    room.tick(60)

    assert room.rounds() == [SENDER], "one probe"
    assert room.send() == second
    room.tick(1)
    assert room.send() == first
    assert room.ledger.records.holds(now=room.now) == []


def test_the_interval_between_probes_grows_to_half_an_hour(room: Room) -> None:
    jobs = {room.take(mail(priority="high")), room.take()}
    probed, waited = [room.send(NOT_ALLOWED)], list[float]()
    for _ in range(7):
        waited.append(next_probe(room))
        room.jump(waited[-1])
        probed.append(room.send(NOT_ALLOWED))
        assert room.claim() is None

    assert waited == [60, 120, 240, 480, 960, 1800, 1800]
    assert set(probed) == jobs
    assert all(one != following for one, following in itertools.pairwise(probed)), "another job each time"


def test_the_only_job_of_a_held_lane_is_its_probe_again(room: Room) -> None:
    job_id = room.take()
    room.send(NOT_ALLOWED)
    room.rounds()

    room.tick(61)

    assert room.rounds() == [SENDER]
    assert room.send() == job_id


def test_answers_under_way_when_the_hold_began_lengthen_nothing_and_end_nothing(room: Room) -> None:
    for _ in range(4):
        room.take()
    under_way = [room.sending() for _ in range(4)]
    for job in under_way[:3]:
        room.settle(job, NOT_ALLOWED)
    room.settle(under_way[3], ACCEPTED)

    assert next_probe(room) == 60
    assert room.claim() is None
    assert events(room) == [("hold.started", SENDER)]


def test_a_mail_refused_for_its_own_sake_shows_that_its_mailbox_works(room: Room) -> None:
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    room.jump(60)

    room.send(SEND_AS_DENIED)

    assert room.ledger.records.holds(now=room.now) == []
    assert room.claim() is not None


@pytest.mark.parametrize(
    "answer",
    [
        throttled(5),
        Deferred(reason="busy", answer=Answer(http_status=503)),
        NO_ANSWER,
        Refused(reason="template"),
    ],
)
def test_what_says_nothing_about_the_configuration_ends_no_hold(room: Room, answer: Any) -> None:
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    room.jump(60)

    room.send(answer)

    assert [held.reason for held in room.ledger.records.holds(now=room.now)] == ["access_policy"]
    room.jump(60)
    room.held()
    assert room.claim() is None, "still one at a time"


def test_a_job_that_alone_is_at_fault_holds_its_lane_once(room: Room) -> None:
    faulty = room.take(mail(priority="high"))
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    room.jump(60)
    room.send()
    room.tick(1)

    again = room.sending()
    assert (again.id, again.suspect) == (faulty, True)
    move = decide(NOT_ALLOWED, again.attempts, Policy(), lambda: 1.0, suspect=again.suspect)
    assert room.ledger.settle(again, move, NOT_ALLOWED, 7, now=room.now)[0]

    assert room.ledger.records.holds(now=room.now) == []
    assert room.send() != faulty


def test_other_mailboxes_of_the_app_flow_while_one_is_held(room: Room) -> None:
    room.take()
    other = room.take(mail(OTHER))
    room.send(NOT_ALLOWED)

    assert room.send(lane=OTHER) == other


def test_an_answer_about_the_mailbox_shows_that_the_app_works(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.send(REJECTED)
    room.jump(60)

    room.send(NOT_ALLOWED, lane=OTHER)

    assert [(held.scope, held.name) for held in room.ledger.records.holds(now=room.now)] == [("lane", OTHER)]
    room.tick(2)
    room.send()


def test_a_look_up_in_a_held_lane_neither_ends_nor_begins_a_hold_of_the_mailbox(room: Room) -> None:
    for _ in range(3):
        room.take()
    room.send(NO_ANSWER)
    room.send(NOT_ALLOWED)
    room.jump(60)
    job = room.held()
    assert job.to_look_up
    finding = Held(reason="mailbox_not_found", scope=Scope.LANE, answer=Answer(http_status=404))
    move = after_lookup(finding, job, Policy(), OnUnknown.RESEND, lambda: 1.0)

    room.ledger.settle(job, move, finding, 7, now=room.now)

    assert next_probe(room) == 0
    assert not room.held().to_look_up, "the probe is a mail"


# An app whose configuration is at fault.


def test_without_a_token_no_job_is_the_probe_and_one_worker_asks_once_an_interval(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.settle(room.held(), NO_TOKEN)
    assert [ticked(room, name).probes for name in "abc"] == [(), (), ()]

    room.jump(5)

    due = [ticked(room, name).probes for name in "abc"]
    assert [len(probes) for probes in due] == [1, 0, 0]
    assert due[0][0].app == "main"
    assert room.claim() is None
    assert room.claim(OTHER) is None


def test_a_token_releases_the_app_and_its_lanes_wake_at_once(room: Room) -> None:
    jobs = [room.take(), room.take(mail(OTHER))]
    room.settle(room.held(), NO_TOKEN)
    assert room.claim(OTHER) is None
    room.jump(5)
    room.rounds()

    probe(room)
    room.tick()

    assert sorted(room.rounds()) == sorted([SENDER, OTHER])
    assert [room.send(lane=lane) for lane in (SENDER, OTHER)] == jobs
    assert room.ledger.records.holds(now=room.now) == []


def test_the_token_probe_s_interval_grows_and_an_outage_of_entra_does_not_count(room: Room) -> None:
    room.take()
    room.settle(room.held(), NO_TOKEN)
    waited = list[float]()
    for instead in (NO_TOKEN, replace(NO_TOKEN, reason="expired_client_secret"), Deferred(reason="entra", free=True)):
        waited.append(next_probe(room))
        room.jump(waited[-1])
        probe(room, instead)
    waited.append(next_probe(room))

    assert waited == [5, 10, 20, 20]
    assert room.ledger.records.holds(now=room.now)[0].reason == "expired_client_secret"


def test_a_worker_that_dies_with_the_token_probe_leaves_it_to_another(room: Room) -> None:
    room.take()
    room.settle(room.held(), NO_TOKEN)
    room.jump(5)
    (dead,) = ticked(room).probes
    room.jump(31)

    (alive,) = ticked(room).probes
    room.ledger.probed(dead, None, now=room.now)

    assert room.claim() is None, "what comes late is not believed"
    room.ledger.probed(alive, None, now=room.now)
    room.held()


def test_a_probe_s_answer_that_is_recorded_twice_counts_once(room: Room) -> None:
    room.take()
    room.settle(room.held(), NO_TOKEN)
    room.jump(5)
    (due,) = ticked(room).probes
    for _ in range(2):
        room.ledger.probed(due, NO_TOKEN, now=room.now)

    assert next_probe(room) == 10


def test_a_worker_that_starts_has_held_apps_probed_at_once(room: Room) -> None:
    room.take()
    room.settle(room.held(), NO_TOKEN)
    for _ in range(6):
        room.jump(next_probe(room))
        probe(room, NO_TOKEN)
    assert next_probe(room) == 320

    room.publish()

    probe(room)
    room.held()


def test_where_graph_rejects_every_token_one_job_is_the_probe(room: Room) -> None:
    first, second = room.take(), room.take(mail(OTHER))
    room.send(REJECTED)
    assert room.claim(OTHER) is None
    room.jump(60)
    assert ticked(room).probes == ()

    job = room.sending(OTHER)
    assert job.id == second
    assert room.claim() is None
    room.settle(job, ACCEPTED)

    assert room.ledger.records.holds(now=room.now) == []
    room.tick(2)
    assert room.send() == first


def test_a_claim_from_before_the_hold_is_not_sent_into_it(room: Room) -> None:
    room.take()
    room.take()
    claimed, without_token = room.held(), room.held()
    room.settle(without_token, NO_TOKEN)
    room.jump(6)  # the probe is due, and under way perhaps

    assert room.mark(claimed) == "wait"


def test_an_app_held_for_its_tokens_being_rejected_is_held_from_the_first_answer_on(room: Room) -> None:
    for _ in range(3):
        room.take()
    under_way = room.sending()
    room.settle(room.held(), Deferred(reason="entra", free=True, scope=Scope.APP))
    began = room.at(0)
    room.settle(under_way, REJECTED)
    waited = list[float]()
    for _ in range(2):
        waited.append(next_probe(room))
        room.jump(waited[-1])
        job = room.sending()
        assert room.ledger.records.holds(now=room.now)[0].since == began, "a token proves nothing here"
        room.settle(job, REJECTED)

    assert (waited, next_probe(room)) == ([60, 120], 240)
    assert room.ledger.records.holds(now=room.now)[0].since == began


# Log events.


def test_a_hold_is_logged_when_it_begins_and_when_it_ends(room: Room) -> None:
    room.take()
    room.take()
    room.send(NOT_ALLOWED)
    assert events(room) == [("hold.started", SENDER)]
    room.jump(60)
    room.send()
    hold(room, batch="news")
    release(room, batch="news")

    assert events(room) == [("hold.ended", SENDER), ("hold.started", "news"), ("hold.ended", "news")]
    assert events(room) == []


def test_a_waiting_job_says_what_holds_it(room: Room) -> None:
    tried, behind, elsewhere = room.take(), room.take(batch="news"), room.take(mail(OTHER))
    room.send(NOT_ALLOWED)

    found = room.ledger.records.read(behind, now=room.now)

    assert found.status == "queued"
    assert found.hold is not None
    assert (found.hold.scope, found.hold.reason, found.hold.since) == ("lane", "access_policy", room.at(0))
    assert found.hold.next_probe == room.at(60)
    assert (room.read(tried).status, room.read(tried).reason) == ("deferred", "held")
    assert room.ledger.records.read(elsewhere, now=room.now).hold is None
    hold(room, batch="news", length_s=60)
    stopped = room.ledger.records.read(behind, now=room.now).hold
    assert stopped is not None
    assert (stopped.scope, stopped.by, stopped.until) == ("batch", "anna", room.at(60))
