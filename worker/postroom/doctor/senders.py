"""Which lanes (an app in a mailbox) the doctor looks at: those of the senders that were asked for or are configured."""

from dataclasses import dataclass

from postroom.doctor.surroundings import Wanted
from postroom.jobs.retry import OnUnknown
from postroom.mail.address import Address, normal_form
from postroom.mail.message import DeliveryMode
from postroom.settings.lanes import Lanes
from postroom.settings.model import Settings

MOST = 100  # lanes that are looked at; each is two or three requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane, named by one of its senders."""

    name: str
    sender: str
    mailbox: str
    app: str
    delivery: DeliveryMode
    on_unknown: OnUnknown


def lanes_of(settings: Settings, wanted: Wanted) -> list[Lane]:
    """The lanes of the senders that were asked for; else those of the settings. Each lane comes once."""
    asked = [sender.address for sender in wanted.senders] or _configured(settings)
    found: dict[str, Lane] = {}
    for address in asked:
        lane = lane_of(settings, address)
        found.setdefault(lane.name, lane)
    return list(found.values())


def lane_of(settings: Settings, address: str) -> Lane:
    """The lane of a sender, as workers go by it."""
    lanes, key = Lanes(settings=settings), normal_form(address)
    aliases = lanes.rules(results_here=True).aliases
    name = aliases.get(key) or aliases.get(f"*@{key.rpartition('@')[2]}") or key
    return Lane(
        name=name,
        sender=address,
        mailbox=lanes.mailbox(name),
        app=name.partition("#")[2] or "default",
        delivery=lanes.delivery(name),
        on_unknown=lanes.on_unknown(name),
    )


def _configured(settings: Settings) -> list[str]:
    own = [settings.sender.address] if isinstance(settings.sender, Address) else []
    named = [
        sender.mailbox.address if address.address.startswith("*@") and sender.mailbox else address.address
        for address, sender in settings.senders.items()
    ]
    return [*own, *named]
