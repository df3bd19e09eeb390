"""Calls that fibers make of Redis while others are under way go there together."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away
from redis.exceptions import DataError, ResponseError

from postroom.runtime.batching_redis import MOST_TOGETHER, BatchingRedis
from postroom.runtime.fibers import Hub, invite

from .hubs import Freed, freed, hub, results

__all__ = ["freed", "hub"]


class FakeRedis:
    """Replies with the name of the function that was called, when it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.arrived, self.may_reply = threading.Semaphore(0), threading.Semaphore(0)
        self.away = False

    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any:
        names = list(arguments) if function == "in one" else [function]
        if "cannot be sent" in names:
            raise DataError
        self.batches.append(names)
        self.arrived.release()
        assert self.may_reply.acquire(timeout=10)
        if self.away:
            raise Away
        replies = [ResponseError("no") if name == "refused" else name for name in names]
        return replies if function == "in one" else replies[0]

    def hget(self, name: str, key: str) -> str:
        return f"{name} {key}"


def in_one(calls: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    return ("in one", 0, *(name for name, *_ in calls))


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def batching(redis: FakeRedis) -> BatchingRedis:
    return BatchingRedis(redis, in_one)


def test_outside_of_fibers_a_call_goes_by_itself(redis: FakeRedis, batching: BatchingRedis) -> None:
    redis.may_reply.release()

    assert batching.fcall("f", 0) == "f"


def test_calls_made_meanwhile_go_together(hub: Hub, redis: FakeRedis, batching: BatchingRedis) -> None:
    first = results(hub, lambda: batching.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    more = results(hub, *(lambda n=n: batching.fcall(f"{n}", 0) for n in range(3)))  # type: ignore[misc]
    assert results(hub, lambda: "other fibers go on").get(timeout=10)
    redis.may_reply.release(2)

    assert first.get(timeout=10) == "first"
    assert [more.get(timeout=10) for _ in range(3)] == ["0", "1", "2"]
    assert redis.batches == [["first"], ["0", "1", "2"]]


def test_a_full_batch_goes_while_another_is_under_way_and_no_third(
    hub: Hub, redis: FakeRedis, batching: BatchingRedis
) -> None:
    many = 2 * MOST_TOGETHER + 1
    first = results(hub, lambda: batching.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    more = results(hub, *(lambda n=n: batching.fcall(f"{n}", 0) for n in range(many)))  # type: ignore[misc]
    assert redis.arrived.acquire(timeout=10)
    assert results(hub, lambda: "all are called").get(timeout=10)
    assert [len(batch) for batch in redis.batches] == [1, MOST_TOGETHER]

    redis.may_reply.release(4)
    assert first.get(timeout=10) == "first"
    assert {more.get(timeout=10) for _ in range(many)} == {f"{n}" for n in range(many)}
    assert [len(batch) for batch in redis.batches] == [1, MOST_TOGETHER, MOST_TOGETHER, 1]


def test_a_reply_that_is_an_error_is_its_callers_alone(hub: Hub, redis: FakeRedis, batching: BatchingRedis) -> None:
    first = results(hub, lambda: batching.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    more = results(hub, lambda: batching.fcall("refused", 0), lambda: batching.fcall("fine", 0))
    redis.may_reply.release(2)

    assert first.get(timeout=10) == "first"
    assert isinstance(more.get(timeout=10), ResponseError)
    assert more.get(timeout=10) == "fine"


def test_what_cannot_be_sent_is_its_callers_alone(hub: Hub, redis: FakeRedis, batching: BatchingRedis) -> None:
    first = results(hub, lambda: batching.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    wrong = results(hub, lambda: batching.fcall("cannot be sent", 0))
    fine = results(hub, lambda: batching.fcall("fine", 0))
    assert results(hub, lambda: "all are called").get(timeout=10)
    redis.may_reply.release(2)

    assert first.get(timeout=10) == "first"
    assert isinstance(wrong.get(timeout=10), DataError)
    assert fine.get(timeout=10) == "fine"


def test_a_redis_that_is_away_is_an_error_for_all_callers(hub: Hub, redis: FakeRedis, batching: BatchingRedis) -> None:
    redis.away = True
    redis.may_reply.release(2)
    first = results(hub, lambda: batching.fcall("a", 0), lambda: batching.fcall("b", 0))
    assert [type(first.get(timeout=10)) for _ in range(2)] == [Away, Away]

    redis.away = False
    redis.may_reply.release()
    assert results(hub, lambda: batching.fcall("c", 0)).get(timeout=10) == "c"


def test_where_no_thread_can_start_the_call_is_made_in_the_loop(
    hub: Hub, redis: FakeRedis, batching: BatchingRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    redis.may_reply.release()

    assert results(hub, lambda: batching.fcall("f", 0)).get(timeout=10) == "f"


def test_all_other_commands_go_to_redis_as_they_are(hub: Hub, batching: BatchingRedis) -> None:
    assert results(hub, lambda: batching.hget("a", "b")).get(timeout=10) == "a b"


def test_nobody_is_invited_to_wait_for_redis_behind_many(freed: Freed) -> None:
    hub = Hub(100, freed)
    redis = FakeRedis()
    batching = BatchingRedis(redis, in_one)
    begun = threading.Event()
    invited: list[int] = []

    def call_and_invite() -> None:
        invite(lambda: invited.append(1))
        begun.set()

    results(hub, lambda: batching.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    # Not so many that they would go as a full batch.
    results(hub, *(lambda: batching.fcall("more", 0) for _ in range(MOST_TOGETHER - 1)), call_and_invite)
    assert begun.wait(10)
    redis.may_reply.release(2)
    hub.close()

    assert invited == []
