"""`/applications`, and the bin that deleted ones stay in: https://learn.microsoft.com/graph/api/resources/application"""

from __future__ import annotations

from typing import Any

from postroom.sandbox.directory.asked import (
    Asked,
    Said,
    bad,
    by_filter,
    denied,
    known_only,
    listed,
    not_found,
    require,
    required,
    selected,
    time_text,
)
from postroom.sandbox.directory.keys import (
    check_proof,
    key_json,
    new_key,
    new_password,
    password_json,
    replaced_keys,
)
from postroom.sandbox.directory.objects import Application, new_id

READ = ("Application.Read.All", "Application.ReadWrite.All", "Directory.Read.All")
WRITE = ("Application.ReadWrite.All",)
ADMINISTRATORS = ("Application Administrator", "Cloud Application Administrator")
_WRITABLE = {"displayName": str, "keyCredentials": list, "notes": str, "signInAudience": str, "tags": list}
_AUDIENCES = ("AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount")


def list_applications(asked: Asked) -> Said:
    """The applications that are seen everywhere, by a filter on one property."""
    require(asked, READ)
    wanted = by_filter(asked, ("appId", "displayName", "uniqueName"))
    apps = [one for one in asked.directory.applications.values() if one.seen_from <= asked.now]
    rows = [_json(one, with_keys=_selects_keys(asked)) for one in apps]
    found = [row for row in rows if wanted is None or str(row[wanted[0]]).casefold() == wanted[1].casefold()]
    return listed(asked, "applications", [selected(asked, row) for row in found])


def get_application(asked: Asked) -> Said:
    """One application."""
    require(asked, READ)
    return Said(200, selected(asked, _json(_application(asked), with_keys=_selects_keys(asked))))


def create_application(asked: Asked) -> Said:
    """A new application. `uniqueName` can only be given by an upsert or here, and never changes."""
    require(asked, WRITE, ADMINISTRATORS)
    known_only(asked.body, _WRITABLE | {"uniqueName": str})
    required(asked.body, "displayName")
    return _created(asked, asked.body.get("uniqueName"))


def patch_application(asked: Asked) -> Said:
    """Changes an application; with `Prefer: create-if-missing` and a uniqueName it makes one that is not there."""
    require(asked, WRITE, ADMINISTRATORS)
    known_only(asked.body, _WRITABLE)
    by, key = _named(asked)
    app = asked.directory.find_application(**{by: key})
    if app is None and by == "unique_name" and asked.prefer == "create-if-missing":
        required(asked.body, "displayName")
        return _created(asked, key)
    if app is None or (by == "id" and app.seen_from > asked.now):
        raise not_found(key)
    _change(asked, app)
    return Said(204)


def delete_application(asked: Asked) -> Said:
    """Moves an application to the bin. Its service principal goes with it."""
    require(asked, WRITE, ADMINISTRATORS)
    app = _application(asked)
    directory = asked.directory
    directory.deleted[app.id] = directory.applications.pop(app.id)
    if app.unique_name:
        directory.names_taken.add(app.unique_name.casefold())
    principal = directory.find_principal(app_id=app.app_id)
    if principal is not None:
        remove_principal(asked, principal.id)
    return Said(204)


def remove_principal(asked: Asked, principal_id: str) -> None:
    """Removes a service principal with its grants. What Exchange has assigned to it stays there."""
    directory = asked.directory
    del directory.principals[principal_id]
    directory.grants = {
        grant_id: one
        for grant_id, one in directory.grants.items()
        if principal_id not in (one.principal_id, one.resource_id)
    }


def list_deleted(asked: Asked) -> Said:
    """The applications in the bin."""
    require(asked, READ)
    rows = [_json(one, with_keys=False) for one in asked.directory.deleted.values()]
    return listed(asked, "directory/deletedItems", [selected(asked, row) for row in rows])


def restore(asked: Asked) -> Said:
    """Takes an application out of the bin again. Its service principal comes back as well in the real directory."""
    require(asked, WRITE, ADMINISTRATORS)
    app = asked.directory.deleted.pop(asked.parts[0].casefold(), None)
    if app is None:
        raise not_found(asked.parts[0])
    asked.directory.names_taken.discard(str(app.unique_name).casefold())
    app.seen_from = asked.now + asked.directory.directory_delay
    asked.directory.applications[app.id] = app
    return Said(200, _json(app, with_keys=False))


def delete_for_good(asked: Asked) -> Said:
    """Empties the bin of one application."""
    require(asked, WRITE, ADMINISTRATORS)
    if asked.directory.deleted.pop(asked.parts[0].casefold(), None) is None:
        raise not_found(asked.parts[0])
    return Said(204)


