"""Drafts: a mail that must never be doubled is put into Drafts, noted by its id, and then sent from there.

Needs Mail.ReadWrite. The id is immutable (https://learn.microsoft.com/graph/outlook-immutable-id): the message keeps it
in Sent Items, so after an unknown outcome the draft itself shows whether it was sent. A draft whose creation was never
answered is found by its job's id, and only such ones are removed.
"""

from dataclasses import replace
from functools import partial

from postroom.delivery import uploads
from postroom.delivery.context import App, ClaimLost, DeliveryContext, app_of, ask
from postroom.graph.requests import DraftPlan
from postroom.graph.searches import DRAFTS, searches
from postroom.jobs.job import Job
from postroom.jobs.outcome import (
    CleanedUp,
    Deferred,
    Drafted,
    Found,
    Held,
    NotFound,
    NotPermitted,
    Outcome,
    Scope,
    StillDraft,
    Uploaded,
)
from postroom.mail.model import Attachment
from postroom.runtime.failpoints import Failpoint, hit


def create_draft(job: Job, plan: DraftPlan, app: App, context: DeliveryContext) -> Drafted | Outcome:
    """The draft of this job's mail, noted with the job; or why there is none yet."""
    if job.drafting and not job.in_doubt:
        # One whose creation was never answered may still come, after this search.
        if context.note(job, {"late_draft": "1"}, 0) is None:
            raise ClaimLost
        removed = remove_orphaned_drafts(job, app, context)
        if not isinstance(removed, CleanedUp):
            return removed
    mailbox = context.mailbox_of(job.lane)
    make = partial(app.graph.create_draft, mailbox, plan.request)
    drafted = ask(job, app, context, make, size=len(plan.request.body), drafting="1")
    if not isinstance(drafted, Drafted):
        return drafted
    hit(Failpoint.DRAFTED)
    lacks = {"to_add": " ".join(map(str, plan.to_add))} if plan.to_add else {}
    if context.note(job, {"draft": drafted.id, **lacks}, 0) is None:
        raise ClaimLost  # the ledger knows of the draft all the same, and it will be removed
    hit(Failpoint.NOTED)
    return drafted


def complete_draft(
    job: Job, draft_id: str, attachments: tuple[Attachment, ...], app: App, context: DeliveryContext
) -> Uploaded | Outcome:
    """Adds what the draft lacks. One of which nobody knows what it has is removed, to be made anew."""
    outcome = uploads.add_attachments(job, draft_id, attachments, app, context)
    if not isinstance(outcome, uploads.MakeAnew):
        return outcome
    removed = _remove(job, draft_id, app, context)
    if not isinstance(removed, CleanedUp):
        return removed
    context.note(job, uploads.MADE_ANEW, 0)
    return Deferred(reason=outcome.why, answer=outcome.answer)


def clean_up(job: Job, context: DeliveryContext) -> CleanedUp | Outcome:
    """Removes what a job that ended without being sent has left in Drafts."""
    app = app_of(job, context)
    if isinstance(app, Deferred):
        return app
    for orphan in job.orphaned_drafts:
        removed = _remove(job, orphan, app, context)
        if not isinstance(removed, CleanedUp):
            return removed
    draft_id = job.draft
    if job.sent:
        return remove_orphaned_drafts(job, app, context) if job.late_draft else CleanedUp()
    if draft_id is None:
        # What is in Drafts of a mail in doubt may be on its way out.
        return CleanedUp() if job.in_doubt else remove_orphaned_drafts(job, app, context)
    # Whatever was said when it was sent: what has left is the mailbox's copy now, and stays.
    mailbox = context.mailbox_of(job.lane)
    result = ask(job, app, context, partial(app.graph.draft_status, mailbox, draft_id))
    if isinstance(result, Found | NotFound):
        return CleanedUp(answer=result.answer)
    if not isinstance(result, StillDraft):
        return Deferred(reason="look_up_failed", answer=result.answer, free=True)
    uploads.cancel(job, app, context)
    return _remove(job, draft_id, app, context)


def remove_orphaned_drafts(job: Job, app: App, context: DeliveryContext) -> CleanedUp | Outcome:
    """Removes the drafts of this job that were made without our learning their ids; never any other, nor its own."""
    mailbox = context.mailbox_of(job.lane)
    for search in searches(job.id, mailbox, DRAFTS):
        result = ask(job, app, context, partial(app.graph.search, mailbox, search))
        match result:
            case Found(ids=ids):
                for draft_id in set(ids) - {job.draft}:
                    removed = _remove(job, draft_id, app, context)
                    if not isinstance(removed, CleanedUp):
                        return removed
            case NotPermitted(answer=answer):
                return Held(reason="needs_mail_readwrite", scope=Scope.LANE, answer=answer)
            case Deferred(answer=answer) if answer.http_status and answer.http_status // 100 == 4:
                # This mail's own search is refused: asked for ever, it would be refused for ever.
                return replace(result, free=False)
            case NotFound() | StillDraft():
                pass
            case _:
                return result
    return CleanedUp()


def _remove(job: Job, draft_id: str, app: App, context: DeliveryContext) -> CleanedUp | Outcome:
    mailbox = context.mailbox_of(job.lane)
    return ask(job, app, context, partial(app.graph.delete_draft, mailbox, draft_id))
