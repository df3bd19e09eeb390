"""Our commands, forked from a process that has loaded the libraries already: they start ten times sooner.

Each is a process of its own, with the arguments, the environment and the streams of the command that it stands for.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

_LIBRARIES = [
    *("celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.concurrency.thread", "celery.fixups"),
    *("celery.backends.redis", "celery.loaders.app", "celery.worker.consumer", "celery.worker.strategy"),
    *("kombu.transport.redis", "postroom.wiring", "postroom.runtime.supervisor", "tests.faults.halting"),
    *("postroom.cli.check", "postroom.cli.jobs", "postroom.cli.stats", "rich.table"),
]
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_LIBRARIES)
Program = Literal["celery", "postroom"]


class WorkerProcess:
    """`celery -A APP worker`, as the children of `postroom worker` are; used as a `subprocess.Popen` is."""

    def __init__(self, app: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._process = started("celery", ("-A", app, "worker", *arguments), environment, Path(os.devnull), log, log)
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("a worker", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and the fork server has not said so yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_command(
    program: Program, arguments: Sequence[str], environment: Mapping[str, str], stdin: str, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """The program with these arguments, run to its end."""
    with TemporaryDirectory(prefix="pr-") as folder:
        given, out, errors = (Path(folder) / name for name in ("in", "out", "err"))
        given.write_text(stdin, encoding="utf-8")
        process = started(program, arguments, environment, given, out, errors)
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([program, *arguments], timeout_s)
        said = [path.read_text(encoding="utf-8") if path.exists() else "" for path in (out, errors)]
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess([program, *arguments], code, *said)


def started(
    program: Program, arguments: Sequence[str], environment: Mapping[str, str], given: Path, out: Path, errors: Path
) -> ForkServerProcess:
    """A process that does what the program does; its streams are these files."""
    files = tuple(map(str, (given, out, errors)))
    process = _forks.Process(target=_become, args=([program, *arguments], dict(environment), files, Path.cwd()))
    process.start()
    return process


def _become(command: list[str], environment: dict[str, str], files: tuple[str, str, str], folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in enumerate(files):
        opened = os.open(name, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has closed it
    sys.argv = command
    if command[0] == "postroom":
        from postroom.cli.main import main
    else:
        from celery.__main__ import main
    with suppress(KeyboardInterrupt):
        main()
