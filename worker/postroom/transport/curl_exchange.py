"""One HTTP exchange as libcurl makes it: the options that are set for it, and the callbacks while it is made."""

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pycurl
from urllib3 import HTTPHeaderDict

from postroom.runtime.result import Callback, Result
from postroom.transport.curl_sockets import Place, Sockets
from postroom.transport.http import MAX_ANSWER, Deadline, Lost, NotSent, Response, host_of, place_of, port_of, reason

# `curl_multi.py` keeps the deadline: libcurl looks at the time before it reads an answer that has come in time. So its
# own time-out is this much later, and only a safeguard.
TIMEOUT_MARGIN_S = 60.0
# libcurl's own messages may quote what the server sent, so errors have these instead.
_MESSAGES = {
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
# What OpenSSL says about a certificate, within libcurl's message. These words are constants of OpenSSL.
_VERIFY = re.compile(r"verify result: ([a-z ,-]+)", re.IGNORECASE)
_ID = "client-request-id: "


class Request(NamedTuple):
    """A request whose parts were checked. `lines` are its headers, `proxy` is the proxy's URL or empty."""

    method: str
    url: str
    proxy: str
    lines: list[str]
    body: bytes | None
    deadline: Deadline
    before_write: Callable[[], None] | None

    @property
    def peer(self) -> str:
        """The URL of the server or proxy to connect to."""
        return self.proxy or self.url

    @property
    def id(self) -> str:
        """Its client-request-id in lower case; empty where it has none."""
        return next((line[len(_ID) :].lower() for line in self.lines if line.lower().startswith(_ID)), "")


class Handle:
    """A libcurl easy handle with its callbacks. It makes one exchange after the other.

    Per exchange: `begin`, then `prepare_try` before each try (one on a connection that is kept, or one on a new one),
    `result` after the last, and `clear`.
    """

    request: Request
    callback: Callback[Response]
    timer: asyncio.Handle  # calls at the deadline
    is_running = False  # libcurl has it

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
        """Sets all that is the same for each try. What pycurl raises concerns this request only."""
        self.request, self.callback = request, callback
        self._written = False
        self._size = 0
        self.veto: BaseException | None = None
        self.fault: OSError | None = None
        self._route()
        self.curl.setopt(pycurl.URL, request.url)
        self._set_request(request.method, request.lines, request.body)

    def prepare_try(self, connected: socket.socket | None) -> None:
        """Sets up a try on a connection that libcurl has kept, or on `connected`. TimeoutError after the deadline."""
        self._socket, self._is_new = connected, connected is not None
        self.wants_connection = False
        self._head.clear()
        self._body.clear()
        self.curl.setopt(pycurl.FRESH_CONNECT, int(self._is_new))
        self.curl.setopt(pycurl.TIMEOUT_MS, int((self.request.deadline.left() + TIMEOUT_MARGIN_S) * 1000))

    def _connect(self, _purpose: int, _address: object) -> socket.socket | int:
        """libcurl's OPENSOCKETFUNCTION: the socket to use, which is connected. The address is a placeholder (`_route`).

        Gives none once the request was written: libcurl would write it again where a kept connection has died.
        """
        if self._written or self._socket is None:
            self.wants_connection = not self._written and not self._is_new
            return pycurl.SOCKET_BAD
        return self._socket

    def _connected(self, fd: int, _purpose: int) -> int:
        """libcurl's SOCKOPTFUNCTION: notes the socket under the number that libcurl has for it."""
        sock, self._socket = self._socket, None
        if sock:
            try:
                self._sockets.note(sock, fd)
            except OSError:  # the server has reset the connection at once
                self.fault = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                return pycurl.SOCKOPT_ERROR
            finally:
                sock.close()  # libcurl has a duplicate
        return pycurl.SOCKOPT_ALREADY_CONNECTED

    def _last_check(self, _address: str, *place: object) -> int:
        """libcurl's PREREQFUNCTION: runs when the connection stands, directly before the request is written."""
        if self._written:  # libcurl tries once more, on another connection that it has kept
            return pycurl.PREREQFUNC_ABORT
        if not self._is_new and self._sockets.is_over(place):
            self.wants_connection = True
            return pycurl.PREREQFUNC_ABORT
        try:
            if self.request.before_write:
                self.request.before_write()
        except BaseException as veto:  # noqa: BLE001 - `exchange` raises it
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
            return 0  # fewer bytes than libcurl gave, which makes it end the exchange
        self._body.append(data)
        return None

    def result(self, code: int) -> Result[Response]:
        """The response, or NotSent, Lost or what `before_write` raised. `code` is libcurl's, 0 for success."""
        if self.veto:
            return Result(error=self.veto)
        if code or self.fault:
            return Result(error=self._failure(place_of(self.request.url, self.request.proxy), code))
        headers = _headers(self._head)
        if self._sockets.is_of_last(self._place, self.request.id, headers.get("client-request-id", "").lower()):
            self._sockets.distrust(self._place)
            return Result(error=Lost(f"{host_of(self.request.url)}: one more answer to the request before"))
        return Result(Response(self.curl.getinfo(pycurl.RESPONSE_CODE), headers, b"".join(self._body)))

    def clear(self) -> None:
        """Lets go of all that belongs to the exchange."""
        if self._socket:
            self._socket.close()
        if self.request.body:
            self.curl.setopt(pycurl.POSTFIELDS, b"")  # else libcurl keeps the body, which may be large
        self._head.clear()
        self._body.clear()
        self._socket = self.veto = self.fault = None
        del self.request, self.callback

    def _route(self) -> None:
        """Sets the proxy, and addresses that keep libcurl from looking any name up."""
        port = port_of(self.request.peer)
        if port not in self._ports:
            self._ports.add(port)
            # `curl_multi.py` connects, so libcurl needs no address. This one, of no host (RFC 5737), stands for all.
            self.curl.setopt(pycurl.RESOLVE, [f"*:{port}:192.0.2.1" for port in self._ports])
        if self._proxy != self.request.proxy:
            self._proxy = self.request.proxy
            self.curl.setopt(pycurl.PROXY, self._proxy)

    def _set_request(self, method: str, lines: list[str], body: bytes | None) -> None:
        lines.append("Expect:")  # so that libcurl adds no `Expect: 100-continue` and waits for no interim answer
        if method == "GET" and body is None:
            self.curl.setopt(pycurl.HTTPGET, 1)
        else:
            self.curl.setopt(pycurl.POSTFIELDS, body or b"")
            if not any(line[:13].lower() == "content-type:" for line in lines):
                lines.append("Content-Type:")  # so that libcurl adds none, which would be that of a form
        self.curl.setopt(pycurl.CUSTOMREQUEST, method)
        self.curl.setopt(pycurl.HTTPHEADER, lines)

    def _failure(self, place: str, code: int) -> NotSent | Lost:
        if not self._written:
            return NotSent(f"{place}: {self._why_not_sent(code)}")
        status = self.curl.getinfo(pycurl.RESPONSE_CODE) or None
        if status and status < 200:  # of an interim answer
            status = None
        if self._size > MAX_ANSWER:
            return Lost(f"{place}: an answer of more than {MAX_ANSWER} bytes", status)
        if code in {pycurl.E_ABORTED_BY_CALLBACK, pycurl.E_COULDNT_CONNECT}:
            code = pycurl.E_GOT_NOTHING  # a kept connection broke, and we kept libcurl from writing the request again
        return Lost(f"{place}: {self._message(code)}", status)

    def _why_not_sent(self, code: int) -> str:
        if self.fault:
            return reason(self.fault)
        refused = self.curl.getinfo(pycurl.HTTP_CONNECTCODE)
        if refused >= 300:
            phrase = HTTPStatus(refused).phrase if refused in set(HTTPStatus) else ""
            return f"the proxy refused: {refused} {phrase}".rstrip()
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            why = _VERIFY.search(self.curl.errstr())
            return f"certificate verify failed: {why[1].strip() if why else 'it is not of this host'}"
        if code == pycurl.E_SSL_CACERT_BADFILE:
            return f"the CA bundle {self._bundle} cannot be used"
        return self._message(code)

    def _message(self, code: int) -> str:
        """The system's message where a system call failed, else ours for libcurl's code."""
        number = self.curl.getinfo(pycurl.OS_ERRNO) if code in {pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR} else 0
        return os.strerror(number) if number else _MESSAGES.get(code, f"libcurl's error {code}")


def _constant(bundle: Path, idle_s: float) -> Iterator[tuple[int, Any]]:
    """libcurl's options that are the same for all exchanges, with their values."""
    yield pycurl.NOSIGNAL, 1
    yield pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
    yield pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1
    yield pycurl.FOLLOWLOCATION, 0
    yield pycurl.NETRC, pycurl.NETRC_IGNORED
    # Asks for an answer without encoding, and still decodes one that is encoded.
    yield pycurl.ACCEPT_ENCODING, "identity"
    # libcurl must not read the environment's proxies: `proxy_for` has done so.
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
    """The headers of the last response in these lines, without trailers.

    Earlier ones are interim answers, or a proxy's.
    """
    headers = HTTPHeaderDict()
    has_ended = False
    for line in head:
        if line.startswith(b"HTTP/"):
            headers, has_ended = HTTPHeaderDict(), False
        elif not (has_ended := has_ended or not line.strip()):
            name, _, value = line.decode("latin-1").partition(":")
            headers.add(name.strip(), value.strip())
    return headers
