"""Routes of dead letters: list, count, send again as they are or changed, discard."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from postroom.access.api_keys import ApiKey
from postroom.access.rights import Scope
from postroom.api.authorization import MayOperate, MayRead, lacking, must_have, own
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import ASKED, BROUGHT, Refusal, documented
from postroom.api.request_bodies import Time, body_of, takes
from postroom.api.routes.emails import Emails, checked, page
from postroom.jobs.job import Status
from postroom.operations.dead_letters import Letter, selection
from postroom.store.operator import Actor, Reply
from postroom.store.queries import CURSOR

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])
MOST = 500

JobIds = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=MOST)]


class DeadLetterQuery(BaseModel):
    """Which dead letters are listed. Reason `expired` lists expired mails. `since` compares when they ended."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    sender: Annotated[str | None, Field(min_length=1, max_length=320)] = None
    batch: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    since: Time | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(pattern=CURSOR)] = None


class ReasonCount(BaseModel):
    """How many dead letters with one reason there are. `in_doubt` of them may have been sent."""

    reason: str
    count: int
    in_doubt: int


class ReasonCounts(BaseModel):
    """All dead letters by reason, the most frequent first."""

    total: int
    reasons: list[ReasonCount]


class RequeueOrder(BaseModel):
    """Which letters are sent again, and how. If one may have been sent, it is looked up, unless `may_send_twice`."""

    model_config = ConfigDict(extra="forbid")

    ids: JobIds
    expires_at: Time | Literal["never"] | None = None
    may_send_twice: StrictBool = False
    why: Annotated[str | None, Field(max_length=500)] = None


class ChangeOrder(BaseModel):
    """What is changed in a letter that is sent again: fields of its mail. null removes a field."""

    model_config = ConfigDict(extra="forbid")

    changes: Annotated[dict[str, Any], Field(min_length=1)]
    may_send_twice: StrictBool = False
    why: Annotated[str | None, Field(max_length=500)] = None


class DiscardOrder(BaseModel):
    """Which letters are discarded, and why."""

    model_config = ConfigDict(extra="forbid")

    ids: JobIds
    why: Annotated[str, Field(min_length=1, max_length=500)]


class Said(BaseModel):
    """The result for one job, in one word: `requeued`, `look_up`, `discarded`, or why it was not done."""

    id: str
    said: str
    status: str


class Replies(BaseModel):
    """The result for each job."""

    results: list[Said]


class Replaced(BaseModel):
    """The new job that replaces a changed letter."""

    id: str
    requeued_from: str


@router.get("", responses=documented(*ASKED, 400))
def find(services: WithServices, key: MayRead, wanted: Annotated[DeadLetterQuery, Query()]) -> Emails:
    """List dead letters, the newest first."""
    if wanted.sender is not None and not key.caller.may_use(wanted.sender):
        return Emails(items=[], next_cursor=None)
    senders = (wanted.sender,) if wanted.sender else key.caller.only
    chosen = selection(reason=wanted.reason, senders=senders, batch=wanted.batch, since=wanted.since)
    return page(services, chosen, wanted.limit, wanted.cursor)


@router.get("/reasons", responses=documented(*ASKED))
def reasons(services: WithServices, key: MayRead) -> ReasonCounts:
    """Count dead letters by reason."""
    kinds = services.letters.overview(selection(senders=key.caller.only), 0).reasons
    rows = [ReasonCount(reason=kind.reason, count=kind.count, in_doubt=kind.in_doubt) for kind in kinds]
    return ReasonCounts(total=sum(row.count for row in rows), reasons=rows)


@router.post(
    "/requeue",
    responses=documented(*BROUGHT),
    openapi_extra=takes("RequeueOrder"),
)
def requeue(
    services: WithServices, key: MayOperate, how: Annotated[RequeueOrder, Depends(body_of(RequeueOrder))]
) -> Replies:
    """Send up to 500 letters again, as they are."""
    ids, actor = _own(services, key, how.ids), Actor.here(key.by, how.why)
    replies = services.letters.requeue(ids, actor, expires=how.expires_at, twice=how.may_send_twice)
    return _told(how.ids, replies)


@router.post(
    "/discard",
    responses=documented(*BROUGHT),
    openapi_extra=takes("DiscardOrder"),
)
def discard(
    services: WithServices, key: MayOperate, how: Annotated[DiscardOrder, Depends(body_of(DiscardOrder))]
) -> Replies:
    """Discard up to 500 letters: they are cancelled, and their mail is removed."""
    ids, actor = _own(services, key, how.ids), Actor.here(key.by, how.why)
    return _told(how.ids, services.letters.discard(ids, actor))


@router.post(
    "/{job_id}/change",
    responses=documented(*BROUGHT, 404, 409),
    openapi_extra=takes("ChangeOrder"),
)
def change(
    services: WithServices, key: MayOperate, job_id: str, how: Annotated[ChangeOrder, Depends(body_of(ChangeOrder))]
) -> Replaced:
    """Send one letter again with these fields of its mail changed, as a new job.

    Recipients or content need the scopes `send` and `read` as well, and recipients `content`.
    """
    if lacks := key.caller.lacks_to_change(how.changes):
        raise lacking(key, *lacks)
    if own(key, services.records.read(job_id)).status not in (Status.DEAD, Status.EXPIRED):
        raise Refusal(409, "not_dead", "this job is neither dead nor expired", {"said": "not_dead"})
    actor = Actor.here(key.by, how.why)
    said, new_id = services.letters.change(
        job_id, how.changes, actor, twice=how.may_send_twice, check=lambda mail: checked(mail, key)
    )
    if said != "replaced":
        raise Refusal(409, said, "the letter was left as it is", {"said": said})
    return Replaced(id=new_id, requeued_from=job_id)


# Last, because its path matches those of the other routes too.
@router.get("/{job_id}", responses=documented(*ASKED, 404))
def show(services: WithServices, key: MayRead, job_id: str, content: bool = False) -> Letter:
    """Show a job with its mail. Without `content`, which is a scope too, bodies, variables and files are left out."""
    if content:
        must_have(key, Scope.CONTENT)
    own(key, services.records.read(job_id))
    return services.letters.show(job_id, content=content)


def _own(services: Services, key: ApiKey, ids: list[str]) -> list[str]:
    if not key.caller.only:
        return ids
    return [job.id for job in services.records.read_many(ids) if key.caller.may_use(job.sender)]


def _told(asked: list[str], replies: Iterator[Reply]) -> Replies:
    """The replies in the order of the ids. A job of another sender is `unknown`, as if it did not exist."""
    results = {reply.id: Said(id=reply.id, said=reply.said, status=reply.status) for reply in replies}
    return Replies(results=[results.get(one) or Said(id=one, said="unknown", status="") for one in asked])


def schemas() -> dict[str, Any]:
    """The bodies that these routes take, for OpenAPI."""
    return {model.__name__: model.model_json_schema() for model in (RequeueOrder, ChangeOrder, DiscardOrder)}
