"""How often Postroom asks Redis for a mail, from its intake to its end."""

from collections.abc import Iterator

from bench.graph import Graph
from bench.measures import Plan
from bench.progress import BenchFault
from bench.room import TRANSPORTS, Room, rooms
from bench.rows import Row, at_most, rounded

MAILS = 4000
MOST = {"requests": at_most(4), "best": at_most(3)}
OURS = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_fcall")


def commands(graph: Graph, plan: Plan) -> Iterator[Row]:
    """Each of ours is a script, and none of Celery's is; ticks are counted with them."""
    count = plan.of(MAILS)
    for transport, settings in TRANSPORTS.items():
        with rooms(graph) as room, room.producer() as producer:
            producer.do("each", first=0, count=count)
            taken_in = asked(room)
            graph.reset(delay=0.02)
            with room.worker(settings=settings):
                started = asked(room)
                if graph.wait("answered", count, 120) < count:
                    raise BenchFault(f"{count} mails did not leave within 120 s")
                room.settle(count)
                delivered = asked(room) - started
        yield Row(
            name=f"commands/{transport}",
            what="our commands to Redis for a mail of a backlog: Client.send to its end, ticks too",
            unit="commands",
            values=[(taken_in + delivered) / count],
            target=MOST[transport],
            beside={"intake": rounded(taken_in / count), "delivery": rounded(delivered / count)},
        )


def asked(room: Room) -> int:
    """How many scripts were called so far."""
    counts = room.redis.info("commandstats")
    return sum(counts[name]["calls"] for name in OURS if name in counts)
