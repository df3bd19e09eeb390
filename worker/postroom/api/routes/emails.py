"""Routes of mails: send one or a batch, list, show, cancel."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from postroom.access.api_keys import ApiKey
from postroom.access.rights import DoorKey, Scope
from postroom.api.authorization import MayOperate, MayRead, must_have, own
from postroom.api.bringing import answer, brings
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import ASKED, BROUGHT, ErrorBody, Refusal, documented, refusal
from postroom.api.request_bodies import Time, body_of, takes
from postroom.errors import InvalidMail, PostroomError
from postroom.jobs.callbacks import Callbacks
from postroom.jobs.job import Delivery, Receipt, Status
from postroom.jobs.job_filter import JobFilter
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.store.intake_codec import LONGEST_KEY
from postroom.store.queries import CURSOR, Cursor

MOST_IN_BATCH = 500
REPLAY = "Idempotent-Replay"
_CALLS = ("on_accepted", "on_dead")
_CALL_SCHEMAS = {
    name: {
        "type": ["object", "null"],
        "required": ["task"],
        "properties": {
            "task": {"type": "string", "minLength": 1},
            "args": {"type": "array"},
            "kwargs": {"type": "object"},
            "options": {"type": "object", "properties": {"queue": {"type": "string"}}},
            "immutable": {"type": "boolean"},
        },
        "description": "A task of your own Celery workers to call when the mail ends so. It needs the scope `call`.",
    }
    for name in _CALLS
}
# Many printable characters, for programs that make requests from the schema. No pattern covers all.
_PRINTABLE = "^[ -~\u00a1-\u00ac\u00ae-\u0377\u3041-\u3096\u4e00-\u9fff\uac00-\ud7a3]+$"
router = APIRouter(prefix="/v1/emails", tags=["emails"])


class Taken(BaseModel):
    """A mail that is kept, and will be sent or end as a dead letter."""

    id: str
    status: Status


class Row(BaseModel):
    """The result for one mail of a batch: its id, or why it was not taken in. `known`: it was taken in before."""

    id: str | None = None
    status: Status | None = None
    known: bool = False
    error: ErrorBody | None = None


class BatchTaken(BaseModel):
    """The result for each mail of a batch, in their order."""

    batch: str | None
    taken: int
    known: int
    refused: int
    results: list[Row]


class Emails(BaseModel):
    """One page of a list. There are more pages if it has a `next_cursor`, even if this page is short or empty."""

    items: list[Delivery]
    next_cursor: str | None


class Why(BaseModel):
    """Why this is done, for the job's audit."""

    model_config = ConfigDict(extra="forbid")

    why: Annotated[str | None, Field(max_length=500)] = None


