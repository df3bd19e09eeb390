"""An administrator who calls the sandbox's directory, with a token from the device code flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from postroom.sandbox import SandboxAddress
from postroom.sandbox.control import Sandbox

from .sandbox_clients import client

GRAPH_TOOLS = "14d82eec-204b-4c2f-b7e8-296a70dab67e"
SCOPES = (
    "Application.ReadWrite.All",
    "AppRoleAssignment.ReadWrite.All",
    "RoleManagement.ReadWrite.Exchange",
    "User.ReadBasic.All",
    "GroupMember.Read.All",
    "AdministrativeUnit.Read.All",
    "Policy.Read.All",
)
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class Administrator:
    """A person signed in at the sandbox, and what they ask of the directory."""

    address: SandboxAddress
    session: requests.Session

    @classmethod
    def at(
        cls,
        sandbox: Sandbox,
        address: SandboxAddress,
        user: str = "admin@contoso.com",
        scopes: tuple[str, ...] = SCOPES,
    ) -> Administrator:
        one = cls(address, client(address))
        code = one.begin(scopes).json()
        sandbox.sign_in(code["user_code"], user)
        token = one.poll(code["device_code"]).json()["access_token"]
        one.session.headers["Authorization"] = f"Bearer {token}"
        return one

    def begin(self, scopes: tuple[str, ...] = SCOPES, client_id: str = GRAPH_TOOLS) -> requests.Response:
        return self._entra("devicecode", {"client_id": client_id, "scope": " ".join((*scopes, "offline_access"))})

    def poll(self, device_code: str) -> requests.Response:
        form = {"grant_type": DEVICE_CODE, "client_id": GRAPH_TOOLS, "device_code": device_code}
        return self._entra("token", form)

    def refresh(self, refresh_token: str) -> requests.Response:
        form = {"grant_type": "refresh_token", "client_id": GRAPH_TOOLS, "refresh_token": refresh_token}
        return self._entra("token", {**form, "scope": " ".join(SCOPES)})

    def _entra(self, endpoint: str, form: Mapping[str, str]) -> requests.Response:
        url = f"{self.address.authority_url}/{self.address.tenant_id}/oauth2/v2.0/{endpoint}"
        return self.session.post(url, data=form, timeout=10)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        url = path if path.startswith("https:") else f"{self.address.graph_url}{path}"
        return self.session.request(method, url, json=body, headers=headers, timeout=10)

    def app(self, name: str = "mail-worker") -> dict[str, Any]:
        """A new application with a service principal, whose id is `principal`."""
        app = self.ask("POST", "/v1.0/applications", {"displayName": name, "uniqueName": name}).json()
        principal = self.ask("POST", "/v1.0/servicePrincipals", {"appId": app["appId"]}).json()
        return {**app, "principal": principal["id"]}

    def role_id(self, name: str = "Application Mail.Send") -> str:
        link = "/beta/roleManagement/exchange/roleDefinitions"
        while link:
            page = self.ask("GET", link).json()
            for row in page["value"]:
                if row["displayName"] == name:
                    return str(row["id"])
            link = page.get("@odata.nextLink", "")
        raise AssertionError(f"no role {name}")
