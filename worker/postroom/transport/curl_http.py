"""HTTP exchanges over libcurl: a fraction of the CPU that `requests` takes.

The import raises ImportError without a pycurl and libcurl that can do it (the extra `curl`).
"""

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial

import pycurl

from postroom.runtime.fibers import Hub, await_callback, current_hub
from postroom.transport.curl_exchange import Request
from postroom.transport.curl_multi import CurlMulti
from postroom.transport.http import (
    IDLE_S,
    Deadline,
    NotSent,
    Response,
    ca_bundle,
    header_lines,
    host_of,
    origin,
    proxy_for,
    sendable,
)

# libcurl before 8.4 does not limit the size of all headers together, nor has it PREREQFUNCTION before 7.80.
if pycurl.version_info()[2] < 0x080400 or not hasattr(pycurl, "PREREQFUNCTION"):
    raise ImportError(f"libcurl 8.4 or later and pycurl 7.45.3 or later are needed; this is {pycurl.version}")


class CurlHttp:
    """`Http` over libcurl. Fibers' exchanges are made side by side in their thread, all others in one other thread."""

    name = f"curl ({pycurl.version.split()[1]})"

    def __init__(self, given_ca_bundle: str | None = None, *, idle_s: float = IDLE_S) -> None:
        """`given_ca_bundle`: a file or folder of CA certificates (PEM), by default the environment's or certifi's."""
        self._given_ca_bundle = given_ca_bundle
        self._idle_s = idle_s
        self._proxies: dict[str, str] = {}
        # One for each hub, and one for each process without: a forked child has neither its parent's threads nor the
        # right to use its connections.
        self._multis: dict[Hub | int, CurlMulti] = {}
        self._starting = threading.Lock()

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
        """See `Http`. While `before_write` runs, all other exchanges of the thread wait."""
        deadline = Deadline(deadline_s)
        lines = header_lines(method, url, headers)
        url = sendable(url)
        request = Request(method, url, self._proxy(url), lines, body, deadline, before_write)
        try:
            multi = self._multi()
        except (OSError, RuntimeError) as error:  # no bundle, or no thread
            raise NotSent(f"{host_of(url)}: {error}") from None
        response: Response = await_callback(partial(multi.submit, request))
        return response

    def _proxy(self, url: str) -> str:
        root = origin(url)
        if root not in self._proxies:
            self._proxies[root] = proxy_for(url) or ""
        return self._proxies[root]

    def _multi(self) -> CurlMulti:
        hub = current_hub()
        owner = hub or os.getpid()
        if owner not in self._multis or self._multis[owner].is_closed:
            with self._starting:
                if owner not in self._multis or self._multis[owner].is_closed:
                    self._multis[owner] = multi = CurlMulti(ca_bundle(self._given_ca_bundle), self._idle_s, hub)
                    weakref.finalize(self, multi.close).atexit = False
        return self._multis[owner]
