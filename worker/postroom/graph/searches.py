"""How a mail that may have been sent is searched for in Sent Items and Drafts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from postroom.graph.mime_writer import ascii_address
from postroom.mail.address import Address
from postroom.mail.message import message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A list of messages: those in this folder for which the OData `filter` is true.

    With `recipients` (casefolded), only those that went to exactly these.
    """

    folder: str
    filter: str
    recipients: frozenset[str] | None = None


def searches(job_id: str, mailbox: str, folder: str) -> Iterator[Search]:
    """What finds a job's message: by our property, or by its Message-ID.

    https://learn.microsoft.com/graph/api/singlevaluelegacyextendedproperty-get
    """
    by_property = f"ep/id eq '{JOB_PROPERTY}' and ep/value eq '{_odata(job_id)}'"
    yield Search(folder=folder, filter=f"singleValueExtendedProperties/Any(ep: {by_property})")
    known_as = ascii_address(message_id(job_id, mailbox)[1:-1])
    yield Search(folder=folder, filter=f"internetMessageId eq '<{_odata(known_as)}>'")


def searches_by_own_id(known_as: str, recipients: Sequence[Address], folder: str) -> Iterator[Search]:
    """What finds a message by the Message-ID that it came with.

    That may be another job's too: a client that hands a message over for each recipient gives all of them the same.
    """
    people = frozenset(one.address.casefold() for one in recipients)
    yield Search(folder=folder, filter=f"internetMessageId eq '{_odata(known_as)}'", recipients=people)


def _odata(text: str) -> str:
    return text.replace("'", "''")


# The property that a look-up in Sent Items finds a job's message by; the GUID is ours, made for this one use.
JOB_PROPERTY = "String {5b0c8a5e-7d0f-4f0b-9a0e-3f6d2c1f7e84} Name PostroomJob"


SENT_ITEMS, DRAFTS = "sentitems", "drafts"
