"""HTTP exchanges over libcurl: a fraction of the CPU that `requests` costs, and without the interpreter's lock.

Importing this fails with ImportError where there is no pycurl that can do it (the extra `curl`).
"""

import ctypes
import os
import re
import select
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import pycurl
from urllib3 import HTTPHeaderDict

from postroom.http import (
    IDLE_S,
    MAX_ANSWER,
    Deadline,
    Lost,
    NotSent,
    Response,
    ca_bundle,
    header_lines,
    host_of,
    origin,
    port_of,
    proxy_for,
    reason,
    sendable,
)
from postroom.http_connect import connect
from postroom.together import Answer, Tell, told

# 8.4 bounds all headers together, and PREREQFUNCTION is older than that.
if pycurl.version_info()[2] < 0x080400 or not hasattr(pycurl, "PREREQFUNCTION"):
    raise ImportError(f"libcurl 8.4 or later and pycurl 7.45.3 or later are needed; this is {pycurl.version}")

# What libcurl's own message says may quote the server; these are ours.
_WORDS = {
    pycurl.E_OPERATION_TIMEDOUT: "timed out",
    pycurl.E_URL_MALFORMAT: "this is no URL",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
    pycurl.E_GOT_NOTHING: "the connection was closed without an answer",
    pycurl.E_PARTIAL_FILE: "the answer broke off",
    pycurl.E_RECV_ERROR: "the answer broke off",
    pycurl.E_SEND_ERROR: "the request could not be written to its end",
    pycurl.E_UNSUPPORTED_PROTOCOL: "the answer is not HTTP",
    pycurl.E_BAD_CONTENT_ENCODING: "the answer is not encoded as it says",
}
MOST_KEPT = 1000  # connections
# OpenSSL's words for a certificate, in libcurl's message: they are constants.
_VERIFY = re.compile(r"verify result: ([a-z ,-]+)", re.IGNORECASE)


class CurlHttp:
    """`Http` over libcurl. One thread of a process makes all its exchanges, side by side."""

    name = f"curl ({pycurl.version.split()[1]})"

    def __init__(self, given_ca_bundle: str | None = None, *, idle_s: float = IDLE_S) -> None:
        """`given_ca_bundle`: a file or folder of CA certificates (PEM), before what the environment names."""
        self._given_ca_bundle = given_ca_bundle
        self._idle_s = idle_s
        self._proxies: dict[str, str] = {}
        # By process: a forked child has no such thread, and must not speak on its parent's connections.
        self._lines: dict[int, _Line] = {}
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
        request = _Request(method, url, self._proxy(url), lines, body, deadline, before_write)
        try:
            line = self._line()
        except (OSError, RuntimeError) as fault:  # no bundle, or no thread
            raise NotSent(f"{host_of(url)}: {fault}") from None

        def put(tell: Tell[Response]) -> None:
            line.put(request, tell)

        return told(put)

    def _proxy(self, url: str) -> str:
        root = origin(url)
        if root not in self._proxies:
            self._proxies[root] = proxy_for(url) or ""
        return self._proxies[root]

    def _line(self) -> "_Line":
        pid = os.getpid()
        if pid not in self._lines or self._lines[pid].is_closed:
            with self._starting:
                if pid not in self._lines or self._lines[pid].is_closed:
                    self._lines[pid] = line = _Line(ca_bundle(self._given_ca_bundle), self._idle_s)
                    weakref.finalize(self, line.close).atexit = False
        return self._lines[pid]


class _Request(NamedTuple):
    """What is to be exchanged, checked."""

    method: str
    url: str
    proxy: str  # its URL, if there is one
    lines: list[str]
    body: bytes | None
    deadline: Deadline
    before_write: Callable[[], None] | None

    @property
    def peer(self) -> str:
        """The URL of what is connected to."""
        return self.proxy or self.url


