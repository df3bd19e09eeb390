"""What an answer means: each answer of Graph and Entra, or its absence, as one Outcome.

The rules are the tables below. Graph's codes: https://learn.microsoft.com/graph/errors, Exchange's:
https://learn.microsoft.com/exchange/client-developer/web-service-reference/responsecode, throttling:
https://learn.microsoft.com/graph/throttling, Entra's: https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
Where an answer leaves open whether the mail went out, the verdict is Unknown: a second copy is worse than a look-up.
A gateway's 503 is such an answer even with a Retry-After, which is kept to all the same.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from postroom.jobs.outcome import (
    Accepted,
    Answer,
    CleanedUp,
    Deferred,
    Drafted,
    Found,
    Held,
    LookupResult,
    NotFound,
    NotPermitted,
    Outcome,
    Refused,
    Scope,
    Session,
    SessionLost,
    StillDraft,
    Throttled,
    Unknown,
    Uploaded,
)
from postroom.telemetry.redaction import redact

HOUR_S = 3600.0

# From the answer, and the seconds that its Retry-After asked for.
Verdict = Callable[[Answer, float | None], Outcome]


def throttled(wait_s: float | None = None, scope: Scope = Scope.LANE) -> Callable[[Answer, float | None], Throttled]:
    return lambda answer, asked: Throttled(answer=answer, wait_s=wait_s if asked is None else asked, scope=scope)


def _deferred(reason: str, wait_s: float | None = None, scope: Scope = Scope.MAIL) -> Verdict:
    return lambda answer, asked: Deferred(
        reason=reason, answer=answer, wait_s=wait_s if asked is None else asked, scope=scope
    )


def _held(reason: str, scope: Scope = Scope.LANE) -> Callable[[Answer, float | None], Held]:
    return lambda answer, _: Held(reason=reason, scope=scope, answer=answer)


def _refused(reason: str) -> Verdict:
    return lambda answer, _: Refused(reason=reason, answer=answer)


def _unknown(reason: str, wait_s: float | None = None) -> Verdict:
    return lambda answer, asked: Unknown(reason=reason, answer=answer, wait_s=wait_s if asked is None else asked)


_FOR_HOURS = throttled(HOUR_S)

_BY_CODE: dict[str, Verdict] = {
    # the sender's quota is spent
    "ErrorSubmissionQuotaExceeded": _FOR_HOURS,
    "ErrorExceededMessageLimit": _FOR_HOURS,
    "ErrorMessageSubmissionBlocked": _FOR_HOURS,
    # too fast, whatever the status says: Exchange gives 500 and 503 for it too
    "ApplicationThrottled": throttled(),
    "TooManyRequests": throttled(),
    "activityLimitReached": throttled(),
    "throttledRequest": throttled(),
    "CommandConcurrencyLimitReached": throttled(),
    "ErrorTooManyObjectsOpened": throttled(),
    "ErrorExceededConnectionCount": throttled(),
    "ResourceUnhealthy": throttled(),
    # the mailbox is not there to begin with
    "ErrorMailboxMoveInProgress": _deferred("mailbox_moving", 300, Scope.LANE),
    "MailboxMoving": _deferred("mailbox_moving", 300, Scope.LANE),
    # Exchange or Graph say that they did not take the request: https://learn.microsoft.com/graph/throttling, and for
    # ErrorServerBusy https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-throttling-in-exchange
    "ErrorServerBusy": throttled(),
    "ErrorServerTemporaryUnavailable": throttled(),
    "ErrorMailboxStoreUnavailable": throttled(),
    "ServiceUnavailable": throttled(),
    "serviceNotAvailable": throttled(),
    # these may strike in the middle of the call; nowhere is it said of a 5xx that nothing was sent
    "ErrorInsufficientResources": _unknown("server_busy", 60),
    "ErrorInternalServerTransientError": _unknown("server_error"),
    "ErrorMailboxFailover": _unknown("mailbox_failover"),
    "ErrorTimeoutExpired": _unknown("timeout"),
    "ErrorIrresolvableConflict": _unknown("conflict"),
    "ErrorItemNotFound": _unknown("draft_gone"),  # sent before, or deleted
    # the configuration of the mailbox
    "ErrorAccessDenied": _held("access_denied"),
    "Authorization_RequestDenied": _held("access_denied"),
    "ErrorAccountDisabled": _held("account_disabled"),
    "ErrorMailboxLogonFailed": _held("mailbox_logon_failed"),
    "ErrorInvalidUser": _held("mailbox_not_found"),
    "ErrorNonExistentMailbox": _held("mailbox_not_found"),
    "MailboxNotEnabledForRESTAPI": _held("mailbox_not_found"),
    "ResourceNotFound": _held("mailbox_not_found"),
    "Request_ResourceNotFound": _held("mailbox_not_found"),
    "ErrorQuotaExceeded": _held("mailbox_full"),
    # the mail itself
    "ErrorInvalidRecipients": _refused("invalid_recipients"),
    "ErrorSendAsDenied": _refused("send_as_denied"),
    "ErrorMessageSizeExceeded": _refused("too_large"),
    "ErrorAttachmentSizeLimitExceeded": _refused("too_large"),
    "RequestEntityTooLarge": _refused("too_large"),
    "InvalidInternetMessageHeader": _refused("invalid_header"),
    "InvalidInternetMessageHeaderCollection": _refused("invalid_header"),
    "ErrorMimeContentInvalidBase64String": _refused("invalid_mime"),
    "ErrorMimeContentInvalid": _refused("invalid_mime"),
    "ErrorMimeContentConversionFailed": _refused("invalid_mime"),  # comes as a 500, and never passes
    "ErrorInvalidParameter": _refused("bad_request"),
    "ErrorInvalidIdMalformed": _refused("bad_request"),
    "RequestBodyRead": _refused("bad_request"),
    "UnableToDeserializePostBody": _refused("bad_request"),
    "BadRequest": _refused("bad_request"),
}
_KNOWN = {code.lower(): verdict for code, verdict in _BY_CODE.items()}

_BY_STATUS: dict[int, Verdict] = {
    202: lambda answer, _: Accepted(answer=answer),
    401: _held("token_rejected", Scope.APP),
    403: _held("access_denied"),
    404: _held("mailbox_not_found"),
    407: _held("proxy_refused", Scope.APP),
    408: _unknown("timeout"),
    409: _unknown("conflict"),
    413: _refused("too_large"),
    429: throttled(),
    500: _unknown("server_error"),
    502: _unknown("bad_gateway"),
    503: _unknown("service_unavailable"),
    504: _unknown("gateway_timeout"),
    507: _held("mailbox_full"),
    509: throttled(),
}

# Whatever code they carry: a 401 is about the token, a 429 about the pace, and in the other three a gateway speaks,
# whose code tells nothing about what Exchange did behind it (mail was sent in spite of a 504 many times).
_STATUS_DECIDES = {401, 408, 429, 502, 504}

# A throttle in disguise, with no code of its own.
_TRANSIENT_403 = ("transient error", "try again later")


CODE = r"[A-Za-z][A-Za-z0-9_]{0,63}"


def judge(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Outcome:
    """The outcome that Graph's answer to sendMail (or to sending a draft) stands for. Takes any bytes, never raises.

    `now` (aware) is what a Retry-After that names a time is measured from.
    """
    if status == 202 and not body:  # as nearly always
        return Accepted(answer=_answer(status, headers))
    headers = {name.lower(): value for name, value in headers.items()}
    error = _error(body)
    codes = list(_codes(error))
    text = error.get("message")
    text = text if isinstance(text, str) else ""
    known = next((code for code in reversed(codes) if code.lower() in _KNOWN), None)
    answer = Answer(
        http_status=status,
        graph_code=known or next(iter(codes), None),
        request_id=matching(r"[0-9A-Za-z-]{1,64}", headers.get("request-id")),
        detail=redact(text) or None,
    )
    asked = retry_after(headers, now)
    return _verdict(status, known, codes, text.lower(), asked)(answer, asked)


def not_sent(detail: str) -> Deferred:
    """Nothing was written; `detail` is free of private text."""
    return Deferred(reason="no_connection", answer=Answer(detail=detail), scope=Scope.APP, free=True)


def sends_nothing(outcome: Outcome) -> Outcome:
    """The outcome of a request that sends nothing: a 403 is about its own permission, and nothing is unknown."""
    if isinstance(outcome, Held) and outcome.reason == "access_denied":
        return Held(reason="needs_mail_readwrite", scope=outcome.scope, answer=outcome.answer)
    if isinstance(outcome, Unknown):
        scope = Scope.MAIL if outcome.wait_s is None else Scope.LANE
        return Deferred(reason=outcome.reason, answer=outcome.answer, wait_s=outcome.wait_s, scope=scope)
    if isinstance(outcome, Accepted):
        return Deferred(reason="not_201", answer=outcome.answer)
    return outcome


def lost(detail: str, status: int | None = None) -> Accepted | Unknown:
    """The request was written and no complete answer came; `status` is that of an answer which broke off."""
    answer = Answer(http_status=status, detail=detail)
    return Accepted(answer=answer) if status == 202 else Unknown(reason="no_answer", answer=answer)


def judge_search(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime, *, recipients: frozenset[str] | None = None
) -> LookupResult:
    """Whether a list of messages has any (with `recipients`: any that went to exactly these).

    No answer but a whole list without one means that the message is not there.
    """
    answer = _answer(status, headers)
    if status == 200:
        page = _object(body)
        messages = page.get("value")
        if isinstance(messages, list) and recipients is not None:
            messages = [one for one in messages if isinstance(one, dict) and _went_to(one) == recipients]
        if isinstance(messages, list) and messages:
            ids = (message.get("id") for message in messages if isinstance(message, dict))
            return Found(answer=answer, ids=tuple(one for one in ids if isinstance(one, str)))
        if isinstance(messages, list) and "@odata.nextLink" not in page:
            return NotFound(answer=answer)
    return _no_finding(status, headers, body, now)


def _went_to(message: Mapping[str, Any]) -> frozenset[str]:
    """The recipients of a message, casefolded."""
    lists = (message.get(f"{kind}Recipients") for kind in ("to", "cc", "bcc"))
    people = (
        one.get("emailAddress") for some in lists if isinstance(some, list) for one in some if isinstance(one, dict)
    )
    return frozenset(str(one.get("address", "")).casefold() for one in people if isinstance(one, dict))


def judge_draft_status(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> LookupResult:
    """Whether the message with a draft's id is one still, or was sent."""
    answer = _answer(status, headers)
    if status == 200:
        match _object(body).get("isDraft"):
            case True:
                return StillDraft(answer=answer)
            case False:
                return Found(answer=answer)
    outcome = judge(status, headers, body, now)
    if status == 404 and outcome.answer.graph_code == "ErrorItemNotFound":
        return NotFound(answer=outcome.answer, draft_gone=True)
    return _no_finding(status, headers, body, now)