class EmailQuery(BaseModel):
    """Which mails are listed."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    reason: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    to: Annotated[str | None, Field(min_length=1, max_length=320)] = None
    batch: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    sender: Annotated[str | None, Field(min_length=1, max_length=320)] = None
    tag: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    since: Time | None = None
    until: Time | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(pattern=CURSOR)] = None


@router.post(
    "",
    status_code=202,
    responses=documented(*BROUGHT, 409),
    openapi_extra=brings("Email"),
    response_model=Taken,
)
async def send(request: Request) -> Response:
    """Take in one mail. After the answer 202 it is kept."""
    return await answer(request, _send)


def _send(services: Services, key: ApiKey, given: dict[str, Any], idempotency_key: str | None) -> Response:
    batch, calls = _batch_name(given.pop("batch", None)), _calls(given, key)
    mail = mail_of(given, key, services.sender)
    receipt = services.client.send(mail, scoped_key(key, idempotency_key), batch=batch, **calls)
    headers = {"Location": f"/v1/emails/{receipt.id}"}
    if receipt.known:
        headers[REPLAY] = "true"
    known = services.records.read(receipt.id) if receipt.known else None
    return _accepted(Taken(id=receipt.id, status=_first_status(mail, known)), headers)


def _accepted(answered: BaseModel, headers: dict[str, str]) -> Response:
    return Response(answered.model_dump_json(), 202, headers, "application/json")


@router.post(
    "/batch",
    status_code=202,
    responses=documented(*BROUGHT, 409),
    openapi_extra=brings("EmailBatch"),
    response_model=BatchTaken,
)
async def send_batch(request: Request) -> Response:
    """Take in up to 500 mails, each independently. `results` has the result for each, in order."""
    return await answer(request, _send_batch)


def _send_batch(services: Services, key: ApiKey, given: dict[str, Any], idempotency_key: str | None) -> Response:
    mails, batch = given.get("emails"), _batch_name(given.get("batch"))
    if unknown := given.keys() - {"emails", "batch", *_CALLS}:
        raise _wrong(*(f"{name[:100]}: no such field" for name in sorted(unknown)))
    if not isinstance(mails, list) or not 0 < len(mails) <= MOST_IN_BATCH:
        raise _wrong(f"emails: a list of 1 to {MOST_IN_BATCH} mails is needed")
    scoped = scoped_key(key, idempotency_key)
    if scoped:
        _same_batch(services, scoped, given)
    calls = Callbacks.of(**dict.fromkeys(_CALLS) | _calls(given, key))
    rows = _rows(services, [_mail_or_refusal(one, key, services.sender) for one in mails], scoped, batch, calls)
    known, refused = sum(row.known for row in rows), sum(row.error is not None for row in rows)
    taken = BatchTaken(batch=batch, taken=len(rows) - known - refused, known=known, refused=refused, results=rows)
    return _accepted(taken, {REPLAY: "true"} if known == len(rows) else {})


@router.get("", responses=documented(*ASKED, 400))
def find(services: WithServices, key: MayRead, wanted: Annotated[EmailQuery, Query()]) -> Emails:
    """List mails, newest first."""
    if wanted.sender is not None and not key.caller.may_use(wanted.sender):
        return Emails(items=[], next_cursor=None)
    chosen = JobFilter(
        status=wanted.status,
        reason=wanted.reason,
        senders=(wanted.sender,) if wanted.sender else key.caller.only,
        to=wanted.to,
        batch=wanted.batch,
        tag=wanted.tag,
        since=wanted.since,
        until=wanted.until,
    )
    return page(services, chosen, wanted.limit, wanted.cursor)


@router.get("/{job_id}", responses=documented(*ASKED, 404))
def status(services: WithServices, key: MayRead, job_id: str) -> Delivery:
    """Show the status of one mail, with every attempt."""
    return own(key, services.records.read(job_id))


@router.post(
    "/{job_id}/cancel",
    responses=documented(*BROUGHT, 404, 409),
    openapi_extra=takes("Why", required=False),
)
def cancel(
    services: WithServices, key: MayOperate, job_id: str, body: Annotated[Why, Depends(body_of(Why))]
) -> Delivery:
    """Cancel a mail that has not been sent."""
    own(key, services.records.read(job_id))
    return services.client.cancel(job_id, by=key.by, why=body.why)


def page(services: Services, wanted: JobFilter, limit: int, cursor: str | None) -> Emails:
    """One page of the jobs that match."""
    deliveries, following = services.records.page(wanted, limit, Cursor.parse(cursor) if cursor else None)
    return Emails(items=deliveries, next_cursor=str(following) if following else None)


def _first_status(mail: Mail, known: Delivery | None) -> Status:
    """The status that a mail had when it was taken in. A repeated request gets it too, whatever the status is now."""
    scheduled_at, taken_at = (known.scheduled_at, known.created_at) if known else (mail.scheduled_at, datetime.now(UTC))
    return Status.DEFERRED if scheduled_at and scheduled_at > taken_at else Status.QUEUED


def mail_of(given: Any, key: ApiKey, default: Address | None) -> Mail:
    """The mail of a request. Refusal or InvalidMail if it is invalid, or if the key may not send it."""
    return checked(Mail.model_validate(given).with_sender(default_sender(key, default)), key)


def default_sender(key: ApiKey, default: Address | None) -> Address | None:
    """The sender of a mail that names none: the key's only one, or the `default` of the settings."""
    return Address.parse(key.caller.only[0]) if len(key.caller.only) == 1 else default


def checked(mail: Mail, key: ApiKey) -> Mail:
    """The same mail, if the key may send it. Refusal if not."""
    if not key.caller.may_send(mail):
        raise Refusal(403, "sender_not_allowed", "this key may not send from this address")
    return mail


def _mail_or_refusal(given: Any, key: ApiKey, default: Address | None) -> Mail | Refusal:
    try:
        return mail_of(given, key, default)
    except Refusal as error:
        return error
    except PostroomError as error:
        return refusal(error)


def _calls(given: dict[str, Any], key: ApiKey) -> dict[str, Any]:
    """Takes the tasks to call at the mail's end out of a request. Refusal if the key may not have tasks called."""
    calls = {name: call for name in _CALLS if (call := given.pop(name, None)) is not None}
    if calls:
        must_have(key, Scope.CALL)
    return calls


