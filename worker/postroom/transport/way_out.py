"""What stands between this machine and a host of Microsoft's: each step of a connection by itself, for the doctor.

The transports make these steps as well, but their errors name only the step that failed. Here no request is sent: the
connection is closed once it stands.
"""

import base64
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from cryptography import x509

from postroom.transport.connect import connect, look_up
from postroom.transport.http import Deadline, NotSent, ca_bundle, host_of, port_of, proxy_for, reason

MOST_OF_A_PROXY = 16 * 1024  # bytes of a proxy's answer


class Step(StrEnum):
    """The steps of a connection, in their order; DONE if all of them succeeded."""

    PROXY_SETTING = "proxy setting"
    LOOK_UP = "look-up"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "tls"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How far a connection to `host` came. `proxy` is the proxy's host and port, if there is one.

    `step` is the step that failed, and `fault` what the system said. `proxy_status` is the proxy's answer to CONNECT,
    and `proxy_wants` the logins that it takes (Basic, Negotiate …). `issuer` is who issued the certificate that the
    server showed, trusted or not. `bundle` is the file of CA certificates that was used.
    """

    host: str
    port: int
    step: Step
    fault: str = ""
    proxy: str | None = None
    proxy_status: int | None = None
    proxy_wants: tuple[str, ...] = ()
    issuer: str | None = None
    bundle: str = ""


class _Failed(Exception):
    """A step that failed. The fields are those of Way."""

    def __init__(self, step: Step, fault: str, **more: object) -> None:
        super().__init__(fault)
        self.fields = {"step": step, "fault": fault, **more}


def way_to(url: str, given_ca_bundle: str | None, deadline_s: float) -> Way:
    """How far a connection to the host in `url` comes within so many seconds. Raises nothing."""
    host, port = host_of(url), port_of(url)
    try:
        proxy = proxy_for(url)
    except NotSent as fault:
        return Way(host=host, port=port, step=Step.PROXY_SETTING, fault=str(fault))
    known: dict[str, object] = {"host": host, "port": port}
    if proxy:
        known["proxy"] = f"{host_of(proxy)}:{port_of(proxy)}"
    try:
        bundle = ca_bundle(given_ca_bundle)
    except OSError as error:
        return Way(**known, step=Step.TLS, fault=str(error))  # type: ignore[arg-type]
    known["bundle"] = str(bundle)
    try:
        issuer = _issuer(host, port, proxy, bundle.is_dir(), str(bundle), Deadline(deadline_s))
    except _Failed as failed:
        return Way(**known | failed.fields)  # type: ignore[arg-type]
    return Way(**known, step=Step.DONE, issuer=issuer)  # type: ignore[arg-type]


def _issuer(host: str, port: int, proxy: str | None, is_folder: bool, bundle: str, deadline: Deadline) -> str | None:
    """Who issued the server's certificate, which is trusted. Raises _Failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(**{"capath" if is_folder else "cafile": bundle})
    except OSError as error:
        raise _Failed(Step.TLS, f"the CA bundle {bundle} cannot be used: {reason(error)}") from None
    try:
        with _tls(_tunnel(host, port, proxy, context, deadline), context, host, deadline) as connection:
            return _issuer_of(connection.getpeercert(binary_form=True))
    except ssl.SSLCertVerificationError as error:
        shown = _shown_issuer(host, port, proxy, context, deadline)
        raise _Failed(Step.TLS, error.verify_message, issuer=shown) from None
    except OSError as error:
        raise _Failed(Step.TLS, reason(error)) from None


def _shown_issuer(host: str, port: int, proxy: str | None, trusted: ssl.SSLContext, deadline: Deadline) -> str | None:
    """Who issued the certificate that the server shows, though it is not to be trusted. Nothing is sent over it."""
    any_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    any_certificate.check_hostname = False
    any_certificate.verify_mode = ssl.CERT_NONE
    with (
        suppress(_Failed, OSError),
        _tls(_tunnel(host, port, proxy, trusted, deadline), any_certificate, host, deadline) as connection,
    ):
        return _issuer_of(connection.getpeercert(binary_form=True))
    return None


def _tls(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline) -> ssl.SSLSocket:
    try:
        sock.settimeout(deadline.left())
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def _tunnel(host: str, port: int, proxy: str | None, context: ssl.SSLContext, deadline: Deadline) -> socket.socket:
    """A connection to the host, through the proxy if there is one. Raises _Failed."""
    if proxy is None:
        return _connected(host, port, deadline)
    sock = _connected(host_of(proxy), port_of(proxy), deadline)
    try:
        if urlsplit(proxy).scheme == "https":
            sock = _tls(sock, context, host_of(proxy), deadline)
        _ask_proxy(sock, host, port, proxy, deadline)
    except OSError as error:
        sock.close()
        raise _Failed(Step.PROXY, reason(error)) from None
    except _Failed:
        sock.close()
        raise
    return sock


def _connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    try:
        look_up(host, port, deadline.left)
    except OSError as error:
        raise _Failed(Step.LOOK_UP, reason(error)) from None
    try:
        return connect(host, port, deadline.left, socket.socket)
    except OSError as error:
        raise _Failed(Step.CONNECT, reason(error)) from None


def _ask_proxy(sock: socket.socket, host: str, port: int, proxy: str, deadline: Deadline) -> None:
    """Asks for a tunnel (RFC 9110, 9.3.6). Raises _Failed where the proxy refuses, and OSError."""
    parts = urlsplit(proxy)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}")
    sock.settimeout(deadline.left())
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MOST_OF_A_PROXY:
        sock.settimeout(deadline.left())
        if not (more := sock.recv(4096)):
            break
        head += more
    status, wants = read_connect_answer(head)
    if status is None:
        raise _Failed(Step.PROXY, "its answer to CONNECT is none of HTTP")
    if status != 200:
        raise _Failed(Step.PROXY, f"it answered CONNECT with {status}", proxy_status=status, proxy_wants=wants)


def read_connect_answer(head: bytes) -> tuple[int | None, tuple[str, ...]]:
    """The status of a proxy's answer, None if it is none; and the names of the logins that it takes."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if not lines[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        return None, ()
    asks = (line.partition(":")[2].split() for line in lines[1:] if line.lower().startswith("proxy-authenticate:"))
    return int(words[1]), tuple(dict.fromkeys(words[0] for words in asks if words))[:5]


def _issuer_of(certificate: bytes | None) -> str | None:
    """The organisation and common name of whoever issued this certificate (DER)."""
    if not certificate:
        return None
    with suppress(ValueError):
        issuer = x509.load_der_x509_certificate(certificate).issuer
        names = (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME)
        found = [str(one.value) for name in names for one in issuer.get_attributes_for_oid(name)]
        return " of ".join(dict.fromkeys(found))[:200] or issuer.rfc4514_string()[:200]
    return None
