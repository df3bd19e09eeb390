"""A request of an administrator's client, what it may do, and what it asks to see."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from postroom.sandbox.directory.objects import Directory
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError

PAGE = 100
_GLOBAL = "Global Administrator"
_EQUALS = re.compile(r"\s*(\w+)\s+eq\s+'((?:[^']|'')*)'\s*")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `parts` are what stands in its path for an object; `body` is its JSON object."""

    directory: Directory
    caller: Claims
    root: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    prefer: str
    now: float


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: the status, and the JSON object where there is one."""

    status: int
    body: Mapping[str, Any] | None = None


Handler = Callable[[Asked], Said]


def require(asked: Asked, scopes: Iterable[str], roles: Iterable[str] = ()) -> None:
    """Raises GraphError unless the token has one of the permissions, and its person one of the directory roles.

    An app's own token needs the permission as a role. The sandbox has no other roles to give for this, so it has none.
    """
    caller = asked.caller
    account = asked.directory.accounts.get(caller.user)
    given = set(account.roles) if account else set()
    wanted = set(roles)
    if not (caller.scopes | caller.roles) & set(scopes):
        raise denied()
    if caller.user and wanted and not given & (wanted | {_GLOBAL}):
        raise denied()


def denied() -> GraphError:
    """The error for a caller who may not do this."""
    return GraphError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")


def not_found(what: str) -> GraphError:
    """The error for an object that is not there, or is not seen yet."""
    message = f"Resource '{what}' does not exist or one of its queried reference-property objects are not present."
    return GraphError(404, "Request_ResourceNotFound", message)


def bad(message: str, code: str = "Request_BadRequest") -> GraphError:
    """The error for a request that is wrong."""
    return GraphError(400, code, message)


def known_only(body: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raises GraphError where the body has a property that the resource has not, or one of another type."""
    for name, value in body.items():
        if name == "@odata.type":
            continue
        if name not in kinds:
            raise bad(f"Invalid property '{name}'.")
        if value is not None and not isinstance(value, kinds[name]):
            raise bad(f"Invalid value specified for property '{name}' of resource.")


def required(body: Mapping[str, Any], *names: str) -> None:
    """Raises GraphError where the body lacks one of these."""
    for name in names:
        if not body.get(name):
            raise bad(f"A value is required for property '{name}' of resource.")


def by_filter(asked: Asked, allowed: Iterable[str]) -> tuple[str, str] | None:
    """The property and the value of `$filter=name eq 'value'`; None without a filter."""
    text = asked.query.get("$filter")
    if text is None:
        return None
    found = _EQUALS.fullmatch(text)
    if found is None or found[1] not in allowed:
        raise bad("Invalid filter clause", "Request_UnsupportedQuery")
    return found[1], found[2].replace("''", "'")


def selected(asked: Asked, resource: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of a resource that `$select` names, or all."""
    names = [name.strip() for name in asked.query.get("$select", "").split(",") if name.strip()]
    for name in names:
        if name not in resource:
            raise bad(f"Could not find a property named '{name}' on the type.")
    return {name: resource[name] for name in names or resource}


def listed(asked: Asked, path: str, rows: list[dict[str, Any]]) -> Said:
    """A page of a collection, with the link to the next one."""
    top = asked.query.get("$top", str(PAGE))
    if not top.isdecimal() or not 1 <= int(top) <= 999:
        raise bad("Invalid page size specified. Must be between 1 and 999 inclusive.", "Request_UnsupportedQuery")
    begin = int(asked.query["$skiptoken"]) if asked.query.get("$skiptoken", "").isdecimal() else 0
    end = begin + int(top)
    body: dict[str, Any] = {"@odata.context": f"{asked.root}/v1.0/$metadata#{path}", "value": rows[begin:end]}
    if end < len(rows):
        version = "beta" if path.startswith("roleManagement") else "v1.0"
        body["@odata.nextLink"] = f"{asked.root}/{version}/{path}?$top={top}&$skiptoken={end}"
    return Said(200, body)


def time_text(moment: float) -> str:
    """A time as Graph writes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: object, name: str) -> float:
    """Seconds since 1970 of an ISO time. Raises GraphError."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        raise bad(f"Invalid value specified for property '{name}' of resource.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def binary(text: object, name: str) -> bytes:
    """The bytes of an Edm.Binary. Raises GraphError."""
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        raise bad(f"Invalid value specified for property '{name}' of resource.") from None
