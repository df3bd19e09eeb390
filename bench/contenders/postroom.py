"""Postroom, with the settings that it has by itself."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bench.contenders.contender import Contender, Running
from bench.orders_to import Producer
from bench.processes import Started
from bench.room import TRANSPORTS, Room
from postroom.cli.serve import PROCESSES
from postroom.runtime.supervisor import SLOTS


@dataclass(frozen=True)
class _Running:
    room: Room
    worker: Started
    producer: Producer

    def produce(self, first: int, count: int) -> float:
        return float(self.producer.do("many", first=first, count=count)["cpu_s"])

    def hold(self) -> None:
        self.worker.signal_all(signal.SIGSTOP)

    def release(self) -> None:
        self.worker.signal_all(signal.SIGCONT)

    def settle(self, count: int) -> None:
        self.room.settle(count)

    def cpu_s(self) -> float:
        return self.worker.cpu_s() + self.room.redis_cpu_s()


def _start(room: Room, settings: Mapping[str, str]) -> Iterator[Running]:
    with room.worker(settings=settings) as worker, room.producer() as producer:
        yield _Running(room, worker, producer)


def _contender(transport: str) -> Contender:
    @contextmanager
    def start(room: Room) -> Iterator[Running]:
        yield from _start(room, TRANSPORTS[transport])

    return Contender(
        name=f"postroom-{transport}",
        what=f"Postroom, `postroom worker`, transport {transport}",
        at_once=PROCESSES * SLOTS,
        start=start,
    )


POSTROOM = {transport: _contender(transport) for transport in TRANSPORTS}
