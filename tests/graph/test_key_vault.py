"""Secrets and certificates of a key vault, read by Microsoft's own client from the sandbox's vault over TLS."""

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from postroom.graph.credentials import Certificate, Identity, StoredSecret, check_credential
from postroom.graph.key_vault import VaultFault, VaultItem, VaultUnavailable, read
from postroom.graph.tokens import Token, Tokens
from postroom.jobs.outcome import Deferred, Held
from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox
from postroom.sandbox.options import AppRegistration
from postroom.transport.requests_http import RequestsHttp
from tests.sandbox.sandbox_clients import KeyPair

from .entra import NOW

PAIR = KeyPair.new()
READER = AppRegistration(client_id="5a4db0c5-0000-4000-8000-4ead4ead4ead", secrets=("reader-secret",), roles=())
OPTIONS = SandboxOptions(
    public_host="localhost",  # the vault's own name must end with what it calls its resource
    vault={
        "app-secret": "sandbox-secret",
        "empty": "",
        "pem": PAIR.key_pem + PAIR.certificate_pem,
        "pfx": base64.b64encode(PAIR.pfx("")).decode(),
    },
    certificates=(PAIR.certificate_pem,),
    more_apps=(READER,),
    vault_readers=(READER.client_id,),
)


@pytest.fixture(scope="module")
def address() -> Iterator[SandboxAddress]:
    with running(OPTIONS) as address:
        yield address


@pytest.fixture
def vault(address: SandboxAddress, monkeypatch: pytest.MonkeyPatch) -> str:
    """The vault's URL, for a program that may read it by the variables of Azure's own libraries."""
    find = socket.getaddrinfo

    def named(host: Any, *given: Any, **options: Any) -> Any:
        return find("127.0.0.1" if str(host).endswith("localhost") else host, *given, **options)

    monkeypatch.setattr(socket, "getaddrinfo", named)
    for name, value in {
        "AZURE_AUTHORITY_HOST": address.authority_url,
        "AZURE_TENANT_ID": address.tenant_id,
        "AZURE_CLIENT_ID": READER.client_id,
        "AZURE_CLIENT_SECRET": READER.secrets[0],
    }.items():
        monkeypatch.setenv(name, value)
    return f"https://vault.localhost:{urlsplit(address.url).port}"


def tokens(address: SandboxAddress, credential: Any) -> Tokens:
    identity = Identity(
        tenant_id=address.tenant_id,
        client_id=address.client_id,
        authority_url=address.authority_url,
        graph_url=address.graph_url,
        credential=credential,
    )
    assert check_credential(identity, NOW) == []
    return Tokens(identity, RequestsHttp(Path(address.ca_file)))


@pytest.mark.parametrize(
    "text",
    [
        "keyvault:https://shop.vault.azure.net/secrets/mail",
        "keyvault:https://shop.vault.azure.net/certificates/mail/0123456789abcdef0123456789abcdef",
    ],
)
def test_a_place_is_what_the_portal_shows_as_identifier(text: str) -> None:
    assert str(VaultItem.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["keyvault:", "keyvault:http://a/secrets/b", "keyvault:https://a/keys/b", "keyvault:https://a/secrets/b?c", "x"],
)
def test_what_is_no_place_says_how_one_looks(text: str) -> None:
    with pytest.raises(ValueError, match=r"vault\.azure\.net/secrets/NAME"):
        VaultItem.parse(text)


def test_a_secret_of_the_vault_gets_a_token(address: SandboxAddress, vault: str) -> None:
    item = VaultItem.parse(f"keyvault:{vault}/secrets/app-secret")
    assert isinstance(tokens(address, StoredSecret(item, ca_bundle=Path(address.ca_file))).get(), Token)


@pytest.mark.parametrize("name", ["pem", "pfx"])
def test_a_certificate_of_the_vault_gets_a_token(address: SandboxAddress, vault: str, name: str) -> None:
    item = VaultItem.parse(f"keyvault:{vault}/certificates/{name}")
    assert isinstance(tokens(address, Certificate(item, ca_bundle=Path(address.ca_file))).get(), Token)


def test_a_secret_that_was_changed_is_used_for_the_next_token(address: SandboxAddress, vault: str) -> None:
    kept = tokens(address, StoredSecret(VaultItem(vault, "secrets", "app-secret"), ca_bundle=Path(address.ca_file)))
    with Sandbox.at(address) as control:
        control.set_secrets("another")
        refused = kept.get()
        control.set_secrets("sandbox-secret")
        assert isinstance(refused, Held)
        assert refused.reason == "invalid_client_secret"
        assert isinstance(kept.probe(), Token)


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("secrets/nothing", "there is no such secret or certificate in the vault"),
        ("secrets/empty", "is empty"),
        ("certificates/app-secret", "neither PFX nor PEM"),
    ],
)
def test_what_the_vault_does_not_have_holds_the_app_and_says_so(
    address: SandboxAddress, vault: str, place: str, fault: str
) -> None:
    item = VaultItem.parse(f"keyvault:{vault}/{place}")
    credential: Any = Certificate if item.kind == "certificates" else StoredSecret
    held = tokens(address, credential(item, ca_bundle=Path(address.ca_file))).get()

    assert isinstance(held, Held)
    assert (held.reason, held.no_token) == ("invalid_credential", True)
    assert fault in str(held.answer.detail)
    assert str(item) in str(held.answer.detail)


def test_who_may_not_read_the_vault_is_told_the_role(
    address: SandboxAddress, vault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "sandbox-machine")
    monkeypatch.delenv("AZURE_CLIENT_ID")
    with pytest.raises(VaultFault, match="Key Vault Secrets User"):
        read(VaultItem(vault, "secrets", "app-secret"), Path(address.ca_file))


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "code": "Throttled"}, {"effect": "reset"}])
def test_a_vault_that_is_away_costs_a_mail_nothing(address: SandboxAddress, vault: str, fault: dict[str, Any]) -> None:
    kept = tokens(address, StoredSecret(VaultItem(vault, "secrets", "app-secret"), ca_bundle=Path(address.ca_file)))
    with Sandbox.at(address) as control:
        control.add_fault(stage="vault", **fault)
        try:
            waits = kept.get()
        finally:
            control.clear_faults()

    assert isinstance(waits, Deferred)
    assert (waits.reason, waits.free) == ("no_connection", True)
    assert f"{vault}/secrets/app-secret" in str(waits.answer.detail)


def test_a_vault_that_cannot_be_reached_is_named(address: SandboxAddress, vault: str) -> None:
    with pytest.raises(VaultUnavailable, match=r"keyvault:https://vault\.localhost:1/secrets/x: "):
        read(VaultItem("https://vault.localhost:1", "secrets", "x"), Path(address.ca_file))
