"""One attempt to send a claimed job: make the request, mark the job as sending, post, and read the outcome.

Whatever can fail without a request fails before the mark. The mark is the point of no return: a worker that dies before
it has sent nothing; one that dies after it leaves an outcome that nobody knows.

Most mail is sent with one request. Mail that is large, or whose sender wants it so, is sent by a draft (`drafts.py`):
with two requests, after which the draft itself shows whether it was sent.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

from postroom.delivery.context import (
    NOT_NOW,
    App,
    ClaimLost,
    DeliveryContext,
    Stalled,
    Token,
    app_of,
    new_call,
    with_token,
)
from postroom.delivery.drafts import complete_draft, create_draft
from postroom.errors import InvalidMail, RendererBusy, TemplateFault, TemplateMissing
from postroom.graph.requests import Call, DraftPlan, GraphRequest, plan_draft, request_for
from postroom.jobs.job import FRESH_LEASE_S, Job
from postroom.jobs.outcome import (
    Accepted,
    Answer,
    Deferred,
    Drafted,
    Held,
    Outcome,
    Refused,
    Scope,
    Throttled,
    Unknown,
    Uploaded,
)
from postroom.mail.address import Address
from postroom.mail.bodies import Bodies
from postroom.mail.content import AttachmentMissing
from postroom.mail.message import DeliveryMode, Message, Ready, compose
from postroom.mail.model import Mail
from postroom.runtime.failpoints import Failpoint, hit

Request = TypeVar("Request", GraphRequest, DraftPlan)
Read = TypeVar("Read")


def deliver(job: Job, context: DeliveryContext) -> Outcome:
    """The outcome of one attempt to send this job's mail. Raises ClaimLost if another round may have the job by now."""
    app = app_of(job, context)
    if isinstance(app, Deferred):
        return app
    delivery = context.delivery_of(job.lane)
    by_draft = partial(context.run_in_thread, partial(deliver_by_draft, job, app, context))
    if delivery is DeliveryMode.DRAFT:
        return by_draft()
    if job.drafting:
        return of_one_mail(by_draft())
    request = prepare(job, context, request_for)
    if isinstance(request, GraphRequest):
        mailbox = context.mailbox_of(job.lane)
        outcome = post(job, app, context, len(request.body), partial(app.graph.send_mail, mailbox, request))
        return saying(request.left_out, outcome)
    if request.reason == "too_large" and delivery is DeliveryMode.AUTO:
        return of_one_mail(by_draft())
    return request


def of_one_mail(outcome: Outcome) -> Outcome:
    """A mail that only a draft can carry waits alone for the permission: the mailbox's others need none."""
    if isinstance(outcome, Held) and outcome.reason == "needs_mail_readwrite":
        return replace(outcome, scope=Scope.MAIL)
    return outcome


def saying(left_out: str | None, outcome: Outcome) -> Outcome:
    """The same outcome; if the mail was accepted, with what was not in its request."""
    if left_out and isinstance(outcome, Accepted):
        return replace(outcome, answer=replace(outcome.answer, detail=left_out))
    return outcome


def deliver_by_draft(job: Job, app: App, context: DeliveryContext) -> Outcome:
    """The same by a draft. What was drafted once goes on as a draft: it must not leave in two ways."""
    left_out = None
    if job.draft is None:
        plan = prepare(job, context, plan_draft)
        if not isinstance(plan, DraftPlan):
            return plan
        drafted = create_draft(job, plan, app, context)
        if not isinstance(drafted, Drafted):
            return drafted
        left_out = plan.request.left_out
        job = job._replace(draft=drafted.id, to_add=plan.to_add, upload=None, upload_at=None)
    draft_id = str(job.draft)
    if job.to_add:
        attachments = Mail.of_job(job.mail, context.attachments).attachments
        completed = with_attachments(lambda: complete_draft(job, draft_id, attachments, app, context))
        if not isinstance(completed, Uploaded):
            return completed
    mailbox = context.mailbox_of(job.lane)
    return saying(left_out, post(job, app, context, 0, partial(app.graph.send_draft, mailbox, draft_id)))


