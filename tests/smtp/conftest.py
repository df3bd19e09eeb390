"""An SMTP server of ours in this process, and clients that may send it any bytes."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest
import trustme

from postroom.access.failures import Failures
from postroom.access.smtp_logins import Login, Logins, hashed
from postroom.jobs.job import Receipt
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.smtp.reception import Limits, Reception
from postroom.smtp.server import listen, listeners

SENDER = "noreply@contoso.com"
PATIENCE_S = 20.0
PASSWORD = "correct horse"
LOCAL = Login(name="", senders=("*",), networks=(ip_network("127.0.0.0/8"),))
SHOP = Login(name="shop", senders=("shop@contoso.com",), password_hash=hashed(PASSWORD))
MESSAGE = b"From: noreply@contoso.com\r\nTo: ann@contoso.com\r\n\r\nHello\r\n"


@dataclass
class TakenIn:
    """What was taken in. A test may set `answer` to what a ledger answers in other cases."""

    mails: list[Mail] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    answer: Callable[[Mail, str | None], Receipt] = lambda mail, key: Receipt(id="job-1", known=False)

    def take_in(self, mail: Mail, key: str | None) -> Receipt:
        receipt = self.answer(mail, key)
        self.mails.append(mail)
        self.keys.append(key)
        return receipt

    @property
    def sources(self) -> list[object]:
        return [mail.mime for mail in self.mails]


@dataclass
class Server:
    """A running server: `port` has SMTP, `tls_port` TLS from the first byte."""

    loop: asyncio.AbstractEventLoop
    reception: Reception
    kept: TakenIn
    events: list[dict[str, Any]]
    trust: ssl.SSLContext
    listening: Any = None
    port: int = 0
    tls_port: int = 0

    def run(self, coroutine: Any) -> "Any":
        """Runs it in the server's loop; a future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    @contextmanager
    def client(self, *, secure: bool = False, greeting: bytes = b"220 ", source: str = "127.0.0.1") -> Iterator["Peer"]:
        port = self.tls_port if secure else self.port
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S, (source, 0)) as sock:
            peer = Peer(sock, self.trust)
            if secure:
                peer.start_tls()
            try:
                assert peer.line().startswith(greeting)
                yield peer
            finally:
                peer.file.close()
                peer.sock.close()


class Peer:
    """A client that writes bytes and reads lines."""

    def __init__(self, sock: socket.socket, trust: ssl.SSLContext) -> None:
        self.sock, self.trust, self.file = sock, trust, sock.makefile("rb")

    def start_tls(self) -> None:
        self.file.close()
        self.sock = self.trust.wrap_socket(self.sock, server_hostname="localhost")
        self.file = self.sock.makefile("rb")

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        """The next line of the server's; empty once it has closed the connection."""
        try:
            return self.file.readline()
        except ConnectionResetError:
            return b""

    def answer(self) -> bytes:
        """The next answer, the last line of it."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def say(self, command: bytes) -> bytes:
        """What the server answers to this command."""
        self.write(command + b"\r\n")
        return self.answer()

    def hello(self) -> list[bytes]:
        """What the server can do."""
        self.write(b"EHLO client\r\n")
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        return [line[4:].strip() for line in lines[1:]]

    def begin(self, sender: bytes = b"<noreply@contoso.com>") -> None:
        """A transaction, up to the message."""
        self.hello()
        for command in (b"MAIL FROM:" + sender, b"RCPT TO:<ann@contoso.com>"):
            assert self.say(command).startswith(b"250 ")
        assert self.say(b"DATA").startswith(b"354 ")

    def gone(self) -> bool:
        """Whether the server has closed the connection."""
        return self.line() == b""


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def open_server(authority: trustme.CA) -> Iterator[Callable[..., Server]]:
    """Starts a server; what is given are its limits, or its logins."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with ExitStack() as stack:

        def start(*logins: Login, certificate: bool = True, failures: Failures | None = None, **limits: Any) -> Server:
            loop = asyncio.new_event_loop()
            events: list[dict[str, Any]] = []
            kept = TakenIn()
            ready = threading.Event()

            async def run() -> None:
                server.reception = Reception(
                    Logins(logins or (LOCAL, SHOP)),
                    kept.take_in,
                    Address.parse(SENDER),
                    Limits(**{"message": 10_000_000} | limits),
                    lambda event, **facts: events.append({"event": event, **facts}),
                    failures,
                )
                context = tls if certificate else None
                plain = await listen(server.reception, listeners("127.0.0.1", 0, None)[0], context, secure=False)
                secure = await listen(server.reception, listeners("127.0.0.1", 0, None)[0], tls, secure=True)
                server.listening = plain.sockets[0]
                server.port, server.tls_port = (one.sockets[0].getsockname()[1] for one in (plain, secure))
                ready.set()
                await over.wait()
                # asyncio leaks a connection that comes in while its server closes: none is taken from now on.
                for sock in (*plain.sockets, *secure.sockets):
                    loop.remove_reader(sock)
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # two steps are what a connection needs that was taken just before
                plain.close()
                secure.close()
                await server.reception.drain()

            over = asyncio.Event()
            server = Server(loop, None, kept, events, trust)  # type: ignore[arg-type]
            thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
            thread.start()

            def stop() -> None:
                loop.call_soon_threadsafe(over.set)
                thread.join(PATIENCE_S)
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

            stack.callback(stop)
            assert ready.wait(PATIENCE_S)
            return server

        yield start


@pytest.fixture
def server(open_server: Callable[..., Server]) -> Server:
    """A server that takes mail from this machine without a password."""
    return open_server()
