"""Drafts are noted with their job, and none is left behind."""

from dataclasses import replace

import pytest

from postroom.delivery.attempt import deliver
from postroom.delivery.context import ClaimLost
from postroom.delivery.drafts import clean_up
from postroom.jobs.outcome import (
    Answer,
    CleanedUp,
    Deferred,
    Found,
    Held,
    NotFound,
    NotPermitted,
    Refused,
    Scope,
    StillDraft,
    Throttled,
    Unknown,
)
from postroom.mail.message import DeliveryMode

from .world import ACCEPTED, DRAFT, IN_DOUBT, NOT_THERE, World, a_job, asked


def test_a_draft_is_noted_before_anything_else_can_fail() -> None:
    world = World(delivery=DeliveryMode.DRAFT, answers=[DRAFT, ACCEPTED])

    assert deliver(a_job(), world.context()) == ACCEPTED
    assert asked(world) == ["note drafting=1", "draft", "note draft=d-1", "mark", "send d-1"]


def test_what_was_drafted_once_leaves_from_that_draft() -> None:
    world = World(answers=[ACCEPTED])

    assert deliver(a_job()._replace(drafting=True, draft="d-1"), world.context()) == ACCEPTED
    assert asked(world) == ["mark", "send d-1"]


def test_a_draft_whose_id_was_never_learnt_is_removed_before_another_is_made() -> None:
    stray = Found(ids=("s-1",))
    world = World(delivery=DeliveryMode.DRAFT, answers=[stray, CleanedUp(), NOT_THERE, DRAFT, ACCEPTED])

    assert deliver(a_job()._replace(drafting=True), world.context()) == ACCEPTED
    assert [line for line in asked(world) if line != "note"] == [
        "note late_draft=1",
        "search drafts by property",
        "delete s-1",
        "search drafts by message-id",
        "note drafting=1",
        "draft",
        "note draft=d-1",
        "mark",
        "send d-1",
    ]


@pytest.mark.parametrize(
    "instead",
    [
        Deferred(reason="gateway_timeout"),
        Held(reason="needs_mail_readwrite", scope=Scope.LANE),
        Refused(reason="too_large"),
        Throttled(wait_s=3),
    ],
)
def test_without_its_draft_nothing_is_marked(instead: Deferred | Held | Refused | Throttled) -> None:
    world = World(delivery=DeliveryMode.DRAFT, answers=[instead])

    assert deliver(a_job(), world.context()) == instead
    assert asked(world) == ["note drafting=1", "draft"]


def test_a_draft_made_while_its_job_ended_is_not_sent() -> None:
    world = World(delivery=DeliveryMode.DRAFT, answers=[DRAFT])
    context = world.context()
    held = iter([0.0, None])

    with pytest.raises(ClaimLost):
        deliver(a_job(), replace(context, note=lambda job, fields, size: next(held)))
    assert asked(world) == ["draft"]


def test_a_draft_that_turns_up_late_is_removed_and_never_the_one_that_was_sent() -> None:
    world = World(answers=[Found(ids=("d-1", "s-1")), CleanedUp(), NOT_THERE])
    sent = a_job()._replace(clean_up=True, sent=True, drafting=True, draft="d-1", late_draft=True)

    assert clean_up(sent, world.context()) == CleanedUp()
    assert [line for line in asked(world) if line.startswith("delete")] == ["delete s-1"]


def test_of_a_sent_mail_only_orphaned_drafts_are_removed() -> None:
    world = World(answers=[CleanedUp(), CleanedUp()])
    sent = a_job()._replace(clean_up=True, sent=True, drafting=True, draft="d-1", orphaned_drafts=("s-1", "s-2"))

    assert clean_up(sent, world.context()) == CleanedUp()
    assert asked(world) == ["note", "delete s-1", "note", "delete s-2"]


def test_an_ended_jobs_draft_is_removed() -> None:
    world = World(answers=[StillDraft(), CleanedUp()])

    assert clean_up(a_job()._replace(clean_up=True, drafting=True, draft="d-1"), world.context()) == CleanedUp()
    assert asked(world) == ["note", "ask d-1", "note", "delete d-1"]


@pytest.mark.parametrize(
    ("said", "removed"),
    [(StillDraft(), True), (Found(), False), (NotFound(draft_gone=True), False)],
)
def test_what_may_have_been_sent_is_removed_only_as_a_draft(said: StillDraft | Found | NotFound, removed: bool) -> None:
    world = World(answers=[said, CleanedUp()])

    assert isinstance(
        clean_up(IN_DOUBT._replace(clean_up=True, drafting=True, draft="d-1"), world.context()), CleanedUp
    )
    assert ("delete d-1" in asked(world)) == removed


def test_an_unknown_outcome_of_sending_a_draft_stays_unknown() -> None:
    world = World(answers=[Unknown(reason="gateway_timeout")])

    assert deliver(a_job()._replace(drafting=True, draft="d-1"), world.context()) == Unknown(reason="gateway_timeout")


def test_a_search_for_drafts_that_is_refused_for_ever_spends_attempts_and_one_without_permission_is_a_hold() -> None:
    drafted = a_job()._replace(drafting=True)
    refused = Deferred(reason="look_up_failed", free=True, answer=Answer(http_status=400))
    away = Deferred(reason="look_up_failed", free=True, answer=Answer(http_status=503))

    assert deliver(drafted, World(answers=[refused]).context()) == replace(refused, free=False)
    assert deliver(drafted, World(answers=[away]).context()) == away
    forbidden = NotPermitted(answer=Answer(http_status=403))
    held = Held(reason="needs_mail_readwrite", scope=Scope.MAIL, answer=forbidden.answer)
    assert deliver(drafted, World(answers=[forbidden]).context()) == held
