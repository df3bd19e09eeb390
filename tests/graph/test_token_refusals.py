"""Whatever Entra answers instead of a token is an outcome with a name."""

from dataclasses import replace

import pytest

from postroom.graph.tokens import Token
from postroom.jobs.outcome import Deferred, Held, Scope, Throttled
from postroom.transport.http import Lost, NotSent, Response

from .entra import IDENTITY, Entra, refusal, reply, tokens_from


@pytest.mark.parametrize(
    ("answer", "reason", "code"),
    [
        (refusal(401, "invalid_client", 7000215), "invalid_client_secret", "AADSTS7000215"),
        (refusal(400, "unauthorized_client", 700016), "app_not_found", "AADSTS700016"),
        (reply(400, b"no JSON"), "token_refused", None),
        (reply(400, {"error": "invalid_scope"}), "invalid_scope", "invalid_scope"),
        (reply(404, b""), "token_refused", None),
    ],
)
def test_a_configuration_fault_holds_the_app_by_name(answer: Response, reason: str, code: str | None) -> None:
    outcome = tokens_from(Entra(answer)).get()
    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.scope, outcome.answer.graph_code) == (reason, Scope.APP, code)
    assert outcome.answer.http_status == answer.status


def test_a_refusal_keeps_what_support_asks_for() -> None:
    outcome = tokens_from(Entra(refusal(401, "invalid_client", 7000215))).get()
    assert not isinstance(outcome, Token)
    assert outcome.answer.request_id == "t-1"
    assert outcome.answer.detail == "AADSTS7000215: It is not to be."


def test_an_unknown_tenant_is_named_though_msal_drops_the_answer() -> None:
    entra = Entra(discovery=refusal(400, "invalid_tenant", 90002))
    outcome = tokens_from(entra).get()
    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.answer.graph_code) == ("tenant_not_found", "AADSTS90002")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("where", ["discovery", "token"])
def test_entra_being_down_defers_and_costs_nothing(status: int, where: str) -> None:
    down = reply(status, b"<html>", Retry_After="17")
    entra = Entra(discovery=down) if where == "discovery" else Entra(down)
    outcome = tokens_from(entra).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.scope, outcome.free) == ("entra_unavailable", Scope.APP, True)
    assert (outcome.wait_s, outcome.answer.http_status) == (17.0, status)


@pytest.mark.parametrize("where", ["discovery", "token"])
def test_a_throttle_of_entra_waits_as_long_as_it_asked(where: str) -> None:
    throttled = reply(429, {"error": "temporarily_unavailable"}, Retry_After="Sun, 22 Nov 2026 12:00:30 GMT")
    entra = Entra(discovery=throttled) if where == "discovery" else Entra(throttled)
    outcome = tokens_from(entra).get()
    assert isinstance(outcome, Throttled)
    assert (outcome.wait_s, outcome.scope) == (30.0, Scope.APP)


@pytest.mark.parametrize("fault", [NotSent("entra.example: refused"), Lost("entra.example: timed out")])
def test_no_connection_to_entra_defers_and_costs_nothing(fault: Exception) -> None:
    outcome = tokens_from(Entra(fault)).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free, outcome.answer.detail) == ("no_connection", True, str(fault))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"<html>welcome</html>",
        b"[]",
        b"{}",
        b"null",
        b'{"access_token": 1, "expires_in": 2}',
        b'{"access_token": "x", "expires_in": "soon"}',
    ],
)
@pytest.mark.parametrize("where", ["discovery", "token"])
def test_a_portals_answer_is_no_token(nonsense: bytes, where: str) -> None:
    odd = reply(200, nonsense)
    outcome = tokens_from(Entra(discovery=odd) if where == "discovery" else Entra(odd)).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free) == ("entra_unavailable", True)


def test_an_authority_without_tls_is_held_by_name() -> None:
    outcome = tokens_from(Entra(), identity=replace(IDENTITY, authority_url="http://entra.example")).get()
    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.scope) == ("invalid_app_settings", Scope.APP)
