"""A record of each request that arrived, and a bell that rings when something happens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

from postroom.sandbox.connection import Call


@dataclass(slots=True)
class Arrival:
    """One request: what it was, how busy the mailbox was, and how it ended. `status` is None without an answer."""

    number: int
    stage: str
    method: str
    path: str
    mailbox: str
    in_flight: int
    client_request_id: str
    request_id: str
    job: str
    message_id: str = ""
    status: int | None = None
    code: str = ""
    accepted: bool = False
    fault: str = ""
    wall: float = field(default_factory=time.time)
    monotonic: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return asdict(self)


class RequestLog:
    """The last requests, and how many there were in all."""

    def __init__(self, keep: int, bell: Bell) -> None:
        self._arrivals: deque[Arrival] = deque(maxlen=keep)
        self._bell = bell
        self.total: Counter[str] = Counter()

    def arrive(self, stage: str, call: Call, mailbox: str = "", in_flight: int = 0) -> Arrival:
        """Notes a request, before anything else is done."""
        self.total[stage] += 1
        request_id = str(uuid4())
        arrival = Arrival(
            number=self.total.total(),
            stage=stage,
            method=call.method,
            path=call.path,
            mailbox=mailbox,
            in_flight=in_flight,
            client_request_id=call.header(b"client-request-id") or request_id,
            request_id=request_id,
            job=call.header(b"x-postroom-job"),
        )
        self._arrivals.append(arrival)
        self._bell.ring()
        return arrival

    def end(self, arrival: Arrival, status: int | None) -> None:
        """Notes how the request ended. Called before the answer is sent, so who has the answer finds it here."""
        arrival.status = status
        arrival.ended = time.monotonic()
        self._bell.ring()

    def newest(self) -> Iterator[Arrival]:
        """All records kept, the newest first."""
        return reversed(list(self._arrivals))

    def reset(self) -> None:
        """Forgets everything."""
        self._arrivals.clear()
        self.total.clear()


class Bell:
    """Wakes whoever waits for something to happen."""

    def __init__(self) -> None:
        self._rung: asyncio.Event | None = None

    def ring(self) -> None:
        """Wakes all who wait."""
        if self._rung is not None:
            self._rung.set()
            self._rung = None

    async def until(self, happened: Callable[[], bool], patience: float) -> bool:
        """Waits until it is true, for at most `patience` seconds; looks again at each ring. Returns whether it is."""
        deadline = time.monotonic() + patience
        while not happened():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._rung is None:
                self._rung = asyncio.Event()
            try:
                await asyncio.wait_for(self._rung.wait(), left)
            except TimeoutError:
                return happened()
            # Under load it rings a thousand times a second, and to look may mean to look through everything.
            await asyncio.sleep(0.02)
        return True
