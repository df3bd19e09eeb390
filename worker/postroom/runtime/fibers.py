"""Many hands in one thread: while one waits the others go on, and what they ask of Redis goes there together.

A hand is a greenlet (https://greenlet.readthedocs.io): plain code that gives way where it waits. Hands in threads of
their own take more CPU: a mail waits three times, each puts a thread to sleep, and the interpreter goes to and fro
between them.

So what a hand does must wait only here: for what is done `aside`, for one who tells it (`told`), for Redis (`Joined`),
or for a time (`pause`). Where there is no hand, these wait as plain code does.
"""

import os
import selectors
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from greenlet import getcurrent, greenlet
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import DataError
from redis.exceptions import TimeoutError as TooLate

from postroom.runtime.loop import Loop

Said = TypeVar("Said")

MOST_TOGETHER = 16  # scripts in one round trip; for so long nobody else has Redis
MOST_TRIPS = 2  # at once: one that Redis works on, and one that it finds when it is done
ENOUGH = 4  # hands that wait for Redis: others would only wait behind them


class Answer(NamedTuple, Generic[Said]):
    """What somebody waits for: what was said, or what was raised."""

    said: Said | None = None
    fault: BaseException | None = None

    def get(self) -> Said:
        if self.fault is not None:
            raise self.fault
        return cast("Said", self.said)

    @classmethod
    def of(cls, do: Callable[[], Said]) -> "Answer[Said]":
        try:
            return cls(do())
        except BaseException as fault:  # noqa: BLE001 - it is raised where it is waited for
            return cls(fault=fault)


Tell = Callable[[Answer[Said]], None]


class Asked(Protocol):
    """A call that is under way: the answer can be read once `fd` can, or it is given up after `timeout_s`.

    `read` raises BlockingIOError where the answer has only begun to come.
    """

    @property
    def fd(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    def read(self) -> Any: ...
    def give_up(self) -> None: ...


class Redis(Protocol):
    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any: ...
    def send_fcall(self, function: str, numkeys: int, *arguments: Any) -> Asked | None: ...


Call = tuple[Any, ...]  # the arguments of `fcall`
InOne = Callable[[Sequence[Call]], Call]


class _Hand(greenlet):
    room: "Room"


def invite(work: Callable[[], object]) -> None:
    """Another hand of the same room does this, if one is free; where there is no hand, nobody."""
    hand = getcurrent()
    if isinstance(hand, _Hand):
        hand.room.invite(work)


def loop_here() -> Loop | None:
    """The loop of the thread in which hands work, where one of them asks."""
    hand = getcurrent()
    return hand.room.loop if isinstance(hand, _Hand) else None


def told(ask: Callable[[Tell[Said]], None]) -> Said:
    """The answer that is told, by any thread, to what `ask` was given; `ask` itself must return at once."""
    hand = getcurrent()
    if isinstance(hand, _Hand):
        return hand.room.told(hand, ask)
    answers: SimpleQueue[Answer[Said]] = SimpleQueue()
    ask(answers.put)
    return answers.get().get()


def aside(do: Callable[[], Said]) -> Said:
    """What `do` says, which may take its time, but should have a bound."""
    hand = getcurrent()
    return hand.room.aside(hand, do) if isinstance(hand, _Hand) else do()


def pause(seconds: float) -> None:
    """Waits for so long."""
    hand = getcurrent()
    if isinstance(hand, _Hand):
        hand.room.pause(hand, seconds)
    else:
        time.sleep(seconds)


class Joined:
    """A client of Redis whose `fcall`, called by a hand, goes together with those of others.

    `in_one(calls)` is the call that says what several would: an answer for each, or the error that is one.
    """

    def __init__(self, redis: Redis, in_one: InOne) -> None:
        self._redis, self._in_one = redis, in_one

    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any:
        """See redis.Redis."""
        hand = getcurrent()
        if isinstance(hand, _Hand):
            return hand.room.ask(hand, self, (function, numkeys, *arguments))
        return self._redis.fcall(function, numkeys, *arguments)

    def send(self, calls: Sequence[Call]) -> Asked | None:
        """Several calls as one that is under way; None where Redis must be waited for."""
        return self._redis.send_fcall(*self._one(calls))

    def wait_for(self, calls: Sequence[Call]) -> Any:
        """What comes of that one."""
        return self._redis.fcall(*self._one(calls))

    def _one(self, calls: Sequence[Call]) -> Call:
        return self._in_one(calls) if len(calls) > 1 else calls[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)


class Room:
    """A thread in which up to `most` hands work; `freed` is called in it when one has done its work."""

    def __init__(self, most: int, freed: Callable[[], None]) -> None:
        self._most, self._freed = most, freed
        self.invited = 0  # hands at work that others have invited
        self._sent = 0  # the others
        self.loop = Loop()
        self._questions: deque[_Question] = deque()
        self._trips = 0  # under way: what is asked meanwhile goes together in the next
        self._aside = _Aside()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="postroom-hands", daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], object]) -> None:
        """A hand does this; what it raises is lost. From any thread."""

        def enter() -> None:
            self._count(1, invited=False)
            self._enter(work, invited=False)

        self.loop.soon(enter)

    def close(self) -> None:
        """Ends the room when the last hand has done its work."""
        self.loop.soon(self._close)
        self._thread.join()
        self._aside.close()

    def invite(self, work: Callable[[], object]) -> None:
        """Another hand does this, if one is free. By a hand."""
        if self.invited + self._sent < self._most and not self.is_busy:
            self._count(1, invited=True)
            self.loop.soon(lambda: self._enter(work, invited=True))

    @property
    def is_busy(self) -> bool:
        """Whether more hands would only wait longer for Redis."""
        return len(self._questions) >= ENOUGH

    def told(self, hand: _Hand, ask: Callable[[Tell[Said]], None]) -> Said:
        ask(lambda answer: self.loop.soon(lambda: hand.switch(answer)))
        return cast("Said", self._wait())

    def aside(self, hand: _Hand, do: Callable[[], Said]) -> Said:
        def put(tell: Tell[Said]) -> None:
            self._aside.put(do, tell)

        return self.told(hand, put)

    def pause(self, hand: _Hand, seconds: float) -> None:
        def put(tell: Tell[None]) -> None:
            self.loop.at(object(), time.monotonic() + seconds, lambda: tell(Answer()))

        self.told(hand, put)

    def ask(self, hand: _Hand, redis: Joined, call: Call) -> Any:
        self._questions.append((hand, redis, call))
        return self._wait()

    def _wait(self) -> Any:
        answer: Answer[Any] = self._main.switch()
        return answer.get()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:  # noqa: BLE001 - a fault of ours: hands that nobody lets go on would keep their claims
            traceback.print_exc()
            os._exit(os.EX_SOFTWARE)

    def _work(self) -> None:
        self._main = getcurrent()
        while self._open or self._sent or self.invited:
            self.loop.turn(wait=not self._may_begin_trip)
            while self._may_begin_trip:
                self._begin_trip()
        self.loop.close()

    def _enter(self, work: Callable[[], object], *, invited: bool) -> None:
        def work_and_leave() -> None:
            Answer.of(work)
            self._count(-1, invited=invited)
            Answer.of(self._freed)

        hand = _Hand(work_and_leave)
        hand.room = self
        hand.switch()

    def _count(self, more: int, *, invited: bool) -> None:
        if invited:
            self.invited += more
        else:
            self._sent += more

    def _close(self) -> None:
        self._open = False

    @property
    def _may_begin_trip(self) -> bool:
        """A further one only if it is full: whoever comes next can go with it."""
        enough = MOST_TOGETHER if self._trips else 1
        return self._trips < MOST_TRIPS and len(self._questions) >= enough

    def _begin_trip(self) -> None:
        some = [self._questions.popleft() for _ in range(min(MOST_TOGETHER, len(self._questions)))]
        self._trips += 1
        _Trip(some, self.loop, self._aside, self._end_trip).begin()

    def _end_trip(self) -> None:
        self._trips -= 1


