"""A race: a backlog is taken in, then the workers are let loose on it. The same for everybody."""

import time
from dataclasses import dataclass

from bench.contenders.contender import Contender
from bench.graph import Graph
from bench.progress import BenchFault, say
from bench.room import rooms

# Mails before, so that all is imported and connected; answered so slowly that every hand has one.
WARM, WARM_S = 320, 0.1
WARM_EACH, WARM_EACH_S = 1.25, 0.001  # of those who have more on their way at once, for each
LONGEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    """CPU seconds for a thousand mails (producer, workers, store); mails/s from the word to the last answer."""

    cpu_s: float
    producer_cpu_s: float
    per_s: float


def race(contender: Contender, graph: Graph, count: int, delay: float) -> Result:
    warm = max(WARM, round(WARM_EACH * contender.at_once))
    with rooms(graph) as room, contender.start(room) as running:
        graph.reset(delay=max(WARM_S, WARM_EACH_S * contender.at_once))
        running.produce(0, warm)
        _all_answered(graph, warm, contender)
        running.settle(warm)
        graph.reset(delay=delay)
        running.hold()
        before = running.cpu_s()
        producing = running.produce(warm, count)
        began = time.monotonic()
        running.release()
        _all_answered(graph, count, contender)
        running.settle(warm + count)
        working = running.cpu_s() - before
    log = graph.log()
    if len(log.times) != count or log.faults:
        raise BenchFault(f"{contender.name}: {len(log.times)} requests for {count} mails, faults {log.faults}")
    result = Result((working + producing) * 1000 / count, producing * 1000 / count, count / (log.last_answer - began))
    say(f"{contender.name} at {delay * 1000:.0f} ms: {result.cpu_s:.2f} ms CPU a mail, {result.per_s:.0f} mails/s")
    return result


def _all_answered(graph: Graph, count: int, contender: Contender) -> None:
    if (reached := graph.wait("answered", count, LONGEST_S)) < count:
        raise BenchFault(f"{contender.name}: only {reached} of {count} mails came within {LONGEST_S:g} s")
