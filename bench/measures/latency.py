"""From `Client.send` to the request at Graph, where nothing else waits."""

from collections.abc import Iterator

from bench.graph import Graph, Log
from bench.measures import Plan
from bench.progress import BenchFault
from bench.room import TRANSPORTS, rooms
from bench.rows import Row, at_most, percentile

SAMPLES = 320
MAILBOXES = 20
PAUSE_S = [0.02, 0.06]
P50 = {"requests": at_most(10), "best": at_most(5)}


def idle(graph: Graph, plan: Plan) -> Iterator[Row]:
    """A mail at a time, after random pauses in which the one before has ended."""
    for transport, settings in TRANSPORTS.items():
        senders = [f"idle{number % MAILBOXES}@contoso.com" for number in range(plan.of(SAMPLES))]
        with rooms(graph) as room, room.worker(settings=settings), room.producer() as producer:
            graph.reset()
            producer.do("many", first=0, count=64, lanes=64)  # so that all is imported and connected
            graph.wait("answered", 64, 30)
            graph.reset()
            times = producer.do("trickle", senders=senders, pause_s=PAUSE_S)["times"]
            if graph.wait("arrived", len(senders), 30) < len(senders):
                raise BenchFault("not all mails of an idle room came within 30 s")
            took = latencies_ms(senders, times, graph.log())
        what = "idle, from Client.send's call to the request at Graph"
        beside = {"samples": len(took), "send itself": f"{median_send_ms(times):.2f} ms"}
        yield Row(
            name=f"idle-p50/{transport}",
            what=f"{what}, p50",
            unit="ms",
            values=[percentile(took, 50)],
            target=P50[transport],
            beside=beside,
        )
        yield Row(
            name=f"idle-p99/{transport}",
            what=f"{what}, p99",
            unit="ms",
            values=[percentile(took, 99)],
            target=at_most(50),
            beside={"most": f"{max(took):.1f} ms"},
        )


def latencies_ms(senders: list[str], times: list[tuple[float, float]], log: Log) -> list[float]:
    """Of each mail, by its mailbox, whose mails come in the order in which they were sent."""
    left = {name: iter(arrived) for name, arrived in log.by_mailbox.items()}
    return [(next(left[sender]) - began) * 1000 for sender, (began, _) in zip(senders, times, strict=True)]


def median_send_ms(times: list[tuple[float, float]]) -> float:
    return percentile([(ended - began) * 1000 for began, ended in times], 50)
