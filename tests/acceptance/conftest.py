"""All of Postroom as real processes: a Redis, the sandbox over TLS, and workers started as an operator would."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psutil
import pytest
import redis
from celery import Celery

from postroom import Client, Mail
from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox
from postroom.store import embedded
from postroom.store.ledger import Ledger
from tests.docs.pages import ROOT

from .forks import WorkerProcess, run_command

Worker = subprocess.Popen[bytes] | WorkerProcess
AnyWorker = TypeVar("AnyWorker", subprocess.Popen[bytes], WorkerProcess)

SENDER = "noreply@contoso.com"
PATIENCE_S = 60.0


@dataclass
class Room:
    """One mail room. `start_worker` and `postroom` run our commands with its settings as their environment."""

    folder: Path
    address: SandboxAddress
    sandbox: Sandbox
    environment: dict[str, str]
    stack: ExitStack
    workers: list[Worker] = field(default_factory=list)

    @property
    def redis_url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    @cached_property
    def redis(self) -> "redis.Redis":
        return self.stack.enter_context(redis.Redis.from_url(self.redis_url))

    def client(self) -> Client:
        return Client(Ledger(self.redis))

    def celery(self, backend: str | None = None) -> Celery:
        place = self.redis_url.replace("unix://", "redis+socket://")
        app = Celery(broker=place, backend=backend or place)
        self.stack.callback(app.close)
        return app

    def start_worker(self, *arguments: str, ready: bool = True, **settings: str) -> "subprocess.Popen[bytes]":
        """`postroom worker` as an operator starts it; waits until its first tick is counted."""
        before = self._ticking() if ready else None
        with self._log_of_a_worker().open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "postroom", "worker", *(arguments or ("--processes", "1"))],
                env=self.environment | settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._hired(worker, before)

    def start_worker_process(
        self, *arguments: str, slots: int = 4, app: str = "postroom.tasks", ready: bool = True, **settings: str
    ) -> WorkerProcess:
        """The same without a supervisor: one worker process, `celery -A APP worker`, which starts much sooner."""
        before = self._ticking() if ready else None
        # With a heartbeat Celery may not end on a signal if Redis goes away just after it has come back.
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
        given = ("--concurrency", str(slots), *quiet, *arguments)
        worker = WorkerProcess(app, given, self.environment | settings, self._log_of_a_worker())
        return self._hired(worker, before)

    def _log_of_a_worker(self) -> Path:
        return self.folder / f"worker{len(self.workers)}.log"

    def _hired(self, worker: AnyWorker, before: set[bytes] | None) -> AnyWorker:
        if not self.workers:
            self.stack.callback(self._end_all)
        self.workers.append(worker)
        if before is not None:
            until(lambda: self._ticking() - before, "the worker's first tick")
        return worker

    def _end_all(self) -> None:
        """Side by side: each takes its time to stop."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            self.end(worker, 0)

    def _ticking(self) -> set[bytes]:
        return set(self.redis.hkeys("{postroom}:workers"))

    def start_smtp(self, *arguments: str, **settings: str) -> tuple["subprocess.Popen[bytes]", list[int]]:
        """`postroom smtp` on free ports; the process, and the ports that it printed."""
        log = self.stack.enter_context((self.folder / "smtp.log").open("wb"))
        server = subprocess.Popen(
            [sys.executable, "-m", "postroom", "smtp", "--port", "0", *arguments],
            env=self.environment | {"POSTROOM_SMTP_ALLOW": "127.0.0.1"} | settings,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        self.stack.callback(self.end, server)
        assert server.stdout
        self.stack.enter_context(server.stdout)
        lines = [server.stdout.readline() for _ in range(2 if "--tls-port" in arguments else 1)]
        return server, [int(line.rpartition(b":")[2]) for line in lines]

    def end(self, worker: Worker, number: int = signal.SIGTERM) -> int:
        """Signals the worker and waits for its exit code."""
        if worker.poll() is None:
            worker.send_signal(number)
        try:
            return worker.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            raise

    def kill(self) -> None:
        """SIGKILL for the last worker started, its supervisor and its children at once."""
        supervisor = psutil.Process(self.workers[-1].pid)
        for process in [supervisor, *supervisor.children(recursive=True)]:
            process.kill()
        self.workers[-1].wait()

    def postroom(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end."""
        return run_command("postroom", arguments, self.environment, stdin, PATIENCE_S)

    def log(self) -> list[dict[str, Any]]:
        """The events that the workers have written so far."""
        lines = [line for file in sorted(self.folder.glob("worker*.log")) for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def raw_log(self) -> str:
        """All that the workers have written so far, Celery's own lines too."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("worker*.log")))

    def settled_task(self, task_id: str) -> Any:
        """The delivery of a mail that was sent as a task, which may not have been taken in yet."""
        until(lambda: self.redis.exists(f"{{postroom}}:job:{task_id}"), "the task to be taken in")
        return self.settled(task_id)

    def end_leases(self) -> None:
        """Whoever has a claim is dead: its lease is over now, not only when its time has passed."""
        for job in self.redis.zrange("{postroom}:leases", 0, -1):
            self.redis.zadd("{postroom}:leases", {job: 0}, xx=True)

    def end_wait_for_cut_off_workers(self, *job_ids: str) -> None:
        """Their workers are dead, and not cut off: these mails may be sent again now."""
        for job in job_ids:
            key = f"{{postroom}}:job:{job}"
            until(lambda key=key: self.redis.hget(key, "resend_from"), "the lease to be taken back")
            self.redis.hset(key, "resend_from", "1")
            lane = (self.redis.hget(key, "lane") or b"").decode()
            for waits, name in ((f"later:{lane}", job), ("lanes", lane)):  # if it was looked up just before
                self.redis.zadd(f"{{postroom}}:{waits}", {name: 0}, xx=True)

    def settled(self, job_id: str) -> Any:
        return self.client().wait(job_id, timeout=PATIENCE_S)


def until(found: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What `found()` gives once it gives something; fails after a while, naming `what` did not come."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < patience_s:
        if got := found():
            return got
        time.sleep(min(0.02 + waited / 100, 0.1))  # to ask costs CPU, which what is awaited may need
    pytest.fail(f"waited {patience_s:.0f} s in vain for {what}")


@pytest.fixture
def open_room() -> Iterator[Callable[..., Room]]:
    """Opens a mail room; its options are the sandbox's, and `settings` come on top of what every worker needs."""
    with rooms() as open_one:
        yield open_one


@pytest.fixture(scope="module")
def module_room() -> Iterator[Callable[..., Room]]:
    """The same for all tests of a file, one after the other."""
    with rooms() as open_one:
        yield open_one


def start_redis(folder: Path) -> None:
    """Starts the server in this folder, with a user who has the least rights that Postroom needs."""
    rights = re.search(
        r"ACL SETUSER postroom on >\S+ (.+)\n", (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    )
    assert rights
    with redis.Redis.from_url(embedded.ensure(folder)) as client:
        queues = ("~celery", "~shop")  # of tasks that tests want called
        client.execute_command("ACL", "SETUSER", "postroom", "on", ">secret", *rights[1].split(), *queues)


@contextmanager
def rooms() -> Iterator[Callable[..., Room]]:
    """A function that opens rooms, which are closed when the block ends."""
    with ExitStack() as stack:

        def open_one(settings: Mapping[str, str] | None = None, **options: Any) -> Room:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="pr-")))
            start_redis(folder)
            stack.callback(embedded.stop, folder)
            address = stack.enter_context(running(SandboxOptions(**options)))
            sandbox = stack.enter_context(Sandbox.at(address))
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "POSTROOM_REDIS_URL": f"unix://postroom:secret@{folder}/redis.sock",
                "POSTROOM_SENDER": SENDER,
                "POSTROOM_TENANT_ID": address.tenant_id,
                "POSTROOM_CLIENT_ID": address.client_id,
                "POSTROOM_CLIENT_SECRET": address.client_secret,
                "POSTROOM_AUTHORITY_URL": address.authority_url,
                "POSTROOM_GRAPH_URL": address.graph_url,
                "POSTROOM_CA_BUNDLE": address.ca_file,
                "POSTROOM_TEMPLATES": str(Path(__file__).parents[2] / "templates"),
                **(settings or {}),
            }
            return Room(folder, address, sandbox, environment, stack)

        yield open_one


@pytest.fixture
def room(open_room: Callable[..., Room]) -> Room:
    """A mail room with the defaults."""
    return open_room()


def a_mail(**fields: Any) -> Mail:
    return Mail.model_validate({"from": SENDER, "to": ["ann@contoso.com"], "subject": "Hello", "text": "Hi"} | fields)
