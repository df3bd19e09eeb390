"""Runs the application in one process until SIGTERM or SIGINT. Then it finishes the requests that have begun."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from postroom.api.app import create_app
from postroom.api.connections import ACCEPTED_AT_ONCE, BACKLOG, Connections
from postroom.api.dependencies import THREADS, Services
from postroom.api.errors import Refusal
from postroom.runtime.file_limit import raise_file_limit
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import place_of

DRAIN_S = 30
HEAD_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """Where the API listens. Port 0 takes a free port. `proxies` are believed when they name a client's address.

    `fd` is a socket that listens already, and that other processes may share.
    """

    host: str
    port: int
    proxies: tuple[str, ...] = ()
    fd: int | None = None


def serve(options: ApiOptions, services: Services, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT. Calls `on_ready(url)` once it listens. OSError if it cannot listen."""
    raise_file_limit()
    with listen(options) as listener:
        url = url_of(options, listener)
        _Server(
            config(create_app(services), services.emit, options.proxies), listener, lambda: on_ready(url), services
        ).run()


def url_of(options: ApiOptions, listener: socket.socket) -> str:
    """The address for clients of this machine."""
    host = "localhost" if options.host in ("0.0.0.0", "::", "") else options.host  # noqa: S104 - compared only
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def config(app: ASGIApp, emit: Emit, proxies: Sequence[str] = ()) -> uvicorn.Config:
    """uvicorn's configuration for the application."""
    connections = Connections(emit)

    class OfThisServer(_Patient):
        others = connections

    return uvicorn.Config(
        app,
        http=OfThisServer,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_S,
        backlog=ACCEPTED_AT_ONCE,
    )


def listen(options: ApiOptions) -> socket.socket:
    """The socket at which the API listens. OSError, which says what to do, if it cannot."""
    if options.fd is not None:
        return socket.socket(fileno=options.fd)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        message = f"the API cannot listen on {where}: {os.strerror(error.errno or 0)}; --port 0 takes a free port"
        raise OSError(error.errno, message) from error


class _Server(uvicorn.Server):
    """uvicorn's server, but it reports when it listens, and a clean stop has exit code 0."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, on_ready: Callable[[], None], services: Services
    ) -> None:
        super().__init__(config)
        self._listener, self._on_ready, self._services = listener, on_ready, services

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        asyncio.get_running_loop().set_exception_handler(self._failed)
        await super().startup(sockets)
        self._listener.listen(BACKLOG)
        self._on_ready()

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # asyncio would print a traceback each time, and it may be a client that makes it happen.
        error = context.get("exception")
        self._services.emit("api.failed", where=place_of(error) if error else context.get("message"))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own would raise the signal again after a clean stop, and the exit code would be that of a crash.
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for one in signals:
            loop.add_signal_handler(one, self._stop)
        try:
            yield
        finally:
            for one in signals:
                loop.remove_signal_handler(one)

    def _stop(self) -> None:
        # After a second signal it does not wait for requests that have begun.
        self._services.emit("api.stopping", at_once=self.should_exit)
        self.force_exit = self.should_exit
        self.should_exit = True


class _Patient(H11Protocol):
    """uvicorn's HTTP/1.1, but with a time limit for the head of a request, and with our errors for bad heads.

    `others` are all connections of this server.
    """

    others: Connections
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time limit for the first head."""
        super().connection_made(transport)
        self.others.add(self)
        if transport.is_closing():
            return
        # asyncio does this only for sockets that know their protocol. Accepted sockets do not.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stops the time limit once a head is complete. The body has a limit of its own."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
            self.others.note_request(self)
        elif self._waiting is None:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        self.others.remove(self)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Notes that the client reads its answer."""
        self.others.note_reading(self)
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._stop_watching()
        self.others.note_answer(self)

    def send_400_response(self, msg: str) -> None:
        """Answers a bad head in our form of errors; 431 for one that is too large."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        code = "headers_too_large" if status == 431 else "bad_request"
        body = bytes(Refusal(status, code, "this is no HTTP/1.1 request that can be read").response().body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        event: Any
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        self._waiting = self.loop.call_later(HEAD_DEADLINE_S, self.transport.close)

    def _stop_watching(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
