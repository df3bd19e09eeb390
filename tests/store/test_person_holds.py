"""A person holds a sender or a batch until it is released or the time is over."""

from dataclasses import replace
from typing import Any

import pytest

from postroom.store import functions
from postroom.store.functions import PREFIX
from postroom.store.operator import ReleaseResult

from .holds import HOUR, hold, next_probe, probe, release
from .room import ACCEPTED, FREE, NO_TOKEN, NOT_ALLOWED, OTHER, SENDER, Room, mail, throttled


def test_a_sender_held_by_a_person_waits_until_it_is_released_through_any_of_its_addresses(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    job_id, other = room.take(), room.take(mail(OTHER))
    for _ in range(2):
        kept = hold(room, sender="Alias@contoso.com", reason="moving")
    assert (kept.name, kept.waiting, kept.sending) == (SENDER, 1, 0)
    assert room.claim() is None
    assert room.send(lane=OTHER) == other
    (held,) = room.ledger.records.holds(now=room.now)
    assert (held.scope, held.name, held.by, held.reason, held.since) == ("lane", SENDER, "anna", "moving", room.at(0))
    assert (held.waiting, held.until, held.next_probe) == (1, None, None)

    room.jump(4 * 86400)
    room.tick()
    assert room.read(job_id).status == "queued", "no patience with people"
    room.rounds()

    assert release(room, sender=SENDER).was_held
    assert room.rounds() == [SENDER]
    assert room.send() == job_id
    assert not release(room, sender=SENDER).was_held


def test_what_is_being_sent_when_a_hold_begins_is_not_touched(room: Room) -> None:
    for _ in range(2):
        room.take(batch="news")
    sending, claimed = room.sending(), room.held()

    assert hold(room, sender=SENDER).sending == 2
    assert hold(room, batch="news").sending == 2

    assert room.mark(claimed) == "wait"
    assert room.settle(sending, ACCEPTED)
    assert room.read(sending.id).status == "accepted"


@pytest.mark.parametrize("what", [{"sender": SENDER}, {"batch": "news"}])
def test_a_hold_for_a_time_ends_by_itself(room: Room, what: Any) -> None:
    job_id = room.take(batch="news")
    hold(room, length_s=7200, **what)
    room.tick(7199, every_s=10)
    assert room.claim() is None
    room.rounds()

    room.tick(2)

    assert room.rounds() == [SENDER]
    assert room.send() == job_id
    assert room.ledger.records.holds(now=room.now) == []


def test_a_held_batch_waits_while_others_of_its_lane_flow(room: Room) -> None:
    left = room.take(batch="news")
    room.send()
    held = [room.take(batch="news", a_mail=mail(priority="high")) for _ in range(3)]
    held += [room.take(batch="news", a_mail=mail(OTHER)), room.take(batch="news", a_mail=mail(scheduled_at=room.at(9)))]
    flows = room.take()

    kept = hold(room, batch="news", reason="wrong text")
    held.append(room.take(batch="news"))

    assert (kept.waiting, kept.accepted, kept.sending) == (5, 1, 0)
    assert room.read(left).status == "accepted"
    assert room.send() == flows
    room.jump(10)
    room.tick()
    assert room.claim() is None
    assert room.claim(OTHER) is None
    assert room.ledger.records.holds(now=room.now)[0].waiting == 6

    release(room, batch="news")

    assert sorted([room.send() for _ in range(5)] + [room.send(lane=OTHER)]) == sorted(held)
    assert room.ledger.records.holds(now=room.now) == []


@pytest.mark.parametrize("due_in", [None, 5])
def test_a_held_batch_s_large_mail_keeps_no_other_from_the_day_s_recipients(room: Room, due_in: int | None) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=6)})
    room.take(mail(to=2))
    room.send()
    hold(room, batch="news")
    room.take(mail(to=5, priority="high", scheduled_at=room.at(due_in) if due_in else None), batch="news")
    flows = room.take()
    room.tick(6)

    assert room.send() == flows


def test_a_hold_of_a_batch_that_was_broken_off_keeps_all_of_it(room: Room) -> None:
    jobs = [room.take(batch="news") for _ in range(150)]
    functions.run(room.redis, "hold", room.now, "batch", "news", "anna", "", "", "0")  # one step, and no more
    flows = room.take()

    assert room.send() == flows
    assert room.claim() is None
    release(room, batch="news")
    assert room.held().id == jobs[0]


def test_a_held_batch_s_jobs_can_be_cancelled_and_expire(room: Room) -> None:
    cancelled, expired = room.take(batch="news"), room.take(mail(expires_at=room.at(60)), batch="news")
    hold(room, batch="news")

    room.ledger.cancel(cancelled, now=room.now)
    room.tick(61)

    assert [room.read(job_id).status for job_id in (cancelled, expired)] == ["cancelled", "expired"]
    assert room.redis.zcard(PREFIX + "aside:news") == 0