def _rows(
    services: Services, given: list[Mail | Refusal], scoped: str | None, batch: str | None, calls: Callbacks
) -> list[Row]:
    """Takes the mails in, and gives the result for each row.

    Raises Unavailable when Redis is down. The caller then sends the whole batch again, and with an Idempotency-Key no
    mail is taken in twice.
    """
    mails = {place: one for place, one in enumerate(given) if isinstance(one, Mail)}
    # An Idempotency-Key has no §, so a mail of a batch never has the same key as a mail that was sent alone.
    keys = [f"{scoped}§{place}" if scoped else None for place in mails]
    outcomes: dict[int, Receipt | PostroomError | Refusal] = {
        place: one for place, one in enumerate(given) if isinstance(one, Refusal)
    }
    outcomes |= zip(mails, services.client.send_together(list(mails.values()), keys, batch, calls), strict=True)
    replayed = [one.id for one in outcomes.values() if isinstance(one, Receipt) and one.known]
    known = {delivery.id: delivery for delivery in services.client.read(replayed)} if replayed else {}

    def row(place: int) -> Row:
        outcome = outcomes[place]
        if isinstance(outcome, Receipt):
            return Row(id=outcome.id, status=_first_status(mails[place], known.get(outcome.id)), known=outcome.known)
        refused = outcome if isinstance(outcome, Refusal) else refusal(outcome)
        return Row(error=ErrorBody(**refused.body()))

    return [row(place) for place in range(len(given))]


def _same_batch(services: Services, scoped: str, given: Any) -> None:
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    if not services.keys.first_use(scoped, digest):
        raise Refusal(409, "key_conflict", "this Idempotency-Key already belongs to another batch; use a new one")


def scoped_key(key: ApiKey, idempotency_key: str | None) -> DoorKey | None:
    """The idempotency key of a mail, for this API key only: two API keys may use the same Idempotency-Key."""
    return key.caller.key(idempotency_key) if idempotency_key else None


def _batch_name(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= LONGEST_KEY and value.isprintable()):
        return value
    raise InvalidMail("batch: a string of 1 to 500 printable characters is needed")


def _wrong(*faults: str) -> Refusal:
    return Refusal(422, "invalid_request", "the request is not as it should be", {"faults": list(faults)})


def _only(name: str) -> dict[str, Any]:
    """The schema of a mail that has this field as its content, and none of the others."""
    others = {other: {"type": "null"} for other in ("template", "html", "text", "mime") if other != name}
    return {"required": [name], "properties": {name: {"type": "string"}, **others}}


def _bodies() -> dict[str, Any]:
    """The schema of a mail with ready bodies: one of them, or both."""
    one_of_them = [
        {"required": [name], "properties": {name: {"type": "string", "minLength": 1}}} for name in ("text", "html")
    ]
    none = {"template": {"type": "null"}, "mime": {"type": "null"}, "variables": {"maxProperties": 0}}
    return {"anyOf": one_of_them, "properties": none}


def _somebody(name: str) -> dict[str, Any]:
    """The schema of a mail with a recipient in this field."""
    return {"required": [name], "properties": {name: {"not": {"enum": [[], "", None]}}}}


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The bodies that these routes take, for OpenAPI."""
    email = Mail.model_json_schema(ref_template="#/components/schemas/{model}")
    yield from email.pop("$defs", {}).items()
    batch = {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": _PRINTABLE},
            {"type": "null"},
        ],
        "description": "A name to find it by, with others.",
    }
    email["properties"] |= {"batch": batch, **_CALL_SCHEMAS}
    email["oneOf"] = [_only("template"), _bodies(), _only("mime")]
    email["anyOf"] = [_somebody("to"), _somebody("cc"), _somebody("bcc")]
    yield "Email", email | {"title": "Email", "description": "A mail: a template with variables, or ready bodies."}
    # Each mail is checked independently. If one is invalid, the request is still valid.
    one = {"description": "A mail as POST /v1/emails takes it, without `batch`; what is none is refused in its row."}
    rows = {"type": "array", "minItems": 1, "maxItems": MOST_IN_BATCH, "items": one}
    yield (
        "EmailBatch",
        {
            "type": "object",
            "required": ["emails"],
            "additionalProperties": False,
            "properties": {"emails": rows, "batch": batch, **_CALL_SCHEMAS},
        },
    )
    yield "Why", Why.model_json_schema()
