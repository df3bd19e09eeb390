"""Attachments that do not fit into the request that makes their draft: added one by one, large ones in ranges.

https://learn.microsoft.com/graph/outlook-large-attachments. What is still to add, the session and the next byte are
noted with the job, so a round may stop after any range and another goes on. Where nobody can know whether an attachment
is there already, the draft is removed and made anew: rather late than twice in the mail, or not at all.
"""

from dataclasses import dataclass
from functools import partial

from postroom.delivery.context import App, ClaimLost, DeliveryContext, ask
from postroom.graph.requests import RANGE, SESSION_FROM, attachment_body, session_body
from postroom.jobs.job import Job
from postroom.jobs.outcome import Answer, Deferred, Outcome, Session, SessionLost, Unknown, Uploaded
from postroom.mail.model import Attachment

# An empty note takes the field out.
NOTHING_UNDER_WAY = {"upload": "", "range": ""}
MADE_ANEW = {"draft": "", "to_add": "", **NOTHING_UNDER_WAY}


@dataclass(frozen=True, slots=True)
class MakeAnew:
    """The draft is not what it should be, or nobody knows; `why` in one word."""

    why: str
    answer: Answer


def add_attachments(
    job: Job, draft_id: str, attachments: tuple[Attachment, ...], app: App, context: DeliveryContext
) -> Uploaded | MakeAnew | Outcome:
    """Adds what the draft still lacks; Uploaded when it is complete."""
    while job.to_add:
        attachment = attachments[job.to_add[0]]
        add = _add if attachment.size < SESSION_FROM else _upload
        added = add(job, draft_id, attachment, app, context)
        if isinstance(added, Deferred) and added.reason == "draft_gone":
            return MakeAnew(added.reason, added.answer)
        if not isinstance(added, Uploaded):
            return added
        job = job._replace(to_add=job.to_add[1:], upload=None, upload_at=None)
        if context.note(job, {"to_add": " ".join(map(str, job.to_add)), **NOTHING_UNDER_WAY}, 0) is None:
            raise ClaimLost
    return Uploaded()


def cancel(job: Job, app: App, context: DeliveryContext) -> None:
    """Ends the session of an attachment that was under way, if its URL is known. Its draft goes next in any case."""
    url = _session_url(job, app)
    if url is not None:
        ask(job, app, context, partial(app.graph.cancel_upload, url))


def _add(
    job: Job, draft_id: str, attachment: Attachment, app: App, context: DeliveryContext
) -> Uploaded | MakeAnew | Outcome:
    if job.upload_at is not None:
        return MakeAnew("attachment_unclear", Answer(detail="a worker was lost while it added an attachment"))
    body = attachment_body(attachment)
    mailbox = context.mailbox_of(job.lane)
    # `range` says that it may be there: a worker that dies now leaves that open.
    added = ask(
        job, app, context, partial(app.graph.add_attachment, mailbox, draft_id, body), size=len(body), range="0"
    )
    if isinstance(added, Unknown):
        return MakeAnew("attachment_unclear", added.answer)
    if not isinstance(added, Uploaded):
        context.note(job, NOTHING_UNDER_WAY, 0)
    return added


def _upload(
    job: Job, draft_id: str, attachment: Attachment, app: App, context: DeliveryContext
) -> Uploaded | MakeAnew | Outcome:
    size = attachment.size
    url, begin = _session_url(job, app), job.upload_at or 0
    if url is None:
        if job.upload_at is not None and begin + RANGE >= size:
            return MakeAnew(
                "attachment_unclear", Answer(detail="the session of its last range is not known any longer")
            )
        mailbox = context.mailbox_of(job.lane)
        begun = ask(job, app, context, partial(app.graph.begin_upload, mailbox, draft_id, session_body(attachment)))
        if not isinstance(begun, Session):
            return begun
        url, begin = begun.url, 0
    upload = app.seal.close(url) if app.seal else ""
    while True:
        if context.stopping():
            context.note(job, {"upload": upload, "range": str(begin)}, 0)
            return Deferred(reason="worker_stopping", free=True)
        data = attachment.read(begin, min(begin + RANGE, size))
        put = partial(app.graph.upload, url, data, begin, size)
        outcome = ask(job, app, context, put, size=len(data), upload=upload, range=str(begin))
        if isinstance(outcome, SessionLost):
            return MakeAnew("session_lost", outcome.answer)
        if not isinstance(outcome, Uploaded) or outcome.next is None:
            return outcome
        begin = outcome.next


def _session_url(job: Job, app: App) -> str | None:
    return app.seal.open(job.upload) if job.upload and app.seal else None
