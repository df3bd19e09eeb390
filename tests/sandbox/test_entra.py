"""The token endpoint, asked by MSAL where MSAL can send the request, and by plain HTTP elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.sandbox import FederatedCredential, SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox
from postroom.sandbox.entra.tokens import base64url

from .sandbox_clients import KeyPair, Office, client

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def ask(address: SandboxAddress, tenant: str | None = None, **form: str | None) -> requests.Response:
    """The token endpoint's answer; a parameter set to None is left out."""
    fields = {
        "grant_type": "client_credentials",
        "client_id": address.client_id,
        "client_secret": address.client_secret,
        "scope": f"{address.graph_url}/.default",
        **form,
    }
    url = f"{address.authority_url}/{tenant or address.tenant_id}/oauth2/v2.0/token"
    with client(address) as session:
        return session.post(url, data={name: value for name, value in fields.items() if value is not None}, timeout=10)


def assertion(address: SandboxAddress, pair: KeyPair, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "aud": f"{address.authority_url}/{address.tenant_id}/oauth2/v2.0/token",
        "iss": address.client_id,
        "sub": address.client_id,
        "jti": "1",
        "nbf": now,
        "exp": now + 600,
        **changes,
    }
    thumbprint = base64url(pair.certificate.fingerprint(hashes.SHA256()))
    return jwt.encode(claims, pair.key, "PS256", {"x5t#S256": thumbprint})


def ask_with(address: SandboxAddress, signed: str) -> requests.Response:
    return ask(address, client_secret=None, client_assertion_type=JWT_BEARER, client_assertion=signed)


def test_a_secret_gets_a_token_that_graph_takes(office: Office) -> None:
    result = office.token_from()

    assert (result["token_type"], result["expires_in"]) == ("Bearer", 3599)
    claims = jwt.decode(result["access_token"], options={"verify_signature": False})
    assert claims["aud"] == office.address.graph_url
    assert claims["roles"] == ["Mail.Send"]
    assert (claims["appid"], claims["tid"]) == (office.address.client_id, office.address.tenant_id)


def test_a_token_is_signed_with_a_published_key(office: Office) -> None:
    token = office.token_from()["access_token"]
    keys = office.session.get(f"{office.address.url}/{office.address.tenant_id}/discovery/v2.0/keys", timeout=10).json()

    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    jwt.decode(token, key, ["RS256"], audience=office.address.graph_url)


def test_microsofts_own_graph_root_is_an_audience_too(office: Office) -> None:
    result = office.token_from(scope="https://graph.microsoft.com/.default")

    answer = office.send(headers={"Authorization": f"Bearer {result['access_token']}"})
    assert answer.status_code == 202


@pytest.mark.parametrize("form", ["pem", "pem with thumbprint", "pfx"])
def test_a_registered_certificate_gets_a_token(
    form: str, office: Office, sandbox: Sandbox, pair: KeyPair, tmp_path: Path
) -> None:
    sandbox.set_certificates(pair.certificate_pem)
    pfx = tmp_path / "worker.pfx"
    pfx.write_bytes(pair.pfx("hush"))
    credential = {
        "pem": {"private_key": pair.key_pem, "public_certificate": pair.certificate_pem},
        "pem with thumbprint": {"private_key": pair.key_pem, "thumbprint": pair.sha1},
        "pfx": {"private_key_pfx_path": str(pfx), "passphrase": "hush"},
    }[form]

    assert "access_token" in office.token_from(credential)


def test_an_unregistered_certificate_gets_none(office: Office, pair: KeyPair) -> None:
    credential = {"private_key": pair.key_pem, "public_certificate": pair.certificate_pem}

    result = office.token_from(credential)

    assert (result["error"], result["error_codes"]) == ("invalid_client", [700027])


def test_the_thumbprint_of_a_registered_certificate_is_no_proof(
    address: SandboxAddress, sandbox: Sandbox, pair: KeyPair
) -> None:
    sandbox.set_certificates(pair.certificate_pem)
    impostor = KeyPair(rsa.generate_private_key(65537, 2048), pair.certificate)

    assert ask_with(address, assertion(address, impostor)).json()["error_codes"] == [700027]


