import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from postroom.delivery.attempt import deliver
from postroom.delivery.context import App, ClaimLost, DeliveryContext
from postroom.errors import TemplateFault
from postroom.graph.requests import Call, GraphRequest
from postroom.graph.searches import Search
from postroom.jobs.job import Job
from postroom.jobs.outcome import (
    Accepted,
    Answer,
    CleanedUp,
    Deferred,
    Drafted,
    Held,
    LookupResult,
    Outcome,
    Refused,
    Scope,
    Session,
    SessionLost,
    Throttled,
    Unknown,
    Uploaded,
)
from postroom.jobs.retry import OnUnknown
from postroom.mail.content import PIECE, AttachmentMissing, Stored
from postroom.mail.message import Bodies, DeliveryMode
from postroom.mail.model import Attachment, Mail

PLAIN = Mail(sender="Post <noreply@contoso.com>", to=["ann@contoso.com"], subject="Hello", text="Hi")
ACCEPTED = Accepted(answer=Answer(http_status=202))
REJECTED = Held(reason="token_rejected", scope=Scope.APP, answer=Answer(http_status=401))


@dataclass(frozen=True)
class Token:
    value: str


@dataclass
class FakeTokens:
    first: Token | Deferred | Held | Throttled = Token("first")
    fresh: Token | Deferred | Held | Throttled = Token("fresh")
    distrusted: list[Token] = field(default_factory=list)

    @property
    def is_at_hand(self) -> bool:
        return isinstance(self.first, Token)

    def get(self) -> Token | Deferred | Held | Throttled:
        return self.first

    def renew(self, rejected: Token) -> Token | Deferred | Held | Throttled:
        assert rejected == self.first
        return self.fresh

    def distrust(self, refused: Token) -> None:
        self.distrusted.append(refused)


Said = Outcome | LookupResult | Drafted | Session | Uploaded | SessionLost | CleanedUp | Exception


class FakeSeal:
    def close(self, text: str) -> str:
        return f"sealed:{text}"

    def open(self, closed: str) -> str | None:
        return closed.removeprefix("sealed:") if closed.startswith("sealed:") else None


@dataclass
class FakeGraph:
    """Gives its answers one by one; an exception among them is raised. Writes what was asked into the diary."""

    diary: list[str]
    answers: list[Any] = field(default_factory=lambda: [ACCEPTED])

    def say(self, what: str, mailbox: str, call: Call) -> Any:
        assert call.before_write
        call.before_write()
        self.diary.append(
            f"{what} {call.client_request_id} as {mailbox} with {call.token} within {call.deadline_s:.0f} s"
        )
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send_mail(self, mailbox: str, request: GraphRequest, call: Call) -> Outcome:
        return self.say("post", mailbox, call)

    def create_draft(self, mailbox: str, request: GraphRequest, call: Call) -> Drafted | Outcome:
        return self.say("draft", mailbox, call)

    def send_draft(self, mailbox: str, draft_id: str, call: Call) -> Outcome:
        return self.say(f"send {draft_id}", mailbox, call)

    def draft_status(self, mailbox: str, draft_id: str, call: Call) -> LookupResult:
        return self.say(f"ask {draft_id}", mailbox, call)

    def delete_draft(self, mailbox: str, draft_id: str, call: Call) -> CleanedUp | Outcome:
        return self.say(f"delete {draft_id}", mailbox, call)

    def add_attachment(self, mailbox: str, draft_id: str, body: bytes, call: Call) -> Uploaded | Outcome:
        return self.say(f"add {json.loads(body)['name']}", mailbox, call)

    def begin_upload(self, mailbox: str, draft_id: str, body: bytes, call: Call) -> Session | Outcome:
        return self.say(f"begin {json.loads(body)['AttachmentItem']['name']}", mailbox, call)

    def upload(self, url: str, data: bytes, begin: int, size: int, call: Call) -> Uploaded | SessionLost | Outcome:
        return self.say(f"put {begin}+{len(data)}/{size} to {url}", "-", call)

    def cancel_upload(self, url: str, call: Call) -> CleanedUp | Outcome:
        return self.say(f"cancel {url}", "-", call)

    def search(self, mailbox: str, search: Search, call: Call) -> LookupResult:
        by = "property" if "job-1" in search.filter.partition("ep/value")[2] else "message-id"
        return self.say(f"search {search.folder} by {by}", mailbox, call)


