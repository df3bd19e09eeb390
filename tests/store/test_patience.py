"""Mail that a fault's hold keeps longer than the patience allows is dead, in bounded steps."""

import itertools

from postroom.store.functions import PREFIX
from postroom.store.operator import Actor

from .holds import HOUR, ticked
from .room import NO_ANSWER, NO_TOKEN, NOT_ALLOWED, OTHER, SENDER, Room, mail


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

    room.tick(1200, every_s=10)
    assert (room.read(late).status, room.read(late).reason) == ("dead", "access_policy")
    assert room.read(late).attempts[-1].outcome == "held"
    assert room.read(scheduled).status == "deferred"

    room.tick(601)
    assert room.read(scheduled).status == "dead"
    assert {room.read(job_id).status for job_id in (early, late)} == {"dead"}


def test_a_probe_whose_patience_is_over_is_dead_with_its_answer(room: Room) -> None:
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

    room.tick(HOUR + 10, every_s=10)

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
    room.tick(HOUR + 1, every_s=10)
    assert room.read(job_id).status == room.read(early).status == "dead"

    room.ledger.requeue([job_id], Actor("order", "ops@mailhost"), now=room.now)

    room.tick(HOUR - 10, every_s=10)
    assert room.read(job_id).status == "queued"
    room.tick(20)
    assert room.read(job_id).status == "dead"


def test_mail_that_a_repair_has_released_is_not_ended_by_patience(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    room.jump(60)
    room.send()

    room.tick(2 * HOUR, every_s=10)

    assert room.redis.zcard(PREFIX + "status:dead") == 0


def test_the_end_of_patience_is_logged_with_the_number_of_mails(room: Room) -> None:
    room.publish(hold_patience_s=HOUR)
    for _ in range(3):
        room.take()
    room.send(NOT_ALLOWED)
    ticked(room)
    room.jump(HOUR)

    (event,) = [event for event in ticked(room).events if event["event"] == "hold.overdue"]

    assert (event["name"], event["reason"], event["jobs"]) == (SENDER, "access_policy", 3)
