"""What Graph's answers to a mail that cannot be sent mean."""

import json
from datetime import UTC, datetime

import pytest

from postroom.doctor.finding import Level
from postroom.doctor.mailboxes import of_drafts, of_outcome, of_outsider, of_trial
from postroom.doctor.propagation import Witnessed
from postroom.graph.answers import judge, lost, not_sent
from postroom.graph.proof import TO_NOBODY
from postroom.jobs.outcome import Outcome
from postroom.mail.message import DeliveryMode

from .test_propagation import LANE, NOW

WITNESSED = Witnessed(None, frozenset(), "app-1", NOW)


def answer(status: int, code: str, **headers: str) -> Outcome:
    body = json.dumps({"error": {"code": code, "message": "words"}}).encode()
    return judge(status, headers, body, datetime(2026, 12, 1, tzinfo=UTC))


def test_what_is_asked_has_no_recipient_of_any_kind() -> None:
    asked = json.loads(TO_NOBODY.body)
    assert asked == {
        "message": {"subject": "postroom asks whether it may send", "toRecipients": []},
        "saveToSentItems": False,
    }


@pytest.mark.parametrize(
    ("outcome", "level", "words"),
    [
        (answer(400, "ErrorInvalidRecipients"), Level.GREEN, ""),
        (answer(400, "RequestBodyRead"), Level.YELLOW, "no clear answer"),
        (answer(403, "ErrorAccessDenied"), Level.RED, "no RBAC scope"),
        (answer(404, "ErrorInvalidUser"), Level.RED, "no such mailbox"),
        (answer(404, "MailboxNotEnabledForRESTAPI"), Level.RED, "no licence"),
        (answer(403, "ErrorAccountDisabled"), Level.RED, "account is blocked"),
        (answer(401, "InvalidAuthenticationToken"), Level.RED, "rejects the token"),
        (answer(429, "ApplicationThrottled"), Level.YELLOW, "throttled"),
        (answer(503, "ErrorServerBusy"), Level.YELLOW, "throttled"),
        (answer(504, ""), Level.YELLOW, "no clear answer"),
        (judge(202, {}, b"", NOW), Level.RED, "accepted a mail without recipients"),
        (not_sent("graph: refused"), Level.YELLOW, "no clear answer"),
        (lost("graph: broke off"), Level.YELLOW, "no clear answer"),
    ],
)
def test_each_answer_has_its_meaning(outcome: Outcome, level: Level, words: str) -> None:
    found = of_outcome(LANE, outcome, WITNESSED)

    assert (found.level, words in found.meaning) == (level, True)
    assert found.next or level is Level.GREEN


@pytest.mark.parametrize(
    ("outcome", "roles", "level", "words"),
    [
        (answer(403, "ErrorAccessDenied"), (), Level.GREEN, ""),
        (answer(400, "ErrorInvalidRecipients"), ("Mail.Send",), Level.RED, "remove the Mail.Send consent"),
        (answer(400, "ErrorInvalidRecipients"), (), Level.RED, "Get-ManagementRoleAssignment"),
        (answer(404, "ErrorInvalidUser"), (), Level.YELLOW, "name one that exists"),
        (answer(503, "ErrorServerBusy"), (), Level.YELLOW, "name one that exists"),
    ],
)
def test_an_outsider_is_refused_let_in_or_proves_nothing(
    outcome: Outcome, roles: tuple[str, ...], level: Level, words: str
) -> None:
    found = of_outsider(LANE, outcome, frozenset(roles))
    assert (found.level, words in found.next) == (level, True)


def test_drafts_are_a_fault_only_where_they_are_configured() -> None:
    by_draft = type(LANE)(**{name: getattr(LANE, name) for name in LANE.__slots__} | {"delivery": DeliveryMode.DRAFT})
    levels = [
        found.level if (found := of_drafts(lane, may)) else None
        for lane in (LANE, by_draft)
        for may in (True, False, None)
    ]

    assert levels == [Level.GREEN, None, None, Level.GREEN, Level.RED, Level.YELLOW]


def test_the_trial_s_outcome_is_told_with_its_request_id() -> None:
    accepted = of_trial(LANE, judge(202, {"request-id": "abc-1"}, b"", NOW), "me@contoso.com")
    refused = of_trial(LANE, answer(403, "ErrorSendAsDenied"), "me@contoso.com")

    assert (accepted.level, "abc-1" in accepted.seen) == (Level.GREEN, True)
    assert (refused.level, bool(refused.next)) == (Level.RED, True)
