"""`postroom smtp`: the SMTP door, for applications that expect an SMTP server."""

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from postroom.access.smtp_logins import Login
from postroom.client import TIMEOUT_S, Client
from postroom.errors import ConfigError
from postroom.settings.model import Settings
from postroom.smtp.reception import Limits, Reception
from postroom.smtp.session import SmtpSession
from postroom.smtp.submission import Reply
from postroom.store.connection import connect
from postroom.store.ledger import Ledger
from postroom.telemetry.events import Emit

HANDSHAKE_S = 10.0
BACKLOG = 100
Tell = Callable[[str, str, int], None]


def listeners(host: str, port: int, tls_port: int | None) -> list[socket.socket]:
    """Sockets that listen there: at `port`, and at `tls_port` if it is given. OSError if one cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = [port] if tls_port is None else [port, tls_port]
    return [socket.create_server((host, one), family=family, backlog=BACKLOG) for one in ports]


def serve(settings: Settings, sockets: Sequence[socket.socket], emit: Emit, tell: Tell) -> None:
    """Serves at these sockets until SIGTERM or SIGINT, and closes them. Calls `tell(scheme, host, port)` for each.

    The first speaks SMTP, with STARTTLS if there is a certificate; the second speaks TLS from the first byte.
    """
    redis = connect(settings.redis_url, timeout_s=TIMEOUT_S, name="postroom-smtp")
    client = Client(Ledger(redis, settings.attachments), settings.sender)

    async def run() -> None:
        limits = Limits(message=settings.max_message)
        reception = Reception(settings.logins, client.send, settings.sender, limits, emit)
        tls = tls_context(settings.smtp_certificate, settings.smtp_key) if settings.smtp_certificate else None
        servers = [
            (scheme, await listen(reception, sock, tls, secure=scheme == "smtps"))
            for scheme, sock in zip(("smtp", "smtps"), sockets, strict=False)
        ]
        for scheme, server in servers:
            tell(scheme, *server.sockets[0].getsockname()[:2])
        emit("smtp.ready")
        await _told_to_stop()
        emit("smtp.stopping")
        for _, server in servers:
            server.close()
        await reception.drain()

    with ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        asyncio.run(run())


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """The TLS context of the server. ConfigError if these files are no certificate with its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # SSLError is an OSError too
        why = getattr(error, "reason", None) or error.strerror
        raise ConfigError(f"POSTROOM_SMTP_CERTIFICATE: {certificate} is no certificate with its key ({why})") from None
    return context


async def listen(
    reception: Reception, sock: socket.socket, tls: ssl.SSLContext | None, *, secure: bool
) -> asyncio.Server:
    """A server at this socket, whose sessions share this reception."""
    name = socket.getfqdn()

    def session() -> SmtpSession:
        return SmtpSession(reception, name, tls, secure=secure)

    def arrival() -> Arrival:
        return Arrival(reception, tls, session)

    return await asyncio.get_running_loop().create_server(arrival if secure else session, sock=sock, backlog=BACKLOG)


class Arrival(asyncio.Protocol):
    """A connection that has not shaken hands yet. (asyncio, given a context, would not tell of it before it has.)"""

    in_transaction = False

    def __init__(self, reception: Reception, tls: ssl.SSLContext | None, session: Callable[[], SmtpSession]) -> None:
        self.host = ""
        self.login: Login | None = None
        self._reception, self._tls, self._session = reception, tls, session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake, if there is room for another client."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()  # what comes is the handshake's
        self.host = str((transport.get_extra_info("peername") or ("",))[0])
        if self._reception.admit(self):
            self._transport.abort()
        else:
            self._handshake = asyncio.get_running_loop().create_task(self._shake_hands())

    def dismiss(self, _: Reply) -> None:
        """Closes the connection. Nothing can be said before the handshake."""
        self._handshake.cancel()
        self._transport.abort()

    async def _shake_hands(self) -> None:
        session = self._session()
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                self._transport,
                session,
                cast("ssl.SSLContext", self._tls),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except (OSError, asyncio.CancelledError):  # refused, broken off or too slow; it is closed already
            secure = None
        finally:
            self._reception.leave(self)
        if secure is not None:
            session.connection_made(secure)


async def _told_to_stop() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