def test_a_batch_that_is_released_while_its_hold_still_walks_keeps_nothing_aside(room: Room) -> None:
    for _ in range(250):
        room.take(batch="news")
    hold = ("batch", "news", "ann", "", "")
    *_, goes_on = functions.run(room.redis, "hold", room.now, *hold, "0")
    release(room, batch="news")

    *_, goes_on = functions.run(room.redis, "hold", room.now, *hold, goes_on.decode())

    assert goes_on == b""
    assert room.redis.zcard(f"{PREFIX}aside:news") == 0


def test_a_release_that_goes_on_leaves_the_hold_that_began_meanwhile(room: Room) -> None:
    for _ in range(250):
        room.take(batch="news")
    room.ledger.hold(batch="news", by="ann", now=room.now)
    functions.run(room.redis, "release", room.now, "batch", "news", "")  # one step
    room.ledger.hold(batch="news", by="bert", now=room.now)

    *_, left = functions.run(room.redis, "release", room.now, "batch", "news", 1)

    assert left == 0
    assert [held.by for held in room.ledger.records.holds(now=room.now)] == ["bert"]
    assert room.redis.zcard(f"{PREFIX}aside:news") == 250


def test_mail_of_others_waits_for_no_held_batch_that_is_due(room: Room) -> None:
    for _ in range(350):
        room.take(mail(scheduled_at=room.at(60)), batch="news")
    other = room.take(mail(scheduled_at=room.at(61)))
    room.ledger.hold(batch="news", by="ann", now=room.now)

    room.tick(70)

    assert room.send() == other


def test_a_batch_whose_release_was_broken_off_comes_back_by_the_tick(room: Room) -> None:
    for _ in range(350):
        room.take(batch="news")
    hold(room, batch="news")
    assert room.redis.zcard(PREFIX + "aside:news") == 350
    functions.run(room.redis, "release", room.now, "batch", "news", "")  # one step, and no more
    assert room.redis.zcard(PREFIX + "aside:news") == 250

    room.tick(2)

    assert room.redis.zcard(PREFIX + "aside:news") == 0
    assert room.redis.smembers(PREFIX + "releasing") == set()
    assert room.redis.zcard(f"{PREFIX}ready:normal:{SENDER}") == 350


def test_a_job_that_comes_back_into_a_held_batch_waits_with_it(room: Room) -> None:
    room.take(batch="news")
    job = room.sending()
    hold(room, batch="news")

    room.settle(job, throttled(5))

    room.tick(10)
    assert room.claim() is None
    assert room.record(job.id)[b"place"] == b"aside"
    release(room, batch="news")
    assert room.send() == job.id


def test_a_release_probes_a_fault_s_hold_at_once_and_ends_it_only_by_success(room: Room) -> None:
    job_id = room.take()
    for _ in range(4):
        room.send(NOT_ALLOWED)
        room.jump(next_probe(room) + 0.001)
    room.send(NOT_ALLOWED)
    assert room.claim() is None
    room.rounds()

    said = release(room, sender=SENDER)

    assert said == ReleaseResult(name=SENDER, was_held=False, probed="lane")
    assert room.rounds() == [SENDER]
    assert len(room.ledger.records.holds(now=room.now)) == 1
    assert room.send(NOT_ALLOWED) == job_id
    assert next_probe(room) == 60, "the interval begins anew"


def test_a_release_does_not_shorten_the_pause_that_graph_asked_for(room: Room) -> None:
    room.take()
    room.take()
    room.send(NOT_ALLOWED)
    room.jump(60)
    room.send(throttled(600))

    release(room, sender=SENDER)

    assert room.claim() is None
    room.jump(600)
    room.held()


def test_a_release_asks_for_a_token_at_once_where_the_app_is_held(room: Room) -> None:
    room.take()
    room.settle(room.held(), NO_TOKEN)

    assert release(room, sender=SENDER).probed == "app"

    assert room.claim() is None, "a token is awaited first"
    probe(room)
    room.held()


def test_a_person_s_hold_outlasts_the_end_of_a_fault_s(room: Room) -> None:
    for _ in range(3):
        room.take()
    job = room.sending()
    room.settle(job, NOT_ALLOWED)
    room.jump(60)
    probing = room.sending()
    hold(room, sender=SENDER)

    room.settle(probing, ACCEPTED)

    assert [held.by for held in room.ledger.records.holds(now=room.now)] == ["anna"]
    assert room.claim() is None
