"""What became of one try to hand a message to Graph: six possible outcomes, as values.

Accepted    202: Exchange has taken the message (not: it was delivered).
Throttled   Graph asked for a pause. Nothing was sent; it costs the mail nothing.
Deferred    A fault that will pass. Nothing was sent; it costs one attempt, unless `free`.
Held        The configuration of the mailbox or the app is at fault, not the mail. Nothing was sent.
Refused     This mail will never be taken. Nothing was sent.
Unknown     The request was written and nobody can know what became of it.

An Unknown is looked up later. What a look-up may find, beside an outcome that stands in its way:

Found         The message is there: Exchange had taken it.
NotFound      It is not there; shortly after the attempt that proves nothing.
StillDraft    The draft it was to be sent from is one still.
NotPermitted  The app may not read this mailbox.

`recorded_as` is the word that an attempt's record has for it: a class may be renamed, records may not.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar


class Scope(StrEnum):
    """Whom an outcome concerns beyond the mail itself."""

    MAIL = "mail"
    LANE = "lane"
    APP = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, as far as anything did: kept with the attempt for the operator and Microsoft's support.

    `http_status` is None where no answer came. `detail` is a short text without addresses, bodies or secrets.
    """

    http_status: int | None = None
    graph_code: str | None = None
    request_id: str | None = None
    detail: str | None = None


NO_ANSWER = Answer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    recorded_as: ClassVar[str] = "accepted"
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """`wait_s` is what Retry-After asked for (seconds, not yet clamped), None where Graph named no time."""

    recorded_as: ClassVar[str] = "throttled"
    answer: Answer = NO_ANSWER
    wait_s: float | None = None
    scope: Scope = Scope.LANE


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """`free`: the fault is not the mail's (no connection, Entra away), so its attempts stay unspent."""

    recorded_as: ClassVar[str] = "deferred"
    reason: str
    answer: Answer = NO_ANSWER
    wait_s: float | None = None
    scope: Scope = Scope.MAIL
    free: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """`no_token`: Entra gives no token, so a request for one shows whether the fault is repaired."""

    recorded_as: ClassVar[str] = "held"
    reason: str
    scope: Scope
    answer: Answer = NO_ANSWER
    no_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    recorded_as: ClassVar[str] = "refused"
    reason: str
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """`wait_s`: Graph asked the mailbox to come back then."""

    recorded_as: ClassVar[str] = "unknown"
    reason: str
    answer: Answer = NO_ANSWER
    wait_s: float | None = None


Outcome = Accepted | Throttled | Deferred | Held | Refused | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`ids` are those of the messages, where more than one may be there."""

    recorded_as: ClassVar[str] = "found"
    answer: Answer = NO_ANSWER
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """`draft_gone`: there was a draft, and it is neither in Drafts nor in Sent Items.

    `proves_nothing`: the mail would not be there if it had been sent, because it is not saved to Sent Items.
    """

    recorded_as: ClassVar[str] = "notfound"
    answer: Answer = NO_ANSWER
    draft_gone: bool = False
    proves_nothing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StillDraft:
    recorded_as: ClassVar[str] = "stilldraft"
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPermitted:
    recorded_as: ClassVar[str] = "notpermitted"
    answer: Answer = NO_ANSWER


LookupResult = Found | NotFound | StillDraft | NotPermitted | Throttled | Deferred | Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A message was put into Drafts under this id, which it keeps when it is sent."""

    id: str
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp:
    """What an ended job had left in Drafts is gone."""

    recorded_as: ClassVar[str] = "tidied"
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An upload session. Its URL opens it to whoever has it, so it stands in no log and no error."""

    url: str = field(repr=False)
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A part of an attachment is there. `next` is the first byte that is missing, None if none is."""

    next: int | None = None
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLost:
    """The upload session is over: expired, or finished before."""

    answer: Answer = NO_ANSWER
