"""Worker processes that are forked from one that has loaded the libraries already: they start ten times sooner.

Each is a process of its own that runs `celery -A postroom.tasks worker`, as the children of `postroom worker` do.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LIBRARIES = [
    *("celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.concurrency.thread", "celery.fixups"),
    *("celery.backends.redis", "celery.loaders.app", "celery.worker.consumer", "celery.worker.strategy"),
    *("kombu.transport.redis", "postroom.wiring", "postroom.runtime.supervisor", "tests.faults.halting"),
]
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_LIBRARIES)


class WorkerProcess:
    """A worker process, used as a `subprocess.Popen` is."""

    def __init__(self, app: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        command = ["celery", "-A", app, "worker", *arguments]
        self._process = _forks.Process(target=_work, args=(command, dict(environment), str(log)))
        self._process.start()
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


def _work(command: list[str], environment: dict[str, str], log: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = command
    from celery.__main__ import main

    with suppress(KeyboardInterrupt):
        main()
