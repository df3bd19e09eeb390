"""What waits costs the worker nothing, and Redis its record."""

from collections.abc import Iterator

import psutil

from bench import mails
from bench.graph import Graph
from bench.measures import Plan
from bench.progress import BenchFault, say
from bench.room import Room, rooms
from bench.rows import Row, at_most

FEW, MANY = 1_000, 1_000_000
WORKED_OFF = 900
FILLING_S = 45.0  # a machine that takes longer has fewer
NEEDED = 1800  # bytes of memory for each that waits
JOBS = 10_000
SHARED_BODY = 500_000
MAILING = 1_000


def worker_memory(graph: Graph, plan: Plan) -> Iterator[Row]:
    """The worker's memory when it has done the same work, with few and with many waiting."""
    many = min(plan.of(MANY), psutil.virtual_memory().available // NEEDED)
    few, _ = _rss_with(graph, FEW)
    rss, many = _rss_with(graph, many)
    yield Row(
        name="memory-waiting",
        what=f"a worker's memory with {many:,} waiting, to that with {FEW:,}",
        unit="%",
        values=[100 * (rss / few - 1)],
        target=at_most(5),
        beside={f"{FEW:,}": f"{few / 2**20:.1f} MB", f"{many:,}": f"{rss / 2**20:.1f} MB"},
    )


def _rss_with(graph: Graph, waiting: int) -> tuple[int, int]:
    """The bytes, and how many really waited."""
    with rooms(graph) as room:
        waiting = fill(room, waiting)
        graph.reset(delay=0.01)
        with room.worker() as worker:
            if graph.wait("answered", WORKED_OFF, 120) < WORKED_OFF:
                raise BenchFault(f"with {waiting:,} waiting, {WORKED_OFF} mails did not leave within 120 s")
            return worker.rss(), waiting


def fill(room: Room, waiting: int, within_s: float = FILLING_S) -> int:
    """By one batch whose mails differ in their recipients alone, without a file, as fast as it goes."""
    room.redis.config_set("appendonly", "no")
    with room.producer() as producer:
        took = producer.do("mailing", count=waiting, lanes=mails.MAILBOXES, within_s=within_s, timeout_s=within_s + 60)
    say(f"{took['taken']:,} taken in, {took['taken'] / took['wall_s']:,.0f}/s")
    return int(took["taken"])


def bytes_of_a_job(graph: Graph, plan: Plan) -> Iterator[Row]:
    """By Redis' own count, before and after."""
    count = plan.of(JOBS)
    for name, order, part, what in (
        ("bytes-send", "each", "bytes", "Client.send with a key"),
        ("bytes-send-many", "many", "own", "send_many"),
    ):
        with rooms(graph) as room, room.producer() as producer:
            producer.do(order, first=50_000_000, count=10)
            before = _used(room)
            producer.do(order, first=0, count=count)
            own = producer.do("payload", first=0, count=count)[part]
            yield Row(
                name=name,
                what=f"Redis' bytes for a waiting job of {what}, beyond its mail",
                unit="B",
                values=[(_used(room) - before - own) / count],
                target=at_most(900),
                beside={"its mail": f"{own / count:,.0f} B"},
            )
    small, large = _mailing_size(graph, 2048), _mailing_size(graph, SHARED_BODY)
    yield Row(
        name="bytes-shared",
        what=f"how often Redis keeps what {MAILING:,} mails of a batch share",
        unit="times",
        values=[(large - small) / (SHARED_BODY - 2048)],
        target=at_most(1.5),
    )


def _mailing_size(graph: Graph, size: int) -> int:
    with rooms(graph) as room, room.producer() as producer:
        producer.do("each", first=50_000_000, count=10)
        before = _used(room)
        producer.do("mailing", count=MAILING, lanes=1, size=size)
        return _used(room) - before


def _used(room: Room) -> int:
    """All that Redis has allocated, but for its connections and what it is about to write to the file."""
    memory = room.redis.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])
