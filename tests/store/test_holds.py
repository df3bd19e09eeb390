"""Holds in the ledger, by faults and by people: on a real server, with the time passed in."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from postroom.jobs.outcome import Answer, Deferred, Held, Refused, Scope
from postroom.jobs.retry import OnUnknown, Policy, after_lookup, decide
from postroom.jobs.ticks import Ticked
from postroom.store import functions
from postroom.store.functions import PREFIX
from postroom.store.operator import Actor, ReleaseResult

from .room import ACCEPTED, FREE, NO_ANSWER, NO_TOKEN, NOT_ALLOWED, OTHER, SENDER, Room, mail, throttled

REJECTED = Held(reason="token_rejected", scope=Scope.APP, answer=Answer(http_status=401))
SEND_AS_DENIED = Refused(reason="send_as_denied", answer=Answer(http_status=403, graph_code="ErrorSendAsDenied"))
HOUR = 3600


def ticked(room: Room, worker: str = "worker") -> Ticked:
    return room.ledger.tick(worker, 8, 60, now=room.now)


def events(room: Room) -> list[tuple[str, str]]:
    """What the log says of holds since the last look: each event and whom it concerns."""
    return [(event["event"], event["name"]) for event in ticked(room).events]


def probe(room: Room, instead: Any = None) -> None:
    """The one request for a token that is due."""
    due = ticked(room).probes
    assert len(due) == 1
    room.ledger.probed(due[0], instead, now=room.now)


def next_probe(room: Room) -> float:
    held = room.ledger.records.holds(now=room.now)[0]
    assert held.next_probe is not None
    return (held.next_probe - room.at(0)).total_seconds()


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


# Patience.


def test_a_held_job_is_dead_after_patience_counted_from_the_hold_or_its_due_time(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    early = room.take()
    scheduled = room.take(mail(scheduled_at=room.at(1800)))
    expiring = room.take(mail(expires_at=room.at(HOUR - 1)))
    tried = room.send(NOT_ALLOWED)
    assert tried == early
    room.jump(1200)
    late = room.take()

    room.jump(HOUR - 1200)
    room.tick()
    states = {job_id: room.read(job_id).status for job_id in (early, scheduled, expiring, late)}
    assert states[scheduled] == "deferred"
    assert states[expiring] == "expired", "expiry wins"
    assert states[late] == "queued"

    room.tick(1200)
    assert (room.read(late).status, room.read(late).reason) == ("dead", "access_policy")
    assert room.read(late).attempts[-1].outcome == "held"
    assert room.read(scheduled).status == "deferred"

    room.tick(601)
    assert room.read(scheduled).status == "dead"
    assert {room.read(job_id).status for job_id in (early, late)} == {"dead"}


def test_the_probe_that_has_waited_long_enough_is_dead_with_its_answer(room: Room) -> None:
    room.publish(hold_patience_s=90)
    job_id = room.take()
    room.send(NOT_ALLOWED)
    room.jump(60.001)
    room.send(NOT_ALLOWED)
    room.jump(120.001)

    room.send(NOT_ALLOWED)

    found = room.read(job_id)
    assert (found.status, found.reason, len(found.attempts), found.http_status) == ("dead", "access_policy", 3, 403)


def test_a_large_backlog_ends_in_bounded_steps(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    jobs = [room.take() for _ in range(1200)]
    room.send(NOT_ALLOWED)
    room.jump(HOUR)

    dead = [0]
    while ticked(room).busy:
        dead.append(room.redis.zcard(PREFIX + "status:dead"))

    assert max(after - before for before, after in itertools.pairwise(dead)) <= 500
    assert room.redis.zcard(PREFIX + "status:dead") >= len(jobs) - 1  # the one that was tried is the next probe


def test_a_backlog_whose_patience_lasts_is_not_looked_through_each_second(room: Room) -> None:
    for _ in range(300):
        room.take()
    room.send(NOT_ALLOWED)
    room.tick()
    before = commands(room)

    room.jump(HOUR)
    for _ in range(20):
        ticked(room)

    assert commands(room) - before < 20 * 60


def test_a_patience_that_is_made_shorter_ends_what_waits_already(room: Room) -> None:
    job = room.take()
    room.send(NOT_ALLOWED)
    room.jump(2 * HOUR)
    room.publish(hold_patience_s=HOUR)

    room.tick(2)

    assert (room.read(job).status, room.read(job).reason) == ("dead", "access_policy")


def test_a_walk_through_a_backlog_ends_where_patience_lasts(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    early = room.take()
    room.take()
    room.send(NOT_ALLOWED)
    room.jump(1800)
    for _ in range(400):
        room.take()
    room.jump(1800)
    before = commands(room)

    for _ in range(5):
        ticked(room)

    assert room.redis.zcard(PREFIX + "status:dead") == 2
    assert room.read(early).status == "dead"
    assert commands(room) - before < 300


def commands(room: Room) -> int:
    return sum(stat["calls"] for stat in room.redis.info("commandstats").values())


def test_the_patience_of_an_app_s_hold_ends_the_mail_of_all_its_lanes(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    jobs = [room.take(), room.take(mail(OTHER))]
    room.settle(room.held(), NO_TOKEN)

    room.tick(HOUR + 10)

    assert [(room.read(job_id).status, room.read(job_id).reason) for job_id in jobs] == [
        ("dead", "invalid_client_secret")
    ] * 2


def test_a_job_in_doubt_is_not_ended_as_if_it_had_not_been_sent(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    doubtful, other = room.take(), room.take()
    room.send(NO_ANSWER)
    room.send(NOT_ALLOWED)

    room.jump(2 * HOUR)
    room.tick(5)

    assert room.read(doubtful).reason == "unknown"
    assert room.read(doubtful).status == "deferred"
    assert room.read(other).status == "dead"


def test_a_mail_that_a_person_requeues_during_the_hold_is_given_the_whole_patience_again(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    job_id, early = room.take(), room.take()
    room.send(NOT_ALLOWED)
    room.tick(HOUR + 1)
    assert room.read(job_id).status == room.read(early).status == "dead"

    room.ledger.requeue([job_id], Actor("order", "ops@mailhost"), now=room.now)

    room.tick(HOUR - 10)
    assert room.read(job_id).status == "queued"
    room.tick(20)
    assert room.read(job_id).status == "dead"


def test_after_the_repair_no_patience_counts(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    room.jump(60)
    room.send()

    room.tick(2 * HOUR)

    assert room.redis.zcard(PREFIX + "status:dead") == 0


# What people hold.


def hold(room: Room, **given: Any) -> Any:
    return room.ledger.hold(by="anna", now=room.now, **given)


def release(room: Room, **given: Any) -> ReleaseResult:
    return room.ledger.release(now=room.now, **given)


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
    room.tick(7199)
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


def test_mail_goes_to_the_lane_that_new_rules_give_its_sender(room: Room) -> None:
    waiting, later = room.take(mail(OTHER)), room.take(mail(OTHER, scheduled_at=room.at(600)))
    room.publish(aliases={OTHER: SENDER})

    room.tick(5)

    assert [room.read(job).lane for job in (waiting, later)] == [SENDER, SENDER]
    assert room.claim(OTHER) is None
    assert room.send() == waiting
    room.tick(600)
    assert room.send() == later


def test_so_much_mail_follows_new_rules_at_once_that_nobody_waits_for_redis(room: Room) -> None:
    senders = [f"s{number}@contoso.com" for number in range(4)]
    for sender in senders * 60:
        room.take(mail(sender))
    room.publish(aliases=dict.fromkeys(senders, SENDER))
    moved: list[int] = []

    while not moved or moved[-1] < 240:
        room.tick()
        moved.append(room.redis.zcard(f"{PREFIX}ready:normal:{SENDER}"))

    assert moved == [100, 200, 240]


def test_mail_behind_other_mail_of_its_lane_follows_new_rules_when_its_claim_comes(room: Room) -> None:
    stays, goes = room.take(), room.take(mail("alias@contoso.com"))
    room.publish(aliases={})
    room.tick(1)

    assert room.send() == stays
    assert room.claim() is None
    assert room.read(goes).lane == "alias@contoso.com"
    assert room.send(lane="alias@contoso.com") == goes


def test_a_lane_that_is_held_under_its_own_name_is_released_by_it_after_new_rules(room: Room) -> None:
    held = room.take(mail(OTHER))
    room.ledger.hold(sender=OTHER, by="ann", now=room.now)
    room.publish(aliases={OTHER: SENDER})
    room.tick(5)
    assert room.read(held).lane == OTHER

    assert release(room, sender=OTHER).was_held

    room.tick(5)
    assert room.claim(OTHER) is None
    assert room.send() == held


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


# What is told.


def test_a_hold_is_told_when_it_begins_and_when_it_ends(room: Room) -> None:
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


def test_patience_that_is_over_is_told_with_the_number_of_mails(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    ticked(room)
    room.jump(HOUR)

    (event,) = [event for event in ticked(room).events if event["event"] == "hold.overdue"]

    assert (event["name"], event["reason"], event["jobs"]) == (SENDER, "access_policy", 3)


def test_a_waiting_job_says_what_holds_it(room: Room) -> None:
    tried, behind, may_switch_lane = room.take(), room.take(batch="news"), room.take(mail(OTHER))
    room.send(NOT_ALLOWED)

    found = room.ledger.records.read(behind, now=room.now)

    assert found.status == "queued"
    assert found.hold is not None
    assert (found.hold.scope, found.hold.reason, found.hold.since) == ("lane", "access_policy", room.at(0))
    assert found.hold.next_probe == room.at(60)
    assert (room.read(tried).status, room.read(tried).reason) == ("deferred", "held")
    assert room.ledger.records.read(may_switch_lane, now=room.now).hold is None
    hold(room, batch="news", length_s=60)
    stopped = room.ledger.records.read(behind, now=room.now).hold
    assert stopped is not None
    assert (stopped.scope, stopped.by, stopped.until) == ("batch", "anna", room.at(60))
