"""Starting, stopping and starting again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office, client

SERVE = """
import json
from postroom.sandbox import SandboxOptions, serve
serve(SandboxOptions(), lambda address: print(json.dumps(address.to_json()), flush=True))
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_while_a_request_hangs(stop: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = SandboxAddress(**json.loads(process.stdout.readline()))
        with Sandbox.at(address) as sandbox, client(address) as session:
            sandbox.add_fault(effect="hang")
            with pytest.raises(requests.ReadTimeout):
                Office(address, session).send(timeout=0.1)
            sandbox.add_fault(effect="pass", delay=3600, stage="token")
            token = f"{address.authority_url}/{address.tenant_id}/oauth2/v2.0/token"
            with pytest.raises(requests.ReadTimeout):
                session.post(token, data={}, timeout=0.1)
            process.send_signal(stop)

            assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("path", ["/", "/_sandbox/address", "/v1.0/users", "/contoso/oauth2/v2.0/token"])
def test_a_page_whose_own_name_leads_here_is_refused(path: str) -> None:
    with running(SandboxOptions(public_host="sandbox")) as address, client(address) as session:
        port = address.url.rpartition(":")[2]
        here = f"https://127.0.0.1:{port}{path}"

        def status(**headers: str) -> int:
            return session.get(here, headers=headers).status_code

        assert status(Host=f"evil.example:{port}") == status(Host="") == 421
        for name in ("sandbox", f"sandbox:{port}", f"localhost:{port}", "LOCALHOST", f"127.0.0.1:{port}", "[::1]"):
            assert status(Host=name) != 421


def test_another_site_s_page_neither_reads_nor_changes_what_is_here() -> None:
    with running() as address, client(address) as session:
        own = address.url
        for origin, status in ((None, 200), (own, 200), ("https://evil.example", 403), ("null", 403)):
            headers = {"Origin": origin} if origin else {}
            assert session.get(f"{own}/_sandbox/address", headers=headers).status_code == status


def test_a_kept_folder_keeps_the_ca_and_the_tokens(tmp_path: Path) -> None:
    options = SandboxOptions(folder=tmp_path)
    with running(options) as address, client(address) as session:
        ca = Path(address.ca_file).read_bytes()
        token = Office(address, session).token_from(scope="https://graph.microsoft.com/.default")["access_token"]

    with running(options) as address, client(address) as session:
        assert Path(address.ca_file).read_bytes() == ca
        assert Office(address, session).send(headers={"Authorization": f"Bearer {token}"}).status_code == 202


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    with running(SandboxOptions(folder=tmp_path)):
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}

    assert (modes["ca.key"], modes["tokens.key"]) == (0o600, 0o600)


def test_a_port_that_is_taken_is_named(address: SandboxAddress) -> None:
    taken = int(address.url.rpartition(":")[2])

    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{taken}"), running(SandboxOptions(port=taken)):
        pass


def test_the_address_names_the_host_that_clients_call() -> None:
    with running(SandboxOptions(host="0.0.0.0", public_host="localhost")) as address:
        assert address.url.startswith("https://localhost:")
        with Sandbox.at(address) as sandbox:
            assert sandbox.address() == address
