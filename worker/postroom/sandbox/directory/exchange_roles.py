"""`/beta/roleManagement/exchange`: RBAC for Applications, which says what an app may do in which mailboxes.

https://learn.microsoft.com/graph/api/rbacapplication-post-roleassignments?view=graph-rest-beta
"""

from __future__ import annotations

import re
from typing import Any

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
from postroom.sandbox.directory.objects import (
    EXCHANGE_ROLES,
    OTHER_EXCHANGE_ROLES,
    Assignment,
    fixed_id,
    new_id,
)
from postroom.sandbox.exchange.errors import GraphError

READ = ("RoleManagement.Read.Exchange", "RoleManagement.Read.All", "RoleManagement.ReadWrite.Exchange")
WRITE = ("RoleManagement.ReadWrite.Exchange",)
ADMINISTRATORS = ("Exchange Administrator",)
_SCOPE = re.compile(r"/|/(Users|Groups|AdministrativeUnits)/([0-9a-fA-F-]{36})")
_PRINCIPAL = re.compile(r"/ServicePrincipals/([0-9a-fA-F-]{36})")
_BODY = {"principalId": str, "roleDefinitionId": str, "directoryScopeId": str, "appScopeId": str}


def list_definitions(asked: Asked) -> Said:
    """The roles of Exchange, page by page."""
    require(asked, READ, ADMINISTRATORS)
    names = [*OTHER_EXCHANGE_ROLES, *EXCHANGE_ROLES]
    rows = [
        {"id": fixed_id(f"exchange-role/{name}"), "displayName": name, "isBuiltIn": True, "isEnabled": True}
        for name in names
    ]
    return listed(asked, "roleManagement/exchange/roleDefinitions", [selected(asked, row) for row in rows])


def list_assignments(asked: Asked) -> Said:
    """The roles that Exchange has assigned to apps."""
    require(asked, READ, ADMINISTRATORS)
    wanted = by_filter(asked, ("principalId", "roleDefinitionId"))
    rows = [_json(one) for one in asked.directory.assignments.values()]
    found = [row for row in rows if wanted is None or str(row[wanted[0]]).casefold() == wanted[1].casefold()]
    return listed(asked, "roleManagement/exchange/roleAssignments", [selected(asked, row) for row in found])


def add_assignment(asked: Asked) -> Said:
    """Assigns a role to a service principal in a scope. It counts when Exchange's caches have heard of it."""
    require(asked, WRITE, ADMINISTRATORS)
    body, directory = asked.body, asked.directory
    known_only(body, _BODY)
    required(body, "principalId", "roleDefinitionId", "directoryScopeId")
    principal = _PRINCIPAL.fullmatch(body["principalId"])
    if principal is None:
        raise bad(f"'{body['principalId']}' is not a valid principal; '/ServicePrincipals/{{id}}' is expected.")
    found = directory.find_principal(id=principal[1])
    if found is None or found.seen_from > asked.now:
        raise not_found(principal[1])
    names = {fixed_id(f"exchange-role/{name}"): name for name in EXCHANGE_ROLES}
    role = names.get(body["roleDefinitionId"].casefold())
    if role is None:
        raise not_found(body["roleDefinitionId"])
    _require_scope(asked, body["directoryScopeId"])
    known = {(one.principal_id, one.role, one.scope.casefold()) for one in directory.assignments.values()}
    if (found.id, role, body["directoryScopeId"].casefold()) in known:
        message = "A role assignment with the same role, principal and scope exists already."
        raise GraphError(409, "Conflict", message)
    assignment = Assignment(
        id=new_id(),
        principal_id=found.id,
        role=role,
        scope=body["directoryScopeId"],
        counts_from=asked.now + directory.exchange_delay,
    )
    directory.assignments[assignment.id] = assignment
    return Said(201, _json(assignment))


def remove_assignment(asked: Asked) -> Said:
    """Takes a role away."""
    require(asked, WRITE, ADMINISTRATORS)
    if asked.directory.assignments.pop(asked.parts[0].casefold(), None) is None:
        raise not_found(asked.parts[0])
    return Said(204)


def _require_scope(asked: Asked, scope: str) -> None:
    found = _SCOPE.fullmatch(scope)
    if found is None:
        raise bad(f"'{scope}' is not a valid directoryScopeId.")
    kind, object_id = found[1], (found[2] or "").casefold()
    directory = asked.directory
    exists = {
        None: True,
        "Users": directory.address_of(object_id) is not None,
        "Groups": object_id in directory.groups,
        "AdministrativeUnits": object_id in directory.units,
    }[kind]
    if not exists:
        raise not_found(object_id)


def _json(assignment: Assignment) -> dict[str, Any]:
    return {
        "id": assignment.id,
        "appScopeId": None,
        "directoryScopeId": assignment.scope,
        "principalId": f"/ServicePrincipals/{assignment.principal_id}",
        "roleDefinitionId": fixed_id(f"exchange-role/{assignment.role}"),
    }
