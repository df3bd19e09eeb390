"""HTTP exchanges over libcurl: a fraction of the CPU that `requests` costs.

Importing this fails with ImportError where there is no pycurl that can do it (the extra `curl`).
"""

import asyncio
import ctypes
import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import pycurl

from postroom.runtime.fibers import Hub, await_callback, current_hub
from postroom.runtime.result import Callback, Result
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
    """`Http` over libcurl. Fibers' exchanges are made side by side in their thread, all others in one other thread."""

    name = f"curl ({pycurl.version.split()[1]})"

    def __init__(self, given_ca_bundle: str | None = None, *, idle_s: float = IDLE_S) -> None:
        """`given_ca_bundle`: a file or folder of CA certificates (PEM), before what the environment names."""
        self._given_ca_bundle = given_ca_bundle
        self._idle_s = idle_s
        self._proxies: dict[str, str] = {}
        # By process: a forked child has no such thread, and must not speak on its parent's connections.
        self._exchanges: dict[Hub | int, _Exchanges] = {}
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
            exchanges = self._exchanges_here()
        except (OSError, RuntimeError) as error:  # no bundle, or no thread
            raise NotSent(f"{host_of(url)}: {error}") from None
        response: Response = await_callback(partial(exchanges.submit, request))
        return response

    def _proxy(self, url: str) -> str:
        root = origin(url)
        if root not in self._proxies:
            self._proxies[root] = proxy_for(url) or ""
        return self._proxies[root]

    def _exchanges_here(self) -> "_Exchanges":
        hub = current_hub()
        place = hub or os.getpid()
        if place not in self._exchanges or self._exchanges[place].is_closed:
            with self._starting:
                if place not in self._exchanges or self._exchanges[place].is_closed:
                    self._exchanges[place] = started = _Exchanges(ca_bundle(self._given_ca_bundle), self._idle_s, hub)
                    weakref.finalize(self, started.close).atexit = False
        return self._exchanges[place]


