"""A lane in which 100,000 wait: what it takes to fill it, to send into it, and to be first in it."""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

from bench.graph import Graph
from bench.measures import Plan
from bench.orders_to import Producer
from bench.progress import BenchFault
from bench.room import CLAIMS, Room, rooms
from bench.rows import Row, at_least, at_most, percentile, rounded

BUSY = "busy@contoso.com"
WAITING = 100_000
ROUNDS = 5
SENDS = 400  # in each
URGENT = 20
ANSWER_S, JITTER = 0.2, 0.5
MARK = "This is urgent 814"
DISK = Path("/var/tmp")


def backlog(graph: Graph, plan: Plan) -> Iterator[Row]:
    """The same 100,000 for all rows: taking in, sending, and `high` mails. The first two on a disk, too."""
    with rooms(graph) as room:
        yield from _filling(room, plan)
        yield from _urgent(room, plan)
    if DISK.is_dir():
        with rooms(graph, DISK) as room:
            yield from _filling(room, plan, "/disk")


def fill(room: Room, waiting: int) -> dict[str, float]:
    """Puts so many `low` mails into one lane; what it took."""
    with room.producer("filler") as producer:
        return producer.do("fill", count=waiting, sender=BUSY, priority="low")


def _filling(room: Room, plan: Plan, where: str = "") -> Iterator[Row]:
    waiting = plan.of(WAITING)
    filled = fill(room, waiting)
    with room.producer() as producer:
        producer.do("each", first=10_000_000, count=50, sender=BUSY)
        rounds = [_handed_over(producer, 20_000_000 + 100_000 * number, plan.of(SENDS)) for number in range(ROUNDS)]
    sent = [ms for took_ms, _ in rounds for ms in took_ms]
    each_ms = [mean(took_ms) for took_ms, _ in rounds]
    many_ms = [each for _, each in rounds]
    made_ms = filled["wall_s"] * 1000 / waiting
    yield Row(
        name=f"send-backlog{where}",
        what=f"Client.send, {waiting:,} waiting, each on average",
        unit="ms",
        values=each_ms,
        target=at_most(0.5),
        beside={"p50": rounded(percentile(sent, 50)), "p99": rounded(percentile(sent, 99))},
    )
    yield Row(
        name=f"send-many-ratio{where}",
        what="mails/s of send_many to those of Client.send, mails that are made already",
        unit="×",
        values=[each / many for each, many in zip(each_ms, many_ms, strict=True)],
        target=at_least(10),
        beside={
            "send_many": f"{1000 / median(many_ms):,.0f}/s",
            "send": f"{1000 / median(each_ms):,.0f}/s",
            "send_many that makes them too": f"{1000 / made_ms:,.0f}/s",
        },
    )
    yield Row(
        name=f"send-many-100000{where}",
        what=f"send_many of {waiting:,} mails from an iterator",
        unit="s",
        values=[filled["wall_s"]],
        target=at_most(15 * waiting / WAITING),
        beside={"client's CPU": f"{filled['cpu_s']:.1f} s"},
    )
    yield Row(
        name=f"send-many-memory{where}",
        what="the client's growth meanwhile, after the first tenth",
        unit="%",
        values=[100 * (filled["rss_most"] / filled["rss_tenth"] - 1)],
        target=at_most(5),
        beside={"at most": f"{filled['rss_most'] / 2**20:.0f} MB"},
    )


def _handed_over(producer: Producer, first: int, count: int) -> tuple[list[float], float]:
    """The milliseconds that each of so many mails took with `send`, and of ten times as many with `send_many`."""
    many = 10 * count
    sent = producer.do("each", first=first, count=count, sender=BUSY)
    handed = producer.do("handed", first=first + count, count=many, sender=BUSY)
    return sent["took_ms"], handed["took_ms"] / many


def _urgent(room: Room, plan: Plan) -> Iterator[Row]:
    """A worker is busy with the lane, and from time to time comes a mail that is urgent."""
    graph = room.graph
    # Answers of the same length would come four at a time, and the four next requests race each other.
    graph.reset(delay=ANSWER_S, jitter=JITTER, mark=MARK)
    count = plan.of(URGENT)
    kept: list[float] = []
    claimed: list[int] = []
    with room.worker(), room.producer() as producer:
        if graph.wait("answered", 100, 30) < 100:
            raise BenchFault("the busy lane does not flow")
        for number in range(1, count + 1):
            kept.append(producer.do("one", sender=BUSY, priority="high", subject=MARK)["kept"])
            claimed.append(room.redis.zcard(f"{CLAIMS}{BUSY}"))
            if graph.wait("marked", number, 30) < number:
                raise BenchFault("a high mail behind low ones did not come within 30 s")
        log = graph.log()
    urgent = [log.times[index] for index in log.marked]
    lane = log.by_mailbox[BUSY]
    places = [place(lane, since, came, held) for since, came, held in zip(kept, urgent, claimed, strict=True)]
    yield Row(
        name="high-place",
        what=f"a high mail behind {plan.of(WAITING):,} low ones of its lane: its place (1 is next), the worst",
        unit="th",
        values=[max(places)],
        target=at_most(2),
        beside={"of": count, "next": places.count(1), "p50": f"{_wait_ms(kept, urgent):.0f} ms after it was kept"},
    )


def place(lane: list[float], kept: float, came: float, claimed: int) -> int:
    """Its place among the lane's requests from when it was kept on, without those that were under way by then."""
    posted = sum(1 for at in lane if kept - ANSWER_S * (1 + JITTER) < at <= kept)
    between = sum(1 for at in lane if kept < at < came)
    return 1 + max(0, between - max(0, claimed - posted))


def _wait_ms(kept: list[float], came: list[float]) -> float:
    return percentile([(at - since) * 1000 for since, at in zip(kept, came, strict=True)], 50)
