"""Looks what is there of an app that is wanted: in the tenant, and in the files here."""

import base64
import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from postroom.graph.credentials import CredentialFault
from postroom.setup import certificates
from postroom.setup.directory import Directory, quoted
from postroom.setup.errors import Refusal, SetupError
from postroom.setup.files import Files
from postroom.setup.plan import Assigned, Found, OwnCertificate
from postroom.setup.wanted import APP_ROLES, GRAPH_APP_ID, TRACE_APP_ID, is_ours, unique_name

EXCHANGE = "/beta/roleManagement/exchange"


class Looker:
    """Looks into one tenant. What never changes is asked for once."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._roles: dict[str, str] = {}
        self._policy: list[int | None] = []
        self._certificates: dict[bytes, OwnCertificate] = {}

    def role_ids(self) -> dict[str, str]:
        """The ids of Exchange's roles by name."""
        if not self._roles:
            rows = self._directory.read_all(f"{EXCHANGE}/roleDefinitions?$select=id,displayName")
            self._roles = {str(row.get("displayName")): str(row["id"]) for row in rows}
        return self._roles

    def look(self, name: str, files: Files) -> Found:
        """What is there of the app with this name."""
        found = Found(certificate=self._own_certificate(files), policy_days=self._policy_days())
        app = self._application(name)
        if app is None:
            return found
        keys = app.get("keyCredentials") or []
        found = replace(
            found,
            object_id=str(app["id"]).casefold(),
            app_id=str(app["appId"]),
            thumbprints=frozenset(_hex(str(key.get("customKeyIdentifier") or "")) for key in keys),
            settings_written=files.settings_name(str(app["appId"])),
        )
        principal = self._directory.find(f"/v1.0/servicePrincipals(appId={quoted(found.app_id)})?$select=id")
        if principal is None:
            return found
        return self._rights(replace(found, principal_id=str(principal["id"])))

    def _application(self, name: str) -> dict[str, Any] | None:
        fields = "$select=id,appId,uniqueName,keyCredentials"
        app = self._directory.find(f"/v1.0/applications(uniqueName={quoted(unique_name(name))})?{fields}")
        if app is not None:
            return app
        named = self._directory.read_all(
            f"/v1.0/applications?$filter={quote(f'displayName eq {quoted(name)}')}&{fields}"
        )
        return next((one for one in named if is_ours(one.get("uniqueName"), name)), None)

    def _rights(self, found: Found) -> Found:
        grants = self._directory.read_all(f"/v1.0/servicePrincipals/{found.principal_id}/appRoleAssignments")
        names = {role_id: name for name, role_id in APP_ROLES.items()}
        trace = self._directory.find(f"/v1.0/servicePrincipals(appId={quoted(TRACE_APP_ID)})?$select=id")
        role_names = {role_id: name for name, role_id in self.role_ids().items()}
        mine = f"/serviceprincipals/{found.principal_id}".casefold()
        rows = self._directory.read_all(f"{EXCHANGE}/roleAssignments")
        return replace(
            found,
            grants={names.get(str(one["appRoleId"]), str(one["appRoleId"])): str(one["id"]) for one in grants},
            has_trace=trace is not None,
            assigned=tuple(
                Assigned(
                    id=str(row["id"]),
                    role=role_names.get(str(row.get("roleDefinitionId")), str(row.get("roleDefinitionId"))),
                    scope=str(row.get("directoryScopeId") or row.get("appScopeId") or ""),
                )
                for row in rows
                if str(row.get("principalId", "")).casefold() == mine
            ),
        )

    def graph_id(self) -> str:
        """The object id of Microsoft Graph's service principal in this tenant."""
        found = self._directory.read(f"/v1.0/servicePrincipals(appId={quoted(GRAPH_APP_ID)})?$select=id")
        return str(found["id"])

    def _own_certificate(self, files: Files) -> OwnCertificate | None:
        """The certificate in our file; None if there is no file. Raises SetupError where the file has something else.

        To load a key takes OpenSSL a fifth of a second, so the same content is loaded once.
        """
        try:
            content = files.certificate.read_bytes()
        except FileNotFoundError:
            return None
        if content not in self._certificates:
            try:
                pair = certificates.read(files.certificate)
            except CredentialFault as fault:
                raise SetupError(f"{fault}; give another file with --certificate") from None
            own = OwnCertificate(thumbprint=pair.sha1, object_id=pair.object_id, ends=pair.ends)
            self._certificates[content] = own
        return self._certificates[content]

    def _policy_days(self) -> int | None:
        if not self._policy:
            try:
                policy = self._directory.find("/v1.0/policies/defaultAppManagementPolicy")
            except Refusal as refusal:
                if refusal.status != 403:  # who may not read it hears of it when the certificate is refused
                    raise
                policy = None
            self._policy.append(longest_days(policy) if policy else None)
        return self._policy[0]


def longest_days(policy: dict[str, object]) -> int | None:
    """How many days a certificate may live by the tenant's default policy for apps; None: as long as one likes.

    https://learn.microsoft.com/graph/api/resources/keycredentialconfiguration
    """
    restrictions = policy.get("applicationRestrictions")
    rules = restrictions.get("keyCredentials") if isinstance(restrictions, dict) else None
    if not policy.get("isEnabled") or not isinstance(rules, list):
        return None
    lives = [
        _days(str(rule.get("maxLifetime")))
        for rule in rules
        if rule.get("restrictionType") == "asymmetricKeyLifetime" and rule.get("state", "enabled") == "enabled"
    ]
    return min((days for days in lives if days is not None), default=None)


def _days(duration: str) -> int | None:
    """The whole days of an ISO 8601 duration such as P30D or P1Y."""
    found = re.fullmatch(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T.*)?", duration)
    if not found:
        return None
    years, months, weeks, days = (int(part or 0) for part in found.groups())
    return years * 365 + months * 30 + weeks * 7 + days


def _hex(identifier: str) -> str:
    """The thumbprint in `customKeyIdentifier`, which is base64 of its bytes, or of its hexadecimal text."""
    try:
        raw = base64.b64decode(identifier, validate=True)
    except ValueError:
        return identifier.upper()
    return raw.hex().upper() if len(raw) in (20, 32) else identifier.upper()