class _Exchanges:
    """libcurl's exchanges in one thread, and the connections that it keeps: in that of `hub`, or one of its own.

    libcurl connects nowhere by itself: where it wants a connection an exchange is stopped, and begun again with one.
    """

    def __init__(self, bundle: Path, idle_s: float, hub: Hub | None) -> None:
        self._bundle, self._idle_s, self._hub = bundle, idle_s, hub
        self._loop = hub.loop if hub else asyncio.new_event_loop()
        self._schedule = hub.call_soon if hub else self._loop.call_soon_threadsafe
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        # By default it closes those that are more than four times what it does at the moment.
        self._multi.setopt(pycurl.M_MAXCONNECTS, MOST_KEPT)
        self._spare: list[Handle] = []
        self._busy: dict[pycurl.Curl, Handle] = {}
        self._running = 0  # those that libcurl has
        self._timer: asyncio.Handle | None = None
        self._sockets = Sockets(self._forget)
        self._watched: dict[int, int] = {}  # for what (pycurl.POLL_…), by socket
        self._idle: set[int] = set()  # of these, those of which libcurl wants to hear nothing now
        self.is_closed = False
        self._closing = threading.Lock()
        with _fork_lock:
            _living.add(self)
        if hub:
            hub.on_close(self._shut)
        else:
            self._start()

    def submit(self, request: Request, callback: Callback[Response]) -> None:
        """Begins an exchange, whose result is given to `callback` in the thread of the exchanges. From any thread."""
        if not self._call_soon(self._begin, request, callback):
            callback(Result(error=NotSent(f"{host_of(request.url)}: {_CLOSING}")))

    def close(self) -> None:
        """Ends all exchanges. From any thread."""
        self._call_soon(self._close)

    def _call_soon(self, call: Callable[..., None], *arguments: object) -> bool:
        """Whether it will be called: not once all is closed."""
        with self._closing:
            if self.is_closed:
                return False
            self._schedule(call, *arguments)
            return True

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="postroom-curl", daemon=True).start()
        except RuntimeError:  # no more threads
            self._loop.close()
            raise

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._shut()
            self._loop.close()

    def _close(self) -> None:
        with self._closing:
            self.is_closed = True
        for handle in list(self._busy.values()):
            self._take_back(handle)
            self._end(handle, pycurl.E_ABORTED_BY_CALLBACK)
        if not self._hub:
            self._loop.call_soon(self._loop.stop)  # behind all that was put in before `is_closed`

    def _shut(self) -> None:
        self._close()
        self._multi.close()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """An idle socket is watched until something happens on it: to end that and begin it again costs more."""
        if event == pycurl.POLL_REMOVE:
            self._idle.add(fd)
            return
        self._idle.discard(fd)
        if self._watched.get(fd) != event:
            self._forget(fd)
            self._watched[fd] = event
            if event & pycurl.POLL_IN:
                self._loop.add_reader(fd, self._happened, fd, pycurl.CSELECT_IN)
            if event & pycurl.POLL_OUT:
                self._loop.add_writer(fd, self._happened, fd, pycurl.CSELECT_OUT)

    def _happened(self, fd: int, what: int) -> None:
        if fd in self._idle:
            self._forget(fd)
        else:
            self._act(fd, what)

    def _forget(self, fd: int) -> None:
        """Stops watching a socket that is idle, or was closed and whose number another one has now."""
        self._idle.discard(fd)
        if self._watched.pop(fd, None):
            for remove in (self._loop.remove_reader, self._loop.remove_writer):
                with suppress(OSError):  # it was closed: the system has forgotten it already
                    remove(fd)

    def _set_timer(self, wait_ms: int) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None if wait_ms < 0 else self._loop.call_later(wait_ms / 1000, self._time_has_come)

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

    def _end_late(self, handle: Handle) -> None:
        """Ends an exchange whose deadline has passed.

        The loop reads what has come at the sockets before it looks at the time, so an answer that came in time counts.
        """
        if handle.is_given:
            self._take_back(handle)
            self._end(handle, pycurl.E_OPERATION_TIMEDOUT)

    def _take_back(self, handle: Handle) -> None:
        """From libcurl, if it has that."""
        if handle.is_given:
            self._is_over(handle)
            self._running -= 1

    def _is_over(self, handle: Handle) -> None:
        handle.is_given = False
        handle.timer.cancel()
        self._multi.remove_handle(handle.curl)

    def _begin(self, request: Request, callback: Callback[Response]) -> None:
        if self.is_closed:
            callback(Result(error=NotSent(f"{host_of(request.url)}: {_CLOSING}")))
            return
        handle = self._spare.pop() if self._spare else Handle(self._bundle, self._idle_s, self._sockets)
        self._busy[handle.curl] = handle
        try:
            handle.begin(request, callback)
        except Exception as error:  # noqa: BLE001 - whatever libcurl does not take of it concerns no other exchange
            handle.veto = error
            self._end(handle, 0)
        else:
            self._try(handle, None)

    def _try(self, handle: Handle, connected: Result[socket.socket] | None) -> None:
        """With a connection that is kept, or with this one."""
        if handle.curl not in self._busy:  # closed meanwhile
            if connected and connected.value:
                connected.value.close()
            return
        try:
            handle.ready(connected and connected.get())
        except OSError as error:
            handle.fault = error
            self._end(handle, 0)
        else:
            self._multi.add_handle(handle.curl)
            self._running += 1
            handle.is_given = True
            handle.timer = self._loop.call_at(handle.request.deadline.at, self._end_late, handle)

    def _look_at(self, handle: Handle, code: int) -> None:
        """libcurl has ended this try."""
        self._is_over(handle)
        if handle.wants_connection:
            self._connect(handle)
        else:
            self._end(handle, code)

    def _connect(self, handle: Handle) -> None:
        peer, left = handle.request.peer, handle.request.deadline.left

        def connect_and_go_on() -> None:
            sock = Result.of(lambda: connect(host_of(peer), port_of(peer), left, socket.socket))
            if not self._call_soon(self._try, handle, sock) and sock.value:
                sock.value.close()

        try:
            threading.Thread(target=connect_and_go_on, name="postroom-connect", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._try(handle, Result(error=OSError(str(error))))

    def _end(self, handle: Handle, code: int) -> None:
        del self._busy[handle.curl]
        callback, result = handle.callback, handle.result(code)
        handle.clear()
        self._spare.append(handle)
        callback(result)


# A child that is forked has a copy of the line. It must never be closed there, which would tell
# the servers that their connections, which are still the parent's, are over.
_living: weakref.WeakSet[_Exchanges] = weakref.WeakSet()
_inherited: list[_Exchanges] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    _inherited.extend(_living)  # else those of other threads end with these threads, right after the fork


def _after_fork_in_parent() -> None:
    _inherited.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for exchanges in _inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(exchanges))  # not even at the interpreter's end
    _living.clear()
    _inherited.clear()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
