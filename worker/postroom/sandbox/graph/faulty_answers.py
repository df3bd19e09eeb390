"""What Graph answers under a fault: its usual code and text for a status, where the rule names none."""

from __future__ import annotations

from postroom.sandbox.connection import Answer
from postroom.sandbox.control.effects import dress
from postroom.sandbox.control.faults import FaultRule
from postroom.sandbox.control.request_log import Arrival
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.graph.errors import graph_headers, refuse, unauthorized

_USUAL = {
    400: ("BadRequest", "The request is malformed or incorrect."),
    403: ("ErrorAccessDenied", "Access is denied. Check credentials and try again."),
    404: ("ErrorInvalidUser", "The requested user is invalid."),
    408: ("ErrorTimeoutExpired", "The request timed out."),
    413: ("RequestEntityTooLarge", "The maximum request length supported is 4MB."),
    429: ("ApplicationThrottled", "Application is over its MailboxConcurrency limit."),
    500: ("ErrorInternalServerError", "An internal server error occurred. The operation failed."),
    502: ("BadGateway", "Bad gateway."),
    503: ("ErrorServerBusy", "The server cannot service this request right now. Try again later."),
    504: ("GatewayTimeout", "The gateway did not receive a response in time."),
}
_STATUS = {code: status for status, (code, _) in _USUAL.items()} | {
    "InvalidAuthenticationToken": 401,
    "TooManyRequests": 429,
    "activityLimitReached": 429,
    "ErrorSendAsDenied": 403,
    "MailboxNotEnabledForRESTAPI": 404,
    "ErrorItemNotFound": 404,
    "ErrorInvalidRecipients": 400,
}


def faulty_answer(rule: FaultRule, arrival: Arrival) -> Answer:
    """Graph's answer to a request that this rule has struck."""
    status = rule.status or _STATUS.get(rule.code, 503)
    if status < 300:
        return dress(rule, Answer(status, graph_headers(arrival.request_id, arrival.client_request_id)))
    if status == 401:
        error = unauthorized(rule.message or "Access token has expired or is not yet valid.")
        error.code = rule.code or error.code
    else:
        code, message = _USUAL.get(status, ("UnknownError", ""))
        error = GraphError(status, rule.code or code, rule.message or message)
    return dress(rule, refuse(arrival, error))