class _Line:
    """The thread in which libcurl makes exchanges, and the connections that it keeps.

    libcurl connects nowhere by itself: where it wants a connection an exchange is stopped, and begun again with one.
    """

    def __init__(self, bundle: Path, idle_s: float) -> None:
        self._bundle, self._idle_s = bundle, idle_s
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._bell, self._ear = socket.socketpair()
        self._rung = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        # By default it closes those that are more than four times what it does at the moment.
        self._multi.setopt(pycurl.M_MAXCONNECTS, MOST_KEPT)
        self._timer: float | None = None
        self._spare: list[_Handle] = []
        self._busy: dict[pycurl.Curl, _Handle] = {}
        self._sockets = _Sockets()
        self.is_closed = False
        self._closing = threading.Lock()
        with _fork_lock:
            _living.add(self)
        try:
            threading.Thread(target=self._work, name="postroom-curl", daemon=True).start()
        except RuntimeError:  # no more threads
            self._shut()
            raise

    def put(self, request: _Request, tell: Tell[Response]) -> None:
        """Begins an exchange, of which `tell` is told. From any thread."""
        if not self._soon(lambda: self._begin(request, tell)):
            tell(Answer(fault=NotSent(f"{host_of(request.url)}: the connections are being closed")))

    def close(self) -> None:
        """Ends the thread and all that it does. From any thread."""
        self._soon(self._close)

    def _soon(self, do: Callable[[], None]) -> bool:
        with self._closing:
            if self.is_closed:
                return False
            self._news.put(do)
            if not self._rung:
                self._rung = True
                self._bell.send(b"!")
            return True

    def _close(self) -> None:
        with self._closing:
            self.is_closed = True

    def _work(self) -> None:
        try:
            while not self.is_closed:
                self._turn()
        finally:
            self._close()
            self._hear()
            for handle in list(self._busy.values()):
                with suppress(pycurl.error):  # one that waits for its connection
                    self._multi.remove_handle(handle.curl)
                self._end(handle, pycurl.E_ABORTED_BY_CALLBACK)
            self._shut()

    def _shut(self) -> None:
        self._multi.close()
        for it in (self._selector, self._bell, self._ear):
            it.close()

    def _turn(self) -> None:
        wait_s = None if self._timer is None else max(0.0, self._timer - time.monotonic())
        for key, events in self._selector.select(wait_s):
            if key.fileobj is self._ear:
                self._ear.recv(1)
                self._rung = False
                self._hear()
            else:
                self._multi.socket_action(key.fd, _TO_CURL[events])
        if self._timer is not None and self._timer <= time.monotonic():
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        more = 1
        while more:
            more, fine, failed = self._multi.info_read()
            for curl in fine:
                self._look_at(self._busy[curl], 0)
            for curl, code, _ in failed:
                self._look_at(self._busy[curl], code)

    def _hear(self) -> None:
        with suppress(Empty):
            while True:
                self._news.get_nowait()()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        if event == pycurl.POLL_REMOVE:
            with suppress(KeyError):
                self._selector.unregister(fd)
        elif fd in self._selector.get_map():
            self._selector.modify(fd, _FROM_CURL[event])
        else:
            self._selector.register(fd, _FROM_CURL[event])

    def _set_timer(self, wait_ms: int) -> None:
        self._timer = None if wait_ms < 0 else time.monotonic() + wait_ms / 1000

    def _begin(self, request: _Request, tell: Tell[Response]) -> None:
        handle = self._spare.pop() if self._spare else _Handle(self._bundle, self._idle_s, self._sockets)
        self._busy[handle.curl] = handle
        try:
            handle.begin(request, tell)
        except Exception as fault:  # noqa: BLE001 - whatever libcurl does not take of it concerns no other exchange
            handle.veto = fault
            self._end(handle, 0)
        else:
            self._try(handle, None)

    def _try(self, handle: "_Handle", connected: Answer[socket.socket] | None) -> None:
        """With a connection that is kept, or with this one."""
        try:
            handle.ready(connected and connected.get())
        except OSError as fault:
            handle.fault = fault
            self._end(handle, 0)
        else:
            self._multi.add_handle(handle.curl)

    def _look_at(self, handle: "_Handle", code: int) -> None:
        """libcurl has ended this try."""
        self._multi.remove_handle(handle.curl)
        if handle.wants_connection:
            self._connect(handle)
        else:
            self._end(handle, code)

    def _connect(self, handle: "_Handle") -> None:
        peer, left = handle.request.peer, handle.request.deadline.left

        def connect_and_go_on() -> None:
            sock = Answer.of(lambda: connect(host_of(peer), port_of(peer), left, socket.socket))
            if not self._soon(lambda: self._try(handle, sock)) and not sock.fault:
                sock.get().close()

        try:
            threading.Thread(target=connect_and_go_on, name="postroom-connect", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._try(handle, Answer(fault=OSError(str(error))))

    def _end(self, handle: "_Handle", code: int) -> None:
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


class _Sockets:
    """Which socket is at which place: local address, port of the other side, own port."""

    def __init__(self) -> None:
        self._fds: dict[tuple[object, ...], int] = {}
        self._places: dict[int, tuple[object, ...]] = {}

    def note(self, sock: socket.socket, fd: int) -> None:
        """libcurl has `sock` as `fd`."""
        (address, port, *_), (_, port_there, *_) = sock.getsockname(), sock.getpeername()
        if fd in self._places and self._fds.get(self._places[fd]) == fd:  # of one that libcurl has closed since
            del self._fds[self._places[fd]]
        self._places[fd] = place = (address, port_there, port)
        self._fds[place] = fd

    def is_over(self, place: tuple[object, ...]) -> bool:
        """Whether the other side has ended the connection there, which said nothing since its last answer.

        libcurl looks for that too, but not again within a second.
        """
        if place not in self._fds:
            return True
        poll = select.poll()
        poll.register(self._fds[place], select.POLLIN)
        return bool(poll.poll(0))


class _Handle:
    """A libcurl handle, and an exchange as its callbacks see it. It makes one after the other."""

    request: _Request
    tell: Tell[Response]

    def __init__(self, bundle: Path, idle_s: float, sockets: _Sockets) -> None:
        self._bundle, self._sockets = bundle, sockets
        self._proxy = ""
        self._ports: set[int] = set()
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._socket: socket.socket | None = None
        self.curl = curl = pycurl.Curl()
        for option, value in _constant(bundle, idle_s):
            curl.setopt(option, value)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._connect)
        curl.setopt(pycurl.SOCKOPTFUNCTION, self._connected)
        curl.setopt(pycurl.PREREQFUNCTION, self._last_check)
        curl.setopt(pycurl.HEADERFUNCTION, self._head.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._read)

    def begin(self, request: _Request, tell: Tell[Response]) -> None:
        """Sets what is the same for each try."""
        self.request, self.tell = request, tell
        self._written = False
        self._size = 0
        self.veto: BaseException | None = None
        self.fault: OSError | None = None
        self._route()
        self.curl.setopt(pycurl.URL, request.url)
        self._set_request(request.method, request.lines, request.body)

    def ready(self, connected: socket.socket | None) -> None:
        """For a try with a connection that is kept, or with this one. TimeoutError where no time is left."""
        self._socket, self._is_new = connected, connected is not None
        self.wants_connection = False
        self._head.clear()
        self._body.clear()
        self.curl.setopt(pycurl.FRESH_CONNECT, int(self._is_new))
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, int(self.request.deadline.left() * 1000)))

    def _connect(self, _purpose: int, _address: object) -> socket.socket | int:
        """A connected socket. The address is a placeholder, see `_route`.

        Once the request was written there is none: libcurl would write it again where a kept connection has died.
        """
        if self._written or self._socket is None:
            self.wants_connection = not self._written and not self._is_new
            return pycurl.SOCKET_BAD
        return self._socket

    def _connected(self, fd: int, _purpose: int) -> int:
        sock, self._socket = self._socket, None
        if sock:
            self._sockets.note(sock, fd)
            sock.close()  # libcurl has a copy of its own by now
        return pycurl.SOCKOPT_ALREADY_CONNECTED

    def _last_check(self, _address: str, *place: object) -> int:
        """Runs when the connection stands, directly before the request is written."""
        if self._written:  # and would be again, on another connection that was kept
            return pycurl.PREREQFUNC_ABORT
        if not self._is_new and self._sockets.is_over(place):
            self.wants_connection = True
            return pycurl.PREREQFUNC_ABORT
        try:
            if self.request.before_write:
                self.request.before_write()
        except BaseException as veto:  # noqa: BLE001 - it comes out of `exchange`
            self.veto = veto
            return pycurl.PREREQFUNC_ABORT
        try:
            self.request.deadline.left()
        except TimeoutError as fault:
            self.fault = fault
            return pycurl.PREREQFUNC_ABORT
        self._written = True
        return pycurl.PREREQFUNC_OK

    def _read(self, data: bytes) -> int | None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            return 0  # fewer than it gave: libcurl ends the exchange
        self._body.append(data)
        return None

    def answer(self, code: int) -> Answer[Response]:
        """What came of the exchange; `code` is libcurl's."""
        if self.veto:
            return Answer(fault=self.veto)
        if code or self.fault:
            return Answer(fault=self._failure(host_of(self.request.url), code))
        return Answer(Response(self.curl.getinfo(pycurl.RESPONSE_CODE), _headers(self._head), b"".join(self._body)))

    def clear(self) -> None:
        """Keeps nothing of the exchange."""
        if self._socket:
            self._socket.close()
        if self.request.body:
            self.curl.setopt(pycurl.POSTFIELDS, b"")  # else it holds the body, which may be large
        self._head.clear()
        self._body.clear()
        self._socket = self.veto = self.fault = None
        del self.request, self.tell

    def _route(self) -> None:
        """Sets the way to the server."""
        port = port_of(self.request.peer)
        if port not in self._ports:
            self._ports.add(port)
            # libcurl is to look nothing up (`_Line` connects): any name at these ports has an address already.
            self.curl.setopt(pycurl.RESOLVE, [f"*:{port}:192.0.2.1" for port in self._ports])
        if self._proxy != self.request.proxy:
            self._proxy = self.request.proxy
            self.curl.setopt(pycurl.PROXY, self._proxy)

    def _set_request(self, method: str, lines: list[str], body: bytes | None) -> None:
        lines.append("Expect:")  # no 100-continue: half of the answer to a question that we do not ask
        if method == "GET" and body is None:
            self.curl.setopt(pycurl.HTTPGET, 1)
        else:
            self.curl.setopt(pycurl.POSTFIELDS, body or b"")
            if not any(line[:13].lower() == "content-type:" for line in lines):
                lines.append("Content-Type:")  # libcurl would say that it is a form
        self.curl.setopt(pycurl.CUSTOMREQUEST, method)
        self.curl.setopt(pycurl.HTTPHEADER, lines)

    def _failure(self, host: str, code: int) -> NotSent | Lost:
        if not self._written:
            return NotSent(f"{host}: {self._why_not_sent(code)}")
        status = self.curl.getinfo(pycurl.RESPONSE_CODE) or None
        if status and status < 200:  # an interim answer's
            status = None
        if self._size > MAX_ANSWER:
            return Lost(f"{host}: an answer of more than {MAX_ANSWER} bytes", status)
        if code in {pycurl.E_ABORTED_BY_CALLBACK, pycurl.E_COULDNT_CONNECT}:
            code = pycurl.E_GOT_NOTHING  # on a kept connection, and it was not written again
        return Lost(f"{host}: {self._words(code)}", status)

    def _why_not_sent(self, code: int) -> str:
        if self.fault:
            return reason(self.fault)
        refused = self.curl.getinfo(pycurl.HTTP_CONNECTCODE)
        if refused >= 300:
            phrase = HTTPStatus(refused).phrase if refused in set(HTTPStatus) else ""
            return f"Tunnel connection failed: {refused} {phrase}".rstrip()
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            why = _VERIFY.search(self.curl.errstr())
            return f"certificate verify failed: {why[1].strip() if why else 'it is not of this host'}"
        if code == pycurl.E_SSL_CACERT_BADFILE:
            return f"the CA bundle {self._bundle} cannot be used"
        return self._words(code)

    def _words(self, code: int) -> str:
        """The system's own, where it was the system that refused."""
        number = self.curl.getinfo(pycurl.OS_ERRNO) if code in {pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR} else 0
        return os.strerror(number) if number else _WORDS.get(code, f"libcurl's error {code}")


