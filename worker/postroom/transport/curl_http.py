"""HTTP exchanges over libcurl: a fraction of the CPU that `requests` costs.

Importing this fails with ImportError where there is no pycurl that can do it (the extra `curl`).
"""

import ctypes
import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from pathlib import Path

import pycurl

from postroom.runtime.fibers import Answer, Tell, loop_here, told
from postroom.runtime.loop import Loop
from postroom.transport.connect import connect
from postroom.transport.curl_exchange import Handle, Request, Sockets
from postroom.transport.http import (
    IDLE_S,
    Deadline,
    NotSent,
    Response,
    ca_bundle,
    header_lines,
    host_of,
    origin,
    port_of,
    proxy_for,
    sendable,
)

# 8.4 bounds all headers together, and PREREQFUNCTION is older than that.
if pycurl.version_info()[2] < 0x080400 or not hasattr(pycurl, "PREREQFUNCTION"):
    raise ImportError(f"libcurl 8.4 or later and pycurl 7.45.3 or later are needed; this is {pycurl.version}")

MOST_KEPT = 1000  # connections
_CLOSING = "the connections are being closed"


class CurlHttp:
    """`Http` over libcurl. The exchanges of all hands are made in their thread, side by side; all others in another."""

    name = f"curl ({pycurl.version.split()[1]})"

    def __init__(self, given_ca_bundle: str | None = None, *, idle_s: float = IDLE_S) -> None:
        """`given_ca_bundle`: a file or folder of CA certificates (PEM), before what the environment names."""
        self._given_ca_bundle = given_ca_bundle
        self._idle_s = idle_s
        self._proxies: dict[str, str] = {}
        # By process: a forked child has no such thread, and must not speak on its parent's connections.
        self._lines: dict[Loop | int, _Line] = {}
        self._starting = threading.Lock()

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_s: float,
        before_write: Callable[[], None] | None = None,
    ) -> Response:
        """See `Http`. `before_write` holds up all other exchanges."""
        deadline = Deadline(deadline_s)
        lines = header_lines(method, url, headers)
        url = sendable(url)
        request = Request(method, url, self._proxy(url), lines, body, deadline, before_write)
        try:
            line = self._line()
        except (OSError, RuntimeError) as fault:  # no bundle, or no thread
            raise NotSent(f"{host_of(url)}: {fault}") from None
        answer: Response = told(partial(line.put, request))
        return answer

    def _proxy(self, url: str) -> str:
        root = origin(url)
        if root not in self._proxies:
            self._proxies[root] = proxy_for(url) or ""
        return self._proxies[root]

    def _line(self) -> "_Line":
        loop = loop_here()
        place = loop or os.getpid()
        if place not in self._lines or self._lines[place].is_closed:
            with self._starting:
                if place not in self._lines or self._lines[place].is_closed:
                    self._lines[place] = line = _Line(ca_bundle(self._given_ca_bundle), self._idle_s, loop)
                    weakref.finalize(self, line.close).atexit = False
        return self._lines[place]