def judge_drafted(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Drafted | Outcome:
    """The draft that Graph has made, or why there is none. Whatever the answer, nothing was sent."""
    draft_id = _object(body).get("id")
    if status == 201 and isinstance(draft_id, str) and draft_id:
        return Drafted(id=draft_id, answer=_answer(status, headers))
    return sends_nothing(judge(status, headers, body, now))


def judge_deleted(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> CleanedUp | Outcome:
    """Whether a draft is gone now."""
    outcome = judge(status, headers, body, now)
    if status == 204 or outcome.answer.graph_code == "ErrorItemNotFound":
        return CleanedUp(answer=_answer(status, headers))
    judged = sends_nothing(outcome)
    # A draft that may not be removed is no fault of its mail.
    return Deferred(reason="draft_not_removed", answer=judged.answer) if isinstance(judged, Refused) else judged


def judge_session(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Session | Outcome:
    """The upload session that Graph has opened, or why there is none."""
    url = _object(body).get("uploadUrl")
    if status == 201 and isinstance(url, str) and url.startswith("https://"):
        return Session(url=url, answer=_answer(status, headers))
    return sends_nothing(judge(status, headers, body, now))


def judge_range(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> Uploaded | SessionLost | Outcome:
    """What is there after a range was put. Microsoft's pages spell the field that says so in two ways."""
    answer = _answer(status, headers)
    value = _object(body)
    ranges = value.get("NextExpectedRanges", value.get("nextExpectedRanges"))
    first = re.match(r"\d+", str(ranges[0]), re.ASCII) if isinstance(ranges, list) and ranges else None
    if status == 201:
        return Uploaded(answer=answer)
    if status in (200, 202, 416) and first:
        return Uploaded(next=int(first[0]), answer=answer)
    outcome = judge(status, headers, body, now)
    if isinstance(outcome, Throttled) or status in (408, 409) or status >= 500:
        return sends_nothing(outcome)
    return SessionLost(answer=outcome.answer)


def judge_added(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Uploaded | Outcome:
    """Whether an attachment was added to a draft."""
    return Uploaded(answer=_answer(status, headers)) if status == 201 else unclear(judge(status, headers, body, now))


def unclear(outcome: Outcome) -> Outcome:
    """The outcome of a request that sends nothing, but must not be made twice without a look."""
    return outcome if isinstance(outcome, Unknown) else sends_nothing(outcome)


def _no_finding(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> LookupResult:
    outcome = judge(status, headers, body, now)
    if isinstance(outcome, Throttled):
        return outcome
    if status == 403:
        return NotPermitted(answer=outcome.answer)
    return Deferred(reason="look_up_failed", answer=outcome.answer, free=True)


def _answer(status: int, headers: Mapping[str, str]) -> Answer:
    request_id = headers.get("request-id") or {name.lower(): value for name, value in headers.items()}.get("request-id")
    return Answer(http_status=status, request_id=matching(r"[0-9A-Za-z-]{1,64}", request_id))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for: never negative, not clamped, None if missing or nonsense.

    Header names are expected in lower case. Graph has sent fractions (https://learn.microsoft.com/graph/throttling).
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d*)?", value, re.ASCII):
        seconds = float(value)
        return seconds if math.isfinite(seconds) else None
    try:
        when = parsedate_to_datetime(value)
        return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _error(body: bytes) -> dict[str, Any]:
    error = _object(body).get("error")
    return error if isinstance(error, dict) else {}


def _codes(error: dict[str, Any]) -> Iterator[str]:
    """The codes of an error, from the outside in."""
    for _ in range(10):
        if code := matching(CODE, error.get("code")):
            yield code
        error = next((v for k, v in error.items() if k.lower() == "innererror" and isinstance(v, dict)), {})


def matching(pattern: str, value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) else None


def _verdict(status: int, known: str | None, codes: list[str], text: str, asked: float | None) -> Verdict:
    by_code = _KNOWN[known.lower()] if known else None
    if status // 100 == 2:
        return _BY_STATUS.get(status, _unknown("not_202"))
    if by_code is _FOR_HOURS and status not in (408, 502, 504):
        return by_code
    if status in _STATUS_DECIDES:
        return _BY_STATUS[status]
    if status == 403 and any(words in text for words in _TRANSIENT_403):
        return throttled()
    if status == 503 and codes and asked is not None:
        return by_code or throttled()  # Graph's own answer, not a gateway's page
    return by_code or _BY_STATUS.get(status) or _by_class(status, codes)


def _by_class(status: int, codes: list[str]) -> Verdict:
    if status // 100 == 3:
        return _held("redirected", Scope.APP)  # a portal or a wrong root URL answers, not Graph
    if status // 100 != 4:
        return _unknown(f"http_{status}")
    # Without a code it was not Graph that refused, so it need not be the mail's fault.
    return _refused(snake_case(codes[0]) or f"http_{status}") if codes else _deferred(f"http_{status}")


def snake_case(code: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removeprefix("Error"))
    return "_".join(re.findall(r"[a-z0-9]+", words.lower()))[:60]
