"""Does what a plan says, and undoes it.

After each step it looks again and plans anew. So it does not matter where an earlier run was killed, whether an answer
was lost, or how long the directory takes to show what was made: the same end is reached.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from postroom.setup import certificates
from postroom.setup.directory import Directory, quoted
from postroom.setup.errors import Refusal, SetupError, Unsure
from postroom.setup.files import Files
from postroom.setup.look import EXCHANGE, Looker
from postroom.setup.plan import Do, Found, Step, life, steps
from postroom.setup.wanted import APP_ROLES, MOST_NAMES, TRACE_APP_ID, Wanted, is_ours, unique_name

PATIENCE_S = 300.0
# Answers to a change that mean: something that was just made is not seen there yet.
_NOT_SEEN_YET = {
    "NoBackingApplicationObject",
    "Request_ResourceNotFound",
    "ResourceNotFound",
    "Directory_ObjectNotFound",
}
_NEEDS = {
    Do.REGISTER: "Application Administrator",
    Do.ADD_CERTIFICATE: "Application Administrator",
    Do.ADD_PRINCIPAL: "Application Administrator",
    Do.ADD_TRACE: "Application Administrator",
    Do.GRANT: "Privileged Role Administrator",
    Do.REVOKE: "Privileged Role Administrator",
    Do.ASSIGN: "Exchange Administrator",
    Do.UNASSIGN: "Exchange Administrator",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where an app is set up: a tenant, as an administrator sees it, and the files here."""

    directory: Directory
    looker: Looker
    files: Files
    tenant_id: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


def apply(
    site: Site,
    wanted: Wanted,
    begin: Callable[[Step], None] = lambda _: None,
    agree: Callable[[Step], bool] = lambda _: True,
) -> Found:
    """Does what is missing, and returns what is there then.

    `begin` is told each step before it is done. Steps that take away what somebody else may have given are done only
    if `agree` says so. Raises SetupError where it cannot go on; run again, it goes on from there.
    """
    left_alone: set[Step] = set()
    last: Step | None = None
    waited_s = pause_s = 0.0
    while True:
        found = site.looker.look(wanted.name, site.files)
        todo = [step for step in steps(wanted, found, site.now()) if step not in left_alone]
        if not todo:
            return found
        step = todo[0]
        if step.asked and step != last and not agree(step):
            left_alone.add(step)
            continue
        if step == last:  # it was done, and is not seen yet; or it could not be done yet
            if waited_s >= PATIENCE_S:
                raise SetupError(f"{step.what}: not seen after {waited_s:.0f} s; run this again, it goes on from here")
            pause_s = min(pause_s * 2 or 1.0, 20.0)
            waited_s += pause_s
            site.sleep(pause_s)
        else:
            begin(step)
            waited_s = pause_s = 0.0
        last = step
        _try(site, wanted, found, step)


def _try(site: Site, wanted: Wanted, found: Found, step: Step) -> None:
    try:
        _do(site, wanted, found, step)
    except Unsure:
        return  # the next look tells
    except Refusal as refusal:
        if refusal.status == 409 or refusal.code in _NOT_SEEN_YET or (refusal.status, step.do) == (404, Do.UNASSIGN):
            return
        if refusal.status in (401, 403) and step.do in _NEEDS:
            who = f"the person who signed in needs the role {_NEEDS[step.do]} (or Global Administrator)"
            raise SetupError(f"{step.what}: refused ({refusal.code}); {who}") from None
        if refusal.code.endswith("AsPerAppPolicy"):
            if found.certificate and found.certificate.object_id == found.object_id:
                site.files.certificate.unlink()  # made for this app, and of no use: the next run makes another
            hint = "a certificate with a shorter life may be allowed (--days)"
            raise SetupError(f"{step.what}: the tenant's app management policy forbids it; {hint}: {refusal}") from None
        raise


def _do(site: Site, wanted: Wanted, found: Found, step: Step) -> None:
    directory, files = site.directory, site.files
    match step.do:
        case Do.REGISTER:
            _register(directory, wanted)
        case Do.MAKE_KEY:
            _require_own_file(files, found)
            pair = certificates.make(wanted.name, life(wanted, found), site.now(), found.object_id)
            certificates.write_private(files.certificate, pair.pem)
        case Do.ADD_CERTIFICATE:
            add_certificate(directory, found.object_id, certificates.read(files.certificate), wanted.name)
        case Do.ADD_PRINCIPAL:
            _upsert_principal(directory, found.app_id, wanted.name)
        case Do.ADD_TRACE:
            _upsert_principal(directory, TRACE_APP_ID, "")
        case Do.GRANT:
            path = f"/v1.0/servicePrincipals/{found.principal_id}/appRoleAssignments"
            ids = {"principalId": found.principal_id, "resourceId": site.looker.graph_id()}
            directory.write("POST", path, {**ids, "appRoleId": APP_ROLES[step.subject]})
        case Do.REVOKE:
            grant = found.grants[step.subject]
            directory.write("DELETE", f"/v1.0/servicePrincipals/{found.principal_id}/appRoleAssignments/{grant}")
        case Do.ASSIGN:
            _assign(site, found, step)
        case Do.UNASSIGN:
            directory.write("DELETE", f"{EXCHANGE}/roleAssignments/{step.subject}")
        case Do.WRITE_SETTINGS:
            files.write_settings(site.tenant_id, found.app_id)


