"""Clients that show wrong keys: each is made to wait for its answer, and its address is logged."""

import asyncio
import time
from collections import Counter

from postroom.access.failures import Failures, site
from postroom.telemetry.events import Emit

_sleep = asyncio.sleep
MOST_WAITING = 8  # answers that one address may wait for; each takes a connection


class WrongKeys:
    """Slows them down. A right key never waits, wherever it comes from."""

    def __init__(self, emit: Emit, failures: Failures | None = None) -> None:
        self._emit = emit
        self._failures = failures or Failures()
        self._waiting: Counter[str] = Counter()

    async def note(self, host: str) -> float:
        """Returns when the client may be answered: 0; or at once, with how many seconds it shall stay away."""
        place, now = site(host), time.monotonic()
        wait_s = self._failures.wait(host, now)
        if self._waiting[place] >= MOST_WAITING:
            return wait_s
        self._failures.note(host, now)
        self._emit("api.rejected", host=host)
        self._waiting[place] += 1
        try:
            await _sleep(wait_s)
        finally:
            self._waiting[place] -= 1
            if not self._waiting[place]:
                del self._waiting[place]
        return 0.0
