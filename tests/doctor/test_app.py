"""An app's token, credential and rights."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from postroom.doctor.certificate import end_of_secret, of_end, of_registration
from postroom.doctor.entra import of_tenant, of_token
from postroom.doctor.finding import Level, worst
from postroom.doctor.rights import of_claims, roles_of
from postroom.doctor.surroundings import Reached, Unreachable
from postroom.graph.credentials import Thumbprints
from postroom.graph.entra_answers import judge_token_error
from postroom.graph.token_claims import claims_of
from postroom.jobs.reasons import reason_of
from postroom.transport.http import Response

from ..graph.entra import IDENTITY
from .test_propagation import LANE, NOW
from .test_way_out import way

# Each code of Entra that has a cause of its own (graph/entra_answers.py) leads to a text for people.
CODES = [
    7000215, 7000222, 7000216, 7000218, 700027, 700030, 50012, 700024, 700021, 700023, 700213, 700016, 700011, 70001,
    7000112, 90002, 900023, 70011, 1002012, 901002, 500011, 50001, 90038, 900382, 900432, 53003,
]  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_each_refusal_of_entra_has_cause_and_cure(code: int) -> None:
    outcome = judge_token_error("invalid_client", [code], 401, text=f"AADSTS{code}: words")
    found = of_token("app default", outcome, IDENTITY)

    assert found.level is Level.RED
    assert found.seen == f"AADSTS{code}: words"
    assert found.meaning.startswith(reason_of(outcome.reason).meaning.replace("`", "")[:20])  # type: ignore[union-attr]
    assert len(found.next.partition(";")[0]) > 10


@pytest.mark.parametrize("code", [50196, 90055, 90033])
def test_a_refusal_that_passes_is_yellow(code: int) -> None:
    found = of_token("app default", judge_token_error("temporarily_unavailable", [code], 400), IDENTITY)
    assert (found.level, "look again" in found.next) == (Level.YELLOW, True)


def test_an_unknown_refusal_is_red_all_the_same() -> None:
    found = of_token("app default", judge_token_error("new_word", [4711], 400, text="AADSTS4711: news"), IDENTITY)
    assert (found.level, found.seen, "gives no token" in found.meaning) == (Level.RED, "AADSTS4711: news", True)


def test_what_was_not_asked_is_skipped_with_the_reason() -> None:
    found = of_token("app default", Unreachable("Entra cannot be reached (way-out)"), IDENTITY)
    assert (found.level, found.seen) == (Level.SKIPPED, "Entra cannot be reached (way-out)")


@pytest.mark.parametrize(
    ("status", "body", "level"),
    [
        (200, b'{"token_endpoint": "x"}', Level.GREEN),
        (400, b'{"error": "invalid_tenant", "error_codes": [90002]}', Level.RED),
        (503, b"busy", Level.YELLOW),
        (200, b"<html>welcome", Level.YELLOW),
    ],
)
def test_a_tenant_exists_or_does_not_or_nobody_says(status: int, body: bytes, level: Level) -> None:
    assert of_tenant("app default", IDENTITY, Reached(way(), Response(status, {}, body))).level is level


def test_a_certificate_is_registered_if_a_token_came_for_it() -> None:
    prints = Thumbprints("AB12", "CD34")
    assert of_registration("app", prints, came=True).level is Level.GREEN
    found = of_registration("app", prints, came=False)
    assert (found.level, "AB12" in found.seen, "CD34" in found.seen) == (Level.YELLOW, True, True)


@pytest.mark.parametrize(("days", "level"), [(31, Level.GREEN), (29, Level.YELLOW), (0, Level.RED), (-3, Level.RED)])
def test_a_credential_that_ends_is_told_in_time(days: int, level: Level) -> None:
    assert of_end("app", NOW + timedelta(days=days), NOW, is_secret=True).level is level


def secret(hint: str, end: Any = "2027-01-01T00:00:00Z") -> dict[str, Any]:
    return {"hint": hint, "endDateTime": end, "keyId": "k"}


@pytest.mark.parametrize(
    ("registered", "known"),
    [
        ([secret("abc"), secret("xyz")], True),
        ([secret("abc"), secret("abc")], False),  # nobody knows which of them it is
        ([secret("xyz")], False),
        ([secret("abc", "soon")], False),
        ([secret("abc", None)], False),
        (["abc"], False),
        (None, False),
    ],
)
def test_the_end_of_a_secret_is_that_of_the_only_one_that_begins_so(registered: object, *, known: bool) -> None:
    assert (end_of_secret(registered, "abc8Q~secret") is not None) is known


def token(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.sig"


def test_the_roles_of_a_token_are_read_and_an_opaque_one_has_none() -> None:
    assert roles_of(token({"roles": ["Mail.Send", 7]})) == {"Mail.Send"}
    assert claims_of("opaque") is None
    assert claims_of("a.b.c") is None
    assert roles_of(token(["x"])) == frozenset()
    assert roles_of(token({"roles": "Mail.Send"})) == frozenset()


def test_mail_send_is_told_as_every_mailbox_with_how_to_narrow_it() -> None:
    found = next(of_claims("app", {"roles": ["Mail.Send"]}, [LANE]))
    assert ("every mailbox" in found.meaning, "RBAC" in found.next) == (True, True)
    assert "RBAC scope" in next(of_claims("app", {}, [LANE])).meaning


def test_what_a_token_lacks_is_a_note_since_exchange_may_give_it() -> None:
    found = list(of_claims("app", {"roles": ["Mail.Send"]}, [LANE]))
    assert worst(found) is Level.GREEN
    assert ["large files" in one.asked for one in found].count(True) == 1
    assert len(list(of_claims("app", {"roles": ["Mail.Send", "Mail.ReadWrite"]}, [LANE]))) == 1
    assert len(list(of_claims("app", None, [LANE]))) == 1
