"""Repeated 429s slow a lane down, and minutes without one restore its pace. Time is an argument."""

from dataclasses import replace

from postroom.jobs.outcome import Answer, Scope, Throttled
from postroom.operations import stats
from postroom.store import functions
from postroom.store.functions import PREFIX

from .room import ACCEPTED, FREE, OTHER, SENDER, Room, mail

TOO_FAST = Throttled(answer=Answer(http_status=429), wait_s=1)
OUR_OWN = Throttled(wait_s=1)


def throttled(room: Room, times: int) -> None:
    """So many 429s, each after the pause of the one before."""
    for _ in range(times):
        room.take()
        room.send(TOO_FAST)
        while room.ledger.records.read(room.take(), now=room.now).paused_until:
            room.tick(1)
    room.send(ACCEPTED)


def claims(room: Room, lane: str = SENDER) -> int:
    """How many claims the lane gives at once; what they hold is sent."""
    held = []
    while job := room.claim(lane):
        held.append(job)
    for job in held:
        assert room.mark(job) == "marked"
        room.settle(job, ACCEPTED)
    return len(held)


def filled(room: Room, lane: str = SENDER) -> None:
    for _ in range(30):
        room.take(mail(sender=lane))


def test_each_further_429_halves_what_leaves_at_once_and_a_quiet_minute_doubles_it_again(room: Room) -> None:
    throttled(room, 3)
    filled(room)

    assert claims(room) == 1
    room.tick(61)
    assert claims(room) == 2
    room.tick(60)
    assert claims(room) == 4


def test_four_429s_of_requests_under_way_together_count_once(room: Room) -> None:
    filled(room)
    jobs = [room.sending() for _ in range(4)]
    room.jump(1)
    for job in jobs:
        room.settle(job, TOO_FAST)

    assert room.redis.hget(f"{PREFIX}lane:{SENDER}", "slowed") == b"1"


def test_a_slower_lane_keeps_to_a_part_of_its_rate_and_never_stops(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((8, 60.0),))})
    throttled(room, 2)
    filled(room)

    assert sum(claims(room) for _ in range(9)) <= 8 // 2
    room.tick(190)
    assert sum(claims(room) for _ in range(9)) == 8, "the whole rate again"


def test_only_a_429_of_graph_slows_a_lane_and_it_slows_no_other(room: Room) -> None:
    room.take(mail(sender=OTHER))
    room.send(OUR_OWN, OTHER)
    room.tick(3)
    throttled(room, 3)
    filled(room, OTHER)

    assert claims(room, OTHER) == 4


def test_the_record_of_a_waiting_job_shows_the_present_pace(room: Room) -> None:
    throttled(room, 3)
    waiting = room.take()

    assert room.ledger.records.read(waiting, now=room.now).pace == 0.25
    room.tick(130)
    assert room.ledger.records.read(waiting, now=room.now).pace is None


def pace(room: Room, waiting: str) -> float | None:
    return room.ledger.records.read(waiting, now=room.now).pace


def test_no_lane_is_slower_than_an_eighth(room: Room) -> None:
    throttled(room, 7)
    waiting = room.take()

    assert pace(room, waiting) == 1 / 8
    room.tick(3 * 60 + 1)
    assert pace(room, waiting) is None, "seven cost no more than four"


def test_a_pause_does_not_count_as_quiet(room: Room) -> None:
    throttled(room, 1)
    waiting = room.take()
    room.send(Throttled(answer=Answer(http_status=429), wait_s=300))
    paused_until = room.ledger.records.read(waiting, now=room.now).paused_until
    assert paused_until

    room.tick((paused_until - room.at(0)).total_seconds())

    assert pace(room, waiting) == 1 / 2
    room.tick(59)
    assert pace(room, waiting) == 1 / 2
    room.tick(2)
    assert pace(room, waiting) is None


def test_a_pace_that_quiet_has_restored_begins_to_slow_down_anew(room: Room) -> None:
    throttled(room, 3)
    waiting = room.take()
    room.tick(121)
    assert pace(room, waiting) is None

    room.send(TOO_FAST)
    room.tick(2)

    assert pace(room, room.take()) == 1 / 2


def test_the_lane_has_its_full_pace_at_the_time_that_is_shown(room: Room) -> None:
    throttled(room, 4)
    waiting = room.take()
    told = room.ledger.records.read(waiting, now=room.now).full_pace_at
    assert told

    room.tick((told - room.at(0)).total_seconds() - 0.5)
    assert pace(room, waiting) is not None
    room.tick(0.5)

    assert pace(room, waiting) is None


def test_a_rate_over_an_hour_is_a_budget_and_is_not_cut(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((40, 3600.0),))})
    throttled(room, 3)
    filled(room)
    filled(room)

    assert sum(claims(room) for _ in range(60)) == 40 - 4


def test_a_rate_of_one_is_never_cut_to_none(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((1, 1.0),))})
    for _ in range(4):
        room.take()
        room.send(TOO_FAST)
        room.tick(90)
        room.redis.hset(f"{PREFIX}lane:{SENDER}", "slowed", 4)
        room.redis.hset(f"{PREFIX}lane:{SENDER}", "full_at", room.now + 240_000)
    waiting = room.take()

    assert pace(room, waiting) == 1 / 8
    assert claims(room) == 1


def test_a_lane_wakes_when_its_pace_lets_more_go(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((8, 60.0),))})
    for _ in range(2):
        room.take()
        room.send()
    room.redis.hset(
        f"{PREFIX}lane:{SENDER}", mapping={"slowed": 3, "slowed_at": room.now, "full_at": room.now + 130_000}
    )
    waiting = room.take()

    assert pace(room, waiting) == 1 / 4
    assert claims(room) == 0, "two have left within this minute"
    assert room.wakes_in() == 10, "then four may leave, long before the two are forgotten"
    room.tick(10)
    assert claims(room) == 1


def test_each_further_request_of_an_attempt_keeps_to_the_pace_too(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((8, 60.0),))})
    room.redis.hset(
        f"{PREFIX}lane:{SENDER}", mapping={"slowed": 3, "slowed_at": room.now, "full_at": room.now + 180_000}
    )
    room.take()
    job = room.held()

    assert [room.mark(job) for _ in range(3)] == ["marked", "marked", "wait"]


def test_a_429_of_the_whole_app_slows_no_lane(room: Room) -> None:
    for _ in range(3):
        room.take()
        room.send(Throttled(answer=Answer(http_status=429), wait_s=1, scope=Scope.APP))
        room.tick(10)

    assert pace(room, room.take()) is None


def test_a_lane_s_pace_is_in_the_stats(room: Room) -> None:
    throttled(room, 3)
    room.take()

    (row,) = functions.run(room.redis, "backlog", room.now, 0, 10)

    assert stats._lane(row).pace == 1 / 4
