"""Encodes what a worker has decided: a transition as JSON for settlement.lua, a probe as arguments of probed.lua."""

from collections.abc import Mapping

from pydantic_core import to_json

from postroom.jobs.job import milliseconds
from postroom.jobs.outcome import CleanedUp, Deferred, Held, LookupResult, Outcome, Scope, Throttled
from postroom.jobs.retry import Transition


def encode_transition(
    made: Transition, outcome: Outcome | LookupResult | CleanedUp, duration_ms: int, signature: Mapping[str, str]
) -> bytes:
    """A transition as JSON for settlement.lua. What is None or False is left out, so that Lua reads nil.

    The `signature` is what this worker adds to its attempts.
    """
    answer, pause, hold = outcome.answer, made.pause, made.hold
    if made.look_ups is not None:  # it sent nothing to anybody
        signature = {name: value for name, value in signature.items() if name != "redirected_to"}
    reply = {
        "http_status": answer.http_status,
        "graph_code": answer.graph_code,
        "request_id": answer.request_id,
    }
    fault = getattr(outcome, "reason", None)
    fields = {
        **reply,
        "fault": fault,
        "status": made.status and made.status.value,
        "reason": made.reason,
        "wait": None if made.wait_s is None else milliseconds(made.wait_s),
        "spends_attempt": made.spends_attempt,
        "in_doubt": made.in_doubt,
        "look_ups": made.look_ups,
        "resend": made.resend,
        "cleaned_up": made.cleaned_up,
        "sent_nothing": made.sent_nothing,
        "answered": answer.http_status is not None,
        "own_wait": isinstance(outcome, Throttled) and answer.http_status is None,
        "slows": isinstance(outcome, Throttled) and outcome.scope is Scope.LANE and answer.http_status is not None,
        "pause_scope": pause and pause.scope.value,
        "pause_wait": pause and milliseconds(pause.wait_s),
        "pause_longest": pause and milliseconds(pause.longest_s),
        "pause_reason": pause and pause.reason,
        "held_alone": isinstance(outcome, Held) and outcome.scope is Scope.MAIL,
        "hold_scope": hold and hold.scope.value,
        "hold_reason": hold and hold.reason,
        "hold_for_token": hold and hold.no_token,
        # The function only stores it.
        "attempt": _json(
            {
                "outcome": outcome.recorded_as,
                "reason": fault,
                "detail": answer.detail,
                **reply,
                "duration_ms": duration_ms,
                **signature,
            }
        ).decode(),
    }
    return _json(fields)


def _json(fields: Mapping[str, object]) -> bytes:
    return to_json({name: value for name, value in fields.items() if value is not None and value is not False})


def encode_probe(instead: Held | Deferred | Throttled | None) -> tuple[str, str, int]:
    """What came of a token probe, as arguments of probed.lua. `instead` is None where there was a token."""
    match instead:
        case None:
            return "token", "", 0
        case Held(reason=reason):
            return "held", reason, 0
        case Deferred(wait_s=wait_s) | Throttled(wait_s=wait_s):
            return "later", "", milliseconds(wait_s or 0.0)