def _require_own_file(files: Files, found: Found) -> None:
    own = found.certificate
    if own is not None and own.object_id not in ("", found.object_id):
        hint = "give another file with --certificate, or move this one away"
        raise SetupError(f"{files.certificate} has the key of another app ({own.object_id}); {hint}")


def _register(directory: Directory, wanted: Wanted) -> None:
    # By its key, so that two runs at once, or a lost answer, cannot make two of it:
    # https://learn.microsoft.com/graph/api/application-upsert
    body = {
        "displayName": wanted.name,
        "signInAudience": "AzureADMyOrg",
        "notes": "Sends mail. Made by `postroom setup app`; `postroom setup undo` removes it.",
        "tags": ["postroom"],
    }
    for number in range(1, MOST_NAMES + 1):
        key = unique_name(wanted.name, number)
        try:
            directory.write("PATCH", f"/v1.0/applications(uniqueName={quoted(key)})", body, prefer="create-if-missing")
        except Refusal as refusal:
            if not _is_taken(refusal):
                raise
        else:
            return
    raise SetupError(f"{MOST_NAMES} deleted apps have kept the keys for the name {wanted.name!r}; choose another name")


def _is_taken(refusal: Refusal) -> bool:
    """Whether a deleted application has kept this key."""
    return refusal.status in (400, 409) and ("uniqueName" in str(refusal) or "SameKeyValue" in refusal.code)


def _upsert_principal(directory: Directory, app_id: str, name: str) -> None:
    """https://learn.microsoft.com/graph/api/serviceprincipal-upsert"""
    body = {"displayName": name} if name else {}
    directory.write("PATCH", f"/v1.0/servicePrincipals(appId={quoted(app_id)})", body, prefer="create-if-missing")


def add_certificate(directory: Directory, object_id: str, pair: certificates.KeyPair, name: str) -> None:
    """Adds a certificate to an application, as an administrator. The others stay."""
    kept = directory.read(f"/v1.0/applications/{object_id}?$select=keyCredentials").get("keyCredentials") or []
    entries: list[Any] = [*kept, pair.entry(name)]  # a PATCH replaces the whole list
    directory.write("PATCH", f"/v1.0/applications/{object_id}", {"keyCredentials": entries})


def _assign(site: Site, found: Found, step: Step) -> None:
    role_id = site.looker.role_ids().get(step.subject)
    if role_id is None or step.scope is None:
        raise SetupError(f"{step.what}: Exchange Online has no role of this name in this tenant")
    body = {
        "principalId": f"/ServicePrincipals/{found.principal_id}",
        "roleDefinitionId": role_id,
        "directoryScopeId": step.scope.path,
    }
    site.directory.write("POST", f"{EXCHANGE}/roleAssignments", body)


def undo(site: Site, name: str) -> Iterator[str]:
    """Removes all that was made for the app with this name, and yields what it removes. Run again, it finishes.

    The roles in Exchange go first: without the service principal nobody could find out any more whose they were.
    """
    directory = site.directory
    found = site.looker.look(name, site.files)
    for one in found.assigned:
        yield f"the role {one.role!r} in {one.scope}"
        _gone(directory, f"{EXCHANGE}/roleAssignments/{one.id}")
    if found.object_id:
        yield f"the app {name!r} with its service principal, certificates and grants"
        _gone(directory, f"/v1.0/applications/{found.object_id}")
    for deleted in _deleted(site, name):
        yield "its copy among the deleted apps"
        _gone(directory, f"/v1.0/directory/deletedItems/{deleted}")
    yield from site.files.remove()


def _deleted(site: Site, name: str) -> list[str]:
    """The ids of the app's copies among the deleted ones. Where the list does not name keys, our note identifies it."""
    path = "/v1.0/directory/deletedItems/microsoft.graph.application?$select=id,uniqueName,displayName,tags"
    rows = site.directory.read_all(path)
    return [
        str(row["id"])
        for row in rows
        if is_ours(row.get("uniqueName"), name)
        or (row.get("uniqueName") is None and row.get("displayName") == name and "postroom" in (row.get("tags") or []))
    ]


def _gone(directory: Directory, path: str) -> None:
    for attempt in (1, 2, 3):
        try:
            directory.write("DELETE", path)
        except Unsure:
            if attempt == 3:
                raise
            continue
        except Refusal as refusal:
            if refusal.status != 404:
                raise
        return
