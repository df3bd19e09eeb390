"""What the work on a claimed job needs of the world, and how a request to Graph is made for it.

Every request has a total deadline of half the lease, and begins with the lease renewed, in the ledger and by this
process' own clock. So a process that was held up in between posts nothing: another round might have the job by then.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from postroom.graph.requests import Call, GraphRequest
from postroom.graph.searches import Search
from postroom.jobs.job import Claimant, Job
from postroom.jobs.outcome import (
    Answer,
    CleanedUp,
    Deferred,
    Drafted,
    Held,
    LookupResult,
    Outcome,
    Scope,
    Session,
    SessionLost,
    Throttled,
    Uploaded,
)
from postroom.jobs.retry import OnUnknown
from postroom.mail.address import Address
from postroom.mail.bodies import Bodies
from postroom.mail.content import Source
from postroom.mail.message import DeliveryMode
from postroom.runtime.failpoints import Failpoint, hit

Done = TypeVar("Done")

LONGEST_POST_S = 30.0
SPREAD = 0.1  # by how much of it a deadline may come earlier
NOT_NOW = Answer(detail="the lane was paused meanwhile, or its limits leave nothing for this request")


class Token(Protocol):
    @property
    def value(self) -> str: ...


NoToken = Deferred | Held | Throttled


class Tokens(Protocol):
    """`get`: a token, or the outcome that stands in its place; `is_at_hand`: one is there. `renew`: another one,
    after Graph rejected this. `distrust`: Graph took this one, and it permits too little. `probe`: what Entra says now,
    whatever tokens there are.
    """

    @property
    def is_at_hand(self) -> bool: ...
    def get(self) -> Token | NoToken: ...
    def renew(self, rejected: Any) -> Token | NoToken: ...
    def distrust(self, refused: Any) -> None: ...
    def probe(self) -> Token | NoToken: ...


class Graph(Protocol):
    def send_mail(self, mailbox: str, request: GraphRequest, call: Call) -> Outcome: ...
    def search(self, mailbox: str, search: Search, call: Call) -> LookupResult: ...
    def create_draft(self, mailbox: str, request: GraphRequest, call: Call) -> Drafted | Outcome: ...
    def send_draft(self, mailbox: str, draft_id: str, call: Call) -> Outcome: ...
    def draft_status(self, mailbox: str, draft_id: str, call: Call) -> LookupResult: ...
    def add_attachment(self, mailbox: str, draft_id: str, body: bytes, call: Call) -> Uploaded | Outcome: ...
    def begin_upload(self, mailbox: str, draft_id: str, body: bytes, call: Call) -> Session | Outcome: ...
    def upload(self, url: str, data: bytes, begin: int, size: int, call: Call) -> Uploaded | SessionLost | Outcome: ...
    def cancel_upload(self, url: str, call: Call) -> CleanedUp | Outcome: ...
    def delete_draft(self, mailbox: str, draft_id: str, call: Call) -> CleanedUp | Outcome: ...


class Templates(Protocol):
    def render(
        self, name: str, variables: Mapping[str, object], locale: str | None = None, sender: str = ""
    ) -> Bodies: ...


class RunInThread(Protocol):
    """Returns what `do` returns. It may take long: other deliveries of this process go on meanwhile."""

    def __call__(self, do: Callable[[], Done], /) -> Done: ...


class Seal(Protocol):
    """Encrypts and decrypts text; `open` returns None for what was closed with another key."""

    def close(self, text: str) -> str: ...
    def open(self, closed: str) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A registration in Entra: where its tokens come from and which Graph it speaks to.

    `seal` encrypts what lies in Redis but only this app's workers may read; None if the app has no secret for a key.
    """

    tokens: Tokens
    graph: Graph
    seal: Seal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryContext:
    """What a delivery needs from the outside.

    `mark(job, client_request_id, size)` is called before a request that sends, `note(job, fields, size)` before any
    other. Both renew the lease and return when the request of `size` bytes may be made: 0 for now, else the seconds to
    wait; None if the claim is lost.
    """

    apps: Mapping[str, App]
    templates: Templates
    mailbox_of: Callable[[str], str]
    addresses_of: Callable[[str], frozenset[str]]  # addresses that the mailbox may send from, in normal form
    delivery_of: Callable[[str], DeliveryMode]
    on_unknown: Callable[[str], OnUnknown]
    mark: Callable[[Job, str, int], float | None]
    note: Callable[[Job, Mapping[str, str], int], float | None]
    stopping: Callable[[], bool]
    redirect_all_to: Address | None
    lease_s: float
    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    has_template_elsewhere: Callable[[str], bool] = lambda _: False  # whether another worker has such a template
    attachments: Source | None = None
    run_in_thread: RunInThread = operator.call
    chance: Callable[[], float] = float  # gives a number in [0, 1)

    @property
    def deadline_s(self) -> float:
        """The total deadline of one request: half the lease, so that a renewed lease always leaves room for it."""
        return min(self.lease_s / 2, LONGEST_POST_S)

    def claimant(self) -> Claimant:
        """Who asks for the next claim, now."""
        at_hand = [name for name, app in self.apps.items() if app.tokens.is_at_hand]
        return Claimant(self.new_id(), self.lease_s, at_hand, self.monotonic())


