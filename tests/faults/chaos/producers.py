"""Producers that die halfway and are run again."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

from postroom.runtime.failpoints import Failpoint
from postroom.store.intake import PORTION

from ...acceptance.conftest import Room

BATCH, LIMITED_BATCH = "chaos", "chaos-limited"
LIMITED_MAILBOXES, LIMITED_RATE = 2, 30
SLICES = 8  # producer processes; they start one after the other, and each outlives the next one's start
LAST_START = 0.8  # of the time of the faults


@dataclass(slots=True)
class Intake:
    """Producers in processes of their own, which are killed and run again until their mails are all taken in."""

    room: Room
    mailboxes: int
    stop: Event
    receipts: set[str] = field(default_factory=set)
    killed: int = 0

    def begin(self, mails: int, limited: int, seconds: float, chance: random.Random) -> Iterator[Callable[[], None]]:
        """The work of each producer."""
        others = mails - limited
        parts = [("m", BATCH, others * n // SLICES, others * (n + 1) // SLICES) for n in range(SLICES)]
        for n, (name, batch, first, last) in enumerate([("limited", LIMITED_BATCH, 0, limited), *parts]):
            start = max(0, n - 1) / (SLICES - 1) * LAST_START * seconds
            deaths = [
                {
                    "HALT_AT": chance.choice((Failpoint.TAKING_IN, Failpoint.TAKEN_IN)),
                    "HALT_AFTER": f"{chance.randrange(half)}",
                }
                for half in [max(1, (last - first) // PORTION // 2)] * chance.randint(1, 2)
            ]
            boxes = LIMITED_MAILBOXES if batch == LIMITED_BATCH else self.mailboxes
            arguments = (batch, str(first), str(last - first), str(boxes), name)
            if last > first:
                yield partial(self._produce, start, arguments, deaths)

    def _produce(self, start: float, arguments: Sequence[str], deaths: Sequence[dict[str, str]]) -> None:
        self.stop.wait(start)
        for death in deaths:
            self.killed += self._run(arguments, death | {"HALT_WITH": "KILL"}) == -signal.SIGKILL
        while self._run(arguments, {}) != 0 and not self.stop.wait(0.2):  # Redis was away: it is run again
            pass

    def _run(self, arguments: Sequence[str], halt: dict[str, str]) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.producer", *arguments],
            cwd=Path(__file__).parents[3],
            env=self.room.environment | halt,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        self.receipts.update(done.stdout.split())
        return done.returncode
