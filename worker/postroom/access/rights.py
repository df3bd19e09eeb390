"""Who may do what: the one place that says it, for every door.

A `Caller` is whoever speaks at a door: the holder of an API key, an SMTP client, or a program of ours (the Python
client, a Celery task, the command line) that has Redis at hand and so may do everything. It says which senders' mail a
caller may use, what it may see and change of that, and what its idempotency keys are called.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from postroom.errors import InvalidMail
from postroom.mail import content, mime_source
from postroom.mail.address import normal_form
from postroom.mail.content import Stored
from postroom.mail.model import Mail


class Scope(StrEnum):
    SEND = "send"
    READ = "read"
    CONTENT = "content"
    OPERATE = "operate"
    CALL = "call"  # have tasks called at a mail's end, on any queue of the mail room's Redis


class Door(StrEnum):
    """Where a caller speaks. Each door's keys begin with its name; those of our own programs are as they give them."""

    API = "api"
    EVENTS = "event"
    SMTP = "smtp"
    OWN = ""


class DoorKey(str):
    """An idempotency key as a door has made it: with that door's prefix, which no other door can write."""

    __slots__ = ()


# What may be changed of a dead letter without a right to its content: it reaches the same people with the same words.
WHEN = frozenset({"priority", "scheduled_at", "expires_at", "tags"})
# Whoever says who gets a mail, or its answers, can read it there.
PEOPLE = frozenset({"to", "cc", "bcc", "reply_to"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. `senders` are addresses, `*@domain` for all of a domain, or `*` for all."""

    door: Door
    id: str = ""
    scopes: Collection[Scope] = frozenset(Scope)
    senders: tuple[str, ...] = ("*",)

    def may(self, scope: Scope) -> bool:
        """Whether it may do this at all."""
        return scope in self.scopes

    def may_use(self, sender: str) -> bool:
        """Whether it may send as this sender, and see and operate that sender's mail."""
        if "*" in self.senders:
            return True
        wanted = normal_form(sender)
        return wanted in self.senders or f"*@{wanted.rpartition('@')[2]}" in self.senders

    def may_send(self, mail: Mail) -> bool:
        """Whether it may send this mail: from its sender, and as whom else a MIME source names as its author."""
        named = [mail.sender.address] if mail.sender else []
        if mail.mime is not None and not isinstance(mail.mime, Stored) and "*" not in self.senders:
            head = mime_source.head_of(content.read(mail.mime))
            for field in (*head.all("from"), *head.all("sender")):
                if field.people is None:
                    return False
                named += [one.address for one in field.people]
        return self.may_use_all(named)

    def may_use_all(self, senders: Iterable[str]) -> bool:
        """Whether it may use each of them. What several senders share (a mailbox) needs all of them."""
        return all(map(self.may_use, senders))

    @property
    def only(self) -> tuple[str, ...]:
        """The senders whose mail it may use, for a list or a batch, of which it sees and operates these alone.

        Empty if that is all mail. Only a caller that names addresses may ask this.
        """
        return () if "*" in self.senders else self.senders

    def lacks_to_change(self, fields: Iterable[str]) -> tuple[Scope, ...]:
        """Which scopes it lacks to send a dead letter again with these fields changed."""
        changed = set(fields)
        needed = [Scope.OPERATE]
        needed += [Scope.SEND, Scope.READ] if changed - WHEN else []
        needed += [Scope.CONTENT] if changed & PEOPLE else []
        return tuple(scope for scope in needed if not self.may(scope))

    def key(self, given: str) -> DoorKey:
        """The idempotency key that this caller's `given` stands for: nobody else can name it."""
        return DoorKey(f"{self.door}/{self.id}/{given}")


# The Python client, the Celery task and the command line: who can speak to Redis may do everything there.
OWN = Caller(door=Door.OWN)


def own_key(key: str | None) -> str | None:
    """The idempotency key of a program of ours, which is what it gave. InvalidMail if it is one of a door."""
    if key is None or isinstance(key, DoorKey):
        return key
    for door in Door:
        if door and isinstance(key, str) and key.startswith(f"{door}/"):
            raise InvalidMail(f"key: {door}/… are the keys of mail that came in otherwise; choose another name")
    return key


def event_key(event: str) -> DoorKey:
    """The key of an event's mail: it is the event's, so that the same event is the same mail, whoever brings it."""
    return DoorKey(f"{Door.EVENTS}/{event}")


def content_key(digest: str) -> DoorKey:
    """The key of an SMTP client's message without one: `digest` is made from the message and the client."""
    return DoorKey(f"{Door.SMTP}/{digest}")
