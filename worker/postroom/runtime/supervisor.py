"""`postroom worker`: several Celery workers, restarted when they die, stopped together.

Several processes, because the threads of one share an interpreter; and somebody above them, because an
unreadable message on the broker ends a Celery worker process.
"""

import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from postroom.runtime.parent_watch import PARENT
from postroom.telemetry.events import Emit

# Hands of a process. One that waits for Graph, as it does nearly all its time, costs nothing; a process does.
HANDS, CHILDREN = 512, 8
MOST_HANDS = 1024
LONGEST_RESTART_S = 30.0
STEADY_S = 10.0  # a worker that lived this long is restarted at once


@dataclass(slots=True)
class _Child:
    number: int
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)  # monotonic time of the next start


def supervise(processes: int, concurrency: int, pool: str, emit: Emit) -> int:
    """Runs the workers until SIGTERM or SIGINT, and returns the exit code.

    The first signal lets each worker finish the mail in hand; the second ends them at once: what was being posted is
    then found out or sent again as its sender's `on_unknown` says.
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
            _start_due(children, concurrency, pool, emit)
        elif not any(child.process for child in children):
            return 0
        with suppress(queue.Empty):
            if happened.get(timeout=_until_next_start(children) if signals == 0 else 1.0) != signal.SIGCHLD:
                signals += 1
                emit("worker.stopping", at_once=signals > 1)
                _signal_all(children, signal.SIGTERM if signals == 1 else signal.SIGKILL)
        _notice_ends(children, stopping=signals > 0, emit=emit)


def _start_due(children: list[_Child], concurrency: int, pool: str, emit: Emit) -> None:
    for child in children:
        if child.process is None and child.due <= time.monotonic():
            try:
                child.process, child.started = _start(child.number, concurrency, pool), time.monotonic()
            except OSError as error:  # no more processes, or memory: the others must live on
                wait = _put_off(child, steady=False)
                emit("worker.died", number=child.number, error=error.strerror, restart_in_s=wait)


def _start(number: int, concurrency: int, pool: str) -> "subprocess.Popen[bytes]":
    command = [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "postroom.tasks", "worker"),
        *("--concurrency", str(concurrency), "--hostname", f"postroom{number}@%h"),
        # Without it the configured pool is taken; Celery's own name for processes, "prefork", stands for that too.
        *(("--pool", "processes") if pool == "prefork" else ()),
        *("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    environment = {**os.environ, PARENT: str(os.getpid())}
    # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which passes it on in order.
    return subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603 - our own command


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
    """Says when it is due again: in how many seconds."""
    child.failures = 0 if steady else child.failures + 1
    wait = min(2.0 ** min(child.failures - 1, 9), LONGEST_RESTART_S) if child.failures else 0.0
    child.due = time.monotonic() + wait
    return wait
