"""Celery without us: a task a mail, in the pools that people use."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.contenders.contender import BOTH, Contender, Running
from bench.orders_to import Producer
from bench.processes import Started, started, until
from bench.room import Room

TOKEN = "t" * 1400  # given, so that it costs them nothing
QUIET = ("--loglevel", "WARNING")
ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@dataclass(frozen=True)
class _Running:
    room: Room
    worker: Started
    producer: Producer
    results: bool

    def produce(self, first: int, count: int) -> float:
        return float(self.producer.do("many", first=first, count=count)["cpu_s"])

    def hold(self) -> None:
        self.worker.signal_all(signal.SIGSTOP)

    def release(self) -> None:
        self.worker.signal_all(signal.SIGCONT)

    def settle(self, count: int) -> None:
        def settled() -> bool:
            redis = self.room.redis
            left = redis.llen("celery") + redis.hlen("unacked")
            return bool(not left and (not self.results or redis.dbsize() >= count))

        until(settled, "Celery's queue to be empty and its results to be there")

    def cpu_s(self) -> float:
        return self.worker.cpu_s() + self.room.redis_cpu_s()


def _contender(name: str, what: str, module: str, *options: str, delays: Sequence[str] = BOTH) -> Contender:
    module = f"bench.contenders.{module}"
    at_once = int(options[options.index("--concurrency") + 1])

    @contextmanager
    def start(room: Room) -> Iterator[Running]:
        settings = {
            "BENCH_REDIS": f"redis+socket://{room.socket}",
            "BENCH_GRAPH": room.graph.url,
            "BENCH_CA": room.graph.ca_file,
            "BENCH_TOKEN": TOKEN,
            **({"BENCH_GREENLETS": "1"} if "gevent" in options else {}),
        }
        command = [sys.executable, "-m", "celery", "--quiet", "-A", module, "worker", *options, *QUIET]
        producer = [sys.executable, "-m", module]
        with (
            started(f"{name} worker", command, room.folder, settings) as worker,
            started(f"{name} producer", producer, room.folder, settings, orders=True) as process,
        ):
            yield _Running(room, worker, Producer(process), results=module.endswith("session"))

    return Contender(name=name, what=what, at_once=at_once, start=start, delays=delays)


SESSION = _contender(
    *("celery-session-threads32", "Celery task a mail, requests.Session a thread, 32 threads, stock settings"),
    *("celery_session", "--pool", "threads", "--concurrency", "32"),
)
TUNED_PREFORK = _contender(
    *("celery-tuned-prefork4", "the same tuned, 4 processes"),
    *("celery_tuned", "--pool", "processes", "--concurrency", "4", *ALONE),
    delays=("0ms",),  # 4 at once are 16 mails/s at 250 ms, by arithmetic
)
TUNED_THREADS = _contender(
    *("celery-tuned-threads32", "the same tuned, 32 threads"),
    *("celery_tuned", "--pool", "threads", "--concurrency", "32", *ALONE),
)
TUNED_GEVENT = _contender(
    *("celery-tuned-gevent200", "the same tuned, 200 greenlets"),
    *("celery_tuned", "--pool", "gevent", "--concurrency", "200", *ALONE),
    delays=("250ms",),  # which it is for
)
