"""Routes of events: rules make mails from them. Events without mail are counted, and the newest are kept."""

import re
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel

from postroom.access.api_keys import ApiKey
from postroom.access.rights import Scope, event_key
from postroom.api.authorization import MayRead, allowed, bearer
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import ASKED, BROUGHT, ErrorBody, Refusal, Unauthorized, documented
from postroom.api.request_bodies import Raw
from postroom.api.routes.emails import checked
from postroom.cloudevents import parsing
from postroom.cloudevents.parsing import Arrived, Event, Validation
from postroom.cloudevents.rules import UNMATCHED, EventRules, Planned, Rule
from postroom.cloudevents.unmatched import Note
from postroom.errors import KeyConflict

MOST_WITHOUT_KEY = 16 * 1024  # bytes: Event Grid's question has a few hundred
router = APIRouter(prefix="/v1/events", tags=["events"])
ASKED_RATE, ALLOWED_RATE = "webhook-request-rate", "WebHook-Allowed-Rate"
CONFLICT = "key_conflict"
_ORIGIN = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")


class Mailed(BaseModel):
    """The result of one rule for an event: a mail (`known` if the event was received before), or why there is none."""

    rule: str | None
    id: str | None = None
    known: bool = False
    error: ErrorBody | None = None


class Handled(BaseModel):
    """The result for one event: a mail for each rule that matches it. `unmatched`: no rule matches."""

    event_id: str
    unmatched: bool
    mails: list[Mailed]


class EventsHandled(BaseModel):
    """The result for each event, in their order."""

    results: list[Handled]


class ValidationAnswer(BaseModel):
    """The answer that Event Grid needs before it delivers events."""

    validationResponse: str  # noqa: N815 - Event Grid's name


class Unmatched(BaseModel):
    """How many events made no mail, by reason, and the newest of them."""

    counts: dict[str, int]
    newest: list[Note]


def _key(
    services: WithServices,
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None,
) -> ApiKey | None:
    # Event Grid sends its validation event without our key. The events that it delivers later must have the key.
    if credentials is None and request.headers.get("aeg-event-type", "") == "SubscriptionValidation":
        request.state.largest_body = MOST_WITHOUT_KEY
        return None
    return allowed(services, request, credentials.credentials if credentials else None, Scope.SEND)


@router.options("", include_in_schema=False)
async def may_i(request: Request) -> Response:
    """Answers the CloudEvents validation request of this origin: it may send events, with a key."""
    origin = request.headers.get("webhook-request-origin", "")
    if not _ORIGIN.fullmatch(origin):
        return Response(status_code=200, headers={"Allow": "OPTIONS, POST"})
    headers = {"Allow": "OPTIONS, POST", "WebHook-Allowed-Origin": origin}
    if request.headers.get(ASKED_RATE):
        headers[ALLOWED_RATE] = "*"
    return Response(status_code=200, headers=headers)


_NAME = {"type": "string", "minLength": 1, "maxLength": parsing.LONGEST, "pattern": "^[ -~]+$"}
_EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _NAME,
        "source": _NAME,
        "type": _NAME,
        "data_base64": {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*$"},
    },
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
    "not": {"required": ["data", "data_base64"]},
    "description": "A CloudEvent 1.0.",
}
_GRID = {
    "type": "object",
    "required": ["id", "eventType"],
    "properties": {"id": _NAME, "eventType": _NAME},
    "propertyNames": {"pattern": "^[A-Za-z0-9]+$"},
    "description": "An event in the schema of Event Grid.",
}
_FORMS = {
    parsing.STRUCTURED: {"schema": _EVENT},
    parsing.BATCH: {"schema": {"type": "array", "items": _EVENT}},
    parsing.PLAIN: {"schema": {"type": "array", "items": _GRID}},
}


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": ValidationAnswer, "description": "Event Grid's question is answered"},
        **documented(*BROUGHT, 404, 409),
    },
    response_model=EventsHandled,
    openapi_extra={"requestBody": {"required": True, "content": _FORMS}},
)
def receive(services: WithServices, key: Annotated[ApiKey | None, Depends(_key)], request: Request, body: Raw) -> Any:
    """Make mails from events: CloudEvents 1.0 in any of its forms, or Event Grid's own."""
    arrived = parsing.read(request.headers, body)
    if isinstance(arrived, Validation):
        return _validated(arrived)
    if key is None:
        raise Unauthorized("a key is needed")
    if services.rules is None:
        raise Refusal(404, "no_rules", "there are no rules for events here (POSTROOM_EVENTS is not set)")
    return _all_handled(services, key, services.rules, arrived)


