"""Entra: whether the tenant exists, whether the app gets a token, and if not, why."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from postroom.doctor.certificate import check_of_app as check_credential_of_app
from postroom.doctor.finding import Finding, Group, Level, Reporter
from postroom.doctor.surroundings import Reached, Surroundings, Unreachable, discovery_url
from postroom.errors import PostroomError
from postroom.graph.credentials import Identity, check_credential
from postroom.graph.entra_answers import judge_token_error
from postroom.graph.tokens import NoToken, Token
from postroom.jobs.outcome import Answer, Held
from postroom.jobs.reasons import plain_text, reason_of
from postroom.settings.model import Credential
from postroom.store import verdicts
from postroom.store.verdicts import Scope

_SAY = Reporter(Group.ENTRA)
_TOKEN = "does Entra give it a token?"  # noqa: S105 - a question
_TENANT = "does the tenant exist?"
AGAIN = "then `postroom doctor --only entra`"


def check(around: Surroundings) -> Iterator[Finding]:
    """The tenant, the credential and the token of each app."""
    for app in around.apps:
        yield from _of_app(around, app)
    if not around.apps:
        yield _SAY.skipped("apps", _TOKEN, "no app is set up completely (settings)")


def _of_app(around: Surroundings, app: str) -> Iterator[Finding]:
    who, name = around.identity(app), f"app {app}"
    faults = check_credential(who, around.clock())
    for fault in faults:
        yield of_credential(name, fault, around.apps[app].kind)
    if who.tenant_id:
        reached = around.reach(discovery_url(who))
        if not reached.is_open:
            yield _SAY.skipped(name, _TOKEN, "Entra cannot be reached (way-out)")
            return
        found = of_tenant(name, who, reached)
        yield found
        if found.level is Level.RED:
            yield _SAY.skipped(name, _TOKEN, "the tenant does not exist")
            return
    if faults:
        yield _SAY.skipped(name, _TOKEN, "its credential cannot be used")
        return
    token = around.token(app)
    _note(around, app, token)
    yield of_token(name, token, who)
    yield from check_credential_of_app(around, app)


def of_credential(name: str, fault: str, kind: Credential | None) -> Finding:
    """What a fault of the credential's own files or text means."""
    if "looks like a secret's ID" in fault:
        following = (
            "make a new secret in Entra (Certificates & secrets) and copy its Value; the old one is shown no more"
        )
    elif "expired" in fault:
        following = "make a new certificate, register it in Entra, and put it in place of this file"
    elif kind is Credential.CERTIFICATE:
        following = "give a PEM file with certificate and key, or a PFX with its POSTROOM_CLIENT_CERTIFICATE_PASSWORD"
    else:
        following = "correct the credential; docs/settings.md has each kind"
    meaning = "no token can be asked for: all mail of this app is held"
    return _SAY.red(name, "can its credential be used?", fault, meaning, f"{following}; {AGAIN}")


def of_tenant(name: str, who: Identity, reached: Reached) -> Finding:
    """What Entra says of the tenant; anybody may ask it that."""
    answer = reached.answer
    status = answer.status if answer else None
    body = _object(answer.body if answer else b"")
    if status == 200 and "token_endpoint" in body:
        return _SAY.green(name, _TENANT, f"{who.tenant_id} at {who.authority_url}")
    outcome = judge_token_error(
        _text(body.get("error")), [code for code in body.get("error_codes", []) if isinstance(code, int)], status,
        text=_text(body.get("error_description")) or "",
    )  # fmt: skip
    seen = _seen(outcome.answer)
    is_of_entra = bool(body.get("error_codes"))
    if is_of_entra and isinstance(outcome, Held) and (reason := reason_of(outcome.reason)):
        return _SAY.red(
            name, _TENANT, seen, plain_text(reason.meaning),
            f"{plain_text(reason.next_step)} (the portal's Overview shows the Tenant ID); {AGAIN}",
        )  # fmt: skip
    return _SAY.yellow(
        name, _TENANT, seen, "Entra, or what answers in its place, does not describe the tenant",
        f"check POSTROOM_AUTHORITY_URL and Microsoft's service health; {AGAIN}",
    )  # fmt: skip


def of_token(name: str, token: Token | NoToken | Unreachable, who: Identity) -> Finding:
    """What came of the request for a token."""
    if isinstance(token, Unreachable):
        return _SAY.skipped(name, _TOKEN, token.why)
    if isinstance(token, Token):
        return _SAY.green(name, _TOKEN, f"yes, for client {who.client_id or '(the machine)'}")
    answer = token.answer
    seen = _seen(answer)
    if isinstance(token, Held):
        reason = reason_of(token.reason) or reason_of("token_refused")
        meaning = plain_text(reason.meaning) if reason else ""
        step = plain_text(reason.next_step) if reason else ""
        return _SAY.red(name, _TOKEN, seen, f"{meaning}; all mail of this app is held", f"{step}; {AGAIN}")
    reason = reason_of(getattr(token, "reason", "throttled"))
    meaning = plain_text(reason.meaning) if reason else "Entra asked for a pause"
    return _SAY.yellow(name, _TOKEN, seen, f"{meaning}; it may pass", f"look again in a minute; {AGAIN}")


def _seen(answer: Answer) -> str:
    """An answer of Entra in words; its text begins with the code."""
    code = answer.graph_code or str(answer.http_status or "no answer")
    detail = (answer.detail or "").removeprefix(f"{code}:").strip()
    return f"{code}: {detail}" if detail else code


def _note(around: Surroundings, app: str, token: Token | NoToken | Unreachable) -> None:
    """Keeps what was seen with what workers saw, as far as Redis takes it."""
    redis = around.redis
    if isinstance(redis, Unreachable) or not isinstance(token, Token | Held):
        return
    try:
        if isinstance(token, Token):
            verdicts.allowed(redis, Scope.APP, app)
        else:
            verdicts.refused(redis, Scope.APP, app, token.reason)
    except PostroomError:  # redis_server.py tells of it
        return


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
