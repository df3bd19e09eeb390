"""The process that renders for a `Renderer`: it answers one request after the other until its socket is closed.

It has limits of memory and of CPU time, which the kernel keeps, and it knows no secret: `Renderer` starts it without
our settings. What it cannot bear ends it, and nothing else.
"""

import json
import resource
import signal
import socket
from pathlib import Path

from postroom.errors import TemplateFault, TemplateMissing
from postroom.render.templates import Templates

READY = ["ready"]
_HEAD = 4  # bytes that say how long a message is
_PIECE = 256 * 1024


def receive(channel: socket.socket) -> object | None:
    """The next message; None if the other side has closed the socket. OSError if it died in the middle of one."""
    data = channel.recv(_PIECE)
    if not data:
        return None
    whole = _HEAD + int.from_bytes(data[:_HEAD])  # a socket never gives less than a head: it is sent with the rest
    if len(data) < whole:
        pieces, size = [data], len(data)
        while size < whole:
            pieces.append(channel.recv(_PIECE))
            if not pieces[-1]:
                raise ConnectionResetError
            size += len(pieces[-1])
        data = b"".join(pieces)
    message: object = json.loads(data[_HEAD:])
    return message


def send(channel: socket.socket, message: object) -> None:
    """Sends a JSON value."""
    data = json.dumps(message).encode()
    channel.sendall(len(data).to_bytes(_HEAD) + data)


def main(fd: str, folder: str, memory: str, cpu_s: str) -> None:
    """Serves requests: [name, variables, locale].

    Answers ["bodies", …], ["missing", why], ["fault", why] or ["disk", errno].
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    channel, templates = socket.socket(fileno=int(fd)), Templates(Path(folder))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    send(channel, READY)
    while request := receive(channel):
        # SIGPROF ends this process, whatever it does then: Python's own handlers would wait for a C function to end.
        signal.setitimer(signal.ITIMER_PROF, float(cpu_s))
        answer = _answer(templates, *request)  # type: ignore[misc]
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(channel, answer)


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
