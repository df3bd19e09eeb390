"""The token endpoint that a machine with a managed identity has, and a vault's secrets.

https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference and
https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.control.effects import dress, finish, prepare
from postroom.sandbox.control.faults import FaultRule
from postroom.sandbox.entra.tokens import FOR_AN_APP
from postroom.sandbox.options import MACHINE_HEADER
from postroom.sandbox.world import World

MACHINE = "/msi/token"
VAULT = "/secrets/"
_SECRET = re.compile(r"/secrets/([A-Za-z0-9-]{1,127})/?([0-9a-f]{32})?/?")


class AzureEndpoints:
    """Answers the calls to a machine's identity and to the vault."""

    def __init__(self, world: World) -> None:
        self._world = world

    @staticmethod
    def serves(path: str) -> bool:
        """Whether this path is one of theirs."""
        return path == MACHINE or path.startswith(VAULT)

    async def __call__(self, call: Call) -> None:
        """Answers one call."""
        world, stage = self._world, "machine" if call.path == MACHINE else "vault"
        arrival = world.log.arrive(stage, call)
        rule = await prepare(world, world.faults.strike(stage), arrival)
        query = dict(parse_qsl(call.scope["query_string"].decode("utf-8", "replace")))
        if rule is not None and rule.effect == "answer":
            answer = _faulty(rule)
        else:
            answer = self._token(call, query) if call.path == MACHINE else self._secret(call, query)
        await finish(world, call, arrival, rule, dress(rule, answer) if rule else answer)

    def _token(self, call: Call, query: Mapping[str, str]) -> Answer:
        world, now = self._world, time.time()
        identity = query.get("client_id", world.options.machine_id)
        resource = query.get("resource", "")
        if call.header(b"x-identity-header") != MACHINE_HEADER:
            return _json(401, {"statusCode": 401, "message": "Invalid X-IDENTITY-HEADER"})
        app = world.tenant.apps.get(identity.casefold())
        if app is None:
            return _json(400, {"statusCode": 400, "message": f"No User Assigned Managed Identity found for {identity}"})
        audience = world.tenant.audience_of(resource.rstrip("/"), f"https://{call.header(b'host')}")
        if resource == FOR_AN_APP:
            issuer = f"https://login.microsoftonline.com/{world.options.tenant_id}/v2.0"
            token = world.mint.issue_proof(app.client_id, issuer, now)
        elif audience is None:
            return _json(400, {"statusCode": 400, "message": f"The resource principal named {resource} was not found"})
        else:
            token = world.mint.issue(app, audience, now, world.options.token_lifetime)
        expires_on = str(int(now) + world.options.token_lifetime)
        given = {"access_token": token, "expires_on": expires_on, "resource": resource, "token_type": "Bearer"}
        return _json(200, given | {"client_id": identity})

    def _secret(self, call: Call, query: Mapping[str, str]) -> Answer:
        world = self._world
        if "api-version" not in query:
            return _error(400, "BadParameter", "The api-version query parameter is required.")
        scheme, _, token = call.header(b"authorization").partition(" ")
        caller = world.mint.read(token, time.time()) if scheme.casefold() == "bearer" else "no token"
        if isinstance(caller, str):
            return self._challenge()
        readers = world.options.vault_readers
        if readers is not None and caller.app_id not in readers:
            message = f"Caller is not authorized to perform action on resource.\nCaller: appid={caller.app_id}"
            return _error(403, "Forbidden", message, {"code": "ForbiddenByRbac"})
        place = _SECRET.fullmatch(call.path)
        value = world.vault.get(place[1]) if place and not place[2] else None
        if not place or value is None:
            name = call.path.removeprefix(VAULT).rstrip("/")
            return _error(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
        kept = {"value": value, "id": f"https://{call.header(b'host')}/secrets/{place[1]}/{'0' * 32}"}
        return _json(200, kept | {"attributes": {"enabled": True}})

    def _challenge(self) -> Answer:
        root, tenant = self._world.address.graph_url, self._world.options.tenant_id
        answer = _error(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
        authority = f"{self._world.address.authority_url}/{tenant}"
        answer.headers["www-authenticate"] = f'Bearer authorization="{authority}", resource="{root}"'
        return answer


def _faulty(rule: FaultRule) -> Answer:
    return _error(rule.status or 500, rule.code or "InternalServerError", rule.message or "A fault of the sandbox.")


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, {"content-type": "application/json; charset=utf-8"}, json.dumps(body).encode())


def _error(status: int, code: str, message: str, inner: Mapping[str, str] | None = None) -> Answer:
    error: dict[str, Any] = {"code": code, "message": message}
    return _json(status, {"error": error | ({"innererror": dict(inner)} if inner else {})})
