"""The services that the routes use, and the one place that creates them."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from postroom.access.api_keys import ApiKeys
from postroom.api.metrics import Metrics
from postroom.api.request_bodies import Bodies
from postroom.api.wrong_keys import WrongKeys
from postroom.client import Client
from postroom.cloudevents.rules import EventRules
from postroom.cloudevents.unmatched import EventNotes
from postroom.errors import ConfigError
from postroom.mail.address import Address
from postroom.mail.validation import MB
from postroom.operations.dead_letters import DeadLetters
from postroom.settings.model import Settings
from postroom.store.connection import connect
from postroom.store.ledger import Ledger
from postroom.store.queries import Records
from postroom.telemetry.events import Emit

TIMEOUT_S = 2.0
THREADS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services, created once and shared by all requests. `connection` is a redis client that returns bytes."""

    connection: Any
    client: Client
    records: Records
    letters: DeadLetters
    keys: ApiKeys
    notes: EventNotes
    rules: EventRules | None
    sender: Address | None
    bodies: Bodies
    figures: Metrics
    wrong_keys: WrongKeys
    emit: Emit


def open_services(settings: Settings, emit: Emit, connection: Any = None) -> Services:
    """The services for these settings. ConfigError if the rules for events are wrong."""
    redis = connection or connect(
        settings.redis_url, timeout_s=TIMEOUT_S, name="postroom-api", max_connections=2 * THREADS
    )
    ledger = Ledger(redis, settings.attachments)
    return Services(
        connection=redis,
        client=Client(ledger, settings.sender),
        records=ledger.records,
        letters=DeadLetters(ledger, settings.sender),
        keys=ApiKeys(redis),
        notes=EventNotes(redis),
        rules=event_rules(settings),
        sender=settings.sender,
        bodies=Bodies(largest=settings.max_message + MB),
        figures=Metrics(redis),
        wrong_keys=WrongKeys(emit),
        emit=emit,
    )


def event_rules(settings: Settings) -> EventRules | None:
    """The rules of POSTROOM_EVENTS; None if it is not set. ConfigError if the file is missing or wrong."""
    if settings.events is None:
        return None
    try:
        text = settings.events.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"POSTROOM_EVENTS: cannot read {settings.events} ({type(error).__name__})") from None
    return EventRules.parse(text, str(settings.events))


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


WithServices = Annotated[Services, Depends(_services)]
