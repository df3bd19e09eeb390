"""Routes without a key: whether this process is alive, whether mail is sent, and figures for Prometheus."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from postroom.api.dependencies import WithServices
from postroom.api.errors import Refusal, documented
from postroom.operations import stats

router = APIRouter(tags=["health"])


class Healthy(BaseModel):
    """This process answers."""

    status: str


class Ready(BaseModel):
    """Redis answers, and `workers` are alive."""

    ready: bool
    workers: int


@router.get("/healthz")
async def healthz() -> Healthy:
    """Answer as long as this process runs, whatever the state of Redis."""
    return Healthy(status="ok")


@router.get("/readyz", responses=documented(503))
def readyz(services: WithServices) -> Ready:
    """Check that mail is also sent: Redis answers, and a worker has ticked within 15 s."""
    workers = stats.alive(services.connection)
    if not workers:
        raise Refusal(503, "no_worker", f"no worker has ticked for {stats.LOST_AFTER_S:.0f} s: nothing is sent")
    return Ready(ready=True, workers=len(workers))


@router.get("/metrics", response_class=PlainTextResponse, responses=documented(503))
def metrics(services: WithServices) -> PlainTextResponse:
    """Return the figures of the whole system in Prometheus' text format, at most 5 s old."""
    return PlainTextResponse(services.figures.text(), media_type="text/plain; version=0.0.4")
