"""Redis servers of a test's own, on ports: the server's binary that the embedded server runs, too."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from postroom.store import embedded


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, port: int, *arguments: str, password: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server with these arguments in this folder, until the end of the block."""
    process = subprocess.Popen(
        [embedded._binary(), *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port, password=password, retry=None) as client:
            wait_for(client)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(client: "redis.Redis[bytes]") -> None:
    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
        except redis.exceptions.ConnectionError:
            assert time.monotonic() < until
            time.sleep(0.02)
        else:
            return


@contextmanager
def forwarded(port: Callable[[], int]) -> Iterator[int]:
    """A port that leads to the one of the moment, for each new connection."""
    sockets: list[socket.socket] = []

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(50) as threads:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sockets.append(here := listener.accept()[0])
                    try:
                        sockets.append(there := socket.create_connection(("127.0.0.1", port())))
                    except OSError:  # nobody is there just now
                        here.close()
                        continue
                    threads.submit(pass_on, here, there)
                    threads.submit(pass_on, there, here)

        accepting = threads.submit(accept)
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.result()  # which may just have taken one more
            for sock in sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for sock in sockets:
                sock.close()
