"""Entra's endpoints: discovery, the keys, and the token endpoint."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from json import dumps
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.control.effects import dress, finish, prepare
from postroom.sandbox.control.faults import FaultRule
from postroom.sandbox.control.request_log import Arrival
from postroom.sandbox.entra.errors import EntraError
from postroom.sandbox.world import World

TOKEN = "/oauth2/v2.0/token"  # noqa: S105  a path
DISCOVERY = "/v2.0/.well-known/openid-configuration"
KEYS = "/discovery/v2.0/keys"
DEVICE_CODE = "/oauth2/v2.0/devicecode"

# What Entra usually says with a status, where a fault does not say more.
_USUAL = {
    400: (700016, "unauthorized_client", "Application was not found in the directory."),
    401: (7000215, "invalid_client", "Invalid client secret provided."),
    429: (90055, "temporarily_unavailable", "There are too many incoming requests."),
}
_BUSY = (90033, "temporarily_unavailable", "A transient error has occurred. Please try again.")
# The word for an AADSTS number that a fault names without its status.
_WORDS = {
    7000215: "invalid_client",
    7000222: "invalid_client",
    7000216: "invalid_client",
    700027: "invalid_client",
    700024: "invalid_client",
    700016: "unauthorized_client",
    7000112: "unauthorized_client",
    70011: "invalid_scope",
    1002012: "invalid_scope",
    500011: "invalid_resource",
    50196: "invalid_grant",
    53003: "access_denied",
}


class Entra:
    """Everything below `/{tenant}/`."""

    def __init__(self, world: World) -> None:
        self._world = world

    @staticmethod
    def serves(path: str) -> bool:
        """Whether this path is one of Entra's."""
        return path.endswith((TOKEN, DISCOVERY, KEYS, DEVICE_CODE))

    async def __call__(self, call: Call) -> None:
        """Answers one call to Entra."""
        tenant, _, _ = call.path[1:].partition("/")
        if call.path.endswith((TOKEN, DEVICE_CODE)):
            form = _basic(call) | dict(parse_qsl((await call.body() or b"").decode("utf-8", "replace")))
            await self._play(call, "token", lambda: self._answer(call, tenant, form))
        elif call.path.endswith(DISCOVERY):
            await self._play(call, "discovery", lambda: self._discover(tenant, _root(call)))
        else:
            await self._play(call, "discovery", self._world.mint.jwks)

    def _answer(self, call: Call, tenant: str, form: dict[str, str]) -> dict[str, Any]:
        root, now, sign_in = _root(call), time.time(), self._world.sign_in
        if tenant not in ("organizations", "common"):
            self._world.tenant.require(tenant)
        if call.path.endswith(DEVICE_CODE):
            return sign_in.begin(form, root, now)
        if form.get("grant_type") in sign_in.GRANTS:
            return sign_in.grant(form, root, now)
        return self._world.tenant.grant(tenant, form, root, now)

    async def _play(self, call: Call, stage: str, work: Callable[[], dict[str, Any]]) -> None:
        world = self._world
        arrival = world.log.arrive(stage, call)
        rule = await prepare(world, world.faults.strike(stage), arrival)
        try:
            if rule is not None and rule.effect != "pass":
                raise _fault(rule)
            answer = _json(200, work(), arrival)
        except EntraError as error:
            answer = _refuse(error, arrival)
        await finish(world, call, arrival, rule, dress(rule, answer) if rule else answer)

    def _discover(self, tenant: str, root: str) -> dict[str, Any]:
        if tenant not in ("organizations", "common"):
            self._world.tenant.require(tenant)
        here = f"{root}/{tenant}"
        return {
            "token_endpoint": f"{here}{TOKEN}",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
            "jwks_uri": f"{here}{KEYS}",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{root}/{self._world.options.tenant_id}/v2.0",
            "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{here}/oauth2/v2.0/devicecode",
            "end_session_endpoint": f"{here}/oauth2/v2.0/logout",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "msgraph_host": "graph.microsoft.com",
        }


def _root(call: Call) -> str:
    # As the caller addressed us: a container knows the sandbox by another name than its neighbour does.
    return f"https://{call.header(b'host')}"


def _basic(call: Call) -> dict[str, str]:
    scheme, _, encoded = call.header(b"authorization").partition(" ")
    if scheme.casefold() != "basic":
        return {}
    try:
        client_id, _, secret = b64decode(encoded).decode().partition(":")
    except ValueError:
        return {}
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def _fault(rule: FaultRule) -> EntraError:
    if rule.code.isdigit():
        number = int(rule.code)
        text = rule.message or "A fault of the sandbox stands in for the reason."
        return EntraError(number, _WORDS.get(number, "invalid_request"), text, rule.status)
    status = rule.status or 503
    number, word, text = _USUAL.get(status, _BUSY)
    return EntraError(number, word, rule.message or text, status)


def _refuse(error: EntraError, arrival: Arrival) -> Answer:
    arrival.code = f"AADSTS{error.number}"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    trace = f"Trace ID: {arrival.request_id} Correlation ID: {arrival.client_request_id} Timestamp: {now}"
    body = {
        "error": error.error,
        "error_description": f"{arrival.code}: {error.text} {trace}",
        "error_codes": [error.number],
        "timestamp": now,
        "trace_id": arrival.request_id,
        "correlation_id": arrival.client_request_id,
        "error_uri": f"https://login.microsoftonline.com/error?code={error.number}",
    }
    return _json(error.status, body, arrival)


def _json(status: int, body: dict[str, Any], arrival: Arrival) -> Answer:
    headers = {
        "cache-control": "no-store, no-cache",
        "pragma": "no-cache",
        "content-type": "application/json; charset=utf-8",
        "x-ms-request-id": arrival.request_id,
    }
    return Answer(status, headers, dumps(body).encode())