_Question = tuple[_Hand, Joined, Call]
_UNSAYABLE = (DataError, UnicodeError)  # what Redis cannot be asked at all


class _Trip:
    """One call of Redis, for several hands; `over` is called when it was made, before they go on."""

    def __init__(self, some: Sequence[_Question], loop: Loop, aside: "_Aside", over: Callable[[], None]) -> None:
        self._some, self._calls = some, [call for _, _, call in some]
        self._redis = some[0][1]  # a process has one
        self._loop, self._aside, self._over = loop, aside, over

    def begin(self) -> None:
        sent = Answer.of(lambda: self._redis.send(self._calls))
        if sent.fault:
            self._tell(Answer(fault=sent.fault))
        elif asked := sent.said:
            self._loop.watch(asked.fd, selectors.EVENT_READ, lambda _: self._read(asked))
            self._loop.at(self, time.monotonic() + asked.timeout_s, lambda: self._give_up(asked))
        else:
            self._wait_aside()

    def _read(self, asked: Asked) -> None:
        answer = Answer.of(asked.read)
        if isinstance(answer.fault, BlockingIOError):
            return
        self._watch_no_more(asked)
        if isinstance(answer.fault, Broken | TooLate | OSError):
            self._wait_aside()
        else:
            self._tell(answer)

    def _give_up(self, asked: Asked) -> None:
        self._watch_no_more(asked)
        asked.give_up()
        self._wait_aside()

    def _watch_no_more(self, asked: Asked) -> None:
        self._loop.forget(asked.fd)
        self._loop.never(self)

    def _wait_aside(self) -> None:
        """Asks once more, and waits for connection and answer."""

        def ask() -> Any:
            return self._redis.wait_for(self._calls)

        try:
            self._aside.put(ask, lambda answer: self._loop.soon(lambda: self._tell(answer)))
        except RuntimeError:  # no more threads: then all wait
            self._tell(Answer.of(ask))

    def _tell(self, answer: Answer[Any]) -> None:
        self._over()
        if len(self._some) > 1 and isinstance(answer.fault, _UNSAYABLE):  # by one of them: the others are asked for
            for one in self._some:
                _Trip([one], self._loop, self._aside, lambda: None).begin()
            return
        each = [answer] * len(self._some)
        if len(self._some) > 1 and not answer.fault:
            each = [Answer(fault=one) if isinstance(one, Exception) else Answer(one) for one in answer.get()]
        for (hand, _, _), its in zip(self._some, each, strict=True):
            hand.switch(its)


class _Aside:
    """Threads, as many as are busy at once."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Tell[Any]] | None] = SimpleQueue()
        self._threads = self._free = 0
        self._lock = threading.Lock()

    def put(self, do: Callable[[], Said], tell: Tell[Said]) -> None:
        with self._lock:
            if self._free <= 0:
                threading.Thread(target=self._work, name="postroom-aside", daemon=True).start()
                self._threads += 1
                self._free += 1
            self._free -= 1
        self._tasks.put((do, tell))

    def close(self) -> None:
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while task := self._tasks.get():
            do, tell = task
            answer = Answer.of(do)
            with self._lock:
                self._free += 1
            tell(answer)
            del task, do, tell, answer  # a thread that waits must keep nothing
