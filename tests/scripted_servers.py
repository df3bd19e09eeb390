"""A server of one's own for each test: a script plays each connection, over TLS or plain, with raw sockets."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

Script = Callable[["Peer"], None]
OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """One connection, seen from the server."""

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self.server, self.sock = server, sock

    def request(self) -> bytes:
        """Head and body of the next request; b"" once the client is gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self.sock.recv(65536)):
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += self.sock.recv(65536)
        self.server.requests.append(head + b"\r\n\r\n" + body)
        return self.server.requests[-1]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """One byte at a time, each soon enough to start a time-out per byte afresh."""
        for byte in data:
            if self.server.over.wait(0.02):
                return
            self.send(bytes([byte]))

    def start_tls(self) -> None:
        self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)


class Server:
    def __init__(self, tls: ssl.SSLContext, script: Script, *, encrypted: bool, host: str) -> None:
        self.tls, self.script, self.encrypted = tls, script, encrypted
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        family, name = (socket.AF_INET6, f"[{host}]") if ":" in host else (socket.AF_INET, host)
        self.listener = socket.create_server((host, 0), family=family)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if encrypted else 'http'}://{name}:{self.port}"
        self.sockets: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.connections += 1
                self.threads.append(threading.Thread(target=self._play, args=(sock,), daemon=True))
                self.threads[-1].start()

    def _play(self, sock: socket.socket) -> None:
        peer = Peer(self, sock)
        self.sockets.append(sock)
        try:
            if self.encrypted:
                peer.start_tls()
                self.sockets.append(peer.sock)
            self.script(peer)
        except OSError:
            pass  # the client hung up, as it should in many of these tests
        finally:
            peer.sock.close()

    def close(self) -> None:
        self.over.set()
        # Closing alone does not wake a thread that is blocked in accept or recv.
        for sock in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()
        for thread in self.threads:
            thread.join(10)


class Servers:
    """Starts servers; `ca` is the path of the certificate that they are to be trusted by."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        self.tls = self._context(authority, "127.0.0.1")
        self.tls_of_another_name = self._context(authority, "elsewhere.example")
        self.running: list[Server] = []

    def _context(self, authority: trustme.CA, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context

    def __call__(
        self, script: Script, *, encrypted: bool = True, another_name: bool = False, host: str = "127.0.0.1"
    ) -> Server:
        tls = self.tls_of_another_name if another_name else self.tls
        self.running.append(Server(tls, script, encrypted=encrypted, host=host))
        return self.running[-1]


def answering(*answers: bytes) -> Script:
    """A script that answers the requests on each connection with these, one after the other, then hangs up."""

    def script(peer: Peer) -> None:
        for answer in answers:
            if not peer.request():
                return
            peer.send(answer)

    return script


def json_answer(body: bytes, status: str = "200 OK", *headers: bytes) -> bytes:
    head = [b"HTTP/1.1 " + status.encode(), b"Content-Type: application/json", *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


@pytest.fixture(scope="session")
def all_servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def serve(all_servers: Servers) -> Iterator[Servers]:
    yield all_servers
    while all_servers.running:
        all_servers.running.pop().close()
