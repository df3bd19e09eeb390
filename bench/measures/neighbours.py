"""Quiet mailboxes beside a busy one, and beside such as hang: neither may make them wait."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.graph import Graph
from bench.measures import Plan
from bench.measures.backlog import WAITING, fill
from bench.measures.latency import latencies_ms
from bench.progress import BenchFault, say
from bench.room import Room, rooms
from bench.rows import Row, at_most, percentile, rounded

QUIET = 1000
PAUSE_S = [0.005, 0.025]
ANSWER_S = 0.02
HANGING = 50
HANGING_MAILS = 500


def neighbours(graph: Graph, plan: Plan) -> Iterator[Row]:
    """One mail for each quiet mailbox, some 65 a second; the first time with nobody else."""
    quiet = [f"quiet{number}@contoso.com" for number in range(plan.of(QUIET))]
    alone = _beside_nobody(graph, quiet)
    say(f"quiet mailboxes alone: p99 {percentile(alone, 99):.1f} ms")
    waiting = plan.of(WAITING)
    busy = _beside_a_busy_one(graph, quiet, waiting)
    what = f"p99 of {len(quiet):,} quiet mailboxes, send to Graph, to that without"
    yield _row("neighbours-busy", f"{what} a lane of {waiting:,}", alone, busy)
    hanging = _beside_hanging_ones(graph, quiet)
    yield _row("neighbours-hanging", f"{what} {HANGING} hanging mailboxes", alone, hanging)


def _row(name: str, what: str, alone: Sequence[float], beside: Sequence[float]) -> Row:
    return Row(
        name=name,
        what=what,
        unit="×",
        values=[percentile(beside, 99) / percentile(alone, 99)],
        target=at_most(2),
        beside={
            "without p50, p99": f"{percentile(alone, 50):.1f}, {percentile(alone, 99):.1f} ms",
            "with": f"{percentile(beside, 50):.1f}, {percentile(beside, 99):.1f} ms",
            "most": rounded(max(beside)),
        },
    )


@contextmanager
def _working(graph: Graph) -> Iterator[Room]:
    with rooms(graph) as room:
        graph.reset(delay=ANSWER_S, hanging="hang")
        with room.worker(), room.producer() as producer:
            producer.do("many", first=0, count=64, lanes=64)
            graph.wait("answered", 64, 30)
            yield room


def _trickle(room: Room, quiet: list[str], beforehand: int) -> list[float]:
    """How long each quiet mail took; the room has at least `beforehand` arrivals of others by then."""
    graph = room.graph
    if graph.wait("arrived", beforehand, 30) < beforehand:
        raise BenchFault("the neighbours' mails do not flow")
    with room.producer("quiet") as producer:
        producer.do("each", count=1, first=30_000_000)
        times = producer.do("trickle", senders=quiet, pause_s=PAUSE_S)["times"]
    for _ in range(600):
        log = graph.log()
        if all(sender in log.by_mailbox for sender in quiet):
            return latencies_ms(quiet, times, log)
        graph.wait("arrived", len(log.times) + 1, 0.1)
    raise BenchFault("quiet mailboxes' mails did not all come within a minute")


def _beside_nobody(graph: Graph, quiet: list[str]) -> list[float]:
    with _working(graph) as room:
        return _trickle(room, quiet, beforehand=64)


def _beside_a_busy_one(graph: Graph, quiet: list[str], waiting: int) -> list[float]:
    with _working(graph) as room:
        fill(room, waiting)
        return _trickle(room, quiet, beforehand=500)


def _beside_hanging_ones(graph: Graph, quiet: list[str]) -> list[float]:
    with _working(graph) as room:
        with room.producer("hanging") as producer:
            producer.do("hang", count=HANGING_MAILS, lanes=HANGING)
        return _trickle(room, quiet, beforehand=68)