class FakeTemplates:
    def render(self, name: str, variables: Mapping[str, object], locale: str | None = None) -> Bodies:
        if name == "broken":
            raise TemplateFault("broken/body.html line 1: 'x' is undefined")
        if name == "gone":
            raise FileNotFoundError(name)
        if name == "bug":
            raise RuntimeError("secret")
        return Bodies(subject="Rendered", html=None, text=str(variables))


@dataclass
class World:
    diary: list[str] = field(default_factory=list)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    answers: list[Said] = field(default_factory=lambda: [ACCEPTED])
    marks: list[float | None] = field(default_factory=lambda: [0.0, 0.0])
    clock: float = 0.0
    mark_takes: float = 0.0
    on_unknown: OnUnknown = OnUnknown.RESEND
    delivery: DeliveryMode = DeliveryMode.AUTO
    is_lost: bool = False
    is_stopping: bool = False
    seal: FakeSeal | None = field(default_factory=FakeSeal)

    def context(self) -> DeliveryContext:
        ids = iter(range(1, 100))
        return DeliveryContext(
            apps={"default": App(tokens=self.tokens, graph=FakeGraph(self.diary, self.answers), seal=self.seal)},
            templates=FakeTemplates(),
            mailbox_of=lambda lane: lane,
            addresses_of=lambda lane: frozenset({lane}),
            on_unknown=lambda _: self.on_unknown,
            delivery_of=lambda _: self.delivery,
            mark=self.mark,
            note=self.note,
            stopping=lambda: self.is_stopping,
            redirect_all_to=None,
            lease_s=60.0,
            monotonic=lambda: self.clock,
            new_id=lambda: f"request-{next(ids)}",
        )

    def mark(self, _: Job, client_request_id: str, size: int) -> float | None:
        self.diary.append(f"mark {client_request_id}")
        self.clock += self.mark_takes
        return self.marks.pop(0)

    def note(self, _: Job, fields: Mapping[str, str], size: int) -> float | None:
        self.diary.append(" ".join(["note", *(f"{name}={value}" for name, value in fields.items())]))
        return None if self.is_lost else 0.0


def a_job(mail: Mail = PLAIN) -> Job:
    return Job(
        id="job-1",
        lane="noreply@contoso.com",
        app="default",
        token="t",
        mail=mail.to_json().encode(),
        attempts=0,
    )


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


class Shelf:
    """Holds no stored attachment; raises this instead, and counts how often it was asked."""

    def __init__(self, fault: Exception) -> None:
        self.fault, self.asked = fault, 0

    def read(self, stored: Stored, begin: int, end: int) -> bytes:
        self.asked += 1
        raise self.fault


def with_stored(size: int) -> Job:
    stored = Stored(where="redis", name="job-1", number=0, piece=PIECE, size=size, sha256="")
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
def test_what_no_request_can_hold_is_not_even_loaded(world: World, headers: dict[str, str]) -> None:
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
def test_who_is_refused_asks_for_a_fresh_token_next_time_for_a_role_may_have_been_granted(
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


def test_a_second_post_of_it_is_marked_by_itself(world: World) -> None:
    world.answers = [REJECTED, ACCEPTED]

    assert deliver(marked_with_its_claim(), world.context()) == ACCEPTED
    assert [line.split(" as ")[0] for line in world.diary] == ["post t", "mark request-1", "post request-1"]


def test_it_is_not_posted_where_its_claim_took_too_long(world: World) -> None:
    world.clock = 31.0

    assert deliver(marked_with_its_claim(asked_at=0.9), world.context()) == Deferred(reason="stalled", free=True)
    assert world.diary == []