def _constant(bundle: Path, idle_s: float) -> Iterator[tuple[int, Any]]:
    """The options that are the same for all exchanges."""
    yield pycurl.NOSIGNAL, 1
    yield pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
    yield pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1
    yield pycurl.FOLLOWLOCATION, 0
    yield pycurl.NETRC, pycurl.NETRC_IGNORED
    # Asks for no encoding, and takes one off nevertheless.
    yield pycurl.ACCEPT_ENCODING, "identity"
    # Whatever the environment says of proxies, `proxy_for` has read.
    yield pycurl.PROXY, ""
    yield pycurl.NOPROXY, ""
    yield pycurl.DNS_CACHE_TIMEOUT, 0
    if idle_s >= 1:
        yield pycurl.MAXAGE_CONN, int(idle_s)
    else:
        yield pycurl.FORBID_REUSE, 1
    folder = bundle.is_dir()
    for file_option, folder_option, peer, name, version in _TLS:
        yield file_option, None if folder else str(bundle)
        yield folder_option, str(bundle) if folder else None
        yield peer, 1
        yield name, 2
        yield version, pycurl.SSLVERSION_TLSv1_2  # or later


_TLS = (
    (pycurl.CAINFO, pycurl.CAPATH, pycurl.SSL_VERIFYPEER, pycurl.SSL_VERIFYHOST, pycurl.SSLVERSION),
    (
        pycurl.PROXY_CAINFO,
        pycurl.PROXY_CAPATH,
        pycurl.PROXY_SSL_VERIFYPEER,
        pycurl.PROXY_SSL_VERIFYHOST,
        pycurl.PROXY_SSLVERSION,
    ),
)


def _headers(head: list[bytes]) -> HTTPHeaderDict:
    """The headers of the last head among these lines, without trailers; others were interim answers, or a proxy's."""
    headers = HTTPHeaderDict()
    over = False
    for line in head:
        if line.startswith(b"HTTP/"):
            headers, over = HTTPHeaderDict(), False
        elif not (over := over or not line.strip()):
            name, _, value = line.decode("latin-1").partition(":")
            headers.add(name.strip(), value.strip())
    return headers


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
