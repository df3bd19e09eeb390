"""From what an administrator types (a mailbox, a group, an administrative unit) to a scope of Exchange's roles."""

from typing import Any
from urllib.parse import quote

from postroom.setup.directory import Directory, quoted
from postroom.setup.errors import SetupError
from postroom.setup.wanted import Scope, ScopeKind

SHOWN = 5


def resolve(directory: Directory, senders: list[str], units: list[str]) -> tuple[Scope, ...]:
    """The scopes of these mailboxes, groups (by address or name) and units (by name).

    Raises SetupError, which names all that are not there.
    """
    scopes, missing = [], []
    for sender in senders:
        scope = (_mailbox(directory, sender) if "@" in sender else None) or _group(directory, sender)
        scopes.append(scope)
        if scope is None:
            missing.append(f"{sender}: neither a mailbox nor a group of this tenant")
    for unit in units:
        scope = _unit(directory, unit)
        scopes.append(scope)
        if scope is None:
            missing.append(f"{unit}: no administrative unit of this tenant")
    if missing:
        raise SetupError("; ".join([*missing, "nothing was changed"]))
    return tuple({scope.path: scope for scope in scopes if scope}.values())


def _mailbox(directory: Directory, address: str) -> Scope | None:
    fields = "$select=id,mail,userPrincipalName"
    user = directory.find(f"/v1.0/users/{quote(address, safe='@')}?{fields}")
    if user is None:  # its principal name is another than its address
        found = directory.read_all(f"/v1.0/users?$filter={quote(f'mail eq {quoted(address)}')}&{fields}")
        user = found[0] if found else None
    if user is None:
        return None
    label = str(user.get("mail") or user.get("userPrincipalName") or address)
    return Scope(kind=ScopeKind.USER, id=str(user["id"]), label=label, mailboxes=(label,))


def _group(directory: Directory, name: str) -> Scope | None:
    field = "mail" if "@" in name else "displayName"
    fields = "$select=id,displayName,mail,mailEnabled"
    found = directory.read_all(f"/v1.0/groups?$filter={quote(f'{field} eq {quoted(name)}')}&{fields}")
    if len(found) > 1:
        raise SetupError(f"{name}: {len(found)} groups have this name; give the group's address instead")
    if not found:
        return None
    group = found[0]
    members = directory.read_all(f"/v1.0/groups/{group['id']}/members?$select=id,mail,userPrincipalName")
    return _of_members(ScopeKind.GROUP, str(group["id"]), f"the group {group.get('displayName') or name}", members)


def _unit(directory: Directory, name: str) -> Scope | None:
    query = f"$filter={quote(f'displayName eq {quoted(name)}')}&$select=id,displayName"
    found = directory.read_all(f"/v1.0/directory/administrativeUnits?{query}")
    if len(found) > 1:
        raise SetupError(f"{name}: {len(found)} administrative units have this name; rename one")
    if not found:
        return None
    unit_id = str(found[0]["id"])
    members = directory.read_all(f"/v1.0/directory/administrativeUnits/{unit_id}/members?$select=id,mail")
    return _of_members(ScopeKind.UNIT, unit_id, f"the administrative unit {name}", members)


def _of_members(kind: ScopeKind, object_id: str, label: str, members: list[dict[str, Any]]) -> Scope:
    def is_group(member: dict[str, Any]) -> bool:
        return str(member.get("@odata.type", "")).endswith(".group")

    mailboxes = [str(one["mail"]) for one in members if one.get("mail") and not is_group(one)]
    nested = [str(one.get("mail") or one.get("displayName") or one["id"]) for one in members if is_group(one)]
    warning = ""
    if nested:
        warning = f"members of {', '.join(nested[:SHOWN])} do not count: Exchange looks at direct members only"
    elif not mailboxes:
        warning = "it has no mailbox as a member yet"
    return Scope(kind=kind, id=object_id, label=label, mailboxes=tuple(mailboxes), warning=warning)
