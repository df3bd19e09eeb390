"""Routes of batches: count, cancel, hold, release. A key with senders sees and stops only mail of its senders."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from postroom.access.api_keys import ApiKey
from postroom.api.authorization import MayOperate, MayRead
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import ASKED, BROUGHT, Refusal, documented
from postroom.api.request_bodies import body_of, takes
from postroom.api.routes.emails import Why
from postroom.client import BatchCancelled, BatchCounts
from postroom.jobs.job import Hold
from postroom.store.operator import HoldResult, ReleaseResult

router = APIRouter(prefix="/v1/batches", tags=["batches"])


class Batch(BaseModel):
    """How many mails of a batch are in each state, and whether the batch is held."""

    counts: BatchCounts
    hold: Hold | None


class HoldOrder(BaseModel):
    """Why something is held, and for how many seconds. Without `for_s` it is held until somebody releases it."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""
    for_s: Annotated[float | None, Field(gt=0, le=366 * 86400, strict=True)] = None


@router.post(
    "/{batch:path}/cancel",
    responses=documented(*BROUGHT, 404),
    openapi_extra=takes("Why", required=False),
)
def cancel(
    services: WithServices, key: MayOperate, batch: str, body: Annotated[Why, Depends(body_of(Why))]
) -> BatchCancelled:
    """Cancel the mails of a batch that were not sent yet, and count the others."""
    _counts(services, key, batch)
    return services.client.cancel_batch(batch, by=key.by, why=body.why, senders=key.caller.only)


@router.post(
    "/{batch:path}/hold",
    responses=documented(*BROUGHT, 404),
    openapi_extra=takes("HoldOrder", required=False),
)
def hold(
    services: WithServices, key: MayOperate, batch: str, how: Annotated[HoldOrder, Depends(body_of(HoldOrder))]
) -> HoldResult:
    """Hold a batch until it is released; with a key for senders, only their mail of it."""
    _counts(services, key, batch)
    return services.client.hold(batch=batch, by=key.by, reason=how.reason, length_s=how.for_s, senders=key.caller.only)


@router.post("/{batch:path}/release", responses=documented(*ASKED, 404))
def release(services: WithServices, key: MayOperate, batch: str) -> ReleaseResult:
    """Release a held batch; with a key for senders, only their mail of it."""
    _counts(services, key, batch)
    return services.client.release(batch=batch, senders=key.caller.only)


# Last, because its path matches those of the other routes too: a batch may have any name.
@router.get("/{batch:path}", responses=documented(*ASKED, 404))
def counts(services: WithServices, key: MayRead, batch: str) -> Batch:
    """Count the mails of a batch by state."""
    held = [hold for hold in services.records.holds() if (hold.scope, hold.name) == ("batch", batch)]
    own = (hold for hold in held if hold.sender is None or (key.caller.only and key.caller.may_use(hold.sender)))
    return Batch(counts=_counts(services, key, batch), hold=next(own, None))


def _counts(services: Services, key: ApiKey, batch: str) -> BatchCounts:
    counts = services.client.batch(batch, senders=key.caller.only)
    if not counts.total:
        raise Refusal(404, "not_found", "no mail of such a batch is known")
    return counts


def schemas() -> dict[str, Any]:
    """The bodies that these routes take, for OpenAPI."""
    return {"HoldOrder": HoldOrder.model_json_schema()}