def prepare(
    job: Job, context: DeliveryContext, put_into: Callable[[Message], Request | Refused]
) -> Request | Refused | Deferred:
    """The request that carries this job's mail, or why there is none: no retry mends a broken template."""
    try:
        mail = Mail.of_job(job.mail, context.attachments)
    except (InvalidMail, ValueError, TypeError, LookupError, AttributeError) as error:
        # What needs a newer version is left to one, by the record's; so this one was written into.
        return Refused(reason="damaged", answer=Answer(detail=f"the mail cannot be read ({type(error).__name__})"))
    bodies = render(mail, job, context)
    if isinstance(bodies, Refused | Deferred):
        return bodies
    if mail.enclosed:  # what folders hold may take its time
        return context.run_in_thread(lambda: compose_and_put(mail, bodies, job, context, put_into))
    return compose_and_put(mail, bodies, job, context, put_into)


def render(mail: Mail, job: Job, context: DeliveryContext) -> Bodies | Refused | Deferred | None:
    """What the mail's template renders to, or why it does not; None if the mail has none."""
    if not mail.template:
        return None
    try:
        return context.templates.render(mail.template, mail.variables, mail.locale, job.lane)
    except TemplateMissing as fault:
        name = mail.template
        if context.run_in_thread(lambda: context.has_template_elsewhere(name)):  # it asks Redis, and waits
            return Deferred(reason="template_not_here", answer=Answer(detail=str(fault)), wait_s=2.0, free=True)
        return Refused(reason="template", answer=Answer(detail=str(fault)))
    except TemplateFault as fault:
        return Refused(reason="template", answer=Answer(detail=str(fault)))
    except RendererBusy as busy:
        return Deferred(reason="renderer_busy", answer=Answer(detail=str(busy)), wait_s=30.0, free=True)
    except OSError as error:
        unreadable = Answer(detail=f"{type(error).__name__}: is POSTROOM_TEMPLATES there and readable?")
        return Deferred(reason="templates_unreadable", answer=unreadable, wait_s=30.0, free=True)


def compose_and_put(
    mail: Mail,
    bodies: Bodies | None,
    job: Job,
    context: DeliveryContext,
    put_into: Callable[[Message], Request | Refused],
) -> Request | Refused | Deferred:
    """The request that carries this mail, or why there is none."""
    mailbox, own = context.mailbox_of(job.lane), context.addresses_of(job.lane)
    asked = mail.sender or Address("", mailbox)
    sender = asked if asked.lane in own - {mailbox} else Address(asked.name, mailbox)
    ready = Ready(source=mail.mime, own=own, taken_in_at=job.taken_in_at) if mail.mime is not None else None
    message = compose(mail, sender, job.id, bodies, context.redirect_all_to, ready, mailbox)
    return with_attachments(lambda: put_into(message))


def with_attachments(read: Callable[[], Read]) -> Read | Refused | Deferred:
    """What `read` makes of the mail's attachments, or why they cannot be read: never the mail without them."""
    try:
        return read()
    except AttachmentMissing as fault:
        return Refused(reason="attachment_missing", answer=Answer(detail=str(fault)))
    except OSError as error:
        unreadable = Answer(detail=f"{type(error).__name__}: is POSTROOM_ATTACHMENTS there and readable?")
        return Deferred(reason="attachments_unreadable", answer=unreadable, wait_s=30.0, free=True)


def post(job: Job, app: App, context: DeliveryContext, size: int, send: Callable[[Call], Outcome]) -> Outcome:
    """Marks the job as sending, if it is not, and sends it, if its lease leaves room for the whole deadline."""
    first = Mark(job.token, job.asked_at) if job.marked else None

    def once(token: Token) -> Outcome:
        nonlocal first
        hit(Failpoint.PREPARED)
        mark, first = first or new_mark(job, context, size), None
        if isinstance(mark, Throttled):
            return mark
        hit(Failpoint.MARKED)
        try:
            return send(new_call(context, token, mark.client_request_id, mark.renewed_at))
        except Stalled:
            return Deferred(reason="stalled", free=True)
        except Exception as error:  # noqa: BLE001 - after the mark, whatever happened, nobody knows what was sent
            return Unknown(reason="internal_error", answer=Answer(detail=type(error).__name__))

    return with_token(app, once)


class Mark(NamedTuple):
    """What a request that sends is known by, and since when the lease is sure to be as new as that."""

    client_request_id: str
    renewed_at: float


def new_mark(job: Job, context: DeliveryContext, size: int) -> Mark | Throttled:
    """Marks the job as sending by a request of `size` bytes."""
    mark = Mark(context.new_id(), context.monotonic() - FRESH_LEASE_S)
    wait_s = context.mark(job, mark.client_request_id, size)
    if wait_s is None:
        raise ClaimLost
    return Throttled(wait_s=wait_s, answer=NOT_NOW) if wait_s > 0 else mark
