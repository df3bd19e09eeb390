"""What a race needs of whoever takes part in it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bench.room import Room

BOTH = ("0ms", "250ms")


class Running(Protocol):
    """A started one, with a producer process of its own."""

    def produce(self, first: int, count: int) -> float:
        """Takes these mails in; returns the CPU seconds that the producer spent on it."""

    def hold(self) -> None:
        """No worker does anything until `release`."""

    def release(self) -> None: ...

    def settle(self, count: int) -> None:
        """Returns once everything about the first `count` mails is recorded."""

    def cpu_s(self) -> float:
        """CPU seconds of workers and store so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`at_once`: how many mails it has on their way; `delays`: its races, by how long an answer takes."""

    name: str
    what: str
    at_once: int
    start: Callable[[Room], AbstractContextManager[Running]]
    delays: Sequence[str] = BOTH
