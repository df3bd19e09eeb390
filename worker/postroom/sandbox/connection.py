"""One HTTP call and its connection: it is answered, or fails in one of the ways in which networks fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# linger on, for 0 s: closing sends RST instead of FIN
_RESET = struct.pack("ii", 1, 0)


class OpenProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with the transport handed to the application in `scope["state"]`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, dict(app_state), _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keeps the transport for every request of this connection."""
        super().connection_made(transport)
        self.app_state["transport"] = transport
        # asyncio does this only for sockets that name their protocol, which accepted ones do not; head and body are
        # two writes, and without it the second waits 40 ms for the first one's acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(slots=True)
class Answer:
    """A status, headers and a body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def raw(self) -> bytes:
        """The answer as bytes, head included, for when uvicorn does not write it."""
        phrase = STATUS_PHRASES.get(self.status, b"").decode()
        fields = {"date": formatdate(usegmt=True), **self._fields(), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} {phrase}\r\n{head}\r\n".encode("latin-1") + self.body

    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI wants them."""
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._fields().items()]

    def _fields(self) -> dict[str, str]:
        # The date is here, and not uvicorn's, so that a fault can put another one in its place.
        return {"date": formatdate(usegmt=True), **self.headers, "content-length": str(len(self.body))}


class Call:
    """One request, and the ways to end it."""

    __slots__ = ("headers", "method", "path", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

    def header(self, name: bytes) -> str:
        """The header's value, or an empty string."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def content_length(self) -> int:
        """The size of the body by its header, in bytes; 0 without one."""
        announced = self.headers.get(b"content-length", b"0")
        return int(announced) if announced.isdigit() else 0

    async def body(self) -> bytes | None:
        """The whole body; None where the client left before it had sent all of it."""
        parts = []
        while (message := await self.receive())["type"] == "http.request":
            parts.append(message["body"])
            if not message.get("more_body"):
                return b"".join(parts)
        return None

    async def answer(self, answer: Answer) -> None:
        """Sends the answer."""
        headers = answer.encoded_headers()
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": answer.body})

    async def drip(self, answer: Answer, pause: Callable[[], Awaitable[None]], over: Callable[[], None]) -> None:
        """Sends the answer byte by byte, head included, so that no single read of the client times out.

        `over` is called before the last one, after which the client has it all.
        """
        transport, (*most, last) = self._transport(), answer.raw()
        for byte in most:
            if transport.is_closing():
                break
            transport.write(bytes((byte,)))
            await pause()
        over()
        if not transport.is_closing():
            transport.write(bytes((last,)))
        await self.close()

    async def hang(self) -> None:
        """Does not answer, and returns when the client has given up."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def reset(self) -> None:
        """Resets the connection (RST), as when a machine on the way dies."""
        transport = self._transport()
        if sock := transport.get_extra_info("socket"):  # none where the client has closed it already
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
        await self.hang()

    async def close(self) -> None:
        """Closes the connection (FIN), without an answer or after a part of one."""
        self._transport().close()
        await self.hang()

    def _transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self.scope["state"]["transport"]
        return transport
