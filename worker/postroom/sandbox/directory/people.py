"""Users, groups and administrative units, as far as a scope for an app needs them; and the policy for credentials."""

from __future__ import annotations

from typing import Any

from postroom.sandbox.directory.asked import Asked, Said, bad, by_filter, listed, not_found, require, selected
from postroom.sandbox.directory.objects import fixed_id
from postroom.sandbox.options import People

USERS = ("User.ReadBasic.All", "User.Read.All", "Directory.Read.All")
GROUPS = ("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
UNITS = ("AdministrativeUnit.Read.All", "Directory.Read.All")
POLICIES = ("Policy.Read.All", "Policy.ReadWrite.ApplicationConfiguration")


def get_user(asked: Asked) -> Said:
    """The user with this principal name or object id."""
    require(asked, USERS)
    user_id = asked.directory.user_id(asked.parts[0])
    if user_id is None:
        raise not_found(asked.parts[0])
    return Said(200, selected(asked, _user(asked.directory.address_of(user_id) or asked.parts[0].casefold())))


def list_users(asked: Asked) -> Said:
    """The user whose mail address this is; users without a filter are not listed."""
    require(asked, USERS)
    wanted = by_filter(asked, ("mail", "userPrincipalName"))
    if wanted is None:
        raise bad("The sandbox lists users by a filter only.", "Request_UnsupportedQuery")
    found = asked.directory.user_id(wanted[1]) if "@" in wanted[1] else None
    return listed(asked, "users", [selected(asked, _user(wanted[1].casefold()))] if found else [])


def list_groups(asked: Asked) -> Said:
    """The groups, by name or mail address."""
    require(asked, GROUPS)
    wanted = by_filter(asked, ("mail", "displayName"))
    rows = [_group(group_id, one) for group_id, one in asked.directory.groups.items()]
    found = [row for row in rows if wanted is None or str(row[wanted[0]]).casefold() == wanted[1].casefold()]
    return listed(asked, "groups", [selected(asked, row) for row in found])


def get_group(asked: Asked) -> Said:
    """One group."""
    require(asked, GROUPS)
    return Said(
        200, selected(asked, _group(asked.parts[0].casefold(), _people(asked.directory.groups, asked.parts[0])))
    )


def list_members(asked: Asked) -> Said:
    """The direct members of a group: users, and groups in it."""
    require(asked, GROUPS)
    people = _people(asked.directory.groups, asked.parts[0])
    return listed(asked, f"groups/{asked.parts[0]}/members", _members(asked, people))


def list_units(asked: Asked) -> Said:
    """The administrative units, by name."""
    require(asked, UNITS)
    wanted = by_filter(asked, ("displayName",))
    units = asked.directory.units.items()
    rows = [{"id": unit_id, "displayName": one.name, "description": None} for unit_id, one in units]
    found = [row for row in rows if wanted is None or str(row["displayName"]).casefold() == wanted[1].casefold()]
    return listed(asked, "directory/administrativeUnits", [selected(asked, row) for row in found])


def list_unit_members(asked: Asked) -> Said:
    """The members of an administrative unit."""
    require(asked, UNITS)
    people = _people(asked.directory.units, asked.parts[0])
    return listed(asked, f"directory/administrativeUnits/{asked.parts[0]}/members", _members(asked, people))


def credential_policy(asked: Asked) -> Said:
    """https://learn.microsoft.com/graph/api/resources/tenantappmanagementpolicy"""
    require(asked, POLICIES)
    policy = asked.directory.policy

    def rule(kind: str, days: int | None = None) -> dict[str, Any]:
        return {
            "restrictionType": kind,
            "state": "enabled",
            "maxLifetime": None if days is None else f"P{days}D",
            "restrictForAppsCreatedAfterDateTime": "2019-10-19T10:37:00Z",
        }

    passwords = [] if policy.passwords else [rule("passwordAddition")]
    passwords += [] if policy.password_days is None else [rule("passwordLifetime", policy.password_days)]
    keys = [] if policy.certificate_days is None else [rule("asymmetricKeyLifetime", policy.certificate_days)]
    restrictions = {"passwordCredentials": passwords, "keyCredentials": keys}
    body = {
        "id": "00000000-0000-0000-0000-000000000000",
        "displayName": "Default app management tenant policy",
        "isEnabled": bool(passwords or keys),
        "applicationRestrictions": restrictions,
        "servicePrincipalRestrictions": restrictions,
    }
    return Said(200, selected(asked, body))


def _people(all_of_them: dict[str, People], object_id: str) -> People:
    found = all_of_them.get(object_id.casefold())
    if found is None:
        raise not_found(object_id)
    return found


def _members(asked: Asked, people: People) -> list[dict[str, Any]]:
    rows = []
    for kind, object_id in asked.directory.members(people):
        address = asked.directory.address_of(object_id) if kind == "user" else None
        own = _user(address or "") if kind == "user" else _group(object_id, asked.directory.groups[object_id])
        rows.append({"@odata.type": f"#microsoft.graph.{kind}", **own})
    return rows


def _user(address: str) -> dict[str, Any]:
    name = address.partition("@")[0]
    return {
        "id": fixed_id(f"user/{address}"),
        "displayName": name,
        "mail": address,
        "userPrincipalName": address,
    }


def _group(group_id: str, group: People) -> dict[str, Any]:
    return {
        "id": group_id,
        "displayName": group.name,
        "groupTypes": [],
        "mail": group.address or None,
        "mailEnabled": bool(group.address),
        "securityEnabled": True,
    }
