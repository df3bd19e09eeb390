"""What the clock costs while many lanes wait."""

import sys
from collections.abc import Iterator

from bench.graph import Graph
from bench.measures import Plan
from bench.orders_to import Producer
from bench.processes import started
from bench.room import rooms
from bench.rows import Row, at_most, rounded

LANES = 10_000
SECONDS = 15.0


def tick(graph: Graph, plan: Plan) -> Iterator[Row]:
    """A worker's own ticking, in a process that does nothing else, and Redis' part of it."""
    lanes = plan.of(LANES)
    with rooms(graph) as room, room.producer() as producer:
        producer.do("scheduled", count=lanes)
        with started(
            "clock", [sys.executable, "-m", "bench.clock"], room.folder, room.environment, orders=True
        ) as process:
            clock = Producer(process)
            clock.do("run", seconds=1.0)
            before = room.redis_cpu_s()
            took = clock.do("run", seconds=SECONDS)
            redis_cpu_s = room.redis_cpu_s() - before
    yield Row(
        name="tick-10000",
        what=f"CPU of a worker's ticks and of Redis for them, {lanes:,} lanes waiting",
        unit="% of a core",
        values=[100 * (took["cpu_s"] + redis_cpu_s) / took["wall_s"]],
        target=at_most(2),
        beside={
            "worker": rounded(100 * took["cpu_s"] / took["wall_s"]),
            "Redis": rounded(100 * redis_cpu_s / took["wall_s"]),
            "ticks/s": rounded(took["ticks"] / took["wall_s"]),
        },
    )
