"""What a job costs Redis: memory while it waits, and commands on its way."""

from dataclasses import replace

import pytest
import redis

from postroom.jobs.job import Claimant
from postroom.jobs.retry import Policy, decide
from postroom.store.functions import LIBRARY, PREFIX
from postroom.store.intake import NOT_DEAD, NOTHING_STAGED
from postroom.store.intake_codec import encode_mail
from tests.conftest import OTHER_SERVER

from .room import ACCEPTED, FREE, SENDER, Room, mail


def calls(client: "redis.Redis[bytes]") -> int:
    return sum(stat["calls"] for name, stat in client.info("commandstats").items() if "|" not in name)


def cost_of_a_mail(room: Room) -> int:
    """Commands that one mail costs in the midst of a round: mark, settle, next claim."""
    job = room.sending()
    move = decide(ACCEPTED, 0, Policy(), lambda: 0.5)
    before = calls(room.redis)
    for _ in range(10):
        room.jump(0.1)
        following = room.ledger.settle(job, move, ACCEPTED, 1, claimant=Claimant(room.name("t"), 60), now=room.now)[1]
        assert following is not None
        job = following
        room.mark(job)
    room.settle(job, ACCEPTED)
    return (calls(room.redis) - before) // 10


def test_a_claim_costs_the_same_with_5_000_jobs_waiting_as_with_20(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10**6, rates=((1000, 60),))})
    for _ in range(20):
        room.take()
    few = cost_of_a_mail(room)
    fill(room, 5_000)

    assert cost_of_a_mail(room) <= few + 2


@pytest.mark.skipif(bool(OTHER_SERVER), reason="the figure is of the server that the wheel brings")
def test_a_waiting_job_costs_redis_less_than_900_bytes_beyond_its_mail(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=10**6)})

    def used() -> int:
        return sum(room.redis.memory_usage(key, samples=0) for key in room.redis.scan_iter(PREFIX + "*", count=1000))

    before = used()
    payload = fill(room, 2_000)

    assert (used() - before) / 2_000 - payload < 900


def fill(room: Room, count: int) -> int:
    """Takes `count` jobs in, in one go; the length of one's payload."""
    a_mail = mail(subject="Your newsletter")
    room.take()
    pipe = room.redis.pipeline(transaction=False)
    for i in range(count):
        job_id = f"0b8f6c2e{i:012}"
        given = encode_mail(job_id, a_mail, a_mail.to_json(), f"news/{i:032x}", f"{i:032x}")
        pipe.fcall(f"{LIBRARY}take_in", 0, room.now, "news", "", "", *NOTHING_STAGED, *NOT_DEAD, *given)
    pipe.execute()
    return len(a_mail.to_json())
