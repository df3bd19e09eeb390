"""How many connections a server has, and which of them must go: those that take room and do nothing.

Where there are too many, a new one takes the place of the one that has been without a request for longest. So clients
that open connections and are silent keep nobody out, and whoever asks for /healthz is answered.
"""

import asyncio
import resource
import time
from typing import Protocol

from postroom.telemetry.events import Emit

MOST = 2000
# Files that a process needs besides: connections to Redis, what asyncio accepts before it tells us, the log.
RESERVED = 300
ACCEPTED_AT_ONCE, BACKLOG = 64, 1024
NO_PROGRESS_S = 30.0
LOOKS = 3  # in that time
_SAID_EVERY_S = 60.0


class Connection(Protocol):
    """What is needed of a connection."""

    transport: asyncio.Transport


class Connections:
    """All connections of one server. `most` is how many it may have, unless the file limit allows fewer."""

    def __init__(self, emit: Emit, most: int = MOST, no_progress_s: float = NO_PROGRESS_S) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = most if files == resource.RLIM_INFINITY else max(1, min(most, files - RESERVED))
        self._no_progress_s = no_progress_s
        self._emit = emit
        self._all: dict[Connection, _Seen] = {}
        self._idle: dict[Connection, None] = {}  # those without a request, the one that waits for longest first
        self._looking: asyncio.TimerHandle | None = None
        self._say_at = 0.0

    def add(self, connection: Connection) -> None:
        """Notes a new connection. If there are too many, one without a request is closed, this one at worst."""
        self._all[connection] = _Seen()
        self._idle[connection] = None
        if len(self._all) > self._most:
            self._say()
            oldest = next(iter(self._idle))
            self.remove(oldest)
            oldest.transport.abort()
        if self._looking is None:
            self._look_later()

    def remove(self, connection: Connection) -> None:
        """Notes that a connection is closed."""
        self._all.pop(connection, None)
        self._idle.pop(connection, None)

    def note_request(self, connection: Connection) -> None:
        """Notes that a request has begun on this connection."""
        self._idle.pop(connection, None)

    def note_answer(self, connection: Connection) -> None:
        """Notes that its request is answered. The answer may be on its way still."""
        if connection in self._all:
            self._idle[connection] = None

    def note_reading(self, connection: Connection) -> None:
        """Notes that its client has read some of the answer."""
        if seen := self._all.get(connection):
            seen.looks = 0

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(self._no_progress_s / LOOKS, self._look)

    def _look(self) -> None:
        """Aborts connections whose clients have read nothing of their answer for too long."""
        self._looking = None
        for connection, seen in list(self._all.items()):
            unread = connection.transport.get_write_buffer_size()
            seen.looks = seen.looks + 1 if 0 < seen.unread <= unread else 0
            seen.unread = unread
            if seen.looks >= LOOKS:
                self.remove(connection)
                connection.transport.abort()
                self._emit("api.abandoned", unread=unread)
        if self._all:
            self._look_later()

    def _say(self) -> None:
        if (now := time.monotonic()) >= self._say_at:
            self._say_at = now + _SAID_EVERY_S
            self._emit("api.crowded", connections=len(self._all))


class _Seen:
    """How much of its answer a client had not read, and how often it was as much or more."""

    def __init__(self) -> None:
        self.unread, self.looks = 0, 0