class _Line:
    """libcurl's exchanges in one thread, and the connections that it keeps: in that of `loop`, or one of its own.

    libcurl connects nowhere by itself: where it wants a connection an exchange is stopped, and begun again with one.
    """

    def __init__(self, bundle: Path, idle_s: float, loop: Loop | None) -> None:
        self._bundle, self._idle_s = bundle, idle_s
        self._loop = loop or Loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        # By default it closes those that are more than four times what it does at the moment.
        self._multi.setopt(pycurl.M_MAXCONNECTS, MOST_KEPT)
        self._spare: list[Handle] = []
        self._busy: dict[pycurl.Curl, Handle] = {}
        self._running = 0  # those that libcurl has
        self._next_end = inf  # when the first deadline of those may pass
        self._sockets = Sockets(self._forget)
        self._busy_key = object()  # whose time `_end_late` is, in the loop
        self._watched: dict[int, int] = {}  # for what, by socket
        self._idle: set[int] = set()  # of these, those of which libcurl wants to hear nothing now
        self.is_closed = False
        self._closing = threading.Lock()
        with _fork_lock:
            _living.add(self)
        self._loop.at_end(self._shut)
        if loop is None:
            self._start()

    def put(self, request: Request, tell: Tell[Response]) -> None:
        """Begins an exchange, of which `tell` is told. From any thread."""
        if not self._soon(lambda: self._begin(request, tell)):
            tell(Answer(fault=NotSent(f"{host_of(request.url)}: {_CLOSING}")))

    def close(self) -> None:
        """Ends all that it does. From any thread."""
        self._soon(self._close)

    def _soon(self, do: Callable[[], None]) -> bool:
        with self._closing:
            if not self.is_closed:
                self._loop.soon(do)
            return not self.is_closed

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="postroom-curl", daemon=True).start()
        except RuntimeError:  # no more threads
            self._loop.close()
            raise

    def _work(self) -> None:
        try:
            while not self.is_closed:
                self._loop.turn(wait=True)
        finally:
            self._loop.close()

    def _close(self) -> None:
        with self._closing:
            self.is_closed = True
        for handle in list(self._busy.values()):
            self._take_back(handle)
            self._end(handle, pycurl.E_ABORTED_BY_CALLBACK)

    def _shut(self) -> None:
        self._close()
        self._multi.close()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """A socket is watched until something happens while it is idle: to begin and end that each time costs more."""
        if event == pycurl.POLL_REMOVE:
            self._idle.add(fd)
            return
        self._idle.discard(fd)
        if self._watched.get(fd) != event:
            self._watched[fd] = event
            self._loop.watch(fd, _FROM_CURL[event], partial(self._happened, fd))

    def _happened(self, fd: int, events: int) -> None:
        if fd in self._idle:
            self._forget(fd)
        else:
            self._act(fd, _TO_CURL[events])

    def _forget(self, fd: int) -> None:
        """It is over, or another one has its number."""
        self._idle.discard(fd)
        if self._watched.pop(fd, None):
            self._loop.forget(fd)

    def _set_timer(self, wait_ms: int) -> None:
        if wait_ms < 0:
            self._loop.never(self)
        else:
            self._loop.at(self, time.monotonic() + wait_ms / 1000, self._time_has_come)

    def _time_has_come(self) -> None:
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, fd: int, events: int) -> None:
        _, running = self._multi.socket_action(fd, events)
        more = self._running - running
        self._running = running
        while more:
            more, fine, failed = self._multi.info_read()
            for curl in fine:
                self._look_at(self._busy[curl], 0)
            for curl, code, _ in failed:
                self._look_at(self._busy[curl], code)

    def _end_late(self) -> None:
        """Ends those whose time was over when the sockets were last looked at: what came in time is read by now."""
        given = [handle for handle in self._busy.values() if handle.is_given]
        for handle in given:
            if handle.request.deadline.at <= self._loop.looked_at:
                self._take_back(handle)
                self._end(handle, pycurl.E_OPERATION_TIMEDOUT)
        self._next_end = inf
        for handle in given:
            if handle.is_given:
                self._expect_end(handle.request.deadline.at)

    def _expect_end(self, at: float) -> None:
        if at < self._next_end:
            self._next_end = at
            self._loop.at(self._busy_key, at, self._end_late)

    def _take_back(self, handle: Handle) -> None:
        """From libcurl, if it has that."""
        if handle.is_given:
            handle.is_given = False
            self._multi.remove_handle(handle.curl)
            self._running -= 1

    def _begin(self, request: Request, tell: Tell[Response]) -> None:
        if self.is_closed:
            tell(Answer(fault=NotSent(f"{host_of(request.url)}: {_CLOSING}")))
            return
        handle = self._spare.pop() if self._spare else Handle(self._bundle, self._idle_s, self._sockets)
        self._busy[handle.curl] = handle
        try:
            handle.begin(request, tell)
        except Exception as fault:  # noqa: BLE001 - whatever libcurl does not take of it concerns no other exchange
            handle.veto = fault
            self._end(handle, 0)
        else:
            self._try(handle, None)

    def _try(self, handle: Handle, connected: Answer[socket.socket] | None) -> None:
        """With a connection that is kept, or with this one."""
        if handle.curl not in self._busy:  # closed meanwhile
            if connected and connected.said:
                connected.said.close()
            return
        try:
            handle.ready(connected and connected.get())
        except OSError as fault:
            handle.fault = fault
            self._end(handle, 0)
        else:
            self._multi.add_handle(handle.curl)
            self._running += 1
            handle.is_given = True
            self._expect_end(handle.request.deadline.at)

    def _look_at(self, handle: Handle, code: int) -> None:
        """libcurl has ended this try."""
        handle.is_given = False
        self._multi.remove_handle(handle.curl)
        if handle.wants_connection:
            self._connect(handle)
        else:
            self._end(handle, code)

    def _connect(self, handle: Handle) -> None:
        peer, left = handle.request.peer, handle.request.deadline.left

        def connect_and_go_on() -> None:
            sock = Answer.of(lambda: connect(host_of(peer), port_of(peer), left, socket.socket))
            if not self._soon(lambda: self._try(handle, sock)) and not sock.fault:
                sock.get().close()

        try:
            threading.Thread(target=connect_and_go_on, name="postroom-connect", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._try(handle, Answer(fault=OSError(str(error))))

    def _end(self, handle: Handle, code: int) -> None:
        del self._busy[handle.curl]
        tell, answer = handle.tell, handle.answer(code)
        handle.clear()
        self._spare.append(handle)
        tell(answer)


_FROM_CURL = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}
_TO_CURL = {
    selectors.EVENT_READ: pycurl.CSELECT_IN,
    selectors.EVENT_WRITE: pycurl.CSELECT_OUT,
    selectors.EVENT_READ | selectors.EVENT_WRITE: pycurl.CSELECT_IN | pycurl.CSELECT_OUT,
}


# A child that is forked has a copy of the line. It must never be closed there, which would tell
# the servers that their connections, which are still the parent's, are over.
_living: weakref.WeakSet[_Line] = weakref.WeakSet()
_inherited: list[_Line] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    _inherited.extend(_living)  # else those of other threads end with these threads, right after the fork


def _after_fork_in_parent() -> None:
    _inherited.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for handle in _inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))  # not even at the interpreter's end
    _living.clear()
    _inherited.clear()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
