"""One SMTP connection: aiosmtpd speaks the protocol; this decides what is allowed, and writes the answers.

https://www.rfc-editor.org/rfc/rfc5321, https://www.rfc-editor.org/rfc/rfc6409
"""

import re
import ssl
from asyncio import (
    BaseTransport,
    CancelledError,
    IncompleteReadError,
    LimitOverrunError,
    StreamReader,
    StreamWriter,
    Transport,
)
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, TLSSetupException
from aiosmtpd.smtp import Session as Facts

from postroom.access.smtp_logins import Login
from postroom.mail.address import Address
from postroom.smtp import submission
from postroom.smtp.reception import CROWDED, GOODBYE, LATER, Reception
from postroom.smtp.submission import Reply
from postroom.telemetry.redaction import place_of

SMALL = 64 * 1024  # bytes that are read of any message, whether or not it is its turn
LONGEST_COMMAND = 2048
_END = b"\r\n.\r\n"

# The enhanced status (RFC 3463) for answers of aiosmtpd that have none, by code.
_STATUS = {
    "221": "2.0.0", "250": "2.0.0", "252": "2.0.0", "454": "4.7.0", "500": "5.5.2", "501": "5.5.4", "502": "5.5.1",
    "503": "5.5.1", "504": "5.5.4", "530": "5.7.0", "552": "5.3.4", "553": "5.1.3", "554": "5.7.0", "555": "5.5.4",
}  # fmt: skip
# Most addresses of the envelope are like this. aiosmtpd's parser takes many times as long.
_USUAL = re.compile(r"[ ]*<([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)>([^(]*)")
# Parameters of MAIL and RCPT. RFC 4954: a server with AUTH must accept AUTH, and may ignore it. The others (RFC 3461)
# some programs send to every server; no report can be promised, for Exchange makes none.
_IGNORED = {"AUTH", "NOTIFY", "ORCPT", "RET", "ENVID"}
_BARE = re.compile(r"(\d{3}) (?!\d\.\d)(?:Error: )?(.*)", re.DOTALL)


