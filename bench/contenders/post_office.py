"""django-post_office: its producer, and its command as a process that waits for a word to start."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.contenders.celery import TOKEN
from bench.contenders.contender import Contender, Running
from bench.orders_to import Producer
from bench.processes import Started, started
from bench.room import Room


@dataclass
class _Running:
    worker: Started
    producer: Producer
    held: bool = False

    def produce(self, first: int, count: int) -> float:
        took = float(self.producer.do("many", first=first, count=count)["cpu_s"])
        if not self.held:
            self.release()
        return took

    def hold(self) -> None:
        self.held = True  # it does nothing by itself: cron starts it

    def release(self) -> None:
        self.worker.tell(json.dumps({"do": "send"}))

    def settle(self, count: int) -> None:
        del count  # its command ends when the queue is empty
        self.worker.read_line(timeout_s=60)

    def cpu_s(self) -> float:
        return self.worker.cpu_s()


@contextmanager
def _start(room: Room) -> Iterator[Running]:
    settings = {
        "BENCH_FOLDER": str(room.folder),
        "BENCH_GRAPH": room.graph.url,
        "BENCH_CA": room.graph.ca_file,
        "BENCH_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "bench.contenders.post_office_app"]
    with (
        started("post_office producer", command, room.folder, settings, orders=True) as process,
        started("post_office worker", command, room.folder, settings, orders=True) as worker,
    ):
        producer = Producer(process)
        producer.do("migrate")
        yield _Running(worker, producer)


POST_OFFICE = Contender(
    name="django-post_office",
    what="django-post_office on SQLite, 2 processes of 16 threads",
    at_once=32,
    start=_start,
)
