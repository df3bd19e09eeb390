"""How the cost of a mail grows: what each series changes, all else being as in the races."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil

from bench.graph import Graph
from bench.measures import Plan
from bench.measures.memory import NEEDED, fill
from bench.processes import Started
from bench.progress import BenchFault, say
from bench.race import WARM, WARM_S
from bench.room import Room, rooms
from bench.rows import Row, at_most, rounded

LANES = (1, 10, 100, 1_000, 10_000)
MAILS = 3_000
WAITING = (1_000, 10_000, 100_000, 1_000_000)
# Of those waiting: where the measurement begins, and where it ends.
FIRST, LAST = 300, 950
FEW_HANDS = "32"  # in each process: more would have claimed the last of 1,000 before the first of these is answered
SHAPES = tuple((processes, pool) for pool in ("threads", "prefork") for processes in (1, 2))
KB, MB = 1024, 1024 * 1024
# Graph takes 4 MB of JSON, and 2.2 MB of MIME, in which base64 makes 9 of 5 bytes twice over.
SIZES = {
    "json": (2 * KB, 20 * KB, 200 * KB, 2 * MB),
    "mime": (2 * KB, 20 * KB, 200 * KB, MB),
    "source": (2 * KB, 20 * KB, 200 * KB, MB),
}
LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    per_s: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a producer is told to take in."""

    order: str
    count: int
    given: Mapping[str, Any] = field(default_factory=dict)


def lanes(graph: Graph, plan: Plan) -> Iterator[Row]:
    """As many mails, for few or many mailboxes; at least one each."""
    numbers = {count: max(plan.of(MAILS), count if plan.scale >= 1 else 0) for count in LANES}

    def cost(count: int) -> Cost:
        return _drained(graph, Load("many", numbers[count], {"lanes": count}))

    costs = _in_turn(LANES, cost, plan.rounds)
    for count, found in costs.items():
        yield from _of(f"lanes-{count}", f"{count:,} mailboxes, {numbers[count]:,} mails", *found)
    yield from _growth("lanes", "mailboxes", costs)


def waiting(graph: Graph, plan: Plan) -> Iterator[Row]:
    """The same part of a small and of a large backlog."""
    there: dict[int, int] = {}

    def cost(count: int) -> Cost:
        wanted = max(WAITING[0], min(plan.of(count), psutil.virtual_memory().available // NEEDED))
        with rooms(graph) as room:
            there[count] = fill(room, wanted, within_s=1500)
            graph.reset()
            with room.worker("--concurrency", FEW_HANDS) as worker:
                return _part(room, worker, FIRST, LAST)

    costs = _in_turn(WAITING, cost, plan.rounds)
    for count, found in costs.items():
        yield from _of(f"waiting-{count}", f"{there[count]:,} waiting", *found)
    yield from _growth("waiting", "waiting", costs)


def _in_turn(counts: Sequence[int], measure: Callable[[int], Cost], rounds: int) -> dict[int, list[Cost]]:
    """Each several times, one after the other, so that a machine whose speed changes is as quick for all."""
    costs: dict[int, list[Cost]] = {count: [] for count in counts}
    for number in range(1, rounds + 1):
        for count, found in costs.items():
            found.append(cost := measure(count))
            say(f"{count:,}, round {number} of {rounds}: {cost.cpu_ms:.2f} ms CPU a mail, {cost.per_s:.0f} mails/s")
    return costs


def processes(graph: Graph, plan: Plan) -> Iterator[Row]:
    """What Celery's hands are."""
    for count, pool in SHAPES:
        cost = _drained(graph, Load("many", plan.of(MAILS)), "--processes", str(count), "--pool", pool)
        yield from _of(f"pool-{pool}-{count}", f"{count} × {pool}, as many hands in each as by default", cost)


def forms(graph: Graph, plan: Plan) -> Iterator[Row]:
    """What Graph is given, and how much of it."""
    for form, sizes in SIZES.items():
        for size in sizes:
            number = max(50, min(plan.of(1500), round(plan.scale * 300 * MB / size)))
            cost = _drained(graph, Load("formed", number, {"form": form, "size": size}))
            yield from _of(f"form-{form}-{size // KB}k", f"{form}, {size / KB:,.0f} KB", cost)


def _drained(graph: Graph, load: Load, *options: str) -> Cost:
    """What workers and Redis take for all of a backlog: they are warm, and wait until it is there."""
    with rooms(graph) as room, room.producer() as producer, room.worker(*options) as worker:
        graph.reset(delay=WARM_S)
        producer.do("many", first=0, count=WARM)
        _reach(graph, WARM)
        room.settle(WARM)
        graph.reset()
        worker.signal_all(signal.SIGSTOP)
        producer.do(load.order, first=WARM, count=load.count, **load.given)
        before, began = worker.cpu_s() + room.redis_cpu_s(), time.monotonic()
        worker.signal_all(signal.SIGCONT)
        _reach(graph, load.count)
        room.settle(WARM + load.count)
        cpu_s = worker.cpu_s() + room.redis_cpu_s() - before
        took = graph.log().last_answer - began
    return Cost(per_s=load.count / took, cpu_ms=cpu_s * 1000 / load.count)


def _part(room: Room, worker: Started, first: int, last: int) -> Cost:
    """What they take from one answer to another."""
    done = _reach(room.graph, first)
    began, before = time.monotonic(), worker.cpu_s() + room.redis_cpu_s()
    done = _reach(room.graph, last) - done
    took, cpu_s = time.monotonic() - began, worker.cpu_s() + room.redis_cpu_s() - before
    return Cost(per_s=done / took, cpu_ms=cpu_s * 1000 / done)


def _reach(graph: Graph, count: int) -> int:
    if (reached := graph.wait("answered", count, LONGEST_S)) < count:
        raise BenchFault(f"only {reached} of {count} mails came within {LONGEST_S:g} s")
    return reached


def _of(name: str, what: str, *costs: Cost) -> Iterator[Row]:
    values = [cost.cpu_ms for cost in costs]
    yield Row(name=f"{name}/cpu", what=f"{what}: CPU of workers and Redis", unit="ms/mail", values=values)
    yield Row(name=f"{name}/speed", what=what, unit="mails/s", values=[cost.per_s for cost in costs])


def _growth(name: str, what: str, costs: Mapping[int, Sequence[Cost]]) -> Iterator[Row]:
    """How far the extremes are apart."""
    for figure, values in {
        "cpu": [median(cost.cpu_ms for cost in found) for found in costs.values()],
        "speed": [median(cost.per_s for cost in found) for found in costs.values()],
    }.items():
        yield Row(
            name=f"growth-{name}/{figure}",
            what=f"most to least over all numbers of {what}: {figure}",
            unit="×",
            values=[_apart(values)],
            target=at_most(1.5),
            beside={f"{number:,}": rounded(value) for number, value in zip(costs, values, strict=True)},
        )


def _apart(values: Sequence[float]) -> float:
    return max(values) / min(values)
