"""A thread's wait for whatever comes next: a socket, a time, or something that another thread has put in."""

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable


class Loop:
    """What happens is done here one after the other, by the thread that turns it; `soon` alone is for all threads."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ, lambda _: self._ear.recv(64))
        self._watched: set[int] = set()
        self._news: deque[Callable[[], object]] = deque()
        self._sleeps = False
        self._due: dict[object, tuple[float, Callable[[], object]]] = {}
        self._ends: list[Callable[[], object]] = []
        self.looked_at = 0.0  # when it last asked what has come at the sockets (`time.monotonic`)

    def soon(self, do: Callable[[], object]) -> None:
        """Has this done in the next turn, or in this one."""
        self._news.append(do)
        if self._sleeps:
            self._sleeps = False  # one ring is enough
            self._bell.send(b"!")

    def watch(self, fd: int, events: int, happened: Callable[[int], object]) -> None:
        """Tells `happened` of these events (`selectors.EVENT_…`) at this file from now on."""
        self.forget(fd)  # if one with the same number was closed meanwhile, the system has forgotten it already
        self._watched.add(fd)
        self._selector.register(fd, events, happened)

    def forget(self, fd: int) -> None:
        """Ends `watch`, if there was one."""
        if fd in self._watched:
            self._watched.remove(fd)
            self._selector.unregister(fd)

    def at(self, whose: object, when: float, do: Callable[[], object]) -> None:
        """Has this done at that time (`time.monotonic`), instead of what was to be done at `whose` time before."""
        self._due[whose] = (when, do)

    def never(self, whose: object) -> None:
        """Ends `at`, if there was one."""
        self._due.pop(whose, None)

    def turn(self, *, wait: bool) -> None:
        """Does all that has come; waits for something where nothing has, if it may."""
        come = self._selector.select(self._sleep_s() if wait else 0)
        self._sleeps = False
        self.looked_at = time.monotonic()
        for key, events in come:
            key.data(events)
        self._do_due()
        while self._news:
            while self._news:
                self._news.popleft()()
            self._do_due()

    def at_end(self, do: Callable[[], object]) -> None:
        """Has this done by `close`."""
        self._ends.append(do)

    def close(self) -> None:
        """Ends it, once nobody turns it any more. What was put in too late is done still: somebody may wait for it."""
        for do in self._ends:
            do()
        while self._news:
            self._news.popleft()()
        for it in (self._selector, self._bell, self._ear):
            it.close()

    def _sleep_s(self) -> float | None:
        self._sleeps = True
        if self._news:  # put in before it was known that somebody sleeps
            return 0
        return max(0.0, min(when for when, _ in self._due.values()) - time.monotonic()) if self._due else None

    def _do_due(self) -> None:
        now = time.monotonic() if self._due else 0.0
        for whose in [whose for whose, (when, _) in self._due.items() if when <= now]:
            if (due := self._due.get(whose)) and due[0] <= now:  # none before it has changed that
                del self._due[whose]
                due[1]()
