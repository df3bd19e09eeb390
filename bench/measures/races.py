"""Postroom beside the alternatives: CPU for each mail, and mails/s, with answers at once and after 250 ms."""

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from bench.contenders.celery import SESSION, TUNED_GEVENT, TUNED_PREFORK, TUNED_THREADS
from bench.contenders.contender import Contender
from bench.contenders.post_office import POST_OFFICE
from bench.contenders.postroom import POSTROOM
from bench.graph import Graph
from bench.measures import Plan
from bench.progress import say
from bench.race import Result, race
from bench.rows import Row, Target, at_least, at_most, rounded

DELAYS = {"0ms": 0.0, "250ms": 0.25}
MAILS = {"0ms": 2000, "250ms": 1200}
WAVES = 6  # mails at the least, for each that is on its way at once: so that it is not all beginning and end
LONGEST_ROUND_S = 80.0  # where they take longer, there are fewer: in all it is to be a quarter of an hour
CELERY = (SESSION, TUNED_PREFORK, TUNED_THREADS, TUNED_GEVENT)
TUNED = (TUNED_PREFORK, TUNED_THREADS, TUNED_GEVENT)
ALL = (*POSTROOM.values(), *CELERY, POST_OFFICE)

CPU_TO_SESSION = {"requests": at_most(1 / 2.5), "best": at_most(1 / 5)}
CPU_TO_TUNED = {"requests": at_most(0.75), "best": at_most(1 / 2.5)}
SPEED_TO_CELERY = {
    "250ms": {"requests": at_least(2), "best": at_least(4)},
    "0ms": {"requests": at_least(1.7), "best": at_least(3.5)},
}

Results = Mapping[str, Sequence[Result]]  # by contender, one a round


def quick(graph: Graph, plan: Plan) -> Iterator[Row]:
    """Answers at once."""
    yield from _rows("0ms", graph, plan)


def slow(graph: Graph, plan: Plan) -> Iterator[Row]:
    """Answers after 250 ms, as Graph's."""
    yield from _rows("250ms", graph, plan)


def _rows(delay: str, graph: Graph, plan: Plan) -> Iterator[Row]:
    results = _race(delay, graph, plan)
    for transport, contender in POSTROOM.items():
        if contender.name in results:
            yield from _cpu(delay, transport, results)
            yield from _speed(delay, transport, results)
    for name, found in results.items():
        if not name.startswith("postroom"):
            yield Row(name=f"cpu-{delay}/{name}", what=_what(name), unit="ms/mail", values=[one.cpu_s for one in found])
            yield Row(
                name=f"speed-{delay}/{name}", what=_what(name), unit="mails/s", values=[one.per_s for one in found]
            )


def _race(delay: str, graph: Graph, plan: Plan) -> Results:
    """All contenders in turn, several times over, so that a machine that others use is as busy for each."""
    found: dict[str, list[Result]] = {}
    began = time.monotonic()
    for number in range(1, plan.rounds + 1):
        if number > 1 and (time.monotonic() - began) * number / (number - 1) > LONGEST_ROUND_S * plan.rounds:
            say(f"race at {delay}: no further round, for this machine takes so long")
            break
        say(f"race at {delay}, round {number} of {plan.rounds}")
        for contender in ALL:
            if delay in contender.delays and plan.contenders in contender.name:
                mails = plan.of(max(MAILS[delay], WAVES * contender.at_once))
                result = race(contender, graph, mails, DELAYS[delay])
                found.setdefault(contender.name, []).append(result)
    return found


def _what(name: str) -> str:
    return next(contender.what for contender in ALL if contender.name == name)


def _cpu(delay: str, transport: str, results: Results) -> Iterator[Row]:
    own = [one.cpu_s for one in results[POSTROOM[transport].name]]
    yield Row(
        name=f"cpu-{delay}/{transport}",
        what=f"CPU a mail, answers after {delay}: producer, workers and Redis",
        unit="ms/mail",
        values=own,
        beside={"producer": rounded(median(one.producer_cpu_s for one in results[POSTROOM[transport].name]))},
    )
    yield from _ratio(
        f"cpu-{delay}-to-session/{transport}",
        *("its ratio to a Celery task with a Session, 32 threads", own),
        *({SESSION.name: [one.cpu_s for one in results.get(SESSION.name, ())]}, CPU_TO_SESSION[transport]),
    )
    yield from _ratio(
        f"cpu-{delay}-to-tuned/{transport}",
        *("its ratio to the best tuned Celery", own),
        *(_of(TUNED, results, "cpu_s"), CPU_TO_TUNED[transport]),
    )


def _speed(delay: str, transport: str, results: Results) -> Iterator[Row]:
    own = [one.per_s for one in results[POSTROOM[transport].name]]
    what = f"mails/s out of a backlog for 400 mailboxes, answers after {delay}"
    yield Row(name=f"speed-{delay}/{transport}", what=what, unit="mails/s", values=own)
    yield from _ratio(
        f"speed-{delay}-to-celery/{transport}",
        *("its ratio to the best Celery", own),
        *(_of(CELERY, results, "per_s"), SPEED_TO_CELERY[delay][transport]),
    )


def _of(contenders: Sequence[Contender], results: Results, figure: str) -> dict[str, list[float]]:
    return {
        one.name: [getattr(result, figure) for result in results[one.name]] for one in contenders if one.name in results
    }


def _ratio(
    name: str, what: str, own: Sequence[float], others: Mapping[str, Sequence[float]], target: Target
) -> Iterator[Row]:
    """Round by round, to the best of the others in all."""
    others = {other: values for other, values in others.items() if values}
    if not others:
        return
    best = (max if target.at_least else min)(others, key=lambda other: median(others[other]))
    ratios = [mine / theirs for mine, theirs in zip(own, others[best], strict=True)]
    beside = {"best": best, **{other: rounded(median(values)) for other, values in others.items()}}
    yield Row(name=name, what=what, unit="×", values=ratios, target=target, beside=beside)
