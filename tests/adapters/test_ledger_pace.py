"""Repeated 429s slow a lane down, quiet brings it back: on a real server, with the time passed in."""

from dataclasses import replace

from postroom.outcome import Answer, Throttled
from postroom.scripts import PREFIX

from .test_ledger import ACCEPTED, FREE, OTHER, SENDER, Room, mail, room

__all__ = ["room"]
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


def test_four_that_were_under_way_are_one_event(room: Room) -> None:
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


def test_only_graph_slows_a_lane_and_only_this_one(room: Room) -> None:
    room.take(mail(sender=OTHER))
    room.send(OUR_OWN, OTHER)
    room.tick(3)
    throttled(room, 3)
    filled(room, OTHER)

    assert claims(room, OTHER) == 4


def test_the_present_pace_is_told(room: Room) -> None:
    throttled(room, 3)
    waiting = room.take()

    assert room.ledger.records.read(waiting, now=room.now).pace == 0.25
    room.tick(130)
    assert room.ledger.records.read(waiting, now=room.now).pace is None
