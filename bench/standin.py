"""A stand-in for Entra and Graph that costs little: `python -m bench.standin FOLDER`, one process.

It knows just enough HTTP for a client that sends mail: keep-alive, Content-Length, TLS. An answer to `sendMail` is
given after a delay, or never for mailboxes that hang. What arrived when is kept in memory, for whoever asks at the
control socket (`bench.graph`).

Python's own asyncio and its TLS take three times as much; so this is a plain loop over a selector.
"""

import gc
import json
import os
import selectors
import socket
import ssl
import sys
import time
from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from pathlib import Path
from random import random
from typing import Any
from urllib.parse import unquote

import trustme

READ = 1 << 14
TOKEN = b"/oauth2/v2.0/token"
DISCOVERY = b"/v2.0/.well-known/openid-configuration"
SEND_MAIL = b"/sendMail"
USERS = b"/v1.0/users/"


class Connection:
    """One client's connection: what was read of the request that is under way."""

    __slots__ = ("buffer", "handshaken", "sock")

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.handshaken = False


class Arrivals:
    """What came in since the last reset. Times are `time.monotonic`, which all processes of a machine share."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.delay = float(options.get("delay", 0.0))
        self.jitter = float(options.get("jitter", 0.0))
        self.hanging = str(options.get("hanging", "\n")).encode()
        self.mark = str(options.get("mark", "")).encode()
        self.times, self.whose = array("d"), array("l")
        self.mailboxes: dict[bytes, int] = {}
        self.in_flight: list[int] = []
        self.most_in_flight: list[int] = []
        self.marked: list[int] = []
        self.answered = 0
        self.last_answer = 0.0
        self.faults: dict[str, int] = {}

    def add(self, mailbox: bytes, body: bytes) -> int:
        """Notes a mail, and says which mailbox of ours it is."""
        number = self.mailboxes.get(mailbox)
        if number is None:
            number = self.mailboxes[mailbox] = len(self.in_flight)
            self.in_flight.append(0)
            self.most_in_flight.append(0)
        if self.mark and self.mark in body:
            self.marked.append(len(self.times))
        self.times.append(time.monotonic())
        self.whose.append(number)
        self.in_flight[number] += 1
        self.most_in_flight[number] = max(self.most_in_flight[number], self.in_flight[number])
        return number

    def to_json(self) -> dict[str, Any]:
        return {
            "mailboxes": [unquote(name.decode()) for name in self.mailboxes],
            "times": self.times.tolist(),
            "whose": self.whose.tolist(),
            "most_in_flight": self.most_in_flight,
            "marked": self.marked,
            "answered": self.answered,
            "last_answer": self.last_answer,
            "faults": self.faults,
        }


class StandIn:
    """The loop: clients over TLS, one control connection at a time, answers whose time has come."""

    def __init__(self, folder: Path) -> None:
        self._selector = selectors.DefaultSelector()
        self._arrivals = Arrivals({})
        self._timers: list[tuple[float, int, Connection, int, Arrivals]] = []
        self._waiting: tuple[socket.socket, str, int, float] | None = None
        self._sequence = 0
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self._tls)
        self._clients = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._clients.getsockname()[1]
        self.control = folder / "control.sock"
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(str(self.control))
        self._control.listen(8)

    def serve(self) -> None:
        """Serves until standard input ends: with whoever started it."""
        going = [True]
        self._watch(self._clients, self._accept_client)
        self._watch(self._control, self._accept_control)
        self._watch(sys.stdin, going.clear)
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing here makes cycles, and a collection of a long log would show in others' latencies
        while going:
            for key, _ in self._selector.select(self._sleep_s()):
                key.data()
            self._answer_due()
            self._end_waiting()

    def _watch(self, file: Any, ready: Callable[[], None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, ready)

    def _sleep_s(self) -> float | None:
        due = [self._timers[0][0]] if self._timers else []
        due += [self._waiting[3]] if self._waiting else []
        return max(0.0, min(due) - time.monotonic()) if due else None

    # Clients.

    def _accept_client(self) -> None:
        plain, _ = self._clients.accept()
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        connection = Connection(sock)
        self._watch(sock, lambda: self._read(connection))

    def _close(self, connection: Connection) -> None:
        if connection.sock.fileno() >= 0:
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def _read(self, connection: Connection) -> None:
        sock = connection.sock
        try:
            if not connection.handshaken:
                sock.do_handshake()
                connection.handshaken = True
                return
            while data := sock.recv(READ):
                connection.buffer += data
                if not sock.pending():
                    break
            else:
                self._close(connection)
                return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self._close(connection)
            return
        self._take_requests(connection)

    def _take_requests(self, connection: Connection) -> None:
        buffer = connection.buffer
        while buffer:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(buffer[:end])
            small = head.lower()
            size = _number_after(small, b"\r\ncontent-length:")
            whole = end + 4 + size
            if len(buffer) < whole:
                if b"\r\nexpect: 100-continue" in small and len(buffer) == end + 4:
                    self._say(connection, b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = bytes(buffer[end + 4 : whole])
            del buffer[:whole]
            self._handle(connection, head, small, body)

    def _handle(self, connection: Connection, head: bytes, small: bytes, body: bytes) -> None:
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
        if target.startswith(USERS) and target.endswith(SEND_MAIL) and method == b"POST":
            if b"\r\nauthorization: bearer " not in small:
                self._refuse(connection, "401 Unauthorized")
            elif not body:
                self._refuse(connection, "400 Bad Request")
            else:
                self._take_mail(connection, target[len(USERS) : -len(SEND_MAIL)], small, body)
        elif target.endswith(TOKEN):
            self._say_json(connection, {"token_type": "Bearer", "expires_in": 86399, "access_token": "t" * 1400})
        elif target.endswith(DISCOVERY):
            self._say_json(connection, self._discovery(target[: -len(DISCOVERY)].decode()))
        else:
            self._refuse(connection, "404 Not Found")

    def _take_mail(self, connection: Connection, mailbox: bytes, small: bytes, body: bytes) -> None:
        arrivals = self._arrivals
        number = arrivals.add(mailbox, body)
        if mailbox.startswith(arrivals.hanging):
            return
        if arrivals.delay:
            self._sequence += 1
            due = arrivals.times[-1] + arrivals.delay * (1 + arrivals.jitter * (2 * random() - 1))
            heappush(self._timers, (due, self._sequence, connection, number, arrivals))
        else:
            self._accept(connection, number, arrivals)

    def _answer_due(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= time.monotonic():
            _, _, connection, number, arrivals = heappop(timers)
            self._accept(connection, number, arrivals)

    def _accept(self, connection: Connection, number: int, arrivals: Arrivals) -> None:
        arrivals.in_flight[number] -= 1
        arrivals.answered += 1
        arrivals.last_answer = time.monotonic()
        self._say(
            connection,
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nDate: Mon, 02 Nov 2026 08:00:00 GMT\r\n"
            b"request-id: 6f2c1d6e-0000-4000-8000-%012x\r\n\r\n" % arrivals.answered,
        )

    def _refuse(self, connection: Connection, status: str) -> None:
        faults = self._arrivals.faults
        faults[status] = faults.get(status, 0) + 1
        self._say(connection, f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    def _say_json(self, connection: Connection, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._say(connection, head.encode() + body)

    def _say(self, connection: Connection, answer: bytes) -> None:
        try:
            connection.sock.send(answer)
        except OSError:  # the client has gone, or reads nothing of what is smaller than any buffer
            self._close(connection)

    def _discovery(self, tenant: str) -> dict[str, Any]:
        here = f"https://127.0.0.1:{self.port}{tenant}"
        return {
            "token_endpoint": f"{here}{TOKEN.decode()}",
            "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{here}/oauth2/v2.0/devicecode",
            "issuer": f"{here}/v2.0",
        }

    # Control: one line of JSON each way.

    def _accept_control(self) -> None:
        sock, _ = self._control.accept()
        self._watch(sock, lambda: self._obey(sock))

    def _obey(self, sock: socket.socket) -> None:
        line = sock.recv(4096)
        if not line:
            self._selector.unregister(sock)
            sock.close()
            return
        order = json.loads(line)
        match order["do"]:
            case "reset":
                self._arrivals = Arrivals(order)
                self._tell(sock, {})
            case "wait":
                self._waiting = (sock, order["what"], order["count"], time.monotonic() + order["timeout"])
            case "arrivals":
                self._tell(sock, self._arrivals.to_json())

    def _end_waiting(self) -> None:
        if self._waiting is None:
            return
        sock, what, count, until = self._waiting
        arrivals = self._arrivals
        reached = {
            "answered": arrivals.answered,
            "arrived": len(arrivals.times),
            "marked": len(arrivals.marked),
        }[what]
        if reached >= count or time.monotonic() >= until:
            self._waiting = None
            self._tell(sock, {"reached": reached})

    def _tell(self, sock: socket.socket, value: dict[str, Any]) -> None:
        sock.sendall(json.dumps(value).encode() + b"\n")


def _number_after(small: bytes, name: bytes) -> int:
    at = small.find(name)
    return int(small[at + len(name) :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def main() -> None:
    stand_in = StandIn(Path(sys.argv[1]))
    told = {"port": stand_in.port, "ca_file": str(stand_in.ca_file), "control": str(stand_in.control)}
    os.write(1, json.dumps(told).encode() + b"\n")
    stand_in.serve()


if __name__ == "__main__":
    main()
