"""A Redis of one's own for each measurement, and Postroom's worker and producers beside it."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import redis

from bench.graph import Graph
from bench.orders_to import Producer
from bench.processes import Started, cpu_s_of, started, until
from postroom.settings.model import Settings
from postroom.store import embedded
from postroom.store.functions import PREFIX

ACCEPTED = f"{PREFIX}status:accepted"
LEASES = f"{PREFIX}leases"
WORKERS = f"{PREFIX}workers"
CLAIMS = f"{PREFIX}claims:"
# Which settings make a transport; "best" is what Postroom takes by itself where pycurl is installed.
TRANSPORTS: dict[str, dict[str, str]] = {"requests": {"POSTROOM_TRANSPORT": "requests"}, "best": {}}
if "transport" not in Settings.model_fields:
    TRANSPORTS = {"requests": {}}


@dataclass
class Room:
    """An empty server, with the flags of Postroom's own embedded one, in a folder that goes with it."""

    folder: Path
    graph: Graph
    stack: ExitStack
    workers_started: int = 0

    @property
    def socket(self) -> str:
        return f"{self.folder}/redis.sock"

    @cached_property
    def redis(self) -> "redis.Redis":
        client: redis.Redis = self.stack.enter_context(redis.Redis.from_url(f"unix://{self.socket}"))
        return client

    @cached_property
    def redis_process(self) -> psutil.Process:
        return psutil.Process(self.redis.info("server")["process_id"])

    def redis_cpu_s(self) -> float:
        return cpu_s_of(self.redis_process)

    @property
    def environment(self) -> dict[str, str]:
        """Postroom's settings for this room and the stand-in."""
        return {
            "POSTROOM_REDIS_URL": f"embedded:{self.folder}",
            "POSTROOM_TENANT_ID": "bench",
            "POSTROOM_CLIENT_ID": "bench",
            "POSTROOM_CLIENT_SECRET": "secret~of~the~bench",
            "POSTROOM_AUTHORITY_URL": self.graph.url,
            "POSTROOM_GRAPH_URL": self.graph.url,
            "POSTROOM_CA_BUNDLE": self.graph.ca_file,
            "POSTROOM_RATE": "off",
        }

    @contextmanager
    def worker(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Iterator[Started]:
        """`postroom worker`, from when it is ready to work."""
        before = self.redis.hlen(WORKERS)
        self.workers_started += 1
        command = [sys.executable, "-m", "postroom", "worker", *arguments]
        name = f"postroom worker {self.workers_started}"
        with started(name, command, self.folder, {**self.environment, **(settings or {})}) as worker:

            def ready() -> bool:
                worker.check()
                return bool(self.redis.hlen(WORKERS) - before >= _processes(worker))

            until(ready, "the worker's first tick", patience_s=60)
            yield worker

    @contextmanager
    def producer(self, name: str = "producer") -> Iterator[Producer]:
        """A process with a client, for `bench.producer`'s orders."""
        command = [sys.executable, "-m", "bench.producer"]
        with started(name, command, self.folder, self.environment, orders=True) as process:
            yield Producer(process)

    def settle(self, accepted: int, patience_s: float = 60) -> None:
        """Returns once so many mails are recorded as accepted, and no claim is left."""

        def settled() -> bool:
            return bool(self.redis.zcard(ACCEPTED) >= accepted and not self.redis.zcard(LEASES))

        until(settled, f"{accepted} mails to be recorded as accepted", patience_s)


def _processes(worker: Started) -> int:
    """How many Celery workers the supervisor has by now; one at least."""
    if not worker.tree():
        return 1
    return max(1, len(worker.tree()[0].children()))


@contextmanager
def rooms(graph: Graph, within: Path | None = None) -> Iterator[Room]:
    """A room, until the block ends; its folder is `within` this one, or where all others are."""
    with ExitStack() as stack:
        # Its path must be short: a unix socket is in it.
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-", dir=within, ignore_cleanup_errors=True)))
        embedded.ensure(folder)
        stack.callback(embedded.stop, folder)
        yield Room(folder, graph, stack)
