"""What a fault does to a call once it has struck."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.control.faults import ActiveFault, FaultRule
from postroom.sandbox.control.request_log import Arrival
from postroom.sandbox.world import World


async def prepare(world: World, fault: ActiveFault | None, arrival: Arrival) -> FaultRule | None:
    """Waits the rule's delay and revokes tokens as it says. Returns the rule that struck, if any."""
    if fault is None:
        return None
    arrival.fault = fault.id
    if fault.rule.revoke_tokens:
        world.mint.revoke_all()
    await world.pause(fault.rule.delay)
    return fault.rule


def dress(rule: FaultRule, answer: Answer) -> Answer:
    """The answer, with body and headers of the rule where it has any."""
    if rule.body is not None:
        answer.body = rule.body.encode()
        answer.headers["content-type"] = "text/html" if rule.body.lstrip().startswith("<") else "text/plain"
    if rule.retry_after is not None:
        seconds_or_date = rule.retry_after
        answer.headers["retry-after"] = seconds_or_date if isinstance(seconds_or_date, str) else f"{seconds_or_date:g}"
    answer.headers |= {name.casefold(): value for name, value in rule.headers.items()}
    return answer


async def finish(
    world: World,
    call: Call,
    arrival: Arrival,
    rule: FaultRule | None,
    answer: Answer,
    over: Callable[[], None] = lambda: None,
) -> None:
    """Ends the call with this answer, or as the rule says.

    `over` is called before its client can know of the end, and ask for the next: then nothing of this is in flight.
    """
    effect = "pass" if rule is None else rule.effect
    if effect in ("hang", "reset", "close"):
        arrival.code = ""
        world.log.end(arrival, None)
        if effect != "hang":
            over()
        await {"hang": call.hang, "reset": call.reset, "close": call.close}[effect]()
        return
    world.log.end(arrival, answer.status)
    if rule is None or rule.drip is None:
        over()
        await call.answer(answer)
    else:
        await call.drip(answer, partial(world.pause, rule.drip), over)
