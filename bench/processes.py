"""Processes that the bench starts: what they cost, and how they end, whatever happens."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.progress import BenchFault

PATIENCE_S = 20.0
LOG_TAIL = 2000


class Started:
    """A process with all that it starts itself."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.name, self.process, self._log = name, process, log

    def tree(self) -> list[psutil.Process]:
        """It and its descendants, as far as they live."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def cpu_s(self) -> float:
        """CPU seconds of the whole tree so far, and of those in it that have ended and were waited for."""
        return sum(cpu_s_of(process) for process in self.tree())

    def rss(self) -> int:
        """Bytes of memory of the whole tree."""
        sizes = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                sizes += process.memory_info().rss
        return sizes

    def signal_all(self, number: int) -> None:
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def check(self) -> None:
        """BenchFault if it has ended by itself."""
        if self.process.poll() is not None:
            raise BenchFault(f"{self.name} has ended (exit {self.process.returncode}):\n{self.log_tail()}")

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:] if self._log.exists() else ""

    def ask(self, line: str, timeout_s: float = 300.0) -> str:
        """What it answers on its standard output to a line on its standard input."""
        self.tell(line)
        return self.read_line(timeout_s)

    def tell(self, line: str) -> None:
        if not self.process.stdin:
            raise BenchFault(f"{self.name} takes no orders")
        with suppress(BrokenPipeError):  # reading its answer says what happened
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def read_line(self, timeout_s: float = PATIENCE_S) -> str:
        stdout = self.process.stdout
        if not stdout:
            raise BenchFault(f"{self.name} says nothing")
        with _killed_after(self.process, timeout_s):
            line = stdout.readline()
        if not line:
            raise BenchFault(f"{self.name} did not answer within {timeout_s:g} s:\n{self.log_tail()}")
        return line

    def end(self) -> None:
        """SIGTERM, and SIGKILL for what is left of the tree after a while."""
        tree = self.tree()
        self.signal_all(signal.SIGCONT)
        if self.process.stdin:
            with suppress(OSError):
                self.process.stdin.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=PATIENCE_S)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def started(
    name: str, command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None, *, orders: bool = False
) -> Iterator[Started]:
    """Runs a command until the block ends. With `orders` its standard input and output are for us."""
    log = folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
    pipe = subprocess.PIPE if orders else None
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_clean_environment(folder) | dict(settings or {}),
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or file,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    running = Started(name, process, log)
    try:
        yield running
    finally:
        running.end()


def cpu_s_of(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _clean_environment(folder: Path) -> dict[str, str]:
    """No settings of this shell: they may lead to a real mailbox. Our own package is found without an installation."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])}


@contextmanager
def _killed_after(process: "subprocess.Popen[str]", timeout_s: float) -> Iterator[None]:
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def until(found: Callable[[], object], what: str, patience_s: float = PATIENCE_S, pause_s: float = 0.01) -> None:
    """Waits until `found()` is true: for what nobody tells, such as a number in Redis."""
    end = time.monotonic() + patience_s
    while not found():
        if time.monotonic() > end:
            raise BenchFault(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(pause_s)
