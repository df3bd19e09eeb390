"""A mail in doubt: the outcome of an attempt is unknown, so the message itself is looked for before anything else.

In Sent Items, and in Drafts, where Exchange keeps a message for a while after its 202; by the job's id in an extended
property, and by Message-ID (MIME carries no property, and came perhaps with its own Message-ID). A mail that was sent
from a draft is asked for by its id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from postroom.delivery.context import App, DeliveryContext, app_of, ask
from postroom.graph.searches import DRAFTS, SENT_ITEMS, Search, searches, searches_by_own_id
from postroom.jobs.job import Job
from postroom.jobs.outcome import Answer, Deferred, LookupResult, NotFound
from postroom.mail import content, mime_source
from postroom.mail.content import AttachmentMissing
from postroom.mail.model import Mail


def look_up(job: Job, context: DeliveryContext) -> LookupResult:
    """What the mailbox shows of this job's message now."""
    app = app_of(job, context)
    if isinstance(app, Deferred):
        return app
    try:
        return _look_up(job, app, context)
    except OSError as error:
        unreadable = Answer(detail=f"{type(error).__name__}: is POSTROOM_ATTACHMENTS there and readable?")
        return Deferred(reason="look_up_failed", answer=unreadable, free=True)


def _look_up(job: Job, app: App, context: DeliveryContext) -> LookupResult:
    mailbox, mail = context.mailbox_of(job.lane), Mail.of_job(job.mail, context.attachments)
    draft_id = job.draft
    if draft_id:
        result: LookupResult = ask(job, app, context, partial(app.graph.draft_status, mailbox, draft_id))
        if not (isinstance(result, NotFound) and result.draft_gone):
            return result
        sent = _search(job, app, context, _everywhere(job, mail, context, (SENT_ITEMS,)))
        return result if isinstance(sent, NotFound) else sent
    result = _search(job, app, context, _everywhere(job, mail, context, (SENT_ITEMS, DRAFTS)))
    return replace(result, proves_nothing=not mail.save_to_sent_items) if isinstance(result, NotFound) else result


def _everywhere(job: Job, mail: Mail, context: DeliveryContext, folders: Sequence[str]) -> Iterator[Search]:
    """What came as MIME with a Message-ID is looked for by that, everything else by what Postroom gave it."""
    known_as = _own_message_id(mail)
    for folder in folders:
        if known_as:
            recipients = (context.redirect_all_to,) if context.redirect_all_to else mail.recipients
            yield from searches_by_own_id(known_as, recipients, folder)
        else:
            yield from searches(job.id, context.mailbox_of(job.lane), folder)


def _own_message_id(mail: Mail) -> str | None:
    if mail.mime is None:
        return None
    try:
        head = content.read(mail.mime, 0, min(content.size_of(mail.mime), mime_source.LONGEST_HEADER))
    except AttachmentMissing:  # then it cannot be sent again either
        return None
    return (mime_source.head_of(head).text("message-id") or "").strip() or None


def _search(job: Job, app: App, context: DeliveryContext, all_searches: Iterator[Search]) -> LookupResult:
    """The first search that says anything but "not there" says it for all."""
    mailbox = context.mailbox_of(job.lane)
    result: LookupResult = NotFound()
    for search in all_searches:
        result = ask(job, app, context, partial(app.graph.search, mailbox, search))
        if not isinstance(result, NotFound):
            break
    return result
