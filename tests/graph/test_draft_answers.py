"""What Graph's answers about drafts and searches mean."""

import pytest

from postroom.graph.answers import judge_deleted, judge_draft_status, judge_drafted, judge_search
from postroom.jobs.outcome import (
    CleanedUp,
    Deferred,
    Drafted,
    Found,
    Held,
    LookupResult,
    NotFound,
    NotPermitted,
    Outcome,
    Refused,
    Scope,
    StillDraft,
    Throttled,
)

from .test_answers import NOON, error


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"value": [{"id": "m-1"}]}', Found),
        (200, b'{"value": []}', NotFound),
        (200, b'{"value": [], "@odata.nextLink": "https://graph.microsoft.com/next"}', Deferred),
        (200, b"<html>Please log in", Deferred),
        (200, b"", Deferred),
        (200, b'{"value": "none"}', Deferred),
        (403, error("ErrorAccessDenied"), NotPermitted),
        (403, error("ErrorAccessDenied", "A transient error occurred. Try again later."), Throttled),
        (404, error("ErrorItemNotFound"), Deferred),
        (404, error("MailboxNotEnabledForRESTAPI"), Deferred),
        (429, b"", Throttled),
        (500, b"", Deferred),
        (504, b"", Deferred),
        (400, error("InefficientFilter"), Deferred),
    ],
)
def test_only_a_whole_empty_list_says_that_a_message_is_not_there(
    status: int, body: bytes, expected: type[LookupResult]
) -> None:
    found = judge_search(status, {}, body, NOON)

    assert type(found) is expected
    assert found.answer.http_status == status


def test_a_search_tells_the_ids_of_what_it_found() -> None:
    found = judge_search(200, {}, b'{"value": [{"id": "m-1"}, {"id": 7}, {"id": "m-2"}]}', NOON)

    assert isinstance(found, Found)
    assert found.ids == ("m-1", "m-2")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"isDraft": true}', StillDraft),
        (200, b'{"isDraft": false}', Found),
        (200, b"{}", Deferred),
        (404, error("ErrorItemNotFound"), NotFound),
        (404, error("MailboxNotEnabledForRESTAPI"), Deferred),
        (404, b"", Deferred),
        (403, error("ErrorAccessDenied"), NotPermitted),
        (503, b"", Deferred),
    ],
)
def test_a_draft_tells_whether_it_has_left(status: int, body: bytes, expected: type[LookupResult]) -> None:
    assert type(judge_draft_status(status, {}, body, NOON)) is expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (201, b'{"id": "d-1", "isDraft": true}', Drafted),
        (201, b"{}", Deferred),
        (202, b"", Deferred),
        (504, b"", Deferred),
        (500, error("ErrorInternalServerError"), Deferred),
        (403, error("ErrorAccessDenied"), Held),
        (404, error("ErrorInvalidUser"), Held),
        (400, error("ErrorInvalidRecipients"), Refused),
        (413, b"", Refused),
        (429, b"", Throttled),
    ],
)
def test_making_a_draft_sends_nothing_whatever_the_answer(status: int, body: bytes, expected: type[Outcome]) -> None:
    assert type(judge_drafted(status, {}, body, NOON)) is expected


def test_a_draft_that_may_not_be_made_names_the_permission() -> None:
    held = judge_drafted(403, {}, error("ErrorAccessDenied"), NOON)

    assert isinstance(held, Held)
    assert (held.reason, held.scope) == ("needs_mail_readwrite", Scope.LANE)


@pytest.mark.parametrize(("status", "body"), [(204, b""), (404, error("ErrorItemNotFound"))])
def test_a_draft_that_is_gone_is_removed(status: int, body: bytes) -> None:
    assert isinstance(judge_deleted(status, {}, body, NOON), CleanedUp)
    assert isinstance(judge_deleted(403, {}, error("ErrorAccessDenied"), NOON), Held)
    assert isinstance(judge_deleted(405, {}, error("ErrorInvalidRequest"), NOON), Deferred), "never the mail's fault"
