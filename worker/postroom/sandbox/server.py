"""Runs a sandbox: `serve` blocks until a signal, `running` gives a test one for the length of a `with`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import uvicorn

from postroom.sandbox.app import App, build_app
from postroom.sandbox.certificates import Keys, open_keys
from postroom.sandbox.connection import OpenProtocol
from postroom.sandbox.options import SandboxAddress, SandboxOptions


def serve(options: SandboxOptions, on_ready: Callable[[SandboxAddress], None]) -> None:
    """Serves until SIGTERM or SIGINT; `on_ready` is told the address once the sandbox listens."""
    with _opened(options, on_ready) as server:
        server.stop_on_signals = True
        server.run()


@contextlib.contextmanager
def running(options: SandboxOptions | None = None) -> Iterator[SandboxAddress]:
    """A sandbox in a thread of this process, until the block ends."""
    ready: SimpleQueue[SandboxAddress | BaseException] = SimpleQueue()
    with _opened(options or SandboxOptions(), ready.put) as server:

        def run() -> None:
            try:
                server.run()
            except BaseException as error:  # noqa: BLE001  raised again where somebody waits for the address
                ready.put(error)

        thread = threading.Thread(target=run, name="sandbox", daemon=True)
        thread.start()
        try:
            first = ready.get(timeout=30)
            if isinstance(first, BaseException):
                raise first
            yield first
        finally:
            server.stop()
            thread.join(timeout=10)


@contextlib.contextmanager
def _opened(options: SandboxOptions, on_ready: Callable[[SandboxAddress], None]) -> Iterator[_Server]:
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postroom-")))
        host = options.public_host or _callable_name(options.host)
        names = tuple(
            dict.fromkeys((host, f"vault.{options.public_host or 'localhost'}", "localhost", "127.0.0.1", "::1"))
        )
        keys = open_keys(folder, names)
        listener = stack.enter_context(_listen(options.host, options.port))
        address = _address(options, keys, host, listener.getsockname()[1])
        app = build_app(options, address, keys.signing_key)
        yield _Server(app, _config(app, keys), listener, lambda: on_ready(address))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        message = (
            f"the sandbox cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; --port 0 takes a free port"
        )
        raise OSError(error.errno, message) from error


def _callable_name(host: str) -> str:
    return "localhost" if host in ("0.0.0.0", "::", "") else host  # noqa: S104  compared, not listened on


def _address(options: SandboxOptions, keys: Keys, host: str, port: int) -> SandboxAddress:
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return SandboxAddress(
        url=url,
        authority_url=url,
        graph_url=url,
        inbox_url=f"{url}/",
        ca_file=str(keys.ca_file.resolve()),
        tenant_id=options.tenant_id,
        client_id=options.client_id,
        client_secret=options.client_secret,
    )


def _config(app: App, keys: Keys) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=OpenProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=120,
        ssl_context_factory=lambda _config, _default: keys.tls,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which stops at once even where faults keep requests open."""

    def __init__(self, app: App, config: uvicorn.Config, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self.stop_on_signals = False
        self._listener = listener
        self._on_ready = on_ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._listener])

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Ours, because uvicorn's raises the signal once more after a clean stop: the exit code would be a crash's.
        if not self.stop_on_signals:
            yield
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for one in signals:
            loop.add_signal_handler(one, self.stop)
        try:
            yield
        finally:
            for one in signals:
                loop.remove_signal_handler(one)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.world.closing.set()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)
