"""When which fault happens, and for how long."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .faults import GRAPH, LEASE_S, NETWORK, PROCESSES, REDIS, Strike


@dataclass(frozen=True, slots=True)
class Trouble:
    """One line of the plan: what strikes when, for how long, and the seed of its own choices."""

    at_s: float
    what: str
    strike: Strike
    length_s: float
    seed: int


def plan(mode: str, seconds: float, chance: random.Random) -> list[Trouble]:
    """All that is to happen. The same seed makes the same plan; whom it meets is up to the moment."""
    return sorted(
        [
            *series(PROCESSES, 5, (LEASE_S + 1, LEASE_S + 5), seconds, chance),
            *series(REDIS, 20, (0, 0), seconds, chance),
            *series(NETWORK, 8, (0.5, 4), seconds, chance),
            *series(GRAPH[mode], 2, (1, 6), seconds, chance),
        ],
        key=lambda trouble: trouble.at_s,
    )


def series(
    strikes: dict[str, Strike], every_s: float, length_s: tuple[float, float], seconds: float, chance: random.Random
) -> Iterator[Trouble]:
    """One after the other at random times, each as often as any other."""
    at, names = 0.0, list[str]()
    while (at := at + chance.uniform(0.5, 1.5) * every_s) < seconds:
        names = names or chance.sample(sorted(strikes), len(strikes))
        name = names.pop()
        yield Trouble(at, name, strikes[name], chance.uniform(*length_s), chance.getrandbits(32))
