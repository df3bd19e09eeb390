"""A TCP connection within a deadline, also where the look-up hangs or an address does not answer. For all transports.

libcurl could look up and connect itself. But where its look-up hangs, removing the exchange waits for that look-up, and
all other exchanges with it.
"""

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Socket = TypeVar("Socket", bound=socket.socket)


def connect(host: str, port: int, left: Callable[[], float], kind: type[Socket]) -> Socket:
    """A socket of the class `kind` that is connected to `host`. Raises OSError where no address can be reached in time.

    `left` returns the seconds until the deadline, and raises TimeoutError after it.
    """
    addresses = look_up(host, port, left)
    fault: OSError = OSError("no address found")
    for untried, (family, type_, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock = kind(family, type_, protocol)
        try:
            # A request may be written in two pieces, head and body: the second must not wait for the first one's ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Each address has its share of the time, so one that does not answer leaves some to the others.
            sock.settimeout(left() / untried)
            sock.connect(address)
        except OSError as error:
            sock.close()
            fault = error
        else:
            return sock
    raise fault


def look_up(host: str, port: int, left: Callable[[], float]) -> list[Any]:
    """The addresses of `host`. getaddrinfo has no time-out, so it runs in a thread that nobody has to wait for."""
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
    except RuntimeError as error:  # no more threads. OSError, since any other error would count as a lost answer
        raise OSError(str(error)) from None
    try:
        addresses = answers.get(timeout=left())
    except queue.Empty:
        raise TimeoutError("the look-up of its address timed out") from None
    if isinstance(addresses, OSError):
        raise addresses
    return addresses
