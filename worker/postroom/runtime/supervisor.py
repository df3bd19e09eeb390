"""Runs several processes of a command, restarts those that die, and stops all together: workers, or those of a door.

Several, because the threads of a process share one interpreter.
"""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from postroom.runtime.parent_watch import PARENT
from postroom.telemetry.events import Emit

# Mails that a worker sends at once: as fibers of one process, or in processes (prefork). A fiber costs nothing while it
# waits for Graph, which is nearly all of its time; a process does.
SLOTS, PREFORK_SLOTS = 512, 8
MOST_SLOTS = 1024
LONGEST_RESTART_S = 30.0
STEADY_S = 10.0  # a worker that lived longer is restarted at once


Command = Callable[[int], list[str]]  # the number of a process, from 1


@dataclass(slots=True)
class _Child:
    number: int
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)  # monotonic time of the next start


def worker_command(number: int, concurrency: int, pool: str) -> list[str]:
    """What starts a Celery worker with so many slots. `pool` is "threads" or "prefork"."""
    return [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "postroom.tasks", "worker"),
        *("--concurrency", str(concurrency), "--hostname", f"postroom{number}@%h"),
        # Without this Celery takes the configured pool, and so it would for its own name of this one, "prefork".
        *(("--pool", "processes") if pool == "prefork" else ()),
        *("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def supervise(processes: int, command: Command, emit: Emit, files: Sequence[int] = ()) -> int:
    """Runs so many processes until SIGTERM or SIGINT, then returns the exit code of this process.

    `command(number)` starts one of them, which inherits `files`. After the first signal each finishes what it has
    begun; after the second they are killed, and mails that a worker was posting have an unknown outcome, which other
    workers resolve as the sender's `on_unknown` says. Must be called in the main thread.
    """
    happened: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, _frame: FrameType | None) -> None:
        happened.put(number)

    for watched in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(watched, note)
    children = [_Child(number) for number in range(1, processes + 1)]
    signals = 0
    while True:
        if signals == 0:
            _start_due(children, command, files, emit)
        elif not any(child.process for child in children):
            return 0
        with suppress(queue.Empty):
            if happened.get(timeout=_until_next_start(children) if signals == 0 else 1.0) != signal.SIGCHLD:
                signals += 1
                emit("worker.stopping", at_once=signals > 1)
                _signal_all(children, signal.SIGTERM if signals == 1 else signal.SIGKILL)
        _notice_ends(children, stopping=signals > 0, emit=emit)


def _start_due(children: list[_Child], command: Command, files: Sequence[int], emit: Emit) -> None:
    for child in children:
        if child.process is None and child.due <= time.monotonic():
            try:
                child.process, child.started = _start(command(child.number), files), time.monotonic()
            except OSError as error:  # no more processes or memory: the others must go on
                wait = _put_off(child, steady=False)
                emit("worker.died", number=child.number, error=error.strerror, restart_in_s=wait)


def _start(command: list[str], files: Sequence[int]) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, PARENT: str(os.getpid())}
    # In a session of its own: Ctrl-C in a terminal then reaches the supervisor only, which stops them in order.
    return subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment, start_new_session=True, pass_fds=files
    )


def _until_next_start(children: list[_Child]) -> float:
    waits = [child.due - time.monotonic() for child in children if child.process is None]
    return max(0.0, min(waits, default=60.0))


def _signal_all(children: list[_Child], number: int) -> None:
    for child in children:
        if child.process:
            child.process.send_signal(number)


def _notice_ends(children: list[_Child], *, stopping: bool, emit: Emit) -> None:
    for child in children:
        if child.process is None or (code := child.process.poll()) is None:
            continue
        child.process = None
        wait = _put_off(child, steady=time.monotonic() - child.started > STEADY_S)
        if not stopping:
            emit("worker.died", number=child.number, exit_code=code, restart_in_s=wait)


def _put_off(child: _Child, *, steady: bool) -> float:
    """Sets when it is started again, and returns in how many seconds: 0, or 1, 2, 4 … after failures in a row."""
    child.failures = 0 if steady else child.failures + 1
    wait = min(2.0 ** min(child.failures - 1, 9), LONGEST_RESTART_S) if child.failures else 0.0
    child.due = time.monotonic() + wait
    return wait
