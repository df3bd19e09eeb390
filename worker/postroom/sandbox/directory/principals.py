"""`/servicePrincipals` and the app roles that they have: https://learn.microsoft.com/graph/api/resources/serviceprincipal"""

from __future__ import annotations

from typing import Any

from postroom.sandbox.directory.applications import ADMINISTRATORS, READ, WRITE, remove_principal
from postroom.sandbox.directory.asked import (
    Asked,
    Said,
    bad,
    by_filter,
    known_only,
    listed,
    not_found,
    require,
    required,
    selected,
)
from postroom.sandbox.directory.objects import APP_ROLES, TRACE_APP_ID, Grant, Principal, new_id
from postroom.sandbox.entra.tokens import GRAPH_APP_ID
from postroom.sandbox.exchange.errors import GraphError

GRANT = ("AppRoleAssignment.ReadWrite.All",)
# Only this role may grant application permissions of Microsoft Graph:
# https://learn.microsoft.com/entra/identity/enterprise-apps/grant-admin-consent
GRANTERS = ("Privileged Role Administrator",)
_WRITABLE = {"displayName": str, "tags": list, "notes": str, "accountEnabled": bool, "appRoleAssignmentRequired": bool}


def list_principals(asked: Asked) -> Said:
    """The service principals that are seen everywhere, by a filter on one property."""
    require(asked, READ)
    wanted = by_filter(asked, ("appId", "displayName"))
    rows = [_json(one) for one in asked.directory.principals.values() if one.seen_from <= asked.now]
    found = [row for row in rows if wanted is None or str(row[wanted[0]]).casefold() == wanted[1].casefold()]
    return listed(asked, "servicePrincipals", [selected(asked, row) for row in found])


def get_principal(asked: Asked) -> Said:
    """One service principal."""
    require(asked, READ)
    return Said(200, selected(asked, _json(_principal(asked))))


def create_principal(asked: Asked) -> Said:
    """A service principal for an application of this tenant, or for Microsoft's own that reads message traces."""
    require(asked, WRITE, ADMINISTRATORS)
    known_only(asked.body, _WRITABLE | {"appId": str})
    required(asked.body, "appId")
    if asked.directory.find_principal(app_id=asked.body["appId"]):
        message = f"The service principal name {asked.body['appId']} is already in use."
        raise GraphError(409, "Request_MultipleObjectsWithSameKeyValue", message)
    return _created(asked, asked.body["appId"])


def patch_principal(asked: Asked) -> Said:
    """Changes a service principal; with `Prefer: create-if-missing` and an appId it makes one that is not there."""
    require(asked, WRITE, ADMINISTRATORS)
    known_only(asked.body, _WRITABLE)
    kind, key = asked.parts[:2]
    principal = asked.directory.find_principal(**{"app_id" if kind == "appId" else "id": key})
    if principal is None and kind == "appId" and asked.prefer == "create-if-missing":
        return _created(asked, key)
    if principal is None:
        raise not_found(key)
    principal.name = asked.body.get("displayName", principal.name)
    return Said(204)


def delete_principal(asked: Asked) -> Said:
    """Removes a service principal, with its grants."""
    require(asked, WRITE, ADMINISTRATORS)
    remove_principal(asked, _principal(asked).id)
    return Said(204)


def list_grants(asked: Asked) -> Said:
    """The app roles that a service principal has."""
    require(asked, (*READ, *GRANT))
    principal = _principal(asked)
    grants = [one for one in asked.directory.grants.values() if one.principal_id == principal.id]
    rows = [selected(asked, _grant_json(asked, one)) for one in grants]
    return listed(asked, f"servicePrincipals/{principal.id}/appRoleAssignments", rows)


def add_grant(asked: Asked) -> Said:
    """Gives a service principal an app role of Microsoft Graph: an application permission, with consent."""
    require(asked, GRANT, GRANTERS)
    known_only(asked.body, {"principalId": str, "resourceId": str, "appRoleId": str})
    required(asked.body, "principalId", "resourceId", "appRoleId")
    principal, directory, body = _principal(asked), asked.directory, asked.body
    graph = directory.find_principal(app_id=GRAPH_APP_ID)
    if body["principalId"].casefold() != principal.id or graph is None or body["resourceId"].casefold() != graph.id:
        raise not_found(body["principalId"])
    if body["appRoleId"].casefold() not in APP_ROLES.values():
        raise bad("Permission being assigned was not found on application.")
    if any(
        (one.principal_id, one.role_id) == (principal.id, body["appRoleId"].casefold())
        for one in directory.grants.values()
    ):
        raise bad("Permission being assigned already exists on the object.")
    grant = Grant(id=new_id(), principal_id=principal.id, resource_id=graph.id, role_id=body["appRoleId"].casefold())
    directory.grants[grant.id] = grant
    return Said(201, _grant_json(asked, grant))


def remove_grant(asked: Asked) -> Said:
    """Takes an app role away."""
    require(asked, GRANT, GRANTERS)
    principal = _principal(asked)
    grant = asked.directory.grants.get(asked.parts[2])
    if grant is None or grant.principal_id != principal.id:
        raise not_found(asked.parts[2])
    del asked.directory.grants[grant.id]
    return Said(204)


def _created(asked: Asked, app_id: str) -> Said:
    directory = asked.directory
    app = directory.find_application(app_id=app_id)
    if (app is None or app.seen_from > asked.now) and app_id.casefold() != TRACE_APP_ID:
        message = f"The appId '{app_id}' of the service principal does not reference a valid application object."
        raise bad(message, "NoBackingApplicationObject")
    name = asked.body.get("displayName") or (app.name if app else "Message trace of Exchange Online")
    principal = Principal(
        id=new_id(), app_id=app_id.casefold(), name=name, seen_from=asked.now + directory.directory_delay
    )
    directory.principals[principal.id] = principal
    return Said(201, _json(principal))


def _principal(asked: Asked) -> Principal:
    kind, key = asked.parts[:2]
    principal = asked.directory.find_principal(**{"app_id" if kind == "appId" else "id": key})
    if principal is None or principal.seen_from > asked.now:
        raise not_found(key)
    return principal


def _json(principal: Principal) -> dict[str, Any]:
    own = APP_ROLES if principal.app_id == GRAPH_APP_ID else {}
    roles = [{"id": role_id, "value": name, "isEnabled": True} for name, role_id in own.items()]
    return {
        "id": principal.id,
        "accountEnabled": True,
        "appId": principal.app_id,
        "appRoles": roles,
        "displayName": principal.name,
        "servicePrincipalType": "Application",
    }


def _grant_json(asked: Asked, grant: Grant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "appRoleId": grant.role_id,
        "principalId": grant.principal_id,
        "principalType": "ServicePrincipal",
        "resourceId": grant.resource_id,
        "resourceDisplayName": asked.directory.principals[grant.resource_id].name,
    }
