"""HTTP exchanges over `requests`, which always works. Each thread has an adapter with connections of its own.

The time-out of `requests` begins again with each byte that arrives, so a server that sends a byte at a time could hold
a worker for ever. Here each call that may block (look-up, connect, handshake, read, write) has what is left of one
deadline: the socket classes below set their time-out before each call.
"""

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import requests.adapters
import urllib3
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from postroom.runtime.fibers import run_in_thread
from postroom.transport.connect import connect
from postroom.transport.http import (
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
    place_of,
    proxy_for,
    reason,
    sendable,
    unreachable_proxy,
)

_ONE_WRITE = 64 * 1024


class RequestsHttp:
    """`Http` over `requests`."""

    name = f"requests ({requests.__version__})"

    def __init__(self, given_ca_bundle: str | None = None, *, idle_s: float = IDLE_S) -> None:
        """`given_ca_bundle`: a file or folder of CA certificates (PEM), by default the environment's or certifi's."""
        self._given_ca_bundle = given_ca_bundle
        self._idle_s = idle_s
        self._thread = _Thread()

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
        run = _Exchange(Deadline(deadline_s), before_write, self._idle_s)
        return run_in_thread(lambda: self._exchange(run, method, url, headers, body))

    def _exchange(
        self, run: "_Exchange", method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Response:
        header_lines(method, url, headers)
        request = _prepared(method, sendable(url), headers, body)
        proxies = self._proxies(url)
        _current.exchange = run
        try:
            return _read(self._adapter().send(request, stream=True, proxies=proxies), run)
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as e:
            if run.veto:
                raise run.veto from None
            detail = f"{place_of(url, proxies.get('all'))}: {_reason(e)}"
            raise (Lost(detail, run.status) if run.written else NotSent(detail)) from None
        finally:
            _current.exchange = None

    def _adapter(self) -> "_Adapter":
        # A forked child must not use its parent's connections.
        if self._thread.adapter is None or self._thread.pid != os.getpid():
            self._thread.adapter, self._thread.pid = _Adapter(_tls_context(self._given_ca_bundle)), os.getpid()
        return self._thread.adapter

    def _proxies(self, url: str) -> dict[str, str]:
        root = origin(url)
        if root not in self._thread.proxies:
            proxy = proxy_for(url)
            self._thread.proxies[root] = {"all": proxy} if proxy else {}
        return self._thread.proxies[root]


class _Thread(threading.local):
    """What a thread keeps between its exchanges."""

    def __init__(self) -> None:
        self.adapter: _Adapter | None = None
        self.pid = 0
        self.proxies: dict[str, dict[str, str]] = {}


def _prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    """A request as a Session would prepare it, but without cookies, hooks and .netrc, which we do not want.

    That takes a third off the CPU of an exchange.
    """
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = CaseInsensitiveDict(headers)
    if body is not None or method != "GET":
        request.headers["Content-Length"] = str(len(body or b""))
    return request


@dataclass(slots=True)
class _Exchange:
    deadline: Deadline
    before_write: Callable[[], None] | None
    idle_s: float
    written: bool = False
    status: int | None = None
    veto: BaseException | None = None


class _Current(threading.local):
    """The exchange that a thread is in. urllib3 makes connections and sockets itself, and cannot pass it to them."""

    exchange: _Exchange | None = None


_current = _Current()


def _running() -> _Exchange:
    if _current.exchange is None:
        raise OSError("a connection was used outside of an exchange")
    return _current.exchange


def _tls_context(given_ca_bundle: str | None) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.sslsocket_class = _TlsSocket
    where = ca_bundle(given_ca_bundle)
    try:
        context.load_verify_locations(**{"capath" if where.is_dir() else "cafile": str(where)})
    except OSError as error:
        raise OSError(f"the CA bundle {where} cannot be used: {error.strerror or error}") from None
    return context


class _Adapter(requests.adapters.HTTPAdapter):
    """Has our connection pools, and one TLS context for all: requests would load the CA file for each connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._pools: dict[str, Any] = {}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, proxy_ssl_context=self._context, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        host, pool = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, pool | {"ssl_context": self._context}

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        root = origin(request.url or "")
        pool = self._pools.get(root)
        if pool is None or pool.pool is None:  # or closed, since too many others were used after it
            pool = self._pools[root] = super().get_connection_with_tls_context(request, *args, **kwargs)
        return pool

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.url, response.raw = req.url or "", resp
        return response

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: our context verifies. requests would have each connection load a CA file as well."""


class _Connection(HTTPConnection):
    """Calls `before_write` before it writes, and writes head and body at once."""

    idle_since = 0.0  # by time.monotonic
    _unsent: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        run = _running()
        if self.sock is None:
            self.connect()
        if run.before_write:
            try:
                run.before_write()
            except BaseException as veto:
                run.veto = veto  # kept here, since urllib3 replaces some exceptions with its own
                raise
        run.deadline.left()
        run.written = True
        unsent: list[bytes] = []
        self._unsent = unsent
        try:
            super().request(*args, **kwargs)
        finally:
            self._unsent = None
        # In one write, so in one TLS record and one packet, unless they are large: then joining costs more.
        for part in [b"".join(unsent)] if sum(map(len, unsent)) <= _ONE_WRITE else unsent:
            self.send(part)

    def send(self, data: Any) -> None:
        if self._unsent is None:
            super().send(data)
        else:
            self._unsent.append(data)

    def getresponse(self) -> Any:
        response = super().getresponse()
        _running().status = response.status
        return response

    def _new_conn(self) -> socket.socket:
        try:
            return connect(self._dns_host, self.port or self.default_port, _running().deadline.left, _Socket)
        except OSError as fault:
            raise (unreachable_proxy(fault) if self.proxy else fault) from None


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        idle_s = time.monotonic() - connection.idle_since
        if not connection.is_closed and idle_s >= _running().idle_s:
            connection.close()  # it connects anew when used
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Socket(socket.socket):
    """A socket each of whose calls ends at the deadline of the exchange that its thread is in."""

    def recv(self, *args: Any) -> bytes:
        self.settimeout(_running().deadline.left())
        return super().recv(*args)

    def recv_into(self, *args: Any) -> int:
        self.settimeout(_running().deadline.left())
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(_running().deadline.left())
        super().sendall(*args)


class _TlsSocket(ssl.SSLSocket):
    """The same over TLS. All of SSLSocket's methods that receive call `read`, all that send call `send`."""

    def do_handshake(self, *args: Any) -> None:
        self.settimeout(_running().deadline.left())
        super().do_handshake(*args)

    def read(self, *args: Any) -> Any:
        self.settimeout(_running().deadline.left())
        return super().read(*args)

    def send(self, *args: Any) -> int:
        self.settimeout(_running().deadline.left())
        return super().send(*args)


def _read(answer: requests.Response, run: _Exchange) -> Response:
    try:
        body = answer.raw.read(MAX_ANSWER + 1, decode_content=True)
    finally:
        answer.close()  # closes the connection if the answer was not read to its end; else the pool has it already
    if len(body) > MAX_ANSWER:
        raise Lost(f"{host_of(answer.url)}: an answer of more than {MAX_ANSWER} bytes", run.status)
    return Response(answer.raw.status, answer.raw.headers, body)


def _reason(error: BaseException) -> str:
    """The innermost cause, in the system's words or as a class name: other messages may quote what the server sent."""
    for part in (error.__cause__, getattr(error, "reason", None), *error.args):
        if isinstance(part, BaseException):
            return _reason(part)
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return reason(error).replace("Tunnel connection failed", "the proxy refused")  # as http.client words it
    return type(error).__name__
