"""An attempt: from a claimed job to its outcome."""

import json
from dataclasses import replace

import pytest

from postroom.delivery.attempt import deliver
from postroom.delivery.context import ClaimLost
from postroom.graph.requests import NO_TEXT_BODY
from postroom.jobs.job import Job
from postroom.jobs.outcome import Accepted, Answer, Deferred, Held, Refused, Scope, Throttled, Unknown, Uploaded
from postroom.mail.content import PIECE, AttachmentMissing, Stored
from postroom.mail.message import DeliveryMode
from postroom.mail.model import Attachment, Mail

from .world import ACCEPTED, DRAFT, PLAIN, REJECTED, Token, World, a_job


@pytest.fixture
def world() -> World:
    return World()


def test_an_accepted_mail_was_marked_before_it_was_posted(world: World) -> None:
    assert deliver(a_job(), world.context()) == ACCEPTED
    assert world.diary == ["mark request-1", "post request-1 as noreply@contoso.com with first within 30 s"]


def test_requests_that_began_together_are_not_all_given_up_together(world: World) -> None:
    context = replace(world.context(), chance=lambda: 0.5)

    deliver(a_job(), context)

    assert world.diary[-1].endswith("with first within 28 s")  # 28.5; and always within the deadline


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("Shop <shop@contoso.com>", {"name": "Shop", "address": "shop@contoso.com"}),
        ("Shop@Contoso.com", {"address": "Shop@contoso.com"}),
        ("NoReply@contoso.com", None),  # the mailbox itself
        ("News <news@contoso.com>", {"name": "News", "address": "noreply@contoso.com"}),  # only sent from this mailbox
        ("news@contoso.com", None),
    ],
)
def test_an_alias_of_the_mailbox_is_the_visible_sender(world: World, asked: str, shown: dict[str, str] | None) -> None:
    context = replace(world.context(), addresses_of=lambda lane: frozenset({lane, "shop@contoso.com"}))
    mail = Mail(sender=asked, to=["ann@contoso.com"], subject="Hello", text="Hi")

    assert deliver(a_job(mail), context) == ACCEPTED

    (request,) = context.apps["default"].graph.posted  # type: ignore[attr-defined]
    message = json.loads(request.body)["message"]
    assert message.get("from", {}).get("emailAddress") == shown
    assert message["internetMessageId"] == "<job-1@contoso.com>"
    assert " as noreply@contoso.com " in world.diary[-1]


def test_a_template_that_is_missing_here_is_left_to_a_worker_that_has_it(world: World) -> None:
    job = a_job(Mail(sender="noreply@contoso.com", to=["ann@contoso.com"], template="missing"))
    detail = Answer(detail='no template "missing"')

    asked: list[str] = []
    left = deliver(job, replace(world.context(), has_template_elsewhere=lambda name: asked.append(name) or True))

    assert left == Deferred(reason="template_not_here", answer=detail, wait_s=2.0, free=True)
    assert (asked, world.diary) == (["missing"], [])
    assert deliver(job, world.context()) == Refused(reason="template", answer=detail)


class Shelf:
    """Holds no stored attachment; raises this instead, and counts how often it was asked."""

    def __init__(self, fault: Exception) -> None:
        self.fault, self.asked = fault, 0

    def read(self, stored: Stored, begin: int, end: int) -> bytes:
        self.asked += 1
        raise self.fault


def with_stored(size: int) -> Job:
    stored = Stored(where="redis", name="job-1", number=0, piece=PIECE, size=size, sha256="0" * 64)
    return a_job(PLAIN.model_copy(update={"attachments": (Attachment("a.pdf", b""),)}).with_contents({0: stored}))


def test_a_mail_never_goes_without_its_attachment(world: World) -> None:
    shelf = Shelf(AttachmentMissing("a piece of it is no longer in Redis"))

    outcome = deliver(with_stored(9), replace(world.context(), attachments=shelf))

    assert outcome == Refused(reason="attachment_missing", answer=Answer(detail="a piece of it is no longer in Redis"))
    assert world.diary == []


def test_a_folder_of_attachments_that_is_away_kills_no_mail(world: World) -> None:
    outcome = deliver(with_stored(9), replace(world.context(), attachments=Shelf(OSError("stale"))))

    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free, world.diary) == ("attachments_unreadable", True, [])


@pytest.mark.parametrize("headers", [{}, {"List-Id": "x"}], ids=["json", "mime"])
def test_attachments_that_no_request_can_hold_are_not_loaded(world: World, headers: dict[str, str]) -> None:
    shelf = Shelf(AttachmentMissing())
    world.delivery = DeliveryMode.SEND
    job = with_stored(3_100_000)
    mail = Mail.from_json(job.mail).model_copy(update={"headers": headers})
    mail.model_fields_set.add("headers")

    outcome = deliver(job._replace(mail=mail.to_json().encode()), replace(world.context(), attachments=shelf))

    assert isinstance(outcome, Refused)
    assert (outcome.reason, shelf.asked) == ("too_large", 0)


def test_a_rejected_token_is_renewed_once_and_the_second_post_is_marked_too(world: World) -> None:
    world.answers = [REJECTED, ACCEPTED]

    assert deliver(a_job(), world.context()) == ACCEPTED
    assert [line.split(" as ")[0] for line in world.diary] == [
        "mark request-1",
        "post request-1",
        "mark request-2",
        "post request-2",
    ]
    assert world.diary[-1].endswith("with fresh within 30 s")


