"""A worker's ticks without the worker: `python -m bench.clock`, with Postroom's settings."""

import os
import threading
from pathlib import Path
from typing import Any

from bench.orders import obey
from postroom import wiring
from postroom.delivery.round import tick_for_ever
from postroom.settings import model as settings

found = settings.load(os.environ, Path.cwd())
ledger = wiring.ledger(found)
ledger.publish(wiring.Lanes(found=found).rules(results_here=True))


class Counted:
    """The ledger, which counts its ticks."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self, *arguments: Any) -> Any:
        self.ticks += 1
        return ledger.tick(*arguments)


def run(seconds: float) -> dict[str, Any]:
    """Ticks as a worker does, for so long."""
    stop, counted = threading.Event(), Counted()
    threading.Timer(seconds, stop.set).start()
    hands = 8
    tick_for_ever(counted, "bench:1", hands, found.lease, stop, lambda *_, **__: None, lambda _: None)  # type: ignore[arg-type]
    return {"ticks": counted.ticks}


if __name__ == "__main__":
    obey(run=run)