def add_key(asked: Asked) -> Said:
    """Adds a certificate, for an app that proves that it has a valid one. Its own keys an app may always roll."""
    app = _rolled(asked, {"keyCredential": dict, "passwordCredential": dict, "proof": str})
    required(asked.body, "keyCredential")
    key = new_key(asked, asked.body["keyCredential"])
    key.id = new_id()  # nobody says that the caller may choose it here
    if any(one.thumbprint == key.thumbprint for one in app.keys):
        raise bad("Duplicate key credential.", "KeyCredentialsDuplicateKeyId")
    app.keys.append(key)
    return Said(200, key_json(key, with_key=False))


def remove_key(asked: Asked) -> Said:
    """Removes a certificate, for an app that proves that it has a valid one."""
    app = _rolled(asked, {"keyId": str, "proof": str})
    required(asked.body, "keyId")
    left = [one for one in app.keys if one.id != asked.body["keyId"].casefold()]
    if len(left) == len(app.keys):
        raise bad("No credentials found to be removed.", "Request_BadRequest")
    app.keys = left
    return Said(204)


def add_password(asked: Asked) -> Said:
    """A new secret, which is shown this once."""
    require(asked, WRITE, ADMINISTRATORS)
    known_only(asked.body, {"passwordCredential": dict})
    password = new_password(asked, asked.body.get("passwordCredential") or {})
    _application(asked).passwords.append(password)
    return Said(200, password_json(password) | {"secretText": password.text})


def remove_password(asked: Asked) -> Said:
    """Removes a secret."""
    require(asked, WRITE, ADMINISTRATORS)
    known_only(asked.body, {"keyId": str})
    app = _application(asked)
    left = [one for one in app.passwords if one.id != asked.body.get("keyId")]
    if len(left) == len(app.passwords):
        raise bad("No password credential found with keyId.")
    app.passwords = left
    return Said(204)


def _rolled(asked: Asked, properties: dict[str, type]) -> Application:
    known_only(asked.body, properties)
    app = _application(asked)
    if asked.caller.app_id != app.app_id:
        require(asked, WRITE, ADMINISTRATORS)
    elif asked.caller.user:
        raise denied()
    check_proof(asked, app, asked.directory)
    return app


def _created(asked: Asked, unique_name: str | None) -> Said:
    directory = asked.directory
    is_taken = unique_name and unique_name.casefold() in directory.names_taken
    if is_taken or (unique_name and directory.find_application(unique_name=unique_name)):
        message = "Another object with the same value for property uniqueName already exists."
        raise bad(message, "Request_MultipleObjectsWithSameKeyValue")
    app = Application(
        id=new_id(),
        app_id=new_id(),
        name=asked.body["displayName"],
        created=asked.now,
        seen_from=asked.now + directory.directory_delay,
        unique_name=unique_name,
    )
    _change(asked, app)
    directory.applications[app.id] = app
    return Said(201, _json(app, with_keys=True))


def _change(asked: Asked, app: Application) -> None:
    body = asked.body
    if body.get("signInAudience", "AzureADMyOrg") not in _AUDIENCES:
        raise bad("Invalid value specified for property 'signInAudience' of resource 'Application'.")
    keys = replaced_keys(asked, app, body["keyCredentials"]) if "keyCredentials" in body else app.keys
    app.keys = keys
    app.name = body.get("displayName", app.name)
    app.audience = body.get("signInAudience", app.audience)
    app.notes = body.get("notes", app.notes)
    app.tags = list(body.get("tags", app.tags))


def _application(asked: Asked) -> Application:
    by, key = _named(asked)
    app = asked.directory.find_application(**{by: key})
    if app is None or app.seen_from > asked.now:
        raise not_found(key)
    return app


def _named(asked: Asked) -> tuple[str, str]:
    kind, key = asked.parts[:2]
    return {"uniqueName": "unique_name", "appId": "app_id"}.get(kind, "id"), key


def _selects_keys(asked: Asked) -> bool:
    return "keyCredentials" in asked.query.get("$select", "")


def _json(app: Application, *, with_keys: bool) -> dict[str, Any]:
    return {
        "id": app.id,
        "appId": app.app_id,
        "createdDateTime": time_text(app.created),
        "deletedDateTime": None,
        "displayName": app.name,
        "keyCredentials": [key_json(one, with_key=with_keys) for one in app.keys],
        "notes": app.notes,
        "passwordCredentials": [password_json(one) for one in app.passwords],
        "requiredResourceAccess": [],
        "signInAudience": app.audience,
        "tags": app.tags,
        "uniqueName": app.unique_name,
    }