def test_a_fresh_token_that_is_rejected_too_is_a_fault_of_the_app(world: World) -> None:
    world.answers = [REJECTED, REJECTED]

    assert deliver(a_job(), world.context()) == REJECTED


@pytest.mark.parametrize(("status", "distrusted"), [(403, 1), (404, 0)])
def test_after_a_refusal_the_next_attempt_asks_for_a_fresh_token_for_a_role_may_have_been_granted(
    world: World, status: int, distrusted: int
) -> None:
    world.answers = [Held(reason="access_denied", scope=Scope.LANE, answer=Answer(http_status=status))]

    deliver(a_job(), world.context())

    assert world.tokens.distrusted == [Token("first")] * distrusted


@pytest.mark.parametrize("kept", [b"", b"{", b"7", b'{"to": 7}', b'{"attachments": [{}]}', b"\xff\xfe"])
def test_a_mail_that_cannot_be_read_is_refused(world: World, kept: bytes) -> None:
    outcome = deliver(a_job()._replace(mail=kept), world.context())

    assert isinstance(outcome, Refused)
    assert (outcome.reason, world.diary) == ("damaged", [])


def test_no_second_post_without_rate_for_it(world: World) -> None:
    world.answers, world.marks = [REJECTED], [0.0, 1.0]

    assert isinstance(deliver(a_job(), world.context()), Throttled)


@pytest.mark.parametrize("instead", [Held(reason="secret", scope=Scope.APP), Deferred(reason="entra", free=True)])
def test_without_a_token_nothing_is_marked(world: World, instead: Held | Deferred) -> None:
    world.tokens.first = instead

    assert deliver(a_job(), world.context()) == instead
    assert world.diary == []


def test_a_broken_template_is_refused_before_anything_is_marked(world: World) -> None:
    outcome = deliver(a_job(Mail(sender="a@b.de", to="c@d.de", template="broken")), world.context())

    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.answer.detail) == ("template", "broken/body.html line 1: 'x' is undefined")
    assert world.diary == []


def test_templates_that_cannot_be_read_kill_no_mail(world: World) -> None:
    outcome = deliver(a_job(Mail(sender="a@b.de", to="c@d.de", template="gone")), world.context())

    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free) == ("templates_unreadable", True)


def test_a_lost_claim_posts_nothing(world: World) -> None:
    world.marks = [None]

    with pytest.raises(ClaimLost):
        deliver(a_job(), world.context())
    assert world.diary == ["mark request-1"]


def test_a_worker_held_up_after_the_mark_posts_nothing(world: World) -> None:
    world.mark_takes = 31.0

    outcome = deliver(a_job(), world.context())

    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free) == ("stalled", True)
    assert world.diary == ["mark request-1"]


def test_an_error_of_ours_while_posting_leaves_the_outcome_unknown(world: World) -> None:
    world.answers = [RuntimeError("a bug")]

    outcome = deliver(a_job(), world.context())

    assert isinstance(outcome, Unknown)
    assert outcome.answer.detail == "RuntimeError"


def test_an_app_that_this_worker_does_not_know_keeps_its_mail(world: World) -> None:
    outcome = deliver(a_job()._replace(app="other"), world.context())

    assert isinstance(outcome, Deferred)
    assert outcome.free


def marked_with_its_claim(asked_at: float = 0.0) -> Job:
    return a_job()._replace(marked=True, asked_at=asked_at)


def test_a_mail_that_was_marked_with_its_claim_is_posted_under_the_claims_token(world: World) -> None:
    assert deliver(marked_with_its_claim(), world.context()) == ACCEPTED
    assert world.diary == ["post t as noreply@contoso.com with first within 30 s"]


def test_a_second_post_of_a_mail_marked_with_its_claim_has_a_mark_of_its_own(world: World) -> None:
    world.answers = [REJECTED, ACCEPTED]

    assert deliver(marked_with_its_claim(), world.context()) == ACCEPTED
    assert [line.split(" as ")[0] for line in world.diary] == ["post t", "mark request-1", "post request-1"]


def test_a_mail_marked_with_its_claim_is_not_posted_where_the_claim_took_too_long(world: World) -> None:
    world.clock = 31.0

    assert deliver(marked_with_its_claim(asked_at=0.9), world.context()) == Deferred(reason="stalled", free=True)
    assert world.diary == []


def test_an_accepted_mail_whose_text_body_did_not_fit_says_so() -> None:
    files = [Attachment("a.bin", b"x" * 2_000_000)]
    both = Mail(sender="a@b.de", to="c@d.de", text="x", html="<p>x</p>", attachments=files)
    world = World(answers=[ACCEPTED], delivery=DeliveryMode.SEND)

    assert deliver(a_job(both), world.context()) == Accepted(answer=replace(ACCEPTED.answer, detail=NO_TEXT_BODY))
    by_draft = World(answers=[DRAFT, Uploaded(), ACCEPTED], delivery=DeliveryMode.DRAFT)
    assert deliver(a_job(both), by_draft.context()) == ACCEPTED
