"""Stand-ins for all that a worker deals with: tokens, Graph, templates and the ledger."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from postroom.delivery.context import App, DeliveryContext
from postroom.errors import TemplateFault, TemplateMissing, Unavailable
from postroom.graph.requests import Call, GraphRequest
from postroom.graph.searches import Search
from postroom.jobs.job import Claimant, Job, Status
from postroom.jobs.outcome import (
    Accepted,
    Answer,
    CleanedUp,
    Deferred,
    Drafted,
    Held,
    LookupResult,
    NotFound,
    Outcome,
    Scope,
    Session,
    SessionLost,
    Throttled,
    Uploaded,
)
from postroom.jobs.retry import OnUnknown, Transition
from postroom.jobs.ticks import Ticked
from postroom.mail.bodies import Bodies
from postroom.mail.message import DeliveryMode
from postroom.mail.model import Mail

PLAIN = Mail(sender="Post <noreply@contoso.com>", to=["ann@contoso.com"], subject="Hello", text="Hi")
ACCEPTED = Accepted(answer=Answer(http_status=202))
REJECTED = Held(reason="token_rejected", scope=Scope.APP, answer=Answer(http_status=401))


@dataclass(frozen=True)
class Token:
    value: str


@dataclass
class FakeTokens:
    """Gives `first` until that is rejected, then `fresh`."""

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
    posted: list[GraphRequest] = field(default_factory=list)

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
        self.posted.append(request)
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
    def render(self, name: str, variables: Mapping[str, object], locale: str | None = None, sender: str = "") -> Bodies:
        if name == "missing":
            raise TemplateMissing('no template "missing"')
        if name == "broken":
            raise TemplateFault("broken/body.html line 1: 'x' is undefined")
        if name == "gone":
            raise FileNotFoundError(name)
        if name == "bug":
            raise RuntimeError("secret")
        return Bodies(subject="Rendered", html=None, text=str(variables))


@dataclass
class World:
    """All that an attempt needs. `diary` has what was asked, noted and marked, in this order."""

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


IN_DOUBT = a_job()._replace(in_doubt=True)
NOT_THERE = NotFound(answer=Answer(http_status=200))
DRAFT = Drafted(id="d-1", answer=Answer(http_status=201))


def asked(world: World) -> list[str]:
    """What was asked of Graph, and noted in the ledger."""
    return [line.partition(" request-")[0] for line in world.diary]


@dataclass
class FakeLedger:
    """A list of jobs that records the calls."""

    jobs: list[Job]
    away: int = 0  # so many calls of settle find Redis away
    claims_away: int = 0  # the same of claim
    claimants: list[Claimant] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)  # that a claim was asked for
    settled: list[tuple[str, Status, Outcome]] = field(default_factory=list)
    claimed_next: list[bool] = field(default_factory=list)
    may_switch_lane: list[bool] = field(default_factory=list)
    ticks: list[Ticked | Exception] = field(default_factory=list)
    results: list[list[str] | Exception] = field(default_factory=list)
    when_ticked_out: Callable[[], None] = lambda: None

    def claim(self, lane: str, claimant: Claimant, *, may_switch_lane: bool) -> Job | None:
        self.claimants.append(claimant)
        if self.claims_away:
            self.claims_away -= 1
            raise Unavailable("away")
        self.lanes.append(lane)
        return self.jobs.pop(0) if self.jobs else None

    def settle(
        self,
        job: Job,
        move: Transition,
        outcome: Outcome,
        duration_ms: int,
        *,
        claimant: Claimant | None,
        slice_expired: bool,
        may_switch_lane: bool,
    ) -> tuple[bool, Job | None]:
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        self.settled.append((job.id, move.status, outcome))
        self.claimed_next.append(claimant is not None and not slice_expired)
        self.may_switch_lane.append(may_switch_lane)
        return True, self.jobs.pop(0) if self.jobs and claimant and not slice_expired else None

    def tick(self, worker: str, slots: int, lease_s: float) -> Ticked:
        answer = self.ticks.pop(0)
        if not self.ticks:
            self.when_ticked_out()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def results_due(self) -> list[str]:
        answer = self.results.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Diary:
    """The log events of a round, and how long it waited."""

    events: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def emit(self, event: str, **_: object) -> None:
        self.events.append(event)
