"""A row of the result: what was measured, what it must reach, and whether it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """At most, or at least."""

    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:.4g}"

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`values` are those of each repetition, of which the row has the median. `beside` is what explains the value."""

    name: str
    what: str
    unit: str
    values: Sequence[float]
    target: Target | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def ok(self) -> bool | None:
        return self.target.met(self.value) if self.target else None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "target": str(self.target) if self.target else None,
            "ok": self.ok,
            "what": self.what,
            "spread": [rounded(min(self.values)), rounded(max(self.values))],
            "beside": dict(self.beside),
        }


def at_most(limit: float) -> Target:
    return Target(limit)


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]
