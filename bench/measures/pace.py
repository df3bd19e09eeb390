"""The pace of a limited mailbox: all that it may, and never more, with four workers at it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from bench.graph import Graph
from bench.measures import Plan
from bench.progress import BenchFault
from bench.room import rooms
from bench.rows import Row, at_least, at_most

MAILBOXES = 5
MOST, WINDOW_S = 30, 60.0
WORKERS = 4


def pace(graph: Graph, plan: Plan) -> Iterator[Row]:
    """At the real 30/min: each mailbox sends two windows' worth, which takes one of them and a little."""
    del plan
    count = 2 * MOST
    with rooms(graph) as room, room.producer() as producer, ExitStack() as workers:
        for _ in range(WORKERS):
            one = room.worker("--processes", "1", settings={"POSTROOM_RATE": f"{MOST}/min"})
            workers.enter_context(one)
        graph.reset()
        producer.do("many", first=0, count=MAILBOXES * count, lanes=MAILBOXES)
        patience_s = 2 * WINDOW_S + 30
        if graph.wait("answered", MAILBOXES * count, patience_s) < MAILBOXES * count:
            raise BenchFault(f"the paced mails did not all come within {patience_s:g} s")
        log = graph.log()
    paces = [used(times) for times in log.by_mailbox.values()]
    what = f"{MOST}/min, {WORKERS} workers, {MAILBOXES} mailboxes"
    yield Row(
        name="pace-used",
        what=f"{what}: of the allowed rate used, the worst mailbox",
        unit="%",
        values=[min(paces)],
        target=at_least(97),
    )
    yield Row(
        name="pace-window",
        what=f"{what}: most requests in any 60 s",
        unit="requests",
        values=[max(most_in_a_window(times) for times in log.by_mailbox.values())],
        target=at_most(MOST),
        beside={"in flight": max(log.most_in_flight)},
    )


def used(times: Sequence[float]) -> float:
    """Percent of what the rate allows, from window to window: the mail after a full window may follow 60 s later."""
    gaps = [later - earlier for earlier, later in zip(times, times[MOST:], strict=False)]
    return 100 * WINDOW_S / (sum(gaps) / len(gaps))


def most_in_a_window(times: Sequence[float]) -> int:
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] >= WINDOW_S:
            first += 1
        most = max(most, last - first + 1)
    return most