def test_an_expired_certificate_gets_none(address: SandboxAddress, sandbox: Sandbox) -> None:
    expired = KeyPair.new(valid_for=timedelta(days=-1))
    sandbox.set_certificates(expired.certificate_pem)

    assert ask_with(address, assertion(address, expired)).json()["error_codes"] == [700027]


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"exp": int(time.time()) - 3600, "nbf": int(time.time()) - 4200}, 700024),
        ({"nbf": int(time.time()) + 3600, "exp": int(time.time()) + 4200}, 700024),
        ({"exp": "tomorrow"}, 700024),
        ({"exp": -(10**20)}, 700024),
        ({"aud": "https://login.microsoftonline.com/x/oauth2/v2.0/token"}, 700023),
        ({"iss": "somebody"}, 700021),
        ({"sub": "somebody"}, 700021),
        ({"jti": ""}, 50027),
    ],
)
def test_an_assertion_that_is_off_gets_its_own_error(
    changes: dict[str, Any], number: int, address: SandboxAddress, sandbox: Sandbox, pair: KeyPair
) -> None:
    sandbox.set_certificates(pair.certificate_pem)

    assert ask_with(address, assertion(address, pair)).status_code == 200
    assert ask_with(address, assertion(address, pair, **changes)).json()["error_codes"] == [number]


def test_an_unreadable_assertion_is_malformed(address: SandboxAddress, sandbox: Sandbox) -> None:
    assert ask_with(address, "x.y.z").json()["error_codes"] == [50027]


@pytest.mark.parametrize(
    ("form", "status", "error", "number"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000216),
        ({"client_secret": None, "client_assertion_type": JWT_BEARER}, 400, "invalid_request", 7000218),
        ({"client_id": "11111111-2222-4333-8444-555555555555"}, 400, "unauthorized_client", 700016),
        ({"tenant": "11111111-2222-4333-8444-555555555555"}, 400, "invalid_request", 90002),
        ({"tenant": "fabrikam.com"}, 400, "invalid_request", 90002),
        ({"tenant": "nowhere"}, 400, "invalid_request", 900023),
        ({"scope": "https://graph.microsoft.com/Mail.Send"}, 400, "invalid_scope", 1002012),
        ({"scope": "https://vault.azure.net/.default"}, 400, "invalid_resource", 500011),
        ({"scope": None}, 400, "invalid_request", 900144),
        ({"resource": "https://graph.microsoft.com"}, 400, "invalid_request", 901002),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
)
def test_a_wrong_request_gets_entras_error(
    form: dict[str, Any], status: int, error: str, number: int, address: SandboxAddress, sandbox: Sandbox
) -> None:
    answer = ask(address, **form)
    body = answer.json()

    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= body.keys()


def test_an_expired_secret_is_called_expired(address: SandboxAddress, sandbox: Sandbox) -> None:
    sandbox.set_secrets("new", expired=[address.client_secret])

    assert ask(address).json()["error_codes"] == [7000222]
    assert ask(address, client_secret="new").status_code == 200


def test_a_secret_may_come_in_the_authorization_header(address: SandboxAddress, sandbox: Sandbox) -> None:
    url = f"{address.authority_url}/{address.tenant_id}/oauth2/v2.0/token"
    form = {"grant_type": "client_credentials", "scope": f"{address.graph_url}/.default"}
    with client(address) as session:
        answers = [
            session.post(url, data=form, auth=(address.client_id, secret), timeout=10)
            for secret in (address.client_secret, "wrong")
        ]

    assert [answer.status_code for answer in answers] == [200, 401]


def test_the_tenant_answers_to_its_domain_as_well(address: SandboxAddress, sandbox: Sandbox) -> None:
    assert ask(address, tenant="contoso.onmicrosoft.com").status_code == 200


def test_an_app_without_roles_gets_a_token_without_the_claim(office: Office, sandbox: Sandbox) -> None:
    sandbox.set_roles()

    claims = jwt.decode(office.token_from()["access_token"], options={"verify_signature": False})

    assert "roles" not in claims


def test_every_token_request_is_counted(office: Office, sandbox: Sandbox) -> None:
    before = sandbox.stats()["token_requests"]

    office.token_from()
    office.token_from("wrong")

    assert sandbox.stats()["token_requests"] == before + 2


def test_another_issuers_token_gets_one_where_it_is_trusted(pair: KeyPair) -> None:
    trusted = FederatedCredential(
        issuer="https://cluster.example",
        subject="system:serviceaccount:mail",
        public_key=pair.public_pem,
    )
    claims = {
        "iss": "https://cluster.example",
        "sub": "system:serviceaccount:mail",
        "aud": "api://AzureADTokenExchange",
        "exp": int(time.time()) + 60,
    }
    with running(SandboxOptions(federated=(trusted,))) as address:
        right = ask_with(address, jwt.encode(claims, pair.key, "RS256"))
        wrong = ask_with(address, jwt.encode(claims | {"sub": "other"}, pair.key, "RS256"))

    assert right.status_code == 200
    assert wrong.json()["error_codes"] == [700213]


def test_a_token_tells_when_to_refresh_it_where_that_is_switched_on() -> None:
    with running(SandboxOptions(refresh_in=1800)) as address:
        assert ask(address).json()["refresh_in"] == 1800