class SmtpSession(SMTP):
    """A connection from its greeting to its end. `secure`: it speaks TLS from the first byte."""

    line_length_limit = SMALL  # of what the reader holds; a message may have longer lines
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(self, reception: Reception, hostname: str, tls: ssl.SSLContext | None, *, secure: bool) -> None:
        self._reception = reception
        self._secure = secure
        self._admitted = False
        self._greets = False
        self._wrong = 0
        self.login: Login | None = None
        self.host = ""
        super().__init__(
            self,
            data_size_limit=reception.limits.message,
            enable_SMTPUTF8=True,
            hostname=hostname,
            ident="Postroom ESMTP",
            tls_context=None if secure else tls,
            timeout=reception.limits.idle_s,
            auth_require_tls=not secure,
            authenticator=_to_be_checked,
            command_call_limit=dict(reception.limits.commands),
        )
        # aiosmtpd shares one dict among all connections, in which the limits grow with each EHLO.
        self.command_size_limits = defaultdict(lambda: LONGEST_COMMAND)
        self.command_size_limit = LONGEST_COMMAND

    # The connection

    def connection_made(self, transport: BaseTransport) -> None:
        """Begins a session. After STARTTLS it begins again, and forgets what the client sent before."""
        began = self._original_transport is not None
        self.host = str((transport.get_extra_info("peername") or ("",))[0])
        if not began and (refused := self._reception.admit(self)):
            self.transport = transport
            self.dismiss(refused)
            return
        self._admitted = True
        self.login = self._reception.logins.of_network(self.host)
        if self.login:
            self._auth_require_tls = False
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the session."""
        if self._admitted:
            self._reception.leave(self)
            super().connection_lost(error)

    def eof_received(self) -> bool | None:
        """The client sends nothing more. Without TLS it may still read its answers, as Exim does after QUIT."""
        if not self._admitted:
            return False
        if self._secure or (self.session and self.session.ssl is not None):
            return super().eof_received()
        self._reader.feed_eof()
        return True

    @property
    def in_transaction(self) -> bool:
        """Whether the client is sending a mail: MAIL FROM was accepted."""
        return bool(self.envelope and self.envelope.mail_from)

    def dismiss(self, reply: Reply) -> None:
        """Answers this and closes the connection."""
        transport = self.transport
        if not isinstance(transport, Transport) or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()  # the client does not read our answers
        else:
            transport.write(f"{reply}\r\n".encode())
            transport.close()

    def _reset_timeout(self, duration: float | None = None) -> None:
        super()._reset_timeout(duration or (None if self.login else self._reception.limits.unknown_s))

    def _timeout_cb(self) -> None:
        self.dismiss(Reply(code=421, status="4.4.2", text="Nothing came for too long"))

    def _cb_client_connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        super()._cb_client_connected(reader, writer)
        read = reader.readuntil

        async def readuntil(separator: bytes = b"") -> bytes:
            try:
                line = await read(separator or b"\n")
            except IncompleteReadError:  # the client sends nothing more, and has all answers
                if isinstance(self.transport, Transport):
                    self.transport.close()
                raise CancelledError from None
            if separator:
                return line
            # A command. Some programs read a lone CR or LF as the end of a line and others do not, so it is not
            # allowed.
            return line if line.endswith(b"\r\n") and b"\r" not in line[:-2] else b"\r\n"

        reader.readuntil = readuntil  # type: ignore[method-assign,assignment]

    async def push(self, status: str | bytes) -> None:
        """Writes one answer, with an enhanced status where RFC 2034 asks for one."""
        text = status.decode(errors="replace") if isinstance(status, bytes) else status
        if not self._greets and (bare := _BARE.fullmatch(text)) and bare[1] in _STATUS:
            text = f"{bare[1]} {_STATUS[bare[1]]} {bare[2]}"
            if bare[1] == "552":
                text = str(submission.too_large(self._reception.limits.message))
            elif bare[2] == "bad syntax":
                text += "; a command is one line that ends in CRLF"
        await super().push("".join(character if " " <= character <= "~" else "?" for character in text))

    async def handle_exception(self, error: Exception) -> str:
        """The answer to a fault of Postroom."""
        if not isinstance(error, TLSSetupException):
            self._reception.emit("smtp.failed", error=place_of(error))
        return str(LATER)

    # The login

    async def smtp_AUTH(self, arg: str | None) -> None:
        """AUTH PLAIN or LOGIN."""
        if self.in_transaction:
            await self.push("503 5.5.1 AUTH has no place in a transaction")
            return
        mechanism, _, rest = (arg or "").partition(" ")
        await super().smtp_AUTH(f"{mechanism.upper()} {rest}".strip())

    async def auth_PLAIN(self, _: object, args: list[str]) -> AuthResult:
        """https://www.rfc-editor.org/rfc/rfc4616"""
        return await self._checked(await super().auth_PLAIN(_, args))

    async def auth_LOGIN(self, _: object, args: list[str]) -> AuthResult:
        """https://datatracker.ietf.org/doc/html/draft-murchison-sasl-login-00"""
        return await self._checked(await super().auth_LOGIN(_, args))

    async def _checked(self, result: AuthResult) -> AuthResult:
        if not isinstance(result.auth_data, LoginPassword):
            return result  # the client sent no name and password, and was answered already
        name, password = (part.decode(errors="replace") for part in result.auth_data)
        login = await self._reception.check(self.host, name, password)
        if login:
            self.login = login
            return AuthResult(success=True)
        self._wrong += 1
        if self._wrong < self._reception.limits.wrong_passwords:
            text = "535 5.7.8 Name or password are wrong; both stand in [smtp.NAME] of Postroom's settings"
            return AuthResult(success=False, handled=False, message=text)
        self.dismiss(Reply(code=421, status="4.7.0", text="Name or password were wrong too often"))
        return AuthResult(success=False, handled=True)

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Whether the client must log in first. If so, it is answered that."""
        if self.login:
            return False
        if self._reception.logins.by_password:
            await self.push("530 5.7.0 Log in first: STARTTLS, then AUTH")
        else:
            await self.push("550 5.7.1 This address may not send here: it is in no network of POSTROOM_SMTP_ALLOW")
        return True

    # The mail

    async def smtp_HELO(self, hostname: str) -> None:
        """The old greeting."""
        self._greets = True
        await super().smtp_HELO(hostname)
        self._greets = False

    async def smtp_EHLO(self, hostname: str) -> None:
        """The greeting, which is answered with the extensions of this server."""
        self._greets = True
        await super().smtp_EHLO(hostname)
        self._greets = False

    async def handle_EHLO(
        self, _: SMTP, session: Facts, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """The lines of the answer to EHLO."""
        session.host_name = hostname
        can = [line[4:] for line in responses if not line[4:].startswith("HELP")]
        if not self._reception.logins.by_password:
            can = [line for line in can if not line.startswith("AUTH")]
        can += ["PIPELINING", "ENHANCEDSTATUSCODES"]
        return [f"250{' ' if line is can[-1] else '-'}{line}" for line in can]

    async def smtp_MAIL(self, arg: str | None) -> None:
        """MAIL FROM. While the server stops, the connection is closed instead."""
        if self._reception.stopping:
            self.dismiss(GOODBYE)
        else:
            await super().smtp_MAIL(arg)

    async def handle_MAIL(self, _: SMTP, session: Facts, envelope: Envelope, address: str, options: list[str]) -> str:
        """Begins a transaction."""
        envelope.mail_from = address
        return "250 2.1.0 Sender ok"

    async def handle_RCPT(self, _: SMTP, session: Facts, envelope: Envelope, address: str, options: list[str]) -> str:
        """Adds a recipient."""
        if len(envelope.rcpt_tos) >= self._reception.limits.recipients:
            return f"452 4.5.3 At most {self._reception.limits.recipients} recipients in one transaction"
        try:
            envelope.rcpt_tos.append(Address.parse(address))
        except ValueError as error:
            return str(Reply(code=550, status="5.1.3", text=str(error)))
        return "250 2.1.5 Recipient ok"

    async def smtp_DATA(self, arg: str | None) -> None:
        """Receives the message and keeps it, or refuses it. (aiosmtpd's own makes an object of each line.)"""
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        envelope, login = self.envelope, self.login
        if not envelope or not login or not envelope.rcpt_tos:
            await self.push("503 need RCPT command")
            return
        if arg:
            await self.push("501 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        data = Incoming(self._reader, self._reception.limits.message)
        async with AsyncExitStack() as turn:
            refused = await self._received(data, login, turn)
            self.envelope = Envelope()
            reply = refused or await self._reception.keep(
                data.message(),
                "" if envelope.mail_from in {None, "<>"} else str(envelope.mail_from),
                [Address.parse(one) for one in envelope.rcpt_tos],
                login,
            )
        await self.push(str(reply))
        if self._reception.stopping:
            self.dismiss(GOODBYE)

    async def _received(self, data: "Incoming", login: Login, turn: AsyncExitStack) -> Reply | None:
        """Reads all of the message; the answer that refuses it, or None. One that is large is kept in its turn only.

        A connection whose message comes too slowly is ended.
        """
        limits, asked, refused = self._reception.limits, False, None
        ends, paced = self.loop.time() + limits.idle_s, 0
        self._reset_timeout(min(limits.pace_s, limits.idle_s))
        while await data.comes():
            if data.size > SMALL and not asked:
                self._reset_timeout()
                asked = True
                if not await turn.enter_async_context(self._reception.receiving(self.host, login)):
                    data.most, refused = 0, CROWDED
                paced = -limits.message  # its time begins now
            if data.size - paced >= limits.pace * limits.pace_s:
                paced = data.size
                self._reset_timeout(max(0.01, min(limits.pace_s, ends - self.loop.time())))
        self._reset_timeout()
        return refused or (submission.too_large(limits.message) if data.size > data.most else None)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        if len(arg) <= LONGEST_COMMAND and (usual := _USUAL.fullmatch(arg)):
            return usual[1], usual[2].strip()
        return super()._getaddr(arg)

    def _getparams(self, params: Any) -> dict[str, str | bool] | None:
        return super()._getparams([one for one in params if one.partition("=")[0] not in _IGNORED])

    async def smtp_POST(self, arg: str | None) -> None:
        """HTTP: closes the connection. A web page could make a browser send SMTP commands in the body of a request."""
        self.dismiss(Reply(code=421, status="4.7.0", text="This is SMTP"))

    smtp_GET = smtp_PUT = smtp_OPTIONS = smtp_CONNECT = smtp_POST


class Incoming:
    """A message on its way in, up to its end. Of one with more than `most` bytes nothing is kept."""

    def __init__(self, reader: StreamReader, most: int) -> None:
        self._reader, self._data = reader, bytearray()
        self.most, self.size = most, -5  # without the two line ends around it and the last dot
        # As after any other line: so a message may be empty, and its first line may begin with a dot.
        reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other way back

    async def comes(self) -> bool:
        """Reads on; whether there is more to read."""
        try:
            chunk, more = await self._reader.readuntil(_END), False
        except LimitOverrunError as part:
            chunk, more = await self._reader.readexactly(part.consumed), True
        self.size += len(chunk)
        if self.size <= self.most:
            self._data += chunk
        else:
            self._data.clear()
        return more

    def message(self) -> bytes:
        """The message, with the dots that the client has put before others taken away. It can be had once."""
        data, self._data = self._data, bytearray()
        end = len(data) - 3
        if data.find(b"\r\n.", 0, end) >= 0:
            data = data.replace(b"\r\n.", b"\r\n")  # the last one too
            end = len(data) - 2
        return bytes(memoryview(data)[2:end])


def _to_be_checked(server: SMTP, session: Facts, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    """aiosmtpd calls this in its event loop. The check takes long, so it is made later, in `_checked`."""
    return AuthResult(success=False, handled=False, auth_data=given)
