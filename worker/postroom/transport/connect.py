"""A TCP connection within a deadline, whatever look-up and addresses do. All transports connect by it.

libcurl could do both itself, but the end of a thread whose look-up hangs would wait for that look-up, and nobody else
would run meanwhile.
"""

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Socket = TypeVar("Socket", bound=socket.socket)


def connect(host: str, port: int, left: Callable[[], float], kind: type[Socket]) -> Socket:
    """A socket of this kind that is connected to `host`; OSError otherwise.

    `left` is asked for the seconds that are left, and raises TimeoutError where there are none.
    """
    addresses = _look_up(host, port, left)
    fault: OSError = OSError("no address found")
    for untried, (family, type_, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock = kind(family, type_, protocol)
        try:
            # A request goes out in pieces, head and body; they must not wait for each other's acknowledgement.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A share for each, so that one address that swallows packets leaves the others their turn.
            sock.settimeout(left() / untried)
            sock.connect(address)
        except OSError as error:
            sock.close()
            fault = error
        else:
            return sock
    raise fault


def _look_up(host: str, port: int, left: Callable[[], float]) -> list[Any]:
    """The addresses of `host`. getaddrinfo has no time-out, so it runs in a thread that can be left behind."""
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            answers.put(error)
        except UnicodeError:
            answers.put(OSError("this is no host name"))

    try:
        threading.Thread(target=ask, name="postroom-dns", daemon=True).start()
    except RuntimeError as error:  # no more threads; as any other error it would be taken for a lost answer
        raise OSError(str(error)) from None
    try:
        found = answers.get(timeout=left())
    except queue.Empty:
        raise TimeoutError("the look-up of its address timed out") from None
    if isinstance(found, OSError):
        raise found
    return found
