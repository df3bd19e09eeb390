"""Hands that work by turns in one thread: none waits for another, and what they ask of Redis goes there together."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away
from redis.exceptions import DataError, ResponseError

from postroom.runtime.fibers import MOST_TOGETHER, Answer, Joined, Room, aside, invite, pause, told


class FakeRedis:
    """Answers with what it was asked, when it may; it has no connection, so one must wait for that."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []
        self.arrived, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)
        self.away = False

    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any:
        self.trips.append(list(arguments) if function == "in one" else [function])
        self.arrived.release()
        assert self.may_answer.acquire(timeout=10)
        if self.away:
            raise Away
        answers = [ResponseError("no") if name == "refused" else name for name in self.trips[-1]]
        return answers if function == "in one" else answers[0]

    def send_fcall(self, function: str, numkeys: int, *arguments: Any) -> "Connected | None":
        return None

    def hget(self, name: str, key: str) -> str:
        return f"{name} {key}"


class Connected:
    """A call of a Redis that is connected; `say` is its answer. None breaks off."""

    timeout_s = 10.0

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self.fd = self._there.fileno()
        self._answer: object = None
        self.given_up, self.begun = threading.Event(), threading.Event()

    def say(self, answer: object) -> None:
        self._answer = answer
        self._here.send(b"!")

    def begin_to_say(self) -> None:
        self._here.send(b"?")

    def read(self) -> object:
        if self._there.recv(1) == b"?":
            self.begun.set()
            raise BlockingIOError
        self.give_up()
        if self._answer is None:
            raise Away
        return self._answer

    def give_up(self) -> None:
        self.given_up.set()
        self._here.close()
        self._there.close()


class ConnectedRedis(FakeRedis):
    def __init__(self) -> None:
        super().__init__()
        self.sent: SimpleQueue[tuple[str, Connected]] = SimpleQueue()
        self.may_answer.release(100)

    def send_fcall(self, function: str, numkeys: int, *arguments: Any) -> Connected:
        if "unsayable" in (function, *arguments):
            raise DataError
        asked = Connected()
        self.sent.put((function, asked))
        return asked


