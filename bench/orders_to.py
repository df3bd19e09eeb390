"""The other end of `bench.orders`: orders to a process, and what they took."""

import json
from dataclasses import dataclass
from typing import Any

from bench.processes import Started


@dataclass(frozen=True)
class Producer:
    """A process that obeys."""

    process: Started

    def do(self, order: str, timeout_s: float = 300.0, **given: object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.process.ask(json.dumps({"do": order, **given}), timeout_s))
        return found
