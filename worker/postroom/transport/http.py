"""One HTTP exchange with a total deadline: what every transport keeps to, and what it takes from the environment.

The transports: `http_requests` always works, `http_curl` costs a fraction of the CPU and needs the extra `curl`.
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

MAX_ANSWER = 1_000_000
IDLE_S = 30.0
PORTS = {"http": 80, "https": 443}
# Azure's metadata service answers only without a proxy:
# https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#proxies
_NEVER_BY_PROXY = {"169.254.169.254"}
_METHODS = {"DELETE", "GET", "POST", "PUT"}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~]")  # how one begins: RFC 9110, 5.1 and 5.5
_URL = re.compile(r"https?://(?![/?#])[!#-;=?-Z\[\]_a-z~]+")  # nothing that had to be quoted


class NotSent(Exception):
    """Nothing of the request was written: no look-up, connection, handshake or proxy, or no time left."""


class Lost(Exception):
    """The request was written, perhaps in part, and no complete answer came.

    `status` is what the answer's status line said, where the answer broke off after it.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names compare without case
    body: bytes = field(repr=False)


class Http(Protocol):
    """HTTP exchanges from any thread and after any fork: TLS verifies, connections are kept.

    A connection that was idle for IDLE_S is not used again: the server may be closing it, and a request written into
    that would have an unknown outcome.
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
        """The complete answer to one request, within `deadline_s` seconds in all; raises NotSent or Lost.

        Redirects are answers, nothing is tried twice, cookies are dropped. `before_write` runs once the connection
        stands, directly before the first byte is written; what it raises comes out unchanged, and nothing is written.
        """


class Deadline:
    """A time by `time.monotonic`: `at`."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until the deadline; TimeoutError if there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


def header_lines(method: str, url: str, headers: Mapping[str, str]) -> list[str]:
    """The headers as `Name: value`. NotSent where one, or the method, could pass for more of a request than it is."""
    lines = [_header_line(name, value) for name, value in headers.items()]
    if method not in _METHODS or None in lines:
        raise NotSent(f"{host_of(url)}: the request has a method or a header that cannot be")
    return cast("list[str]", lines)


@lru_cache(maxsize=100)  # for a token is long, and most headers are those of the request before
def _header_line(name: str, value: str) -> str | None:
    """None where it cannot be."""
    line = f"{name}: {value}"
    return line if line.isascii() and line.replace("\t", " ").isprintable() and _HEADER.match(line) else None


def sendable(url: str) -> str:
    """The URL in ASCII and without what must be quoted; NotSent if it is none."""
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
    """All of a URL that may stand in an error."""
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"


def port_of(url: str) -> int:
    return _port_of(origin(url))


@lru_cache(maxsize=100)
def _port_of(root: str) -> int:
    parts = urlsplit(root)
    return parts.port or PORTS[parts.scheme]


def origin(url: str) -> str:
    """Scheme, host and port."""
    return "/".join(url.split("/", 3)[:3])


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY …) has for this URL; NotSent if it is none of HTTP."""
    if host_of(url) in _NEVER_BY_PROXY:
        return None
    found = select_proxy(url, get_environ_proxies(url))
    if not found:
        return None
    try:
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        given_port = proxy.port
    except ValueError:
        proxy, given_port = urlsplit(""), None
    if proxy.scheme not in PORTS or not proxy.hostname:
        raise NotSent(f"{host_of(url)}: the proxy of the environment is no http:// or https:// one")
    # libcurl's default for a proxy's port is another one.
    where = proxy.netloc.removesuffix(f":{given_port}")
    return f"{proxy.scheme}://{where}:{given_port or PORTS[proxy.scheme]}"


def ca_bundle(given: str | None) -> Path:
    """The file or folder of CA certificates (PEM): the given, the environment's, or certifi's. OSError without it."""
    environment = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    where = Path(given or environment or DEFAULT_CA_BUNDLE_PATH)
    try:
        where.stat()
    except OSError as error:
        raise OSError(f"the CA bundle {where} cannot be used: {error.strerror}") from None
    return where


def reason(fault: OSError) -> str:
    """The system's own words; an error's others may quote what the server sent."""
    return " ".join(str(fault.strerror or fault).split())[:200]
