"""Producers that give mail without pause, each by its own door, and what a replica has of it for certain."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import redis

PAUSE_S = 0.1  # between two mails, and between two tries of one


class Refused(Exception):
    """A door did not take a mail; the argument is what it answered."""


class Sent(NamedTuple):
    """A mail that its door confirmed, and when the last try of its producer began and ended (monotonic)."""

    key: str
    job: str
    began: float
    ended: float


@dataclass
class Producer:
    """Gives one mail after the other to `send`, in each of its threads, and tries each until it is taken in.

    `send` gets the mail's key and returns the job's id, or raises Refused.
    """

    name: str
    send: Callable[[str], str]
    threads: int = 1
    sent: list[Sent] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    faults: list[BaseException] = field(default_factory=list)
    slowest_s: float = 0.0  # the longest that its door took to answer

    def sent_since(self, moment: float) -> int:
        """How many mails it gave in tries that began after this moment."""
        return sum(one.began > moment for one in self.sent)

    def wait_for(self, count: int, since: float = 0.0, patience_s: float = 90.0) -> None:
        """Until it has given so many mails since this moment; fails with what it has heard instead."""
        end = time.monotonic() + patience_s
        while self.sent_since(since) < count:
            assert not self.faults, (self.name, self.faults)
            assert time.monotonic() < end, (self.name, len(self.sent), self.refusals)
            time.sleep(PAUSE_S)

    def work(self, thread: int, over: threading.Event) -> None:
        number = 0
        try:
            while not over.wait(PAUSE_S):
                number += 1
                while not self._gave(f"{self.name}/{thread}/{number}") and not over.wait(PAUSE_S):
                    pass
        except BaseException as error:
            self.faults.append(error)
            raise

    def _gave(self, key: str) -> bool:
        began = time.monotonic()
        try:
            job = self.send(key)
        except Refused as refused:
            self.refusals[str(refused)] += 1
        else:
            self.sent.append(Sent(key, job, began, time.monotonic()))
            return True
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        return False


@contextmanager
def at_work(producers: Sequence[Producer]) -> Iterator[None]:
    """All of them give mail until the block ends."""
    over = threading.Event()
    threads = [
        threading.Thread(target=one.work, args=(number, over), name=f"{one.name}/{number}")
        for one in producers
        for number in range(one.threads)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@dataclass
class Replicated:
    """What a replica has for certain: whatever was written before `until` (monotonic)."""

    until: float = 0.0

    def watch(self, master: "redis.Redis[bytes]") -> None:
        """Asks with WAIT (https://redis.io/docs/latest/commands/wait/) again and again until the master is gone."""
        with master, suppress(redis.exceptions.ConnectionError):
            while True:
                now = time.monotonic()
                master.incr("watched")  # WAIT speaks of what its own connection wrote last, and of all before that
                if master.wait(1, 500) == 1:
                    self.until = now
