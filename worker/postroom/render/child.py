"""The process that renders for a `Renderer`: it answers one request after the other until its socket is closed.

It has limits of memory and of CPU time, which the kernel keeps, and it knows no secret: `Renderer` starts it without
our settings. What it cannot bear ends it, and nothing else.
"""

import json
import resource
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

from postroom.errors import TemplateFault, TemplateMissing
from postroom.render.templates import Templates

READY = ["ready"]
_HEAD = 4  # bytes that say how long a message is
_PIECE = 256 * 1024


class Channel:
    """Messages over a socket: JSON values, each with its length before it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._read = connection, b""

    def receive(self) -> object | None:
        """The next message; None if the other side has closed the socket. OSError if it died in the middle of one."""
        while True:
            end = _HEAD + int.from_bytes(self._read[:_HEAD])
            if len(self._read) >= max(end, _HEAD):
                message: object = json.loads(self._read[_HEAD:end])
                self._read = self._read[end:]
                return message
            piece = self._socket.recv(_PIECE)
            if not piece:
                return None
            self._read += piece

    def send(self, message: object) -> None:
        """Sends a JSON value."""
        self.send_raw([json.dumps(message).encode()])

    def send_raw(self, messages: Iterable[bytes]) -> None:
        """Sends JSON texts."""
        self._socket.sendall(b"".join([len(data).to_bytes(_HEAD) + data for data in messages]))


def main(fd: str, folder: str, memory: str, cpu_s: str) -> None:
    """Serves requests: [name, variables, locale].

    Answers ["bodies", …], ["missing", why], ["fault", why] or ["disk", errno].
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    channel, templates = Channel(socket.socket(fileno=int(fd))), Templates(Path(folder))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    channel.send(READY)
    while request := channel.receive():
        # SIGPROF ends this process, whatever it does then: Python's own handlers would wait for a C function to end.
        signal.setitimer(signal.ITIMER_PROF, float(cpu_s))
        answer = _answer(templates, *request)  # type: ignore[misc]
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.send(answer)


def _answer(templates: Templates, name: str, variables: dict[str, object], locale: str | None) -> list[object]:
    try:
        bodies = templates.render(name, variables, locale)
    except TemplateMissing as fault:
        return ["missing", str(fault)]
    except TemplateFault as fault:
        return ["fault", str(fault)]
    except OSError as error:
        return ["disk", error.errno or 0]
    except BaseException as error:  # noqa: BLE001 - a panic of the inliner is no Exception
        return ["fault", f"{name}: {type(error).__name__} while it was rendered"]
    return ["bodies", bodies.subject, bodies.html, bodies.text]
