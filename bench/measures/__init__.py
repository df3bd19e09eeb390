"""What can be measured, in the order in which it is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench.graph import Graph
from bench.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How thoroughly to measure."""

    rounds: int = 3
    scale: float = 1.0  # of numbers of mails; less is for trying it out
    contenders: str = ""  # only those with this in their names

    def of(self, count: int) -> int:
        """So many, or less in a trial."""
        return max(10, round(count * self.scale))


Measure = Callable[[Graph, Plan], Iterator[Row]]
Measures = Mapping[str, tuple[str, Measure]]  # by name, with what they are
