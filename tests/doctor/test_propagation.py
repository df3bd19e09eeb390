"""A 403 is a fault or a delay, by what was seen before."""

from datetime import UTC, datetime, timedelta

import pytest

from postroom.doctor.finding import Level
from postroom.doctor.propagation import Witnessed, of_refusal
from postroom.doctor.senders import Lane
from postroom.jobs.outcome import Answer, Held, Scope
from postroom.jobs.retry import OnUnknown
from postroom.mail.message import DeliveryMode
from postroom.store.verdicts import Verdicts

NOW = datetime(2026, 12, 1, 13, 0, tzinfo=UTC)
LANE = Lane(
    name="hr@contoso.com", sender="hr@contoso.com", mailbox="hr@contoso.com", app="default",
    delivery=DeliveryMode.AUTO, on_unknown=OnUnknown.RESEND,
)  # fmt: skip
RBAC = Held(reason="access_denied", scope=Scope.LANE, answer=Answer(http_status=403, detail="Access is denied."))
POLICY = Held(
    reason="access_denied",
    scope=Scope.LANE,
    answer=Answer(http_status=403, detail="Access to OData is disabled: [RAOP]"),
)


def refused(minutes: float) -> Verdicts:
    at = NOW - timedelta(minutes=minutes)
    return Verdicts(refused_first=at, refused_since=at, refused_at=NOW, refused_reason="access_denied")


@pytest.mark.parametrize(
    ("refusal", "minutes", "level", "words"),
    [
        (RBAC, 12, Level.YELLOW, "look again at 14:48 UTC"),
        (RBAC, 119, Level.YELLOW, "look again at 13:01 UTC"),
        (RBAC, 121, Level.RED, "add the mailbox itself to the group"),
        (POLICY, 121, Level.YELLOW, "look again at 2026-12-02 10:59 UTC"),
        (POLICY, 24 * 60 + 1, Level.RED, "add the mailbox to the policy's group"),
    ],
)
def test_a_mailbox_that_never_worked_is_no_verdict_until_exchange_has_had_its_time(
    refusal: Held, minutes: float, level: Level, words: str
) -> None:
    found = of_refusal(LANE, "403", refusal, Witnessed(refused(minutes), frozenset(), "app-1", NOW))

    assert found.level is level
    assert words in found.next
    assert "app-1" in found.next


def test_a_mailbox_that_worked_was_changed_by_somebody() -> None:
    known = Verdicts(
        allowed_first=NOW - timedelta(days=9), allowed_at=NOW.replace(hour=9, minute=31),
        refused_first=NOW - timedelta(days=8), refused_since=NOW.replace(hour=9, minute=33), refused_at=NOW,
    )  # fmt: skip
    found = of_refusal(LANE, "403", RBAC, Witnessed(known, frozenset(), "app-1", NOW))

    assert found.level is Level.RED
    assert "worked until 09:31 UTC, refused since 09:33 UTC" in found.seen
    assert "somebody changed it" in found.meaning


def test_without_redis_a_refusal_is_red_and_says_what_nobody_knows() -> None:
    found = of_refusal(LANE, "403", RBAC, Witnessed(None, frozenset(), "app-1", NOW))

    assert found.level is Level.RED
    assert "nobody knows since when" in found.meaning


def test_a_person_s_sign_in_is_refused_for_the_person_s_rights() -> None:
    found = of_refusal(LANE, "403", RBAC, Witnessed(refused(500), frozenset(), "app-1", NOW, "ann@contoso.com"))

    assert "the sign-in of ann@contoso.com" in found.meaning
    assert "give ann@contoso.com Send As on hr@contoso.com" in found.next


def test_a_refusal_in_spite_of_mail_send_is_not_said_to_want_it() -> None:
    found = of_refusal(LANE, "403", RBAC, Witnessed(refused(500), frozenset({"Mail.Send"}), "app-1", NOW))

    assert "although the token has Mail.Send" in found.meaning
    assert "grant" not in found.next
