"""One mailbox by itself: how near it comes to what 4 requests in flight allow."""

from collections.abc import Iterator

from bench.graph import Graph
from bench.measures import Plan
from bench.progress import BenchFault
from bench.room import TRANSPORTS, rooms
from bench.rows import Row, at_least

MAILS = 160
DELAY_S = 0.25
AFTER = 7


def mailbox(graph: Graph, plan: Plan) -> Iterator[Row]:
    """16/s are what 4 at once of 250 ms each come to."""
    count = plan.of(MAILS)
    for transport, settings in TRANSPORTS.items():
        with rooms(graph) as room, room.producer() as producer:
            producer.do("many", first=0, count=count, lanes=1)
            graph.reset(delay=DELAY_S)
            with room.worker(settings=settings):
                if graph.wait("answered", count, 60) < count:
                    raise BenchFault("one mailbox's mails did not all come within 60 s")
                log = graph.log()
        # From the end of a burst of four to the end of the last one; what comes before also connects and imports.
        per_s = (count - 1 - AFTER) / (log.times[-1] - log.times[AFTER])
        yield Row(
            name=f"mailbox-250ms/{transport}",
            what="mails/s of one mailbox, answers after 250 ms",
            unit="mails/s",
            values=[per_s],
            target=at_least(15),
            beside={"most in flight": max(log.most_in_flight)},
        )
