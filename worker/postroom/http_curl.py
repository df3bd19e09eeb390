"""HTTP exchanges over libcurl: a fraction of the CPU that `requests` costs, and without the interpreter's lock.

Importing this fails with ImportError where there is no pycurl that can do it (the extra `curl`).
"""

import ctypes
import os
import re
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

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
# OpenSSL's words for a certificate, in libcurl's message: they are constants.
_VERIFY = re.compile(r"verify result: ([a-z ,-]+)", re.IGNORECASE)


class CurlHttp:
    """`Http` over libcurl, with one handle and its connections per thread."""

    name = f"curl ({pycurl.version.split()[1]})"

    def __init__(self, given_ca_bundle: str | None = None, *, idle_s: float = IDLE_S) -> None:
        """`given_ca_bundle`: a file or folder of CA certificates (PEM), before what the environment names."""
        self._given_ca_bundle = given_ca_bundle
        self._idle_s = idle_s
        self._thread = threading.local()

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
        """See `Http`."""
        deadline = Deadline(deadline_s)
        lines = header_lines(method, url, headers)
        url = sendable(url)
        try:
            handle = self._handle(origin(url))
        except OSError as fault:
            raise NotSent(f"{host_of(url)}: {fault}") from None
        return handle.exchange(method, url, lines, body, deadline, before_write)

    def _handle(self, root: str) -> "_Handle":
        # A forked child must not speak on its parent's connections.
        handle: _Handle | None = getattr(self._thread, "handle", None)
        if handle is None or handle.pid != os.getpid() or handle.has_lost(root):
            handle = self._thread.handle = _Handle(ca_bundle(self._given_ca_bundle), self._idle_s)
        return handle


class _Run:
    """One exchange, as libcurl's callbacks see it; a handle has one and begins it anew each time.

    It does not know its handle: a circle of the two would keep connections open until the next garbage collection.
    """

    def __init__(self) -> None:
        self.socket: socket.socket
        self.head: list[bytes] = []
        self.body: list[bytes] = []

    def begin(self, peer: str, deadline: Deadline, before_write: Callable[[], None] | None) -> None:
        self.head.clear()
        self.body.clear()
        self.peer, self.deadline, self.before_write = peer, deadline, before_write
        self.size = 0
        self.written = False
        self.veto: BaseException | None = None
        self.fault: OSError | None = None

    def connect(self, _purpose: int, _address: object) -> socket.socket | int:
        """A connected socket. The address is a placeholder, see `_Handle._route`.

        Once the request was written there is none: libcurl would write it again where a kept connection has died.
        """
        if self.fault is None and not self.written:
            try:
                self.socket = connect(host_of(self.peer), port_of(self.peer), self.deadline.left, socket.socket)
            except OSError as fault:
                self.fault = fault
            else:
                return self.socket
        return pycurl.SOCKET_BAD

    def connected(self, _fd: int, _purpose: int) -> int:
        self.socket.close()  # libcurl has a copy of its own by now
        return pycurl.SOCKOPT_ALREADY_CONNECTED

    def last_check(self, *_addresses: object) -> int:
        """Runs when the connection stands, directly before the request is written."""
        if self.written:  # and would be again, on another connection that was kept
            return pycurl.PREREQFUNC_ABORT
        try:
            if self.before_write:
                self.before_write()
        except BaseException as veto:  # noqa: BLE001 - it comes out of `exchange`
            self.veto = veto
            return pycurl.PREREQFUNC_ABORT
        try:
            self.deadline.left()
        except TimeoutError as fault:
            self.fault = fault
            return pycurl.PREREQFUNC_ABORT
        self.written = True
        return pycurl.PREREQFUNC_OK

    def read(self, data: bytes) -> int | None:
        self.size += len(data)
        if self.size > MAX_ANSWER:
            return 0  # fewer than it gave: libcurl ends the exchange
        self.body.append(data)
        return None