@router.get("/unmatched", responses=documented(*ASKED))
def unmatched(services: WithServices, key: MayRead, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Unmatched:
    """Show events that no rule matches, or from which a rule could not make a mail."""
    if not key.caller.only:
        return Unmatched(counts=services.notes.counts(), newest=services.notes.newest(limit))
    # The sender of the missing mail is unknown. So a key sees only the events that came with it, as far as they are
    # kept.
    notes = [note for note in services.notes.newest(1000) if key.id == note.key_id]
    return Unmatched(counts=Counter(note.reason for note in notes), newest=notes[:limit])


def _validated(asked: Validation) -> Response:
    answer = ValidationAnswer(validationResponse=asked.code)
    return Response(answer.model_dump_json(), 200, media_type="application/json")


def _all_handled(services: Services, key: ApiKey, rules: EventRules, arrived: Arrived) -> EventsHandled:
    results = [_handled(services, key, rules, event) for event in arrived.events]
    if not arrived.several:
        for error in (mailed.error for mailed in results[0].mails if mailed.error):
            status = {"sender_not_allowed": 403, CONFLICT: 409}.get(error.code, 422)
            raise Refusal(status, error.code, error.message, error.details)
    return EventsHandled(results=results)


def _handled(services: Services, key: ApiKey, rules: EventRules, event: Event) -> Handled:
    planned = rules.plan(event, services.sender)
    if not planned:
        _note(services, key, event, UNMATCHED)
    mails = [_mailed(services, key, event, one, rules.rules[one.rule]) for one in planned]
    return Handled(event_id=event.id, unmatched=not planned, mails=mails)


def _mailed(services: Services, key: ApiKey, event: Event, planned: Planned, rule: Rule) -> Mailed:
    if planned.mail is None:
        _note(services, key, event, planned.reason, planned)
        message = f"rule {planned.rule} makes no mail of this event"
        return _not_mailed(planned, planned.reason, message, {"faults": list(planned.faults)})
    try:
        receipt = services.client.send(
            checked(planned.mail, key),
            event_key(planned.key),
            on_accepted=rule.on_accepted,
            on_dead=rule.on_dead,
        )
    except Refusal as refused:
        _note(services, key, event, refused.code, planned)
        return _not_mailed(planned, refused.code, refused.message, {})
    except KeyConflict as known:
        # Nobody can tell which of the two is the real one: the event that came first, or this one.
        _note(services, key, event, CONFLICT, planned)
        message = f"rule {planned.rule} made another mail of an event with this source and id before"
        return _not_mailed(planned, CONFLICT, message, {"job_id": known.job_id})
    return Mailed(rule=planned.rule, id=receipt.id, known=receipt.known)


def _not_mailed(planned: Planned, code: str, message: str, details: dict[str, Any]) -> Mailed:
    body = ErrorBody(code=code, message=message, details={"rule": planned.rule, **details})
    return Mailed(rule=planned.rule, error=body)


def _note(services: Services, key: ApiKey, event: Event, reason: str, planned: Planned | None = None) -> None:
    rule = planned.rule if planned else None
    services.notes.add(event, reason, key=key.name, key_id=key.id, rule=rule, faults=planned.faults if planned else ())
    services.emit("event.unmatched", reason=reason, type=event.type, rule=rule, key=key.name)
