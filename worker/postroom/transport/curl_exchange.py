"""An exchange in libcurl's hands: what it is told of the request, and what it says while it makes it."""

import asyncio
import errno
import os
import re
import select
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pycurl
from urllib3 import HTTPHeaderDict

from postroom.runtime.result import Callback, Result
from postroom.transport.http import MAX_ANSWER, Deadline, Lost, NotSent, Response, host_of, port_of, reason

# libcurl looks at the time before it looks for an answer that has come in time. So the deadline is ours to keep
# (`http_curl.py`), and this much later libcurl ends what we have not.
LATEST_S = 60.0
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
_ID = "client-request-id: "  # as in a line of a request

Place = tuple[object, ...]  # local address, port of the other side, own port


class Request(NamedTuple):
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

    @property
    def id(self) -> str:
        """Its client-request-id, in small letters."""
        return next((line[len(_ID) :].lower() for line in self.lines if line.lower().startswith(_ID)), "")


class Sockets:
    """Which socket is at which place: local address, port of the other side, own port. `opened` is told of each.

    The other side's address is not known where libcurl asks, so two sockets may be at one place: neither is used again.
    """

    def __init__(self, opened: Callable[[int], None]) -> None:
        self._opened = opened
        self._fds: dict[Place, set[int]] = {}
        self._places: dict[int, Place] = {}
        self._asked: dict[Place, str] = {}  # the id of the last request there

    def note(self, sock: socket.socket, fd: int) -> None:
        """libcurl has `sock` as `fd`. OSError where that is over already."""
        self._opened(fd)
        if (before := self._places.pop(fd, None)) and (there := self._fds.get(before)):  # libcurl has closed that since
            there.discard(fd)
            if not there:
                self.distrust(before)
        (address, port, *_), (_, port_there, *_) = sock.getsockname(), sock.getpeername()
        self._places[fd] = place = (address, port_there, port)
        self._fds.setdefault(place, set()).add(fd)

    def is_over(self, place: Place) -> bool:
        """Whether the other side has ended the connection there, which said nothing since its last answer.

        libcurl looks for that too, but not again within a second.
        """
        there = self._fds.get(place, set())
        if len(there) != 1:
            return True
        poll = select.poll()
        poll.register(next(iter(there)), select.POLLIN)
        return bool(poll.poll(0))

    def distrust(self, place: Place) -> None:
        """Has the connection there not used again."""
        self._fds.pop(place, None)
        self._asked.pop(place, None)

    def is_of_last(self, place: Place, asked: str, answered: str) -> bool:
        """Whether an answer with this id is one more to the request before; `asked` is that of the last one now.

        What came behind an answer may stand in libcurl's buffer, where no poll sees it.
        """
        before = self._asked.get(place)
        self._asked[place] = asked
        return bool(answered) and answered != asked and answered == before


class Handle:
    """A libcurl handle, and an exchange as its callbacks see it. It makes one after the other."""

    request: Request
    callback: Callback[Response]
    timer: asyncio.Handle  # of its deadline
    is_given = False  # to libcurl

    def __init__(self, bundle: Path, idle_s: float, sockets: Sockets) -> None:
        self._bundle, self._sockets = bundle, sockets
        self._proxy = ""
        self._ports: set[int] = set()
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._socket: socket.socket | None = None
        self._place: Place = ()
        self.curl = curl = pycurl.Curl()
        for option, value in _constant(bundle, idle_s):
            curl.setopt(option, value)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._connect)
        curl.setopt(pycurl.SOCKOPTFUNCTION, self._connected)
        curl.setopt(pycurl.PREREQFUNCTION, self._last_check)
        curl.setopt(pycurl.HEADERFUNCTION, self._head.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._read)

    def begin(self, request: Request, callback: Callback[Response]) -> None:
        """Sets what is the same for each try."""
        self.request, self.callback = request, callback
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
        self.curl.setopt(pycurl.TIMEOUT_MS, int((self.request.deadline.left() + LATEST_S) * 1000))

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
            try:
                self._sockets.note(sock, fd)
            except OSError:  # the other side has ended it at once
                self.fault = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                return pycurl.SOCKOPT_ERROR
            finally:
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
        self._written, self._place = True, place
        return pycurl.PREREQFUNC_OK

    def _read(self, data: bytes) -> int | None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            return 0  # fewer than it gave: libcurl ends the exchange
        self._body.append(data)
        return None

    def result(self, code: int) -> Result[Response]:
        """What came of the exchange; `code` is libcurl's."""
        if self.veto:
            return Result(error=self.veto)
        if code or self.fault:
            return Result(error=self._failure(host_of(self.request.url), code))
        headers = _headers(self._head)
        if self._sockets.is_of_last(self._place, self.request.id, headers.get("client-request-id", "").lower()):
            self._sockets.distrust(self._place)
            return Result(error=Lost(f"{host_of(self.request.url)}: one more answer to the request before"))
        return Result(Response(self.curl.getinfo(pycurl.RESPONSE_CODE), headers, b"".join(self._body)))

    def clear(self) -> None:
        """Keeps nothing of the exchange."""
        if self._socket:
            self._socket.close()
        if self.request.body:
            self.curl.setopt(pycurl.POSTFIELDS, b"")  # else it holds the body, which may be large
        self._head.clear()
        self._body.clear()
        self._socket = self.veto = self.fault = None
        del self.request, self.callback

    def _route(self) -> None:
        """Sets the way to the server."""
        port = port_of(self.request.peer)
        if port not in self._ports:
            self._ports.add(port)
            # libcurl is to look nothing up (`http_curl.py` connects): any name at these ports has an address already.
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
