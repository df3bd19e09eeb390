"""One attempt: a claimed job is put into a request, marked as sending, and posted; the outcome is what comes back.

What can be found out before the request is found out before the mark. The mark is the point of no return: a worker
that dies before it has sent nothing; one that dies after it leaves an outcome that nobody knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from postroom.errors import TemplateFault
from postroom.job import Job
from postroom.mail import Address, Mail
from postroom.message import Bodies, compose
from postroom.outcome import Answer, Deferred, Held, Outcome, Refused, Scope, Throttled, Unknown
from postroom.retry import OnUnknown, dead_in_doubt, may_resend
from postroom.wire import GraphRequest, request_for

LONGEST_POST_S = 30.0


class Token(Protocol):
    @property
    def value(self) -> str: ...


class Tokens(Protocol):
    """`get`: a token, or the outcome that stands in its place. `renew`: another one, after Graph rejected this."""

    def get(self) -> Token | Deferred | Held | Throttled: ...
    def renew(self, rejected: Any) -> Token | Deferred | Held | Throttled: ...


class Graph(Protocol):
    def send_mail(
        self,
        mailbox: str,
        request: GraphRequest,
        token: str,
        *,
        client_request_id: str,
        deadline_s: float,
        before_write: Callable[[], None],
    ) -> Outcome: ...


class Templates(Protocol):
    def render(self, name: str, variables: Mapping[str, object], locale: str | None = None) -> Bodies: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A registration in Entra: where its tokens come from and which Graph it speaks to."""

    tokens: Tokens
    graph: Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What a delivery needs of the world. `mark(job, client_request_id)` says "marked", "void" or "wait"."""

    apps: Mapping[str, App]
    templates: Templates
    mailbox_of: Callable[[str], str]
    on_unknown: Callable[[str], OnUnknown]
    mark: Callable[[Job, str], str]
    redirect_all_to: Address | None
    lease_s: float
    monotonic: Callable[[], float]
    new_id: Callable[[], str]

    @property
    def deadline_s(self) -> float:
        """The total deadline of one request: half the lease, so that a mark always leaves room for it."""
        return min(self.lease_s / 2, LONGEST_POST_S)


class ClaimLost(Exception):
    """Another round may have the job by now; nothing was posted, and there is nothing to settle."""


def deliver(job: Job, office: Office) -> Outcome:
    """The outcome of one attempt to send this job's mail; raises ClaimLost if it is no longer ours to send."""
    if job.in_doubt and not may_resend(office.on_unknown(job.lane), job.resends):
        return dead_in_doubt()
    app = office.apps.get(job.app)
    if app is None:
        return Deferred(reason="app_not_configured_here", scope=Scope.LANE, free=True)
    request = prepare(job, office)
    if isinstance(request, Refused | Deferred):
        return request
    token = app.tokens.get()
    if isinstance(token, Deferred | Held | Throttled):
        return token
    outcome = post(job, request, token, app.graph, office)
    if outcome.answer.http_status == 401:
        token = app.tokens.renew(token)
        if isinstance(token, Deferred | Held | Throttled):
            return token
        outcome = post(job, request, token, app.graph, office)
    return outcome


def prepare(job: Job, office: Office) -> GraphRequest | Refused | Deferred:
    """The request that carries this job's mail, or why there is none: no retry mends a broken template."""
    mail = Mail.from_json(job.mail)
    try:
        bodies = office.templates.render(mail.template, mail.variables, mail.locale) if mail.template else None
    except TemplateFault as fault:
        return Refused(reason="template", answer=Answer(detail=str(fault)))
    except OSError as error:
        unreadable = Answer(detail=f"{type(error).__name__}: is POSTROOM_TEMPLATES there and readable?")
        return Deferred(reason="templates_unreadable", answer=unreadable, wait_s=30.0, free=True)
    sender = Address(mail.sender.name if mail.sender else "", office.mailbox_of(job.lane))
    return request_for(compose(mail, sender, job.id, bodies, office.redirect_all_to))


def post(job: Job, request: GraphRequest, token: Token, graph: Graph, office: Office) -> Outcome:
    """Marks the job as sending and posts the request, if its lease leaves room for the whole deadline."""
    client_request_id = office.new_id()
    marked_at = office.monotonic()
    match office.mark(job, client_request_id):
        case "void":
            raise ClaimLost
        case "wait":
            return Throttled(
                wait_s=1.0,
                answer=Answer(detail="the lane was paused meanwhile, or has no rate left for a second request"),
            )

    def lease_leaves_room() -> None:
        if office.monotonic() + office.deadline_s > marked_at + office.lease_s:
            raise _Stalled

    try:
        return graph.send_mail(
            office.mailbox_of(job.lane),
            request,
            token.value,
            client_request_id=client_request_id,
            deadline_s=office.deadline_s,
            before_write=lease_leaves_room,
        )
    except _Stalled:
        return Deferred(reason="stalled", free=True)
    except Exception as error:  # noqa: BLE001 - after the mark, whatever happened, nobody knows what was sent
        return Unknown(reason="internal_error", answer=Answer(detail=type(error).__name__))


class _Stalled(Exception):
    """This process was held up for so long after the mark that another round might have the job."""
