"""Which transport a worker has: by its setting, and by what is installed."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postroom import wiring
from postroom.cli.check import configuration
from postroom.errors import ConfigError
from postroom.settings.loading import load_settings
from postroom.settings.model import Settings
from postroom.transport.curl_http import CurlHttp
from postroom.transport.requests_http import RequestsHttp

REDIS = {"POSTROOM_REDIS_URL": "redis://localhost"}


def found(**given: str) -> Settings:
    return load_settings(REDIS | {f"POSTROOM_{name}": value for name, value in given.items()}, Path("none"))


@pytest.fixture
def without_curl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycurl", None)
    monkeypatch.delitem(sys.modules, "postroom.transport.curl_http")


def test_the_transport_is_curl_where_that_is_installed() -> None:
    assert wiring.transport(found()) is CurlHttp
    assert wiring.transport(found(TRANSPORT="curl")) is CurlHttp
    assert wiring.transport(found(TRANSPORT="requests")) is RequestsHttp


def test_the_transport_is_requests_where_curl_is_missing(without_curl: None) -> None:
    assert wiring.transport(found()) is RequestsHttp
    assert wiring.transport(found(TRANSPORT="requests")) is RequestsHttp
    with pytest.raises(ConfigError, match=r"POSTROOM_TRANSPORT: .*; pip install 'postroom\[curl\]'"):
        wiring.transport(found(TRANSPORT="curl"))


def test_a_libcurl_that_is_too_old_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import pycurl

    monkeypatch.setattr(pycurl, "version_info", lambda: (11, "7.88.1", 0x075801))
    monkeypatch.delitem(sys.modules, "postroom.transport.curl_http")
    assert wiring.transport(found()) is RequestsHttp
    with pytest.raises(ConfigError, match=r"libcurl 8\.4 or later"):
        wiring.transport(found(TRANSPORT="curl"))


def test_a_check_says_which_it_is() -> None:
    assert "HTTP: curl (libcurl/" in "\n".join(configuration(found(), datetime.now(UTC))[1])
    assert "HTTP: requests (" in "\n".join(configuration(found(TRANSPORT="requests"), datetime.now(UTC))[1])


def test_a_check_tells_of_a_curl_that_is_missing(without_curl: None) -> None:
    assert any("postroom[curl]" in fault for fault in configuration(found(TRANSPORT="curl"), datetime.now(UTC))[0])
