"""What Entra's answer to a request for a token means.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from collections.abc import Callable, Sequence

from postroom.graph.answers import CODE, matching, snake_case, throttled
from postroom.jobs.outcome import (
    Answer,
    Deferred,
    Held,
    Scope,
    Throttled,
)
from postroom.telemetry.redaction import redact

TokenVerdict = Callable[[Answer, float | None], Held | Throttled]


def _no_token(reason: str) -> TokenVerdict:
    return lambda answer, _: Held(reason=reason, scope=Scope.APP, answer=answer, no_token=True)


_ENTRA: dict[int, TokenVerdict] = {
    7000215: _no_token("invalid_client_secret"),
    7000222: _no_token("expired_client_secret"),
    7000216: _no_token("missing_credential"),
    7000218: _no_token("missing_credential"),
    700027: _no_token("invalid_certificate"),
    700030: _no_token("invalid_certificate"),
    50012: _no_token("invalid_certificate"),
    700024: _no_token("clock_skew"),
    70021: _no_token("federation_mismatch"),
    700021: _no_token("federation_mismatch"),
    700023: _no_token("federation_mismatch"),
    700211: _no_token("federation_mismatch"),
    700212: _no_token("federation_mismatch"),
    700213: _no_token("federation_mismatch"),
    700016: _no_token("app_not_found"),
    700011: _no_token("app_not_found"),
    70001: _no_token("app_not_found"),
    7000112: _no_token("app_disabled"),
    90002: _no_token("tenant_not_found"),
    900023: _no_token("tenant_not_found"),
    70011: _no_token("invalid_scope"),
    1002012: _no_token("invalid_scope"),
    901002: _no_token("invalid_scope"),
    500011: _no_token("resource_not_found"),
    50001: _no_token("resource_not_found"),
    90038: _no_token("wrong_cloud"),
    900382: _no_token("wrong_cloud"),
    900432: _no_token("wrong_cloud"),
    53003: _no_token("blocked_by_conditional_access"),
    # A person's sign-in has ended, or may not do what is asked.
    **dict.fromkeys(
        (
            50034,
            50053,
            50055,
            50057,
            50076,
            50078,
            50079,
            50132,
            50133,
            50158,
            50173,
            53000,
            65001,
            70000,
            70008,
            70043,
            700082,
            700084,
            9002313,
        ),
        _no_token("sign_in_needed"),
    ),
    50196: throttled(60, Scope.APP),  # a loop was detected: asking on makes it worse
    90055: throttled(scope=Scope.APP),
}

# Faults of Entra itself, which pass.
_ENTRA_STUMBLES = {90006, 90012, 90024, 90033, 90090, 50033}


def judge_token_error(
    error: str | None,
    codes: Sequence[int],
    status: int | None = None,
    *,
    wait_s: float | None = None,
    text: str = "",
    trace_id: str | None = None,
) -> Held | Deferred | Throttled:
    """The outcome that a refusal by Entra's token endpoint stands for; it always concerns the whole app.

    `error`, `codes` (AADSTS numbers), `text` and `trace_id` are its `error`, `error_codes`, `error_description` and
    `trace_id`; `wait_s` is its Retry-After.
    """
    known = next((code for code in codes if code in _ENTRA), None)
    code = known or next(iter(codes), None)
    answer = Answer(
        http_status=status,
        graph_code=f"AADSTS{code}" if code else matching(CODE, error),
        request_id=matching(r"[0-9A-Za-z-]{1,64}", trace_id),
        detail=redact(text.partition(" Trace ID:")[0]) or None,
    )
    if known is not None:
        return _ENTRA[known](answer, wait_s)
    if status == 429:
        return Throttled(answer=answer, wait_s=wait_s, scope=Scope.APP)
    passing = error in ("temporarily_unavailable", "server_error") or _ENTRA_STUMBLES & set(codes)
    if passing or (status or 0) >= 500:
        return Deferred(reason="entra_unavailable", answer=answer, wait_s=wait_s, scope=Scope.APP, free=True)
    return Held(reason=snake_case(error or "") or "token_refused", scope=Scope.APP, answer=answer, no_token=True)
