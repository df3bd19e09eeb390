"""Signs an administrator in: by a code on any device (MSAL), or with the token that the Azure CLI has.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from postroom.graph import sign_in
from postroom.graph.token_claims import claims_of
from postroom.setup.errors import SetupError
from postroom.transport.http import Http

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
        app, result = sign_in.by_code(client_id, f"{authority_url}/{tenant}", scopes, http, show)
    except sign_in.SignInFailed as failed:
        raise SetupError(str(failed)) from None
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
    claims = claims_of(value) or {}
    missing = {"Application.ReadWrite.All", "RoleManagement.ReadWrite.Exchange"} - set(str(claims.get("scp")).split())
    if claims and missing:
        raise SetupError(f"the token of az lacks {', '.join(sorted(missing))}; sign in by a code (--sign-in code)")
    return SignedIn(str(claims.get("tid", "")), str(claims.get("upn", "")), lambda: value)
