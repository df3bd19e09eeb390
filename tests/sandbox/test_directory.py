"""The administrator's side of the sandbox: sign-in by code, applications, keys, grants, Exchange's roles."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox

from .administrator import GRAPH_TOOLS, Administrator
from .sandbox_clients import KeyPair, client, mail

SEND = "b633e1c5-b582-4048-a93e-9f11b44c7e96"


@pytest.fixture(scope="module")
def address() -> Iterator[SandboxAddress]:
    options = SandboxOptions(device_interval=1, mailboxes=("noreply@contoso.com", "office@contoso.com"))
    with running(options) as address:
        yield address


@pytest.fixture(scope="module")
def control(address: SandboxAddress) -> Iterator[Sandbox]:
    with Sandbox.at(address) as sandbox:
        yield sandbox


@pytest.fixture
def admin(sandbox: Sandbox, address: SandboxAddress) -> Administrator:
    return Administrator.at(sandbox, address)


def code_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def key_entry(pair: KeyPair, **more: Any) -> dict[str, Any]:
    key = b64encode(pair.certificate.public_bytes(Encoding.DER)).decode()
    return {"type": "AsymmetricX509Cert", "usage": "Verify", "key": key, **more}


def proof(pair: KeyPair, issuer: str, **changes: Any) -> str:
    now = int(time.time())
    claims = {"aud": "00000002-0000-0000-c000-000000000000", "iss": issuer, "nbf": now, "exp": now + 600, **changes}
    thumbprint = b64encode(pair.certificate.fingerprint(hashes.SHA256()), altchars=b"-_").rstrip(b"=").decode()
    return jwt.encode(claims, pair.key, "RS256", {"x5t#S256": thumbprint})


def test_a_code_is_asked_for_until_a_person_has_entered_it(sandbox: Sandbox, address: SandboxAddress) -> None:
    one = Administrator(address, client(address))
    code = one.begin().json()
    assert one.poll(code["device_code"]).json()["error"] == "authorization_pending"
    assert one.poll(code["device_code"]).json()["error"] == "slow_down"
    assert sandbox.sign_ins() == [code["user_code"]]
    sandbox.sign_in(code["user_code"], "admin@contoso.com")
    answer = one.poll(code["device_code"]).json()
    again = one.refresh(answer["refresh_token"]).json()
    claims = jwt.decode(again["access_token"], options={"verify_signature": False})
    assert claims["upn"] == "admin@contoso.com"
    assert "Application.ReadWrite.All" in claims["scp"].split()
    assert one.poll(code["device_code"]).json()["error"] == "bad_verification_code"
    assert one.refresh("none").json()["error"] == "invalid_grant"


def test_a_declined_code_and_a_strange_client_are_refused(sandbox: Sandbox, address: SandboxAddress) -> None:
    one = Administrator(address, client(address))
    code = one.begin().json()
    sandbox.sign_in(code["user_code"], "")
    assert one.poll(code["device_code"]).json()["error"] == "authorization_declined"
    assert one.begin(client_id=address.client_id).json()["error"] == "unauthorized_client"
    with pytest.raises(ValueError, match="no sign-in waits"):
        sandbox.sign_in("NONE", "admin@contoso.com")


def test_a_code_is_entered_on_a_page(sandbox: Sandbox, address: SandboxAddress) -> None:
    one = Administrator(address, client(address))
    code = one.begin().json()
    assert code["user_code"] in one.session.get(code["verification_uri"], timeout=10).text
    form = {"code": code["user_code"], "user": "clerk@contoso.com"}
    assert "has signed in" in one.session.post(code["verification_uri"], data=form, timeout=10).text
    assert "access_token" in one.poll(code["device_code"]).json()


def test_an_application_is_made_once_by_its_unique_name(admin: Administrator) -> None:
    path, missing = "/v1.0/applications(uniqueName='mail')", {"Prefer": "create-if-missing"}
    assert code_of(admin.ask("PATCH", path, {"displayName": "Mail"})) == (404, "Request_ResourceNotFound")
    made = admin.ask("PATCH", path, {"displayName": "Mail"}, **missing)
    assert made.status_code == 201
    assert admin.ask("PATCH", path, {"displayName": "Post", "notes": "n"}, **missing).status_code == 204
    found = admin.ask("GET", f"{path}?$select=id,displayName,notes").json()
    assert found == {"id": made.json()["id"], "displayName": "Post", "notes": "n"}
    by_app_id = admin.ask("GET", f"/v1.0/applications?$filter=appId eq '{made.json()['appId']}'").json()["value"]
    assert [one["uniqueName"] for one in by_app_id] == ["mail"]
    refused = admin.ask("POST", "/v1.0/applications", {"displayName": "Other", "uniqueName": "mail"})
    assert code_of(refused) == (400, "Request_MultipleObjectsWithSameKeyValue")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1.0/applications", {"displayName": "x", "colour": "red"}),
        ("POST", "/v1.0/applications", {"displayName": 7}),
        ("POST", "/v1.0/applications", {}),
        ("POST", "/v1.0/applications", {"displayName": "x", "signInAudience": "Everybody"}),
        ("POST", "/v1.0/servicePrincipals", {"appId": "00000000-0000-4000-8000-000000000000"}),
        ("GET", "/v1.0/applications?$filter=startswith(displayName,'x')", None),
        ("GET", "/v1.0/servicePrincipals?$select=colour", None),
        ("GET", "/v1.0/applications?$top=1000", None),
        ("GET", "/v1.0/directory/nothing", None),
        ("POST", "/beta/roleManagement/exchange/roleAssignments", {"principalId": "1", "roleDefinitionId": "2"}),
    ],
)
def test_what_graph_does_not_know_is_refused(admin: Administrator, method: str, path: str, body: Any) -> None:
    assert admin.ask(method, path, body).status_code == 400


def test_a_person_needs_the_role_and_the_client_the_permission(sandbox: Sandbox, address: SandboxAddress) -> None:
    clerk = Administrator.at(sandbox, address, "clerk@contoso.com")
    reader = Administrator.at(sandbox, address, scopes=("Application.Read.All",))
    for one in (clerk, reader):
        refused = one.ask("POST", "/v1.0/applications", {"displayName": "x"})
        assert code_of(refused) == (403, "Authorization_RequestDenied")
    assert reader.ask("GET", "/v1.0/applications").status_code == 200
    reader.session.headers["Authorization"] = "Bearer nonsense"
    assert reader.ask("GET", "/v1.0/applications").status_code == 401


def send(address: SandboxAddress, app_id: str, mailbox: str, **credential: str) -> requests.Response:
    session = client(address)
    form = {"grant_type": "client_credentials", "client_id": app_id, "scope": f"{address.graph_url}/.default"}
    url = f"{address.authority_url}/{address.tenant_id}/oauth2/v2.0/token"
    answer = session.post(url, data=form | credential, timeout=10)
    if answer.status_code != 200:
        return answer
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    url = f"{address.graph_url}/v1.0/users/{mailbox}/sendMail"
    return session.post(url, json={"message": mail()}, headers=headers, timeout=10)


def test_exchange_roles_say_who_may_send_from_where(
    admin: Administrator, sandbox: Sandbox, address: SandboxAddress
) -> None:
    app = admin.app()
    secret = admin.ask("POST", f"/v1.0/applications/{app['id']}/addPassword", {}).json()["secretText"]
    assert send(address, app["appId"], "noreply@contoso.com", client_secret=secret).status_code == 403
    group = admin.ask("GET", "/v1.0/groups?$filter=mail eq 'mail-senders@contoso.com'").json()["value"][0]
    members = admin.ask("GET", f"/v1.0/groups/{group['id']}/members").json()["value"]
    assert [one["mail"] for one in members] == ["noreply@contoso.com"]
    body = {
        "principalId": f"/ServicePrincipals/{app['principal']}",
        "roleDefinitionId": admin.role_id(),
        "directoryScopeId": f"/Groups/{group['id']}",
    }
    sandbox.change_directory(exchange_delay=1800)
    made = admin.ask("POST", "/beta/roleManagement/exchange/roleAssignments", body)
    assert made.status_code == 201
    assert admin.ask("POST", "/beta/roleManagement/exchange/roleAssignments", body).status_code == 409
    assert send(address, app["appId"], "noreply@contoso.com", client_secret=secret).status_code == 403
    sandbox.change_directory(advance=1801)
    assert send(address, app["appId"], "noreply@contoso.com", client_secret=secret).status_code == 202
    assert send(address, app["appId"], "office@contoso.com", client_secret=secret).status_code == 403
    admin.ask("DELETE", f"/beta/roleManagement/exchange/roleAssignments/{made.json()['id']}")
    assert send(address, app["appId"], "noreply@contoso.com", client_secret=secret).status_code == 403


def test_a_grant_in_entra_opens_every_mailbox(admin: Administrator, address: SandboxAddress) -> None:
    app = admin.app()
    secret = admin.ask("POST", f"/v1.0/applications/{app['id']}/addPassword", {}).json()["secretText"]
    graph = admin.ask("GET", "/v1.0/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')").json()
    grants = f"/v1.0/servicePrincipals/{app['principal']}/appRoleAssignments"
    body = {"principalId": app["principal"], "resourceId": graph["id"], "appRoleId": SEND}
    made = admin.ask("POST", grants, body)
    assert made.status_code == 201
    assert code_of(admin.ask("POST", grants, body)) == (400, "Request_BadRequest")
    assert send(address, app["appId"], "office@contoso.com", client_secret=secret).status_code == 202
    assert admin.ask("DELETE", f"{grants}/{made.json()['id']}").status_code == 204
    assert send(address, app["appId"], "office@contoso.com", client_secret=secret).status_code == 403


def test_a_new_object_is_seen_after_a_while(admin: Administrator, sandbox: Sandbox) -> None:
    sandbox.change_directory(directory_delay=60)
    app = admin.ask("POST", "/v1.0/applications", {"displayName": "x"}).json()
    assert admin.ask("GET", f"/v1.0/applications/{app['id']}").status_code == 404
    refused = admin.ask("POST", "/v1.0/servicePrincipals", {"appId": app["appId"]})
    assert code_of(refused) == (400, "NoBackingApplicationObject")
    sandbox.change_directory(advance=61)
    assert admin.ask("GET", f"/v1.0/applications/{app['id']}").status_code == 200


def test_a_policy_forbids_secrets_and_caps_certificates(admin: Administrator, sandbox: Sandbox, pair: KeyPair) -> None:
    app = admin.app()
    sandbox.change_directory(credential_policy={"passwords": False, "certificate_days": 30})
    password = admin.ask("POST", f"/v1.0/applications/{app['id']}/addPassword", {})
    assert code_of(password) == (400, "CredentialTypeNotAllowedAsPerAppPolicy")
    path = f"/v1.0/applications/{app['id']}"
    long = admin.ask("PATCH", path, {"keyCredentials": [key_entry(pair)]})
    assert code_of(long) == (400, "CredentialInvalidLifetimeAsPerAppPolicy")
    starts = pair.certificate.not_valid_after_utc - timedelta(days=20)
    assert admin.ask("PATCH", path, {"keyCredentials": [key_entry(pair, startDateTime=starts.isoformat())]}).ok
    policy = admin.ask("GET", "/v1.0/policies/defaultAppManagementPolicy").json()
    assert policy["applicationRestrictions"]["keyCredentials"][0]["maxLifetime"] == "P30D"


def test_an_app_rolls_its_own_keys_by_proof_of_possession(
    admin: Administrator, sandbox: Sandbox, address: SandboxAddress, pair: KeyPair
) -> None:
    app, new = admin.app(), KeyPair.new()
    path = f"/v1.0/applications/{app['id']}"
    assert admin.ask("PATCH", path, {"keyCredentials": [key_entry(pair)]}).status_code == 204
    kept = admin.ask("GET", f"{path}?$select=keyCredentials").json()["keyCredentials"]
    assert kept[0]["key"] == key_entry(pair)["key"]
    assert admin.ask("GET", path).json()["keyCredentials"][0]["key"] is None

    own = Administrator(address, client(address))
    token = Administrator(address, own.session)
    form = {
        "grant_type": "client_credentials",
        "client_id": app["appId"],
        "scope": f"{address.graph_url}/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion(pair, app["appId"], address),
    }
    url = f"{address.authority_url}/{address.tenant_id}/oauth2/v2.0/token"
    token.session.headers["Authorization"] = (
        f"Bearer {own.session.post(url, data=form, timeout=10).json()['access_token']}"
    )
    for wrong in (
        proof(new, app["id"]),
        proof(pair, app["appId"]),
        proof(pair, app["id"], exp=int(time.time()) + 3600),
        proof(pair, app["id"], aud="https://graph.microsoft.com"),
        "nonsense",
    ):
        body = {"keyCredential": key_entry(new), "passwordCredential": None, "proof": wrong}
        assert token.ask("POST", f"{path}/addKey", body).status_code == 401
    body = {"keyCredential": key_entry(new), "passwordCredential": None, "proof": proof(pair, app["id"])}
    assert token.ask("POST", f"{path}/addKey", body).status_code == 200
    assert token.ask("GET", path).status_code == 403, "it may roll its keys, and nothing else"
    body = {"keyId": kept[0]["keyId"], "proof": proof(new, app["id"])}
    assert token.ask("POST", f"{path}/removeKey", body).status_code == 204
    assert len(admin.ask("GET", path).json()["keyCredentials"]) == 1
    other = admin.app("other")
    body = {"keyCredential": key_entry(pair), "proof": proof(new, other["id"])}
    assert token.ask("POST", f"/v1.0/applications/{other['id']}/addKey", body).status_code == 403


def assertion(pair: KeyPair, app_id: str, address: SandboxAddress) -> str:
    now = datetime.now(UTC)
    url = f"{address.authority_url}/{address.tenant_id}/oauth2/v2.0/token"
    claims = {"aud": url, "iss": app_id, "sub": app_id, "jti": "1", "nbf": now, "exp": now + timedelta(minutes=5)}
    return jwt.encode(claims, pair.key, "RS256", {"x5t": b64encode(bytes.fromhex(pair.sha1), b"-_").decode()})


def test_a_deleted_application_leaves_nothing(admin: Administrator, sandbox: Sandbox) -> None:
    app = admin.app()
    assert admin.ask("DELETE", f"/v1.0/applications/{app['id']}").status_code == 204
    assert sandbox.change_directory() == {
        "applications": 0,
        "deleted": 1,
        "principals": 0,
        "grants": 0,
        "assignments": 0,
    }
    assert admin.ask("POST", "/v1.0/applications", {"displayName": "x", "uniqueName": "mail-worker"}).status_code == 400
    assert admin.ask("POST", f"/v1.0/directory/deletedItems/{app['id']}/restore").status_code == 200
    assert admin.ask("DELETE", f"/v1.0/applications/{app['id']}").status_code == 204
    assert admin.ask("DELETE", f"/v1.0/directory/deletedItems/{app['id']}").status_code == 204
    assert sandbox.change_directory()["deleted"] == 0


def test_the_directory_fails_on_demand(admin: Administrator, sandbox: Sandbox) -> None:
    sandbox.add_fault(stage="directory", status=503, accepted=True, times=1)
    assert admin.ask("POST", "/v1.0/applications", {"displayName": "x"}).status_code == 503
    assert sandbox.change_directory()["applications"] == 1


def test_clients_of_people_are_no_apps(sandbox: Sandbox, address: SandboxAddress) -> None:
    answer = send(address, GRAPH_TOOLS, "office@contoso.com", client_secret="x")
    assert answer.json()["error"] == "unauthorized_client"
