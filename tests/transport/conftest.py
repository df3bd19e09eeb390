"""What tests of both transports are given."""

import gc
import os
from collections.abc import Iterator

import pytest

from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Http
from postroom.transport.requests_http import RequestsHttp

from ..scripted_servers import Servers, all_servers, serve
from .transports import Transport

__all__ = ["all_servers", "serve"]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    yield
    gc.collect()  # so that a socket left open shows in the test that left it


@pytest.fixture(params=[CurlHttp, RequestsHttp], ids=["curl", "requests"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def http(serve: Servers, transport: Transport) -> Http:
    return transport(serve.ca)
