"""A mail in doubt: the outcome of an attempt is unknown, so the message itself is looked for before anything else.

In Sent Items, and in Drafts, where Exchange keeps a message for a while after its 202; by the job's id in an extended
property, and by Message-ID (MIME carries no property). A mail that was sent from a draft is asked for by its id.
"""

from collections.abc import Iterator
from functools import partial

from postroom.job import Job
from postroom.office import App, Office, app_of, ask
from postroom.outcome import Deferred, Finding, NotFound
from postroom.wire import DRAFTS, SENT_ITEMS, Search, searches


def look_up(job: Job, office: Office) -> Finding:
    """What the mailbox shows of this job's message now."""
    app = app_of(job, office)
    if isinstance(app, Deferred):
        return app
    mailbox = office.mailbox_of(job.lane)
    draft_id = job.draft
    if draft_id:
        found: Finding = ask(job, app, office, partial(app.graph.draft_status, mailbox, draft_id))
        if not (isinstance(found, NotFound) and found.draft_gone):
            return found
        sent = _search(job, app, office, searches(job.id, mailbox, SENT_ITEMS))
        return found if isinstance(sent, NotFound) else sent
    return _search(job, app, office, _everywhere(job.id, mailbox))


def _everywhere(job_id: str, mailbox: str) -> Iterator[Search]:
    yield from searches(job_id, mailbox, SENT_ITEMS)
    yield from searches(job_id, mailbox, DRAFTS)


def _search(job: Job, app: App, office: Office, all_searches: Iterator[Search]) -> Finding:
    """The first search that says anything but "not there" says it for all."""
    mailbox = office.mailbox_of(job.lane)
    said: Finding = NotFound()
    for search in all_searches:
        said = ask(job, app, office, partial(app.graph.search, mailbox, search))
        if not isinstance(said, NotFound):
            break
    return said
