"""Exchanges side by side in one thread: libcurl's multi interface on an asyncio event loop.

How the two work together: https://curl.se/libcurl/c/libcurl-multi.html, "multi_socket".
"""

import asyncio
import ctypes
import os
import socket
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pycurl

from postroom.runtime.fibers import Hub
from postroom.runtime.result import Callback, Result
from postroom.transport.connect import connect
from postroom.transport.curl_exchange import Handle, Request
from postroom.transport.curl_sockets import Sockets
from postroom.transport.http import NotSent, Response, host_of, port_of, unreachable_proxy

MOST_KEPT = 1000  # connections
_CLOSING = "the connections are being closed"


class CurlMulti:
    """A libcurl multi handle: exchanges that are made side by side in one thread, over connections that are kept.

    The thread is the hub's, or one of its own where there is no hub. `bundle` is the file or folder of CA certificates.
    A connection that was idle for `idle_s` seconds is not used again. Raises RuntimeError where no thread can start.

    libcurl does not connect by itself: where it wants a new connection the try is ended, another thread connects, and
    a further try begins with that socket.
    """

    def __init__(self, bundle: Path, idle_s: float, hub: Hub | None) -> None:
        self._bundle, self._idle_s, self._hub = bundle, idle_s, hub
        self._loop = hub.loop if hub else asyncio.new_event_loop()
        self._schedule = hub.call_soon if hub else self._loop.call_soon_threadsafe
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        # By default libcurl closes connections that are more than four times its exchanges of the moment.
        self._multi.setopt(pycurl.M_MAXCONNECTS, MOST_KEPT)
        self._spare: list[Handle] = []
        self._busy: dict[pycurl.Curl, Handle] = {}
        self._running = 0  # handles that libcurl has
        self._timer: asyncio.Handle | None = None  # when libcurl wants to be called next
        self._sockets = Sockets(self._stop_watching)
        self._watched: dict[int, int] = {}  # for what (pycurl.POLL_…), by the socket's number
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
        """Begins an exchange. Its result, a Response, NotSent or Lost, is given to `callback` in the exchanges' thread.

        From any thread.
        """
        if not self._call_soon(self._begin, request, callback):
            callback(Result(error=NotSent(f"{host_of(request.url)}: {_CLOSING}")))

    def close(self) -> None:
        """Ends all exchanges, and takes no more. From any thread."""
        self._call_soon(self._close)

    def _call_soon(self, call: Callable[..., None], *arguments: object) -> bool:
        """Whether it will be called: not after `close`."""
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
        self._loop.set_exception_handler(self._end_after_error)
        try:
            self._loop.run_forever()
        finally:
            self._shut()
            self._loop.close()

    def _end_after_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Ends all exchanges after a fault of ours, so that nobody waits for ever. The next ones have a new handle.

        asyncio's own handler would log the arguments of the callback, and so a token.
        """
        traceback.print_exception(context.get("exception") or RuntimeError(context["message"]))
        self._close()

    def _close(self) -> None:
        with self._closing:
            self.is_closed = True
        for handle in list(self._busy.values()):
            self._take_back(handle)
            self._end(handle, pycurl.E_ABORTED_BY_CALLBACK)
        if not self._hub:
            self._loop.call_soon(self._loop.stop)  # after all that was scheduled before `is_closed` was set

    def _shut(self) -> None:
        self._close()
        self._multi.close()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """libcurl's SOCKETFUNCTION: what it wants to hear of this socket from now on.

        An idle connection's socket is watched until something happens there. To stop watching it after each exchange,
        and to start again with the next, takes a tenth of a worker's CPU (answers after 250 ms).
        """
        if event == pycurl.POLL_REMOVE:
            self._idle.add(fd)
            return
        self._idle.discard(fd)
        if self._watched.get(fd) == event:
            return
        self._stop_watching(fd)
        self._watched[fd] = event
        if event & pycurl.POLL_IN:
            self._loop.add_reader(fd, self._act_at_socket, fd, pycurl.CSELECT_IN)
        if event & pycurl.POLL_OUT:
            self._loop.add_writer(fd, self._act_at_socket, fd, pycurl.CSELECT_OUT)

    def _stop_watching(self, fd: int) -> None:
        """Stops watching a socket that libcurl has closed or does not use, before its number is used again."""
        self._idle.discard(fd)
        if self._watched.pop(fd, None):
            for remove in (self._loop.remove_reader, self._loop.remove_writer):
                with suppress(OSError):  # it was closed, so the system does not watch it any more
                    remove(fd)

    def _act_at_socket(self, fd: int, events: int) -> None:
        if fd in self._idle:
            self._stop_watching(fd)
        else:
            self._act(fd, events)

    def _set_timer(self, wait_ms: int) -> None:
        """libcurl's TIMERFUNCTION: it wants to be called after so long, or not at all where this is negative."""
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if wait_ms >= 0:
            self._timer = self._loop.call_later(wait_ms / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, fd: int, events: int) -> None:
        """Has libcurl go on, and ends the tries that it has finished."""
        _, running = self._multi.socket_action(fd, events)
        more = self._running - running
        self._running = running
        while more:
            more, finished, failed = self._multi.info_read()
            for curl in finished:
                self._end_try(self._busy[curl], 0)
            for curl, code, _ in failed:
                self._end_try(self._busy[curl], code)

    def _end_at_deadline(self, handle: Handle) -> None:
        """The loop calls for what it has seen at sockets before it calls this: an answer that came in time counts."""
        self._take_back(handle)
        self._end(handle, pycurl.E_OPERATION_TIMEDOUT)

    def _take_back(self, handle: Handle) -> None:
        """Ends a try, if one is running."""
        if handle.is_running:
            self._remove(handle)
            self._running -= 1

    def _remove(self, handle: Handle) -> None:
        handle.is_running = False
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
        except Exception as error:  # noqa: BLE001 - libcurl refuses this request; other exchanges go on
            handle.veto = error
            self._end(handle, 0)
        else:
            self._try(handle, None)

    def _try(self, handle: Handle, connected: Result[socket.socket] | None) -> None:
        """Begins a try on a connection that is kept, or on this one."""
        if handle.curl not in self._busy:  # `close` has ended the exchange meanwhile
            if connected and connected.value:
                connected.value.close()
            return
        try:
            handle.prepare_try(connected and connected.get())
        except OSError as error:
            handle.fault = error
            self._end(handle, 0)
        else:
            self._multi.add_handle(handle.curl)
            self._running += 1
            handle.is_running = True
            handle.timer = self._loop.call_at(handle.request.deadline.at, self._end_at_deadline, handle)

    def _end_try(self, handle: Handle, code: int) -> None:
        """libcurl has finished this try, with this code."""
        self._remove(handle)
        if handle.wants_connection:
            self._connect(handle)
        else:
            self._end(handle, code)

    def _connect(self, handle: Handle) -> None:
        request = handle.request

        def connected() -> socket.socket:
            try:
                return connect(host_of(request.peer), port_of(request.peer), request.deadline.left, socket.socket)
            except OSError as fault:
                raise (unreachable_proxy(fault) if request.proxy else fault) from None

        def connect_and_go_on() -> None:
            sock = Result.of(connected)
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


# A forked child has a copy of each multi handle. It must never be closed there: that would tell the servers that the
# connections, which are still the parent's, have ended.
_living: weakref.WeakSet[CurlMulti] = weakref.WeakSet()
_inherited: list[CurlMulti] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    _inherited.extend(_living)  # else those that only other threads hold end with these threads, in the child


def _after_fork_in_parent() -> None:
    _inherited.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for multi in _inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(multi))  # so it is not freed even when the interpreter ends
    _living.clear()
    _inherited.clear()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
