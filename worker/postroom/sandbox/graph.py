"""Graph's mail endpoint. It is the path that load tests beat, so it is short: no framework between socket and mail."""

from __future__ import annotations

import time

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.effects import dress, finish, prepare
from postroom.sandbox.faults import FaultRule
from postroom.sandbox.graph_error import GraphError, error_answer, graph_headers
from postroom.sandbox.json_mail import read_json_mail
from postroom.sandbox.message import Outgoing
from postroom.sandbox.mime_mail import read_mime_mail
from postroom.sandbox.request_log import Arrival
from postroom.sandbox.tokens import Claims
from postroom.sandbox.traffic import Meter
from postroom.sandbox.world import World

MAX_REQUEST = 4 * 1024 * 1024
SEND_MAIL = ("sendmail", "microsoft.graph.sendmail")
AUTHENTICATE = (
    'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
    'client_id="00000003-0000-0000-c000-000000000000"'
)

# What Graph usually says with a status, where a fault does not say more.
_USUAL = {
    400: ("BadRequest", "The request is malformed or incorrect."),
    401: ("InvalidAuthenticationToken", "Access token has expired or is not yet valid."),
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
    "TooManyRequests": 429,
    "activityLimitReached": 429,
    "ErrorSendAsDenied": 403,
    "MailboxNotEnabledForRESTAPI": 404,
    "ErrorInvalidRecipients": 400,
}


class Graph:
    """Everything below `/v1.0`."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, call: Call) -> None:
        """Answers one call to Graph."""
        match call.path.split("/"):
            case ["", "v1.0", "users", user, action] if action.casefold() in SEND_MAIL:
                await self._send_mail(call, user)
            case _:
                await self._no_such_resource(call)

    async def _send_mail(self, call: Call, user: str) -> None:
        world = self._world
        mailbox = world.exchange.mailbox(user)
        claims = self._claims(call)
        meter = world.exchange.meter(claims.app_id if isinstance(claims, Claims) else "", mailbox)
        throttle = meter.enter(call.content_length, time.monotonic())
        arrival = world.log.arrive("graph", call, mailbox, meter.in_flight)
        try:
            if throttle is not None:
                meter.throttled += 1
                await finish(world, call, arrival, None, _refuse(arrival, throttle))
                return
            mail = await self._read(call)
            if mail is None:  # the client left while it was sending
                world.log.end(arrival, None)
                return
            rule = await self._meet_fault(arrival, mail)
            answer = self._answer(call, arrival, user, mail, meter, rule)
            meter.throttled += answer.status == 429
            await finish(world, call, arrival, None if _spared(rule, arrival) else rule, answer)
        finally:
            meter.leave()

    async def _read(self, call: Call) -> Outgoing | GraphError | None:
        too_large = GraphError(413, "RequestEntityTooLarge", "The maximum request length supported is 4MB.")
        if call.content_length > MAX_REQUEST:
            return too_large
        body = await call.body()
        if body is None:
            return None
        if len(body) > MAX_REQUEST:
            return too_large
        try:
            return _parse(call, body)
        except GraphError as error:
            return error

    async def _meet_fault(self, arrival: Arrival, mail: Outgoing | GraphError) -> FaultRule | None:
        world = self._world
        if isinstance(mail, Outgoing):
            arrival.message_id = mail.message_id
            arrival.job = mail.job() or arrival.job
        sent = mail if isinstance(mail, Outgoing) else None
        fault = world.faults.strike("graph", arrival.mailbox, sent, arrival.job)
        rule = await prepare(world, fault, arrival)
        await world.pause(world.options.latency)
        return rule

    def _answer(
        self,
        call: Call,
        arrival: Arrival,
        user: str,
        mail: Outgoing | GraphError,
        meter: Meter,
        rule: FaultRule | None,
    ) -> Answer:
        if rule is not None and rule.effect != "pass" and not rule.accepted:
            return _faulty(rule, arrival)
        try:
            self._accept(call, arrival, user, mail, meter)
        except GraphError as error:
            return _refuse(arrival, error)
        if rule is not None and rule.effect == "answer":
            return _faulty(rule, arrival)
        answer = Answer(202, graph_headers(arrival.request_id, arrival.client_request_id))
        return dress(rule, answer) if rule else answer

    def _accept(self, call: Call, arrival: Arrival, user: str, mail: Outgoing | GraphError, meter: Meter) -> None:
        exchange = self._world.exchange
        claims = self._claims(call)
        if isinstance(claims, GraphError):
            raise claims
        self._world.tenant.require_mail_send(claims, arrival.mailbox)
        exchange.require(user)
        if call.method != "POST":
            raise GraphError(405, "ErrorInvalidRequest", "The OData request is not supported.")
        if isinstance(mail, GraphError):
            raise mail
        exchange.require_send_as(arrival.mailbox, mail)
        message = exchange.accept(arrival.mailbox, mail, arrival.job, arrival.request_id, meter)
        arrival.accepted = True
        arrival.message_id = message.mail.message_id

    def _claims(self, call: Call) -> Claims | GraphError:
        scheme, _, token = call.header(b"authorization").partition(" ")
        if scheme.casefold() != "bearer" or not token:
            return _unauthorized("Access token is empty.")
        claims = self._world.mint.read(token, time.time())
        return _unauthorized(claims) if isinstance(claims, str) else claims

    async def _no_such_resource(self, call: Call) -> None:
        world = self._world
        arrival = world.log.arrive("graph", call)
        rule = await prepare(world, world.faults.strike("graph"), arrival)
        claims = self._claims(call)
        if rule is not None and rule.effect != "pass":
            answer = _faulty(rule, arrival)
        elif isinstance(claims, GraphError):
            answer = _refuse(arrival, claims)
        elif call.path.startswith("/v1.0/me/"):
            message = "/me request is only valid with delegated authentication flow."
            answer = _refuse(arrival, GraphError(400, "BadRequest", message))
        else:
            segment = call.path.rpartition("/")[2]
            message = f"Resource not found for the segment '{segment}'."
            answer = _refuse(arrival, GraphError(400, "BadRequest", message))
        await finish(world, call, arrival, rule, answer)


def _parse(call: Call, body: bytes) -> Outgoing:
    kind = call.header(b"content-type").partition(";")[0].strip().casefold()
    if kind == "application/json":
        return read_json_mail(body)
    if kind == "text/plain":
        return read_mime_mail(body)
    raise GraphError(
        400 if not kind else 415,
        "BadRequest" if not kind else "UnsupportedMediaType",
        "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON "
        "format.",
    )


def _unauthorized(message: str) -> GraphError:
    return GraphError(401, "InvalidAuthenticationToken", message, {"www-authenticate": AUTHENTICATE})


def _refuse(arrival: Arrival, error: GraphError) -> Answer:
    arrival.code = error.code
    return error_answer(error, arrival.request_id, arrival.client_request_id)


def _faulty(rule: FaultRule, arrival: Arrival) -> Answer:
    status = rule.status or _STATUS.get(rule.code, 503)
    if status < 300:
        return dress(rule, Answer(status, graph_headers(arrival.request_id, arrival.client_request_id)))
    code, message = _USUAL.get(status, ("UnknownError", ""))
    headers = {"www-authenticate": AUTHENTICATE} if status == 401 else {}
    error = GraphError(status, rule.code or code, rule.message or message, headers)
    return dress(rule, _refuse(arrival, error))


def _spared(rule: FaultRule | None, arrival: Arrival) -> bool:
    # "Accept, then fail" has nothing to hide where the mail was refused.
    return rule is not None and rule.accepted and not arrival.accepted
