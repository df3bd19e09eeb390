"""One HTTP exchange with a total deadline: the interface of both transports, and what they take from the environment.

`requests_http.py` always works. `curl_http.py` takes a fraction of the CPU, and needs the extra `curl`.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

# Bytes of a body. Graph's answer to the making of a draft or an attachment repeats all of it: a request has up to 4 MB.
MAX_ANSWER = 8_000_000
IDLE_S = 30.0  # a connection that was idle for so long is not used again
PORTS = {"http": 80, "https": 443}
# Azure's metadata service answers only without a proxy:
# https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#proxies
_NEVER_BY_PROXY = {"169.254.169.254"}
_METHODS = {"DELETE", "GET", "PATCH", "POST", "PUT"}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~]")  # how a header begins: RFC 9110, 5.1 and 5.5
_URL = re.compile(r"https?://(?![/?#])[!#-;=?-Z\[\]_a-z~]+")  # a URL in which nothing has to be quoted


class NotSent(Exception):
    """Nothing of the request was written: look-up, connection, handshake or proxy failed, or time was up before."""


class Lost(Exception):
    """The request was written, perhaps in part, and no complete answer came.

    `status` is the HTTP status, where the answer broke off after its status line.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer. The names of `headers` compare without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Http(Protocol):
    """HTTP exchanges from any thread and after any fork. Certificates are verified, connections are kept.

    A connection that was idle for IDLE_S is not used again: the server may be closing it, and a request that is written
    at that moment would have an unknown outcome.
    """

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_s: float,
        before_write: Callable[[], None] | None = None,
    ) -> Response:
        """The complete answer to one request, within `deadline_s` seconds for all of it. Raises NotSent or Lost.

        A redirect is an answer. Nothing is tried twice, and cookies are dropped. `before_write` is called once the
        connection stands, directly before the first byte is written. If it raises, nothing is written, and `exchange`
        raises the same.
        """


class Deadline:
    """A moment so many seconds from now. `at` is that moment by `time.monotonic`."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds until the deadline, more than 0. Raises TimeoutError after it."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


def header_lines(method: str, url: str, headers: Mapping[str, str]) -> list[str]:
    """The headers as `Name: value`.

    Raises NotSent where a server could read a header, or the method, as more than that: with a line break, for example.
    """
    lines = [_header_line(name, value) for name, value in headers.items()]
    if method not in _METHODS or None in lines:
        raise NotSent(f"{host_of(url)}: the request has a method or a header that cannot be")
    return cast("list[str]", lines)


@lru_cache(maxsize=100)  # most headers are those of the last request, and a token is long
def _header_line(name: str, value: str) -> str | None:
    """None where this is no valid header."""
    line = f"{name}: {value}"
    return line if line.isascii() and line.replace("\t", " ").isprintable() and _HEADER.match(line) else None


def sendable(url: str) -> str:
    """The URL in ASCII, with all quoted that must be. Raises NotSent where this is no URL."""
    if _URL.fullmatch(url):
        return url
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(url, None)
    except (requests.RequestException, ValueError):
        raise NotSent(f"{host_of(url)}: this is no URL") from None
    if not prepared.url or not _URL.fullmatch(prepared.url):
        raise NotSent(f"{host_of(url)}: this is no URL for HTTP")
    return prepared.url


def host_of(url: str) -> str:
    """The host in a URL, which is all of it that may stand in an error; "no host" where there is none."""
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"


def place_of(url: str, proxy: str | None) -> str:
    """What an error names: the host in a URL, and the proxy on the way to it if there is one."""
    return f"{host_of(url)} by the proxy {host_of(proxy)}:{port_of(proxy)}" if proxy else host_of(url)


def unreachable_proxy(fault: OSError) -> OSError:
    """The fault of a connection that is not to the host in the URL but to a proxy."""
    return OSError(f"the proxy cannot be reached: {reason(fault)}")


def port_of(url: str) -> int:
    """The port in a URL, or that of its scheme."""
    return _port_of(origin(url))


@lru_cache(maxsize=100)
def _port_of(root: str) -> int:
    parts = urlsplit(root)
    return parts.port or PORTS[parts.scheme]


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    return "/".join(url.split("/", 3)[:3])


def proxy_for(url: str) -> str | None:
    """The URL of the proxy that the environment (HTTPS_PROXY, NO_PROXY …) has for `url`; None where it has none.

    Raises NotSent where that is no proxy for HTTP.
    """
    if host_of(url) in _NEVER_BY_PROXY:
        return None
    chosen = select_proxy(url, get_environ_proxies(url))
    if not chosen:
        return None
    try:
        proxy = urlsplit(chosen if "://" in chosen else f"http://{chosen}")
        given_port = proxy.port
    except ValueError:
        proxy, given_port = urlsplit(""), None
    if proxy.scheme not in PORTS or not proxy.hostname:
        raise NotSent(f"{host_of(url)}: the proxy of the environment is no http:// or https:// one")
    # libcurl would take 1080 for a proxy without a port.
    where = proxy.netloc.removesuffix(f":{given_port}")
    return f"{proxy.scheme}://{where}:{given_port or PORTS[proxy.scheme]}"


def ca_bundle(given: str | None) -> Path:
    """The file or folder of CA certificates (PEM): the given one, else the environment's, else certifi's.

    Raises OSError where it cannot be used.
    """
    environment = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    where = Path(given or environment or DEFAULT_CA_BUNDLE_PATH)
    try:
        where.stat()
    except OSError as error:
        raise OSError(f"the CA bundle {where} cannot be used: {error.strerror}") from None
    return where


def reason(fault: OSError) -> str:
    """The system's message for an error; other messages may quote what the server sent."""
    return " ".join(str(fault.strerror or fault).split())[:200]
