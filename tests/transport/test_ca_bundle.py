"""Which certificates are trusted: our own bundle, the environment's, or certifi's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from postroom.transport.http import NotSent

from ..scripted_servers import OK, Servers, answering
from .transports import Transport, post


def test_a_ca_bundle_that_is_not_there_is_not_sent_and_named(tmp_path: Path, transport: Transport) -> None:
    with pytest.raises(NotSent, match=r"nothing\.pem cannot be used: No such file"):
        post(transport(str(tmp_path / "nothing.pem")), "https://127.0.0.1:1/")


def test_a_ca_bundle_that_is_none_is_not_sent_and_named(serve: Servers, transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "nothing.pem").write_text("nothing")
    with pytest.raises(NotSent, match=r"the CA bundle .*nothing\.pem cannot be used"):
        post(transport(str(tmp_path / "nothing.pem")), serve(answering(OK)).url)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl rehash")
def test_a_folder_of_cas_is_trusted_and_nothing_else(serve: Servers, transport: Transport, tmp_path: Path) -> None:
    server = serve(answering(OK))
    with pytest.raises(NotSent, match="certificate verify failed"):
        post(transport(str(tmp_path)), server.url)

    shutil.copy(serve.ca, tmp_path)
    subprocess.run(["openssl", "rehash", tmp_path], check=True)
    assert post(transport(str(tmp_path)), server.url).status == 202


def test_our_ca_bundle_wins_over_the_environments(
    serve: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    assert post(transport(serve.ca), serve(answering(OK)).url).status == 202


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environments_ca_bundle_counts_without_ours(
    serve: Servers, monkeypatch: pytest.MonkeyPatch, name: str, transport: Transport
) -> None:
    monkeypatch.setenv(name, serve.ca)
    assert post(transport(), serve(answering(OK)).url).status == 202
