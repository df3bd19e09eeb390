"""Large attachments reach their draft once and whole, whatever Graph answers and wherever a round stops."""

from dataclasses import replace

import pytest

from postroom.delivery.attempt import deliver
from postroom.delivery.drafts import clean_up
from postroom.graph.requests import RANGE
from postroom.jobs.job import Job
from postroom.jobs.outcome import (
    CleanedUp,
    Deferred,
    Held,
    Outcome,
    Refused,
    Scope,
    Session,
    SessionLost,
    StillDraft,
    Throttled,
    Unknown,
    Uploaded,
)
from postroom.mail.message import DeliveryMode
from postroom.mail.model import Attachment, Mail

from .world import ACCEPTED, DRAFT, World, a_job, asked

LARGE = RANGE + 1000
SMALL = Attachment("small.txt", b"s")
BIG = Attachment("big.bin", b"b" * LARGE)
MIDDLE = Attachment("middle.bin", b"m" * 2_000_000)
SESSION = Session(url="https://outlook.example/u")
ON = Uploaded(next=RANGE)
DONE = Uploaded()


def a_job_with(*attachments: Attachment) -> Job:
    return a_job(Mail(sender="a@b.de", to="c@d.de", text="x", attachments=attachments))


def test_a_mail_too_large_for_a_request_goes_by_a_draft_and_upload_sessions() -> None:
    world = World(answers=[DRAFT, DONE, SESSION, ON, DONE, ACCEPTED])

    assert deliver(a_job_with(SMALL, MIDDLE, BIG), world.context()) == ACCEPTED
    assert asked(world) == [
        "note drafting=1",
        "draft",
        "note draft=d-1 to_add=1 2",
        "note range=0",
        "add middle.bin",
        "note to_add=2 upload= range=",
        "note",
        "begin big.bin",
        "note upload=sealed:https://outlook.example/u range=0",
        f"put 0+{RANGE}/{LARGE} to https://outlook.example/u",
        f"note upload=sealed:https://outlook.example/u range={RANGE}",
        f"put {RANGE}+1000/{LARGE} to https://outlook.example/u",
        "note to_add= upload= range=",
        "mark",
        "send d-1",
    ]


def test_a_mail_that_must_be_one_request_is_refused_instead() -> None:
    world = World(delivery=DeliveryMode.SEND)

    outcome = deliver(a_job_with(BIG), world.context())

    assert isinstance(outcome, Refused)
    assert outcome.reason == "too_large"
    assert world.diary == []


def uploading(at: int | None = 0, upload: str | None = "sealed:https://u") -> Job:
    return a_job_with(BIG)._replace(drafting=True, draft="d-1", to_add=(0,), upload=upload, upload_at=at)


def test_another_round_continues_an_upload_at_the_next_range() -> None:
    world = World(answers=[DONE, ACCEPTED])

    assert deliver(uploading(RANGE), world.context()) == ACCEPTED
    assert [line for line in asked(world) if not line.startswith("note")] == [
        f"put {RANGE}+1000/{LARGE} to https://u",
        "mark",
        "send d-1",
    ]


def test_a_worker_that_stops_leaves_the_rest_to_another() -> None:
    world = World(is_stopping=True)

    outcome = deliver(uploading(), world.context())

    assert outcome == Deferred(reason="worker_stopping", free=True)
    assert world.diary == ["note upload=sealed:https://u range=0"]


@pytest.mark.parametrize("answer", [Throttled(wait_s=9), Deferred(reason="bad_gateway")])
def test_a_range_that_was_not_taken_is_put_again_later(answer: Outcome) -> None:
    world = World(answers=[answer])

    assert deliver(uploading(), world.context()) == answer
    assert "delete" not in "".join(asked(world))


def test_an_upload_goes_on_where_the_server_says_though_it_has_more_than_was_known_here() -> None:
    world = World(answers=[ON, DONE, ACCEPTED])

    assert deliver(uploading(0), world.context()) == ACCEPTED
    assert asked(world)[1] == f"put 0+{RANGE}/{LARGE} to https://u"
    assert asked(world)[3] == f"put {RANGE}+1000/{LARGE} to https://u"


def test_an_upload_whose_url_is_not_known_begins_anew_with_the_whole_file() -> None:
    world = World(answers=[SESSION, ON, DONE, ACCEPTED], seal=None)

    assert deliver(uploading(0, None), world.context()) == ACCEPTED
    assert asked(world)[1] == "begin big.bin"
    assert asked(world)[2] == "note upload= range=0"


@pytest.mark.parametrize(
    ("job", "answers"),
    [
        (uploading(RANGE), [SessionLost()]),
        (uploading(RANGE, None), []),
        (uploading(None, None), [Deferred(reason="draft_gone")]),
        (uploading(None, None)._replace(mail=a_job_with(MIDDLE).mail), [Unknown(reason="gateway_timeout")]),
        (uploading(0, None)._replace(mail=a_job_with(MIDDLE).mail), []),
    ],
    ids=["session lost", "last range, session unknown", "draft gone", "added or not", "worker lost while it added"],
)
def test_a_draft_whose_attachments_nobody_knows_is_made_anew(job: Job, answers: list[Outcome | SessionLost]) -> None:
    world = World(answers=[*answers, CleanedUp()])

    outcome = deliver(job, world.context())

    assert isinstance(outcome, Deferred)
    assert not outcome.free
    assert asked(world)[-2:] == ["delete d-1", "note draft= to_add= upload= range="]


def test_one_large_mail_without_permission_waits_alone() -> None:
    held = Held(reason="needs_mail_readwrite", scope=Scope.LANE)

    assert deliver(a_job_with(BIG), World(answers=[held]).context()) == replace(held, scope=Scope.MAIL)
    assert deliver(a_job_with(BIG), World(answers=[held], delivery=DeliveryMode.DRAFT).context()) == held
    again = World(answers=[Held(reason="needs_mail_readwrite", scope=Scope.LANE)])
    assert deliver(a_job_with(BIG)._replace(drafting=True), again.context()) == replace(held, scope=Scope.MAIL)


def test_a_cancelled_mail_takes_its_upload_along() -> None:
    world = World(answers=[StillDraft(), CleanedUp(), CleanedUp()])

    assert clean_up(uploading()._replace(clean_up=True), world.context()) == CleanedUp()
    assert asked(world) == ["note", "ask d-1", "note", "cancel https://u", "note", "delete d-1"]