class ClaimLost(Exception):
    """Another round may have the job by now; nothing was posted, and there is nothing to settle."""


class Stalled(Exception):
    """This process was held up for so long after the lease was renewed that another round might have the job."""


Said = TypeVar("Said", bound=Outcome | LookupResult | Drafted | Session | Uploaded | SessionLost | CleanedUp)


def with_token(app: App, request: Callable[[Token], Said]) -> Said | NoToken:
    """The answer to `request` with a token; if Graph rejects that token (401), the answer with a fresh one."""
    token = app.tokens.get()
    if isinstance(token, Deferred | Held | Throttled):
        return token
    answer = request(token)
    if answer.answer.http_status == 403:
        app.tokens.distrust(token)
    if answer.answer.http_status != 401:
        return answer
    token = app.tokens.renew(token)
    return token if isinstance(token, Deferred | Held | Throttled) else request(token)


def ask(
    job: Job, app: App, context: DeliveryContext, request: Callable[[Call], Said], *, size: int = 0, **notes: str
) -> Said | NoToken:
    """The answer of Graph to a request that sends nothing. The `notes` are kept with the job before it is made."""

    def once(token: Token) -> Said | Deferred | Throttled:
        renewed_at = context.monotonic()
        wait_s = context.note(job, notes, size)
        if wait_s is None:
            raise ClaimLost
        if wait_s > 0:
            return Throttled(wait_s=wait_s, answer=NOT_NOW)
        try:
            return request(new_call(context, token, context.new_id(), renewed_at))
        except Stalled:
            return Deferred(reason="stalled", free=True)

    return with_token(app, once)


def new_call(context: DeliveryContext, token: Token, client_request_id: str, renewed_at: float) -> Call:
    """A call that raises Stalled instead of writing when the rest of the lease is shorter than the deadline."""

    def lease_leaves_room() -> None:
        if context.monotonic() + context.deadline_s > renewed_at + context.lease_s:
            raise Stalled
        hit(Failpoint.WRITING)

    return Call(
        token=token.value,
        client_request_id=client_request_id,
        # Many requests without an answer may have begun at the same moment. They are not given up at the same moment.
        deadline_s=context.deadline_s * (1 - SPREAD * context.chance()),
        before_write=lease_leaves_room,
    )


def app_of(job: Job, context: DeliveryContext) -> App | Deferred:
    """The app that the job's lane belongs to, if this worker has it."""
    app = context.apps.get(job.app)
    return app or Deferred(reason="app_not_configured_here", scope=Scope.LANE, free=True)