class _Handle:
    """A libcurl handle with the connections that it keeps, for one thread of one process."""

    def __init__(self, bundle: Path, idle_s: float) -> None:
        self.pid = os.getpid()
        self._run = run = _Run()
        self._curl = curl = pycurl.Curl()
        self._sockets: dict[str, int] = {}
        self._proxies: dict[str, str] = {}
        self._proxy = ""
        self._ports: set[int] = set()
        for option, value in _constant(bundle, idle_s):
            curl.setopt(option, value)
        self._bundle = bundle
        curl.setopt(pycurl.OPENSOCKETFUNCTION, run.connect)
        curl.setopt(pycurl.SOCKOPTFUNCTION, run.connected)
        curl.setopt(pycurl.PREREQFUNCTION, run.last_check)
        curl.setopt(pycurl.HEADERFUNCTION, run.head.append)
        curl.setopt(pycurl.WRITEFUNCTION, run.read)
        with _fork_lock:
            _living.add(self)

    def exchange(
        self,
        method: str,
        url: str,
        lines: list[str],
        body: bytes | None,
        deadline: Deadline,
        before_write: Callable[[], None] | None,
    ) -> Response:
        """See `Http`; the arguments are checked."""
        run, curl = self._run, self._curl
        root = origin(url)
        run.begin(self._route(root, url), deadline, before_write)
        curl.setopt(pycurl.URL, url)
        self._set_request(method, lines, body)
        code = 0
        try:
            curl.setopt(pycurl.TIMEOUT_MS, max(1, int(deadline.left() * 1000)))
            curl.perform()
        except pycurl.error as error:
            code = int(error.args[0])
        except TimeoutError as fault:
            run.fault = fault
        finally:
            run.before_write = None
            if body:
                curl.setopt(pycurl.POSTFIELDS, b"")  # else it holds the body, which may be large
        veto, run.veto = run.veto, None
        if veto:
            raise veto
        if code or run.fault:
            raise self._failure(host_of(url), code)
        self._sockets[root] = curl.getinfo(pycurl.ACTIVESOCKET)
        return Response(curl.getinfo(pycurl.RESPONSE_CODE), _headers(run.head), b"".join(run.body))

    def has_lost(self, root: str) -> bool:
        """Whether the server has ended the connection of the last exchange with it.

        libcurl looks for that too, but not again within a second, and has no way to give up one connection.
        """
        kept = self._sockets.pop(root, -1)
        if kept < 0:
            return False
        poll = select.poll()
        poll.register(kept, select.POLLIN)
        # If libcurl has closed it since, it is no socket, or another one, and then a new handle does no harm.
        return any(not event & select.POLLNVAL for _, event in poll.poll(0))

    def _route(self, root: str, url: str) -> str:
        """Sets the way to this URL's server, and returns the URL of what is connected to: the server or a proxy."""
        if root not in self._proxies:
            self._proxies[root] = proxy_for(url) or ""
            self._ports.add(port_of(self._proxies[root] or url))
            # libcurl is to look nothing up (`_Run.connect` does): any name at these ports has an address already.
            self._curl.setopt(pycurl.RESOLVE, [f"*:{port}:192.0.2.1" for port in self._ports])
        if self._proxy != self._proxies[root]:
            self._proxy = self._proxies[root]
            self._curl.setopt(pycurl.PROXY, self._proxy)
        return self._proxy or url

    def _set_request(self, method: str, lines: list[str], body: bytes | None) -> None:
        lines.append("Expect:")  # no 100-continue: half of the answer to a question that we do not ask
        if method == "GET" and body is None:
            self._curl.setopt(pycurl.HTTPGET, 1)
        else:
            self._curl.setopt(pycurl.POSTFIELDS, body or b"")
            if not any(line[:13].lower() == "content-type:" for line in lines):
                lines.append("Content-Type:")  # libcurl would say that it is a form
        self._curl.setopt(pycurl.CUSTOMREQUEST, method)
        self._curl.setopt(pycurl.HTTPHEADER, lines)

    def _failure(self, host: str, code: int) -> NotSent | Lost:
        run, curl = self._run, self._curl
        if not run.written:
            return NotSent(f"{host}: {self._why_not_sent(code)}")
        status = curl.getinfo(pycurl.RESPONSE_CODE) or None
        if status and status < 200:  # an interim answer's
            status = None
        if run.size > MAX_ANSWER:
            return Lost(f"{host}: an answer of more than {MAX_ANSWER} bytes", status)
        if code in {pycurl.E_ABORTED_BY_CALLBACK, pycurl.E_COULDNT_CONNECT}:
            code = pycurl.E_GOT_NOTHING  # on a kept connection, and it was not written again
        return Lost(f"{host}: {self._words(code)}", status)

    def _why_not_sent(self, code: int) -> str:
        if self._run.fault:
            return reason(self._run.fault)
        refused = self._curl.getinfo(pycurl.HTTP_CONNECTCODE)
        if refused >= 300:
            phrase = HTTPStatus(refused).phrase if refused in set(HTTPStatus) else ""
            return f"Tunnel connection failed: {refused} {phrase}".rstrip()
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            why = _VERIFY.search(self._curl.errstr())
            return f"certificate verify failed: {why[1].strip() if why else 'it is not of this host'}"
        if code == pycurl.E_SSL_CACERT_BADFILE:
            return f"the CA bundle {self._bundle} cannot be used"
        return self._words(code)

    def _words(self, code: int) -> str:
        """The system's own, where it was the system that refused."""
        number = self._curl.getinfo(pycurl.OS_ERRNO) if code in {pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR} else 0
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


# A child that is forked has copies of the handles of all threads. They must never be closed there, which would tell
# the servers that their connections, which are still the parent's, are over.
_living: weakref.WeakSet[_Handle] = weakref.WeakSet()
_inherited: list[_Handle] = []
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
