"""Quiet mailboxes beside a busy one, and beside such as hang: neither may make them wait.

All have had mail before, so that Postroom knows that their answers are quick.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.graph import Graph
from bench.measures import Plan
from bench.measures.backlog import WAITING, fill
from bench.progress import BenchFault, say
from bench.room import Room, rooms
from bench.rows import Row, at_most, percentile

QUIET = 1000
PAUSE_S = [0.005, 0.025]
ANSWER_S = 0.02
HANGING = 50
HANGING_MAILS = 500
PATIENCE_S = 20.0


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
            "most": f"{max(beside):,.0f} ms",
        },
    )


@contextmanager
def _working(graph: Graph, quiet: list[str]) -> Iterator[Room]:
    with rooms(graph) as room:
        graph.reset()
        with room.worker(), room.producer() as producer:
            producer.do("to_each", senders=quiet)
            if graph.wait("answered", len(quiet), 60) < len(quiet):
                raise BenchFault("the first mails of the quiet mailboxes did not come within 60 s")
            room.settle(len(quiet))
            graph.reset(delay=ANSWER_S, hanging="hang")
            yield room


def _trickle(room: Room, quiet: list[str], beforehand: int) -> list[float]:
    """How long each quiet mail took, or has taken so far when patience ends; `beforehand` of others' have arrived."""
    graph = room.graph
    if graph.wait("arrived", beforehand, 30) < beforehand:
        raise BenchFault("the neighbours' mails do not flow")
    with room.producer("quiet") as producer:
        producer.do("each", first=30_000_000, count=1, sender=quiet[0])
        times = producer.do("trickle", senders=quiet, pause_s=PAUSE_S)["times"]
    until = time.monotonic() + PATIENCE_S
    log = graph.log()
    while time.monotonic() < until and not all(sender in log.by_mailbox for sender in quiet):
        graph.wait("arrived", len(log.times) + 1, 0.2)
        log = graph.log()
    now = time.monotonic()
    arrived = {sender: log.by_mailbox.get(sender, [now])[-1] for sender in quiet}
    return [(arrived[sender] - began) * 1000 for sender, (began, _) in zip(quiet, times, strict=True)]


def _beside_nobody(graph: Graph, quiet: list[str]) -> list[float]:
    with _working(graph, quiet) as room:
        return _trickle(room, quiet, beforehand=0)


def _beside_a_busy_one(graph: Graph, quiet: list[str], waiting: int) -> list[float]:
    with _working(graph, quiet) as room:
        fill(room, waiting)
        return _trickle(room, quiet, beforehand=500)


def _beside_hanging_ones(graph: Graph, quiet: list[str]) -> list[float]:
    with _working(graph, quiet) as room:
        with room.producer("hanging") as producer:
            producer.do("hang", count=HANGING_MAILS, lanes=HANGING)
        return _trickle(room, quiet, beforehand=4)
