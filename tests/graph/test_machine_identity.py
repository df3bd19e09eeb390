"""A machine's identity gets tokens from the sandbox over TLS: its own, and those of an app that trusts it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.graph.credentials import FederatedIdentity, Identity, ManagedIdentity
from postroom.graph.tokens import Token, Tokens
from postroom.jobs.outcome import Held
from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.options import MACHINE_HEADER, MACHINE_ID, TENANT_ID, FederatedCredential
from postroom.transport.requests_http import RequestsHttp
from tests.sandbox.sandbox_clients import KeyPair


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAddress]:
    folder, pair = tmp_path_factory.mktemp("keys"), KeyPair.new()
    (folder / "tokens.key").write_text(pair.key_pem)
    trusted = FederatedCredential(
        issuer=f"https://login.microsoftonline.com/{TENANT_ID}/v2.0", subject=MACHINE_ID, public_key=pair.public_pem
    )
    with running(SandboxOptions(folder=folder, federated=(trusted,))) as address:
        yield address


@pytest.fixture(autouse=True)
def machine(address: SandboxAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", MACHINE_HEADER)


def asked(address: SandboxAddress, credential: Any) -> Any:
    identity = Identity(
        tenant_id=address.tenant_id,
        client_id=address.client_id,
        authority_url=address.authority_url,
        graph_url=address.graph_url,
        credential=credential,
    )
    return Tokens(identity, RequestsHttp(Path(address.ca_file))).get()


@pytest.mark.parametrize("credential", [ManagedIdentity(), FederatedIdentity(), FederatedIdentity(MACHINE_ID)])
def test_the_machine_s_identity_gets_a_token(address: SandboxAddress, credential: Any) -> None:
    assert isinstance(asked(address, credential), Token)


def test_an_app_that_does_not_trust_the_machine_is_held(address: SandboxAddress) -> None:
    held = asked(address, FederatedIdentity(address.client_id))  # an identity of which the app knows nothing
    assert isinstance(held, Held)
    assert held.reason == "federation_mismatch"


def test_an_identity_that_the_machine_does_not_have_is_held(address: SandboxAddress) -> None:
    held = asked(address, FederatedIdentity("5a4db0c5-0000-4000-8000-000000000000"))
    assert isinstance(held, Held)
    assert "No User Assigned Managed Identity" in str(held.answer.detail)
