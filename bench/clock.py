"""A worker's ticks without the worker: `python -m bench.clock`, with Postroom's settings."""

import threading
from typing import Any

from bench.orders import obey
from postroom import wiring
from postroom.delivery.maintenance import tick_for_ever
from postroom.settings.lanes import Lanes
from postroom.settings.loading import load_settings

settings = load_settings()
ledger = wiring.ledger(settings, wiring.worker_name())
ledger.publish(Lanes(settings=settings).rules(results_here=True))


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
    slots = 8
    tick_for_ever(
        counted,  # type: ignore[arg-type]
        "bench:1",
        slots,
        settings.lease,
        stop,
        lambda *_, **__: None,
        lambda _: None,
        lambda: None,
    )
    return {"ticks": counted.ticks}


if __name__ == "__main__":
    obey(run=run)