def in_one(calls: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    return ("in one", 0, *(name for name, *_ in calls))


class Freed:
    def __init__(self) -> None:
        self.count = threading.Semaphore(0)

    def __call__(self) -> None:
        self.count.release()

    def wait(self, times: int) -> None:
        for _ in range(times):
            assert self.count.acquire(timeout=10)


@pytest.fixture
def freed() -> Freed:
    return Freed()


@pytest.fixture
def room(freed: Freed) -> Iterator[Room]:
    room = Room(4, freed)
    yield room
    room.close()


def at(room: Room, *works: Callable[[], object]) -> "SimpleQueue[object]":
    """What these say or raise, each done by a hand."""
    said: SimpleQueue[object] = SimpleQueue()
    for work in works:
        room.begin(lambda work=work: said.put(_result(work)))  # type: ignore[misc]
    return said


def _result(work: Callable[[], object]) -> object:
    answer = Answer.of(work)
    return answer.fault or answer.said


def test_without_a_hand_everything_waits_as_plain_code_does() -> None:
    assert aside(lambda: 1) == 1
    assert told(lambda tell: tell(Answer(2))) == 2
    redis = FakeRedis()
    redis.may_answer.release()
    assert Joined(redis, in_one).fcall("f", 0) == "f"
    with pytest.raises(KeyError):
        told(lambda tell: tell(Answer(fault=KeyError())))
    invite(lambda: pytest.fail("there is nobody to do it"))


def test_hands_go_on_while_another_waits_aside(room: Room) -> None:
    first, second = threading.Event(), threading.Event()

    def wait_for_the_other() -> str:
        first.set()
        return "aside" if aside(lambda: second.wait(10)) else "never"

    said = at(room, wait_for_the_other)
    assert first.wait(10)
    assert at(room, lambda: second.set() or "beside").get(timeout=10) == "beside"

    assert said.get(timeout=10) == "aside"


def test_what_is_done_aside_may_raise_and_runs_in_no_hand(room: Room) -> None:
    def nested() -> object:
        return aside(lambda: (threading.current_thread().name, aside(lambda: threading.current_thread().name)))

    name, inner = at(room, nested).get(timeout=10)  # type: ignore[misc]

    assert name == inner == "postroom-aside"
    assert isinstance(at(room, lambda: aside(lambda: 1 / 0)).get(timeout=10), ZeroDivisionError)


def test_a_thread_that_is_free_is_used_again(room: Room) -> None:
    names = [at(room, lambda: aside(threading.get_ident)).get(timeout=10) for _ in range(20)]

    assert len(set(names)) <= 2  # a hand may be told before the thread knows that it is free


def test_what_is_asked_meanwhile_goes_together(room: Room) -> None:
    redis = FakeRedis()
    joined = Joined(redis, in_one)

    said = at(room, lambda: joined.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    more = at(room, *(lambda n=n: joined.fcall(f"{n}", 0) for n in range(3)))  # type: ignore[misc]
    redis.may_answer.release(2)

    assert said.get(timeout=10) == "first"
    assert [more.get(timeout=10) for _ in range(3)] == ["0", "1", "2"]
    assert redis.trips == [["first"], ["0", "1", "2"]]


def test_not_too_much_goes_together(room: Room) -> None:
    redis = FakeRedis()
    joined = Joined(redis, in_one)
    many = MOST_TOGETHER + 3

    at(room, lambda: joined.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    said = at(room, *(lambda n=n: joined.fcall(f"{n}", 0) for n in range(many)))  # type: ignore[misc]
    redis.may_answer.release(3)

    assert {said.get(timeout=10) for _ in range(many)} == {f"{n}" for n in range(many)}
    assert [len(trip) for trip in redis.trips] == [1, MOST_TOGETHER, 3]


def test_an_answer_that_is_an_error_is_its_askers_alone(room: Room) -> None:
    redis = FakeRedis()
    joined = Joined(redis, in_one)

    first = at(room, lambda: joined.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    said = at(room, lambda: joined.fcall("refused", 0), lambda: joined.fcall("fine", 0))
    redis.may_answer.release(2)

    assert first.get(timeout=10) == "first"
    assert isinstance(said.get(timeout=10), ResponseError)
    assert said.get(timeout=10) == "fine"


def test_a_redis_that_is_away_is_told_to_all_who_asked(room: Room) -> None:
    redis = FakeRedis()
    joined = Joined(redis, in_one)
    redis.away = True

    said = at(room, lambda: joined.fcall("a", 0))
    redis.may_answer.release()

    assert isinstance(said.get(timeout=10), Away)
    redis.away = False
    redis.may_answer.release()
    assert at(room, lambda: joined.fcall("b", 0)).get(timeout=10) == "b"


def test_hands_go_on_while_redis_has_a_question(room: Room) -> None:
    redis = ConnectedRedis()
    joined = Joined(redis, in_one)

    said = at(room, lambda: joined.fcall("first", 0))
    function, asked = redis.sent.get(timeout=10)
    assert function == "first"
    assert at(room, lambda: "meanwhile").get(timeout=10) == "meanwhile"
    more = at(room, *(lambda n=n: joined.fcall(f"{n}", 0) for n in range(2)))  # type: ignore[misc]
    asked.say("answer")

    assert said.get(timeout=10) == "answer"
    function, asked = redis.sent.get(timeout=10)
    assert function == "in one"
    asked.say(["0", ResponseError("no")])
    assert more.get(timeout=10) == "0"
    assert isinstance(more.get(timeout=10), ResponseError)


def test_a_second_question_is_asked_while_redis_has_the_first_if_it_is_for_as_many_as_may_go_together(
    room: Room,
) -> None:
    redis = ConnectedRedis()
    joined = Joined(redis, in_one)

    first = at(room, lambda: joined.fcall("first", 0))
    _, asked_first = redis.sent.get(timeout=10)
    said = at(room, *(lambda n=n: joined.fcall(f"{n}", 0) for n in range(MOST_TOGETHER + 1)))  # type: ignore[misc]
    _, asked_second = redis.sent.get(timeout=10)
    assert at(room, lambda: "all have asked").get(timeout=10) == "all have asked"
    assert redis.sent.empty(), "one more than may go together, which waits"

    asked_second.say(list(range(MOST_TOGETHER)))
    assert {said.get(timeout=10) for _ in range(MOST_TOGETHER)} == set(range(MOST_TOGETHER))
    asked_first.say("answer")
    assert first.get(timeout=10) == "answer"
    function, asked_third = redis.sent.get(timeout=10)
    assert function == f"{MOST_TOGETHER}"
    asked_third.say("last")
    assert said.get(timeout=10) == "last"


def test_an_answer_that_breaks_off_is_asked_for_again_and_waited_for(room: Room) -> None:
    redis = ConnectedRedis()

    said = at(room, lambda: Joined(redis, in_one).fcall("f", 0))
    redis.sent.get(timeout=10)[1].say(None)

    assert said.get(timeout=10) == "f"
    assert redis.trips == [["f"]]


def test_a_redis_that_says_nothing_is_given_up(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connected, "timeout_s", 0.01)
    redis = ConnectedRedis()

    said = at(room, lambda: Joined(redis, in_one).fcall("f", 0))

    assert redis.sent.get(timeout=10)[1].given_up.wait(10)
    assert said.get(timeout=10) == "f"


def test_an_answer_that_has_only_begun_keeps_nobody_waiting(room: Room) -> None:
    redis = ConnectedRedis()
    said = at(room, lambda: Joined(redis, in_one).fcall("f", 0))
    asked = redis.sent.get(timeout=10)[1]

    asked.begin_to_say()
    assert asked.begun.wait(10)

    assert at(room, lambda: "done").get(timeout=10) == "done"
    asked.say("whole")
    assert said.get(timeout=10) == "whole"


def test_what_cannot_be_said_to_redis_is_its_askers_alone(room: Room) -> None:
    redis = ConnectedRedis()
    joined = Joined(redis, in_one)
    first = at(room, lambda: joined.fcall("first", 0))
    busy = redis.sent.get(timeout=10)[1]

    said = at(room, lambda: joined.fcall("unsayable", 0), lambda: joined.fcall("fine", 0))
    assert at(room, lambda: "all have asked").get(timeout=10)
    busy.say("first")
    assert first.get(timeout=10) == "first"

    assert isinstance(said.get(timeout=10), DataError)
    function, asked = redis.sent.get(timeout=10)
    assert function == "fine"
    asked.say("fine")
    assert said.get(timeout=10) == "fine"


def test_a_hand_that_pauses_takes_no_thread(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)

    assert at(room, lambda: pause(0.01)).get(timeout=10) is None


def test_all_else_goes_to_redis_as_it_is(room: Room) -> None:
    assert at(room, lambda: Joined(FakeRedis(), in_one).hget("a", "b")).get(timeout=10) == "a b"


def test_what_a_hand_raises_ends_that_hand_alone(room: Room, freed: Freed) -> None:
    room.begin(lambda: 1 / 0)

    freed.wait(1)
    assert at(room, lambda: "goes on").get(timeout=10) == "goes on"


def test_as_many_hands_are_invited_as_are_free(room: Room, freed: Freed) -> None:
    came, may_leave = threading.Semaphore(0), threading.Event()

    def stay() -> None:
        came.release()
        aside(lambda: may_leave.wait(10))

    def invite_many() -> None:
        for _ in range(9):
            invite(stay)
        stay()

    room.begin(invite_many)
    for _ in range(4):
        assert came.acquire(timeout=10)
    assert room.invited == 3

    may_leave.set()
    freed.wait(4)
    assert not came.acquire(blocking=False)
    assert room.invited == 0


def test_nobody_is_invited_to_wait_for_redis_behind_many(freed: Freed) -> None:
    room = Room(100, freed)
    redis = FakeRedis()
    joined = Joined(redis, in_one)
    begun = threading.Event()
    invited: list[int] = []

    def ask_and_invite() -> None:
        begun.set()
        invite(lambda: invited.append(1))

    at(room, lambda: joined.fcall("first", 0))
    assert redis.arrived.acquire(timeout=10)
    # not so many that they may go while Redis has the first, as they would where they come before the inviting one
    at(room, *(lambda: joined.fcall("more", 0) for _ in range(MOST_TOGETHER - 1)), ask_and_invite)
    redis.may_answer.release(3)
    assert begun.wait(10)
    room.close()

    assert invited == []


def test_a_room_closes_when_the_last_hand_has_done_its_work(freed: Freed) -> None:
    room = Room(4, freed)
    begun, may_end = threading.Event(), threading.Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        aside(lambda: may_end.wait(10))
        ended.append("done")

    room.begin(work)
    assert begun.wait(10)
    closing = threading.Thread(target=room.close)
    closing.start()
    may_end.set()
    closing.join(10)

    assert ended == ["done"]
    assert not closing.is_alive()
