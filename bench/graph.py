"""The stand-in for Graph, as the bench sees it: start it, say how it answers, ask what arrived."""

import json
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.processes import Started, started
from bench.progress import BenchFault


@dataclass(frozen=True)
class Log:
    """What arrived since the last reset, in order; times are `time.monotonic`."""

    mailboxes: list[str]
    times: list[float]
    whose: list[int]
    most_in_flight: list[int]
    marked: list[int]
    answered: int
    last_answer: float
    faults: dict[str, int]

    @cached_property
    def by_mailbox(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        for at, number in zip(self.times, self.whose, strict=True):
            found[self.mailboxes[number]].append(at)
        return found


class Graph:
    """A running stand-in."""

    def __init__(self, process: Started, told: dict[str, Any], control: socket.socket) -> None:
        self.process = process
        self.url = f"https://127.0.0.1:{told['port']}"
        self.ca_file: str = told["ca_file"]
        self._control = control
        self._lines = control.makefile("r")

    def reset(self, *, delay: float = 0.0, hanging: str = "\n", mark: str = "") -> None:
        """Forgets what arrived, and answers after `delay` seconds from now on; never for mailboxes so called."""
        self._order(do="reset", delay=delay, hanging=hanging, mark=mark)

    def wait(self, what: str, count: int, timeout: float) -> int:
        """Returns once so many are `answered`, `arrived` or `marked`, or after a while: with how many there are."""
        return int(self._order(do="wait", what=what, count=count, timeout=timeout)["reached"])

    def log(self) -> Log:
        return Log(**self._order(do="arrivals"))

    def _order(self, **order: object) -> dict[str, Any]:
        self._control.sendall(json.dumps(order).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise BenchFault(f"the stand-in has gone:\n{self.process.log_tail()}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def standing_in(folder: Path, name: str = "stand-in") -> Iterator[Graph]:
    """A stand-in of its own process, until the block ends."""
    folder = folder / name
    folder.mkdir()
    command = [sys.executable, "-m", "bench.standin", str(folder)]
    with started(name, command, folder, orders=True) as process:
        told = json.loads(process.read_line())
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(told["control"])
            yield Graph(process, told, control)
