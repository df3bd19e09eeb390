"""Routes of lanes and holds. If several senders share a mailbox, a hold is for all of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from postroom.access.api_keys import ApiKey
from postroom.api.authorization import MayOperate, MayRead
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import ASKED, BROUGHT, Refusal, documented
from postroom.api.request_bodies import body_of, takes
from postroom.api.routes.batches import HoldOrder
from postroom.jobs.job import Hold
from postroom.operations import stats
from postroom.operations.stats import Lane
from postroom.store.operator import HoldResult, ReleaseResult

router = APIRouter(prefix="/v1", tags=["lanes"])


class LaneAndHold(BaseModel):
    """The waiting mail of a lane, and its holds."""

    lane: Lane
    hold: Hold | None


class Lanes(BaseModel):
    """The lanes with the most waiting mail."""

    items: list[LaneAndHold]


class Holds(BaseModel):
    """All holds, by faults and by people."""

    items: list[Hold]


@router.get("/lanes", responses=documented(*ASKED))
def lanes(services: WithServices, key: MayRead, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Lanes:
    """List the lanes with waiting mail, the largest first, with backlog, pace, pauses and holds."""
    waiting = stats.lanes(services.connection, 1000 if key.caller.only else limit)
    holds = {hold.name: hold for hold in services.records.holds() if hold.scope == "lane"}
    items = [LaneAndHold(lane=one, hold=holds.get(one.lane)) for one in waiting if _is_own(services, key, one.lane)]
    return Lanes(items=items[:limit])


@router.get("/holds", responses=documented(*ASKED))
def holds(services: WithServices, key: MayRead) -> Holds:
    """List the holds. A key with senders sees its own mailboxes, and its parts of batches."""
    held = services.records.holds()
    return Holds(items=[hold for hold in held if _may_see(services, key, hold)])


@router.post(
    "/lanes/{sender}/hold",
    responses=documented(*BROUGHT),
    openapi_extra=takes("HoldOrder", required=False),
)
def hold(
    services: WithServices, key: MayOperate, sender: str, how: Annotated[HoldOrder, Depends(body_of(HoldOrder))]
) -> HoldResult:
    """Hold the mail of a sender's mailbox until it is released."""
    _must_be_own(services, key, sender)
    if "@" not in sender:
        raise Refusal(422, "invalid_request", "the sender is no address; a batch is held at /v1/batches/…/hold")
    return services.client.hold(sender=sender, by=key.by, reason=how.reason, length_s=how.for_s)


@router.post("/lanes/{sender}/release", responses=documented(*ASKED))
def release(services: WithServices, key: MayOperate, sender: str) -> ReleaseResult:
    """Release held mail. If a fault holds the mailbox or its app, it is probed at once."""
    _must_be_own(services, key, sender)
    return services.client.release(sender=sender)


def _is_own(services: Services, key: ApiKey, lane: str) -> bool:
    return not key.caller.only or key.caller.may_use_all(services.records.addresses_of(lane))


def _may_see(services: Services, key: ApiKey, hold: Hold) -> bool:
    if hold.scope == "lane":
        return _is_own(services, key, hold.name)
    return not key.caller.only or (hold.sender is not None and key.caller.may_use(hold.sender))


def _must_be_own(services: Services, key: ApiKey, sender: str) -> None:
    if not _is_own(services, key, services.records.lane_of(sender)):
        raise Refusal(403, "forbidden", "this mailbox is that of senders that this key is not for")
