"""Signs an administrator in: by a code on any device (MSAL), or with the token that the Azure CLI has.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
"""

import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msal

from postroom.setup.errors import SetupError
from postroom.transport.http import Http, Lost, NotSent

# "Microsoft Graph Command Line Tools", which each tenant knows: a public client without a secret.
GRAPH_TOOLS = "14d82eec-204b-4c2f-b7e8-296a70dab67e"
PERMISSIONS = (
    "Application.ReadWrite.All",
    "AppRoleAssignment.ReadWrite.All",
    "RoleManagement.ReadWrite.Exchange",
    "User.ReadBasic.All",
    "GroupMember.Read.All",
    "AdministrativeUnit.Read.All",
    "Policy.Read.All",
)
_REQUEST_S = 30.0


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person who signed in: their tenant, their principal name, and a function that gives a token for Graph."""

    tenant_id: str
    person: str
    token: Callable[[], str]


def by_code(
    http: Http, authority_url: str, graph_url: str, tenant: str, client_id: str, show: Callable[[str], None]
) -> SignedIn:
    """Signs in by a code; `show` gets the text that tells the person where to enter it. Raises SetupError."""
    scopes = [f"{graph_url}/{permission}" for permission in PERMISSIONS]
    try:
        app = msal.PublicClientApplication(
            client_id,
            authority=f"{authority_url}/{tenant}",
            instance_discovery=False,  # the operator or the list of clouds names the place
            http_client=_Entra(http),
        )
        flow = app.initiate_device_flow(scopes)
        if "user_code" not in flow:
            raise SetupError(f"sign-in by a code is not possible: {_reason(flow)}")
        show(str(flow["message"]))
        result = app.acquire_token_by_device_flow(flow)
    except (ValueError, OSError, msal.exceptions.MsalError, NotSent, Lost) as error:
        raise SetupError(f"{authority_url}/{tenant}: sign-in failed: {error}") from None
    if "access_token" not in result:
        raise SetupError(f"the sign-in was not completed: {_reason(result)}")
    claims = result.get("id_token_claims") or {}
    accounts = app.get_accounts()

    def token() -> str:
        fresh = app.acquire_token_silent(scopes, accounts[0]) if accounts else None
        return str((fresh or result)["access_token"])

    return SignedIn(str(claims.get("tid", tenant)), str(claims.get("preferred_username", "")), token)


def by_azure_cli(graph_url: str, run: Callable[..., Any] = subprocess.run) -> SignedIn:
    """Takes the token of a person who has signed in with `az login`. Raises SetupError.

    Microsoft gives that client no permission for Exchange's roles, so such a token often lacks it; then a person has to
    sign in by code, or an Exchange administrator runs what `postroom setup script` writes.
    """
    command = ["az", "account", "get-access-token", "--resource", graph_url, "--output", "json"]
    try:
        done = run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"az: {error}; install the Azure CLI, or sign in by a code") from None
    if done.returncode != 0:
        raise SetupError(f"az gives no token: {done.stderr.strip()[:500] or 'no reason'}; run `az login` first")
    try:
        value = str(json.loads(done.stdout)["accessToken"])
    except (ValueError, KeyError, TypeError):
        raise SetupError("az printed no token; is it the Azure CLI?") from None
    claims = claims_of(value)
    missing = {"Application.ReadWrite.All", "RoleManagement.ReadWrite.Exchange"} - set(str(claims.get("scp")).split())
    if claims and missing:
        raise SetupError(f"the token of az lacks {', '.join(sorted(missing))}; sign in by a code (--sign-in code)")
    return SignedIn(str(claims.get("tid", "")), str(claims.get("upn", "")), lambda: value)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified; empty where it cannot be read. Only for messages and early checks."""
    try:
        part = token.split(".")[1]
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _reason(result: Mapping[str, Any]) -> str:
    text = str(result.get("error_description") or result.get("error") or "no reason given")
    return text.partition(" Trace ID:")[0]


@dataclass(frozen=True, slots=True)
class _Answer:
    status_code: int
    text: str
    headers: Mapping[str, str]


class _Entra:
    """MSAL's `http_client`: requests by our transport, each with a deadline."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def get(self, url: str, **given: Any) -> _Answer:
        return self._exchange("GET", url, **given)

    def post(self, url: str, **given: Any) -> _Answer:
        return self._exchange("POST", url, **given)

    def close(self) -> None:
        """The connections are not this object's."""

    def _exchange(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> _Answer:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        answer = self._http.exchange(
            method,
            f"{url}?{urlencode(params)}" if params else url,
            headers={**(headers or {}), **form},
            body=urlencode(data).encode() if data else None,
            deadline_s=_REQUEST_S,
        )
        return _Answer(answer.status, answer.body.decode(errors="replace"), answer.headers)
