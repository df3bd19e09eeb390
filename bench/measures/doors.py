"""What a mail costs at a door that is a server, beside the least that such a server could be."""

import json
import smtplib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.graph import Graph
from bench.mails import SUBJECT, html, mailbox, recipient
from bench.measures import Plan
from bench.processes import Started, started
from bench.progress import BenchFault
from bench.room import Room, rooms
from bench.rows import Row, at_most, rounded
from postroom.access.api_keys import ApiKeys
from postroom.access.rights import Scope

MAILS = 2000
CLIENTS = 8
POSTROOM = [sys.executable, "-m", "postroom"]


def doors(graph: Graph, plan: Plan) -> Iterator[Row]:
    """CPU of a server process for a mail, ours and the bare one's in turn; Redis is not counted."""
    with rooms(graph) as room:
        key = ApiKeys(room.redis).create("bench", [Scope.SEND], rate=(10**9, 1.0))[1]
        yield from _row("http", room, plan, [*POSTROOM, "api", "--port", "0", "--json"], _http_client(key), 1.8)
        yield from _row("smtp", room, plan, [*POSTROOM, "smtp", "--port", "0", "--json"], _smtp_client, 2.5)


Client = Callable[[int, range], None]


def _row(door: str, room: Room, plan: Plan, command: list[str], client: Client, most: float) -> Iterator[Row]:
    count, pairs = plan.of(MAILS), []
    with (
        _serving(f"bare {door}", room, [sys.executable, "-m", f"bench.bare_{door}"]) as (bare, bare_port),
        _serving(f"postroom {door}", room, command) as (ours, our_port),
    ):
        for server, port in ((bare, bare_port), (ours, our_port)):
            _cpu_ms(server, port, client, range(200))  # now it is warm
        for turn in range(plan.rounds):
            first = (turn + 1) * 10**6
            each = range(first, first + count)
            pairs.append((_cpu_ms(bare, bare_port, client, each), _cpu_ms(ours, our_port, client, each)))
    yield Row(
        name=f"door-{door}",
        what=f"CPU of `postroom {'api' if door == 'http' else door}` for a mail, to that of a bare server",
        unit="times",
        values=[mine / least for least, mine in pairs],
        target=at_most(most),
        beside={
            "bare": f"{rounded(min(least for least, _ in pairs))} ms",
            "ours": f"{rounded(min(mine for _, mine in pairs))} ms",
        },
    )


@contextmanager
def _serving(name: str, room: Room, command: list[str]) -> Iterator[tuple[Started, int]]:
    settings = {**room.environment, "POSTROOM_SMTP_ALLOW": "127.0.0.1"}
    with started(name, command, room.folder, settings, orders=True) as server:
        yield server, _port(server.read_line(60))


def _port(line: str) -> int:
    if not line.startswith("{"):
        return int(line)
    told = json.loads(line)
    return int(told["port"] if "port" in told else told["url"].rpartition(":")[2])


def _cpu_ms(server: Started, port: int, client: Client, numbers: range) -> float:
    """CPU milliseconds of the server for each of these mails, which several clients bring."""
    before, faults = server.cpu_s(), list[BaseException]()

    def bring(some: range) -> None:
        try:
            client(port, some)
        except (OSError, BenchFault, smtplib.SMTPException) as fault:
            faults.append(fault)

    threads = [threading.Thread(target=bring, args=(numbers[place::CLIENTS],)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise BenchFault(f"{server.name}: {faults[0]!r}\n{server.log_tail()}")
    return (server.cpu_s() - before) / len(numbers) * 1000


def _http_client(key: str) -> Client:
    def client(port: int, numbers: range) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            for number in numbers:
                connection.sendall(_request(key, number))
                answer = b""
                while not answer.endswith(b"}"):
                    answer += (piece := connection.recv(65536))
                    if not piece:
                        break
                if b" 202 " not in answer[:20]:
                    raise BenchFault(answer.decode(errors="replace"))

    return client


def _request(key: str, number: int) -> bytes:
    mail = {"from": mailbox(number), "to": recipient(number), "subject": SUBJECT, "html": html(number)}
    body = json.dumps(mail).encode()
    head = (
        f"POST /v1/emails HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: bench/{number}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _smtp_client(port: int, numbers: range) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as server:
        for number in numbers:
            text = f"From: {mailbox(number)}\r\nTo: {recipient(number)}\r\nSubject: {SUBJECT}\r\n"
            text += f"Message-ID: <{number}@bench>\r\nContent-Type: text/html\r\n\r\n{html(number)}\r\n"
            server.sendmail(mailbox(number), [recipient(number)], text)
