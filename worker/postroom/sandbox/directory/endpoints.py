"""The part of Graph that administrators call: which path is answered by which function."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.control.effects import dress, finish, prepare
from postroom.sandbox.directory import applications, exchange_roles, people, principals
from postroom.sandbox.directory.asked import Asked, Handler, bad
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.graph.errors import graph_headers, refuse, unauthorized
from postroom.sandbox.graph.faulty_answers import faulty_answer
from postroom.sandbox.world import World

_APPLICATION = r"/v1\.0/applications(?:/([0-9a-fA-F-]+)|\((uniqueName|appId)='([^']+)'\))"
_PRINCIPAL = r"/v1\.0/servicePrincipals(?:/([0-9a-fA-F-]+)|\((appId)='([^']+)'\))"
_EXCHANGE = r"/beta/roleManagement/exchange"

_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", r"/v1\.0/applications", applications.list_applications),
    ("POST", r"/v1\.0/applications", applications.create_application),
    ("GET", _APPLICATION, applications.get_application),
    ("PATCH", _APPLICATION, applications.patch_application),
    ("DELETE", _APPLICATION, applications.delete_application),
    ("POST", rf"{_APPLICATION}/addKey", applications.add_key),
    ("POST", rf"{_APPLICATION}/removeKey", applications.remove_key),
    ("POST", rf"{_APPLICATION}/addPassword", applications.add_password),
    ("POST", rf"{_APPLICATION}/removePassword", applications.remove_password),
    ("GET", r"/v1\.0/directory/deletedItems/microsoft\.graph\.application", applications.list_deleted),
    ("POST", r"/v1\.0/directory/deletedItems/([0-9a-fA-F-]+)/restore", applications.restore),
    ("DELETE", r"/v1\.0/directory/deletedItems/([0-9a-fA-F-]+)", applications.delete_for_good),
    ("GET", r"/v1\.0/servicePrincipals", principals.list_principals),
    ("POST", r"/v1\.0/servicePrincipals", principals.create_principal),
    ("GET", _PRINCIPAL, principals.get_principal),
    ("PATCH", _PRINCIPAL, principals.patch_principal),
    ("DELETE", _PRINCIPAL, principals.delete_principal),
    ("GET", rf"{_PRINCIPAL}/appRoleAssignments", principals.list_grants),
    ("POST", rf"{_PRINCIPAL}/appRoleAssignments", principals.add_grant),
    ("DELETE", rf"{_PRINCIPAL}/appRoleAssignments/([^/]+)", principals.remove_grant),
    ("GET", r"/v1\.0/users", people.list_users),
    ("GET", r"/v1\.0/users/([^/]+)", people.get_user),
    ("GET", r"/v1\.0/groups", people.list_groups),
    ("GET", r"/v1\.0/groups/([0-9a-fA-F-]+)", people.get_group),
    ("GET", r"/v1\.0/groups/([0-9a-fA-F-]+)/members", people.list_members),
    ("GET", r"/v1\.0/directory/administrativeUnits", people.list_units),
    ("GET", r"/v1\.0/directory/administrativeUnits/([0-9a-fA-F-]+)/members", people.list_unit_members),
    ("GET", r"/v1\.0/policies/defaultAppManagementPolicy", people.credential_policy),
    ("GET", rf"{_EXCHANGE}/roleDefinitions", exchange_roles.list_definitions),
    ("GET", rf"{_EXCHANGE}/roleAssignments", exchange_roles.list_assignments),
    ("POST", rf"{_EXCHANGE}/roleAssignments", exchange_roles.add_assignment),
    ("DELETE", rf"{_EXCHANGE}/roleAssignments/([0-9a-fA-F-]+)", exchange_roles.remove_assignment),
)
ROUTES = tuple((method, re.compile(path), handler) for method, path, handler in _ROUTES)
_SERVED = re.compile(
    r"/beta/roleManagement/|/v1\.0/(applications|servicePrincipals|groups|directory|policies)\b|/v1\.0/users(/[^/]+)?$"
)


class DirectoryEndpoints:
    """Answers what administrators' clients ask of Graph."""

    def __init__(self, world: World) -> None:
        self._world = world

    @staticmethod
    def serves(path: str) -> bool:
        """Whether this path belongs to the directory."""
        return _SERVED.match(path) is not None

    async def __call__(self, call: Call) -> None:
        """Answers one call."""
        world = self._world
        arrival = world.log.arrive("directory", call)
        body = await call.body()
        if body is None:  # the client left while it was sending
            world.log.end(arrival, None)
            return
        rule = await prepare(world, world.faults.strike("directory"), arrival)
        await world.pause(world.options.latency)
        done = False
        if rule is not None and rule.effect != "pass" and not rule.accepted:
            answer = faulty_answer(rule, arrival)
        else:
            try:
                answer = self._answer(call, body, graph_headers(arrival.request_id, arrival.client_request_id))
                done = True
                if rule is not None:
                    answer = faulty_answer(rule, arrival) if rule.effect == "answer" else dress(rule, answer)
            except GraphError as error:
                answer = refuse(arrival, error)
        spared = rule is not None and rule.accepted and not done
        await finish(world, call, arrival, None if spared else rule, answer)

    def _answer(self, call: Call, body: bytes, headers: dict[str, str]) -> Answer:
        world = self._world
        scheme, _, token = call.header(b"authorization").partition(" ")
        if scheme.casefold() != "bearer" or not token:
            raise unauthorized("Access token is empty.")
        caller = world.mint.read(token, time.time())
        if isinstance(caller, str):
            raise unauthorized(caller)
        handler, parts = _route(call)
        query = dict(parse_qsl(call.scope["query_string"].decode("utf-8", "replace")))
        asked = Asked(
            directory=world.directory,
            caller=caller,
            root=f"https://{call.header(b'host')}",
            parts=parts,
            query=query,
            body=_object(call, body),
            prefer=call.header(b"prefer").strip(),
            now=world.directory.now(),
        )
        said = handler(asked)
        if said.body is None:
            return Answer(said.status, headers)
        kind = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
        return Answer(said.status, headers | {"content-type": kind}, json.dumps(said.body).encode())


def _route(call: Call) -> tuple[Handler, tuple[str, ...]]:
    """The function for this path, and the objects in it: for one that has several keys, the key's name first."""
    met = False
    for method, path, handler in ROUTES:
        found = path.fullmatch(call.path)
        if found is None:
            continue
        met = True
        if method == call.method:
            return handler, _parts(found)
    if met:
        raise GraphError(405, "Request_BadRequest", "The method is not allowed for this resource.")
    raise bad(f"Resource not found for the segment '{call.path.rpartition('/')[2]}'.", "BadRequest")


def _parts(found: re.Match[str]) -> tuple[str, ...]:
    groups = [unquote(one) if one is not None else None for one in found.groups()]
    if found.re.pattern.startswith((_APPLICATION, _PRINCIPAL)):
        by_id, kind, key, *others = groups
        named = ("id", by_id) if by_id is not None else (kind, key)
        return tuple(one for one in (*named, *others) if one is not None)
    return tuple(one for one in groups if one is not None)


def _object(call: Call, body: bytes) -> Mapping[str, Any]:
    if not body:
        return {}
    if call.header(b"content-type").partition(";")[0].strip().casefold() != "application/json":
        raise bad("Write requests (excluding DELETE) must contain the Content-Type header declaration.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise bad("Unable to read JSON request payload.", "BadRequest") from None
    if not isinstance(value, dict):
        raise bad("Unable to read JSON request payload.", "BadRequest")
    return value
