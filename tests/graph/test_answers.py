"""Each answer that Graph and Entra are known to give, and what it must mean for the mail."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.graph.answers import (
    judge,
    lost,
    not_sent,
    retry_after,
)
from postroom.graph.entra_answers import judge_token_error
from postroom.jobs.outcome import (
    Accepted,
    Answer,
    Deferred,
    Held,
    Outcome,
    Refused,
    Scope,
    Throttled,
    Unknown,
)
from postroom.telemetry.redaction import redact

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def error(code: str | None, message: str = "", inner: object = None) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "innerError": inner}}).encode()


def verdict(
    status: int,
    code: str | None = None,
    message: str = "",
    *,
    inner: object = None,
    wait: str | None = None,
) -> Outcome:
    body = b"" if code is None else error(code, message, inner)
    return judge(status, {} if wait is None else {"Retry-After": wait}, body, NOON)


def said(outcome: Outcome) -> str:
    """The outcome without its answer, in words."""
    match outcome:
        case Accepted():
            return "accepted"
        case Throttled(wait_s=wait, scope=scope):
            return f"throttled {scope} {wait}"
        case Deferred(reason=reason, wait_s=wait, scope=scope, free=free):
            return f"deferred {scope} {reason} {wait}{' free' if free else ''}"
        case Held(reason=reason, scope=scope):
            return f"held {scope} {reason}"
        case Refused(reason=reason):
            return f"refused {reason}"
        case Unknown(reason=reason):
            return f"unknown {reason}"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (202, None, "accepted"),
        (200, None, "unknown not_202"),
        (201, None, "unknown not_202"),
        (204, None, "unknown not_202"),
        (200, "ErrorInvalidRecipients", "unknown not_202"),
        (302, None, "held app redirected"),
        (400, "ErrorInvalidRecipients", "refused invalid_recipients"),
        (400, "ErrorInvalidParameter", "refused bad_request"),
        (400, "RequestBodyRead", "refused bad_request"),
        (400, "BadRequest", "refused bad_request"),
        (400, "UnableToDeserializePostBody", "refused bad_request"),
        (400, "ErrorInvalidIdMalformed", "refused bad_request"),
        (400, "InvalidInternetMessageHeader", "refused invalid_header"),
        (400, "InvalidInternetMessageHeaderCollection", "refused invalid_header"),
        (400, "ErrorMimeContentInvalidBase64String", "refused invalid_mime"),
        (400, "ErrorMimeContentInvalid", "refused invalid_mime"),
        (400, "ErrorMessageSizeExceeded", "refused too_large"),
        (400, "ErrorAttachmentSizeLimitExceeded", "refused too_large"),
        (413, "RequestEntityTooLarge", "refused too_large"),
        (413, None, "refused too_large"),
        (413, "UnknownError", "refused too_large"),
        (500, "ErrorMimeContentConversionFailed", "refused invalid_mime"),
        (403, "ErrorSendAsDenied", "refused send_as_denied"),
        (400, "ErrorSomethingNobodyKnows", "refused something_nobody_knows"),
        (422, "strangeCode", "refused strange_code"),
        (400, None, "deferred mail http_400 None"),
        (415, None, "deferred mail http_415 None"),
        (401, "InvalidAuthenticationToken", "held app token_rejected"),
        (401, "ErrorAccessDenied", "held app token_rejected"),
        (401, None, "held app token_rejected"),
        (407, None, "held app proxy_refused"),
        (403, "ErrorAccessDenied", "held lane access_denied"),
        (403, "Authorization_RequestDenied", "held lane access_denied"),
        (403, "ErrorAccountDisabled", "held lane account_disabled"),
        (403, "ErrorMailboxLogonFailed", "held lane mailbox_logon_failed"),
        (403, "SomethingElse", "held lane access_denied"),
        (403, None, "held lane access_denied"),
        (404, "ErrorInvalidUser", "held lane mailbox_not_found"),
        (400, "ErrorInvalidUser", "held lane mailbox_not_found"),
        (404, "MailboxNotEnabledForRESTAPI", "held lane mailbox_not_found"),
        (404, "ResourceNotFound", "held lane mailbox_not_found"),
        (404, "Request_ResourceNotFound", "held lane mailbox_not_found"),
        (404, "SomethingElse", "held lane mailbox_not_found"),
        (404, None, "held lane mailbox_not_found"),
        (404, "ErrorItemNotFound", "unknown draft_gone"),
        (400, "ErrorQuotaExceeded", "held lane mailbox_full"),
        (507, None, "held lane mailbox_full"),
        (429, "ApplicationThrottled", "throttled lane None"),
        (429, "TooManyRequests", "throttled lane None"),
        (429, "activityLimitReached", "throttled lane None"),
        (429, "UnknownError", "throttled lane None"),
        (429, "ErrorAccessDenied", "throttled lane None"),
        (429, None, "throttled lane None"),
        (509, None, "throttled lane None"),
        (500, "ApplicationThrottled", "throttled lane None"),
        (503, "ErrorTooManyObjectsOpened", "throttled lane None"),
        (503, "CommandConcurrencyLimitReached", "throttled lane None"),
        (503, "ResourceUnhealthy", "throttled lane None"),
        (503, "TooManyRequests", "throttled lane None"),
        (500, "ErrorSubmissionQuotaExceeded", "throttled lane 3600.0"),
        (429, "ErrorExceededMessageLimit", "throttled lane 3600.0"),
        (403, "ErrorExceededMessageLimit", "throttled lane 3600.0"),
        (400, "ErrorMessageSubmissionBlocked", "throttled lane 3600.0"),
        (503, "ErrorServerBusy", "throttled lane None"),
        (500, "ErrorServerBusy", "throttled lane None"),
        (500, "ErrorInsufficientResources", "unknown server_busy"),
        (500, "ErrorMailboxStoreUnavailable", "throttled lane None"),
        (500, "ErrorServerTemporaryUnavailable", "throttled lane None"),
        (503, "ErrorMailboxMoveInProgress", "deferred lane mailbox_moving 300"),
        (500, "MailboxMoving", "deferred lane mailbox_moving 300"),
        (409, "ErrorIrresolvableConflict", "unknown conflict"),
        (409, None, "unknown conflict"),
        (408, "ErrorTimeoutExpired", "unknown timeout"),
        (408, None, "unknown timeout"),
        (500, "ErrorTimeoutExpired", "unknown timeout"),
        (500, "ErrorInternalServerError", "unknown server_error"),
        (500, "ErrorInternalServerTransientError", "unknown server_error"),
        (500, "ErrorMailboxFailover", "unknown mailbox_failover"),
        (500, "generalException", "unknown server_error"),
        (500, "UnknownError", "unknown server_error"),
        (500, None, "unknown server_error"),
        (502, None, "unknown bad_gateway"),
        (502, "BadGateway", "unknown bad_gateway"),
        (502, "ErrorServerBusy", "unknown bad_gateway"),
        (503, "ServiceUnavailable", "throttled lane None"),
        (503, "serviceNotAvailable", "throttled lane None"),
        (503, None, "unknown service_unavailable"),
        (504, "UnknownError", "unknown gateway_timeout"),
        (504, "ApplicationThrottled", "unknown gateway_timeout"),
        (504, "ErrorSubmissionQuotaExceeded", "unknown gateway_timeout"),
        (504, None, "unknown gateway_timeout"),
        (520, None, "unknown http_520"),
        (100, None, "unknown http_100"),
    ],
)
def test_each_answer_of_graph_means_one_outcome(status: int, code: str | None, expected: str) -> None:
    assert said(verdict(status, code)) == expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (202, None, "accepted"),
        (429, "TooManyRequests", "throttled lane 7.0"),
        (500, "ErrorSubmissionQuotaExceeded", "throttled lane 7.0"),
        (503, "ErrorServerBusy", "throttled lane 7.0"),
        (503, "ServiceUnavailable", "throttled lane 7.0"),
        (503, "UnknownError", "throttled lane 7.0"),
        (503, None, "unknown service_unavailable"),
        (504, None, "unknown gateway_timeout"),
    ],
)
def test_an_answer_that_names_a_time_says_how_long_to_wait(status: int, code: str | None, expected: str) -> None:
    assert said(verdict(status, code, wait="7")) == expected


def test_a_403_for_a_transient_error_is_a_throttle_in_disguise() -> None:
    text = "Cannot send this mail due to a transient error. Please try again later (0x00004000)."
    assert said(verdict(403, "ErrorUnheardOf", text)) == "throttled lane None"
    assert said(verdict(403, "ErrorExceededMessageLimit", "Please try again later.")) == "throttled lane 3600.0"


@pytest.mark.parametrize(
    ("code", "inner", "expected", "graph_code"),
    [
        (
            "BadRequest",
            {"code": "ErrorInvalidRecipients"},
            "refused invalid_recipients",
            "ErrorInvalidRecipients",
        ),
        (
            "Outer",
            {"code": "X", "innererror": {"code": "errorquotaexceeded"}},
            "held lane mailbox_full",
            "errorquotaexceeded",
        ),
        ("ErrorAccessDenied", {"code": "403"}, "held lane access_denied", "ErrorAccessDenied"),
        ("Strange", {"code": "Stranger"}, "refused strange", "Strange"),
    ],
)
def test_the_most_specific_code_that_is_known_counts(code: str, inner: object, expected: str, graph_code: str) -> None:
    outcome = verdict(400, code, inner=inner)
    assert (said(outcome), outcome.answer.graph_code) == (expected, graph_code)


def test_the_answer_is_kept_for_support_without_anything_private() -> None:
    outcome = judge(
        404,
        {"request-id": "8c1b6f2e-1111-4222-8333-944455556666", "DATE": "Sun, 22 Nov 2026 12:00:00 GMT"},
        error("ErrorInvalidUser", "The requested user 'ann@contoso.com' is invalid."),
        NOON,
    )
    assert outcome.answer == Answer(
        http_status=404,
        graph_code="ErrorInvalidUser",
        request_id="8c1b6f2e-1111-4222-8333-944455556666",
        detail="The requested user '…' is invalid.",
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "The message couldn't be sent because the sender's quota",
            "The message couldn't be sent because the sender's quota",
        ),
        ("to ann@contoso.com, failed", "to … failed"),
        ("user ann%40contoso.com", "user …"),
        ('Value "Dear Ann, your PIN is 1234" is bad', "Value '…' is bad"),
        ("GET https://graph.microsoft.com/v1.0/users/x", "GET https://graph.microsoft.com/…"),
        ("GET https://graph.microsoft.com/v1.0/users/ann@contoso.com", "GET …"),
        ("GET https://user:secret@graph.microsoft.com/", "GET …"),
        ("at /v1.0/users/x", "at …"),
        ("secret abc8Q~example-example-example1", "secret …"),
        (
            "app '7b1f5a7e-0c57-4e8b-8e55-0d5a5f1c9a10' (0f6e3c0a-52c3-4d0e-9f2a-6a4f3b8d7c21), 'Ann'",
            "app '7b1f5a7e-0c57-4e8b-8e55-0d5a5f1c9a10' (0f6e3c0a-52c3-4d0e-9f2a-6a4f3b8d7c21), '…'",
        ),
        (
            "[Thumbprint: 'A1B2C3D4E5F60718293A4B5C6D7E8F9001122334', tenant contoso-holding-group.onmicrosoft.com]",
            "[Thumbprint: 'A1B2C3D4E5F60718293A4B5C6D7E8F9001122334', tenant contoso-holding-group.onmicrosoft.com]",
        ),
        ("token eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJ1 bad", "token … bad"),
        ("two\nlines\x00", "two lines"),
        ("Access to OData is disabled: [RAOP]", "Access to OData is disabled: [RAOP]"),
    ],
)
def test_private_text_is_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("2.128", 2.128),
        ("0", 0.0),
        (" 5 ", 5.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
        ("Sun, 22 Nov 2026 13:01:30 +0100", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("9" * 400, None),
        ("٣", None),
        ("Mon, 99 Xxx 0000 99:99:99", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_nothing(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOON) == seconds


def test_a_request_that_was_not_written_costs_nothing() -> None:
    outcome = not_sent("graph.microsoft.com: Connection refused")
    assert said(outcome) == "deferred app no_connection None free"
    assert outcome.answer.detail == "graph.microsoft.com: Connection refused"


def test_a_request_without_an_answer_is_unknown_unless_its_status_was_seen() -> None:
    assert said(lost("timed out")) == "unknown no_answer"
    assert said(lost("timed out", 500)) == "unknown no_answer"
    assert lost("timed out", 500).answer.http_status == 500
    assert said(lost("timed out", 202)) == "accepted"


@pytest.mark.parametrize(
    ("name", "code", "status", "expected"),
    [
        ("invalid_client", 7000215, 401, "held app invalid_client_secret"),
        ("invalid_client", 7000222, 401, "held app expired_client_secret"),
        ("invalid_client", 7000216, 401, "held app missing_credential"),
        ("invalid_request", 7000218, 401, "held app missing_credential"),
        ("invalid_client", 700027, 401, "held app invalid_certificate"),
        ("invalid_client", 700030, 401, "held app invalid_certificate"),
        ("invalid_client", 50012, 401, "held app invalid_certificate"),
        ("invalid_client", 700024, 401, "held app clock_skew"),
        ("invalid_client", 700021, 401, "held app federation_mismatch"),
        ("invalid_client", 700023, 401, "held app federation_mismatch"),
        ("invalid_client", 700213, 401, "held app federation_mismatch"),
        ("unauthorized_client", 700016, 400, "held app app_not_found"),
        ("unauthorized_client", 700011, 400, "held app app_not_found"),
        ("unauthorized_client", 70001, 400, "held app app_not_found"),
        ("unauthorized_client", 7000112, 400, "held app app_disabled"),
        ("invalid_request", 90002, 400, "held app tenant_not_found"),
        ("invalid_request", 900023, 400, "held app tenant_not_found"),
        ("invalid_scope", 70011, 400, "held app invalid_scope"),
        ("invalid_scope", 1002012, 400, "held app invalid_scope"),
        ("invalid_request", 901002, 400, "held app invalid_scope"),
        ("invalid_resource", 500011, 400, "held app resource_not_found"),
        ("invalid_resource", 50001, 400, "held app resource_not_found"),
        ("invalid_request", 90038, 400, "held app wrong_cloud"),
        ("invalid_request", 900382, 400, "held app wrong_cloud"),
        ("invalid_request", 900432, 400, "held app wrong_cloud"),
        ("access_denied", 53003, 400, "held app blocked_by_conditional_access"),
        ("invalid_client", None, 401, "held app invalid_client"),
        ("invalid_grant", 12345, 400, "held app invalid_grant"),
        (None, None, 400, "held app token_refused"),
        (None, None, None, "held app token_refused"),
        ("invalid_request", 50196, 400, "throttled app 60"),
        ("temporarily_unavailable", 90055, 400, "throttled app None"),
        (None, None, 429, "throttled app None"),
        ("invalid_request", None, 429, "throttled app None"),
        ("temporarily_unavailable", 90033, 400, "deferred app entra_unavailable None free"),
        ("server_error", None, 400, "deferred app entra_unavailable None free"),
        ("x", 90006, 400, "deferred app entra_unavailable None free"),
        ("x", 90012, 400, "deferred app entra_unavailable None free"),
        ("x", 90024, 400, "deferred app entra_unavailable None free"),
        ("x", 90090, 400, "deferred app entra_unavailable None free"),
        ("x", 50033, 400, "deferred app entra_unavailable None free"),
        (None, None, 503, "deferred app entra_unavailable None free"),
        (None, None, 500, "deferred app entra_unavailable None free"),
    ],
)
def test_each_refusal_of_entra_means_one_outcome(
    name: str | None, code: int | None, status: int | None, expected: str
) -> None:
    outcome = judge_token_error(name, [] if code is None else [code], status)
    assert said(outcome) == expected
    assert outcome.answer.graph_code == (f"AADSTS{code}" if code else name)


def test_entras_text_is_kept_without_what_is_private() -> None:
    outcome = judge_token_error(
        "invalid_client",
        [7000215],
        401,
        wait_s=4.0,
        text="AADSTS7000215: Invalid client secret provided for app '1f0c'. Trace ID: 9 Correlation ID: 8",
        trace_id="9f-1",
    )
    assert outcome.answer == Answer(
        http_status=401,
        graph_code="AADSTS7000215",
        request_id="9f-1",
        detail="AADSTS7000215: Invalid client secret provided for app '…'.",
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["error", "code", "message", "innerError", "innererror", "x"]), inner)
    ),
)


@given(
    status=st.integers(0, 999),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "date", "request-id"]), st.text()),
    body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_every_answer_however_strange_has_an_outcome(status: int, headers: dict[str, str], body: bytes) -> None:
    outcome = judge(status, headers, body, NOON)
    if status == 202:
        assert isinstance(outcome, Accepted)
    answer = outcome.answer
    kept = " ".join(filter(None, [answer.graph_code, answer.request_id, answer.detail]))
    kept.encode()
    assert "@" not in kept


def test_a_deeply_nested_answer_has_an_outcome() -> None:
    assert said(judge(500, {}, b'{"error":' * 200_000, NOON)) == "unknown server_error"


@given(
    error=st.none() | st.text(),
    codes=st.lists(st.integers()),
    status=st.none() | st.integers(),
    text=st.text(),
)
def test_every_refusal_of_entra_however_strange_has_an_outcome(
    error: str | None, codes: list[int], status: int | None, text: str
) -> None:
    assert judge_token_error(error, codes, status, text=text).scope is Scope.APP


def test_a_time_to_come_back_is_kept_also_where_the_outcome_is_unknown() -> None:
    assert verdict(503, wait="7") == Unknown(reason="service_unavailable", answer=Answer(http_status=503), wait_s=7.0)
    busy = verdict(500, "ErrorInsufficientResources")
    assert isinstance(busy, Unknown)
    assert busy.wait_s == 60
