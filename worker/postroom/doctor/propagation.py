"""A mailbox that is refused: a fault, or a change that has not reached all of Exchange yet?

A change of an RBAC scope takes up to 2 hours for an app that is in use
(https://learn.microsoft.com/exchange/permissions-exo/application-rbac), an Application Access Policy more than an hour,
and by reports up to a day (https://learn.microsoft.com/exchange/permissions-exo/application-access-policies). So a
refusal soon after the first try is no verdict: what was seen before decides.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.senders import Lane
from postroom.jobs.outcome import Held
from postroom.store.verdicts import Verdicts

_SAY = Reporter(Group.MAILBOXES)
_ASKED = "may its app send from it?"
RBAC_TAKES, POLICY_TAKES = timedelta(hours=2), timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What bears on a refusal: what was seen before (None: without Redis there is no memory), roles, and the time."""

    known: Verdicts | None
    roles: frozenset[str]
    client_id: str
    now: datetime
    person: str | None = None  # for whom a delegated token stands


def of_refusal(lane: Lane, seen: str, refusal: Held, witnessed: Witnessed) -> Finding:
    """What a 403 means, by what was seen of this app and mailbox so far."""
    known, now = witnessed.known, witnessed.now
    by_policy = "RAOP" in (refusal.answer.detail or "")
    cause, cure = _cause_and_cure(lane.mailbox, witnessed, by_policy=by_policy)
    takes, what = (POLICY_TAKES, "24 hours (policy)") if by_policy else (RBAC_TAKES, "2 hours (RBAC)")
    if known is None or known.refused_since is None:
        meaning = f"{cause}. Without Redis nobody knows since when; a change takes up to {what}"
        return _SAY.red(lane.mailbox, _ASKED, seen, meaning, cure)
    if known.allowed_at is not None:
        worked = f"worked until {_time(known.allowed_at, now)}, refused since {_time(known.refused_since, now)}"
        return _SAY.red(lane.mailbox, _ASKED, f"{seen}; {worked}", f"somebody changed it: {cause}", cure)
    first = known.refused_since
    never = f"{seen}; never worked, first refused {_ago(now - first)} ago"
    if now - first < takes:
        meaning = f"no verdict yet: {cause}; or the right was given just now, and Exchange may take up to {what}"
        again = f"look again at {_time(first + takes, now)}, or `postroom doctor --only mailboxes --watch`"
        return _SAY.yellow(lane.mailbox, _ASKED, never, meaning, f"{again}; if it is refused then: {cure}")
    meaning = f"{cause}. It is no delay, unless the right was given in the last {what}"
    return _SAY.red(lane.mailbox, _ASKED, never, meaning, cure)


def _cause_and_cure(mailbox: str, witnessed: Witnessed, *, by_policy: bool) -> tuple[str, str]:
    if witnessed.person:
        return (
            f"the sign-in of {witnessed.person} has no right to send as this mailbox, or lacks Mail.Send.Shared",
            f"give {witnessed.person} Send As on {mailbox} in Exchange, or sign in again with `postroom sign-in`",
        )
    client = witnessed.client_id
    authorised = f"Test-ServicePrincipalAuthorization -Identity {client} -Resource {mailbox}"
    if by_policy:
        return (
            "an Application Access Policy of the tenant leaves this mailbox out (RAOP)",
            f"Test-ApplicationAccessPolicy -AppId {client} -Identity {mailbox}; add the mailbox to the policy's group",
        )
    if "Mail.Send" in witnessed.roles:
        return (
            "Exchange refuses although the token has Mail.Send",
            f"{authorised}; if it says InScope, wait, then ask Microsoft with the request-id",
        )
    group = "add the mailbox itself to the group of the scope (groups in groups do not count)"
    return (
        "the app has no Mail.Send in its token, and no RBAC scope in Exchange includes this mailbox",
        f"{authorised}; {group}, or grant Mail.Send with admin consent, for all mailboxes",
    )


def _time(at: datetime, now: datetime) -> str:
    """A time in UTC; with its day if that is another than today."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def _ago(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
