"""The rights of an app: what its token permits, and what is missing for what is configured."""

from collections.abc import Iterator, Mapping
from typing import Any

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.senders import Lane, lanes_of
from postroom.doctor.surroundings import Surroundings, Unreachable, listed
from postroom.graph.token_claims import claims_of, person_of
from postroom.graph.tokens import Token
from postroom.jobs.retry import OnUnknown
from postroom.mail.message import DeliveryMode

_SAY = Reporter(Group.RIGHTS)
_SENDS = "may it send?"
_NARROW = (
    "to narrow it: an RBAC for Applications scope in Exchange (docs/microsoft365.md), and then remove the Mail.Send "
    "consent in Entra"
)
READS = frozenset({"Mail.Read", "Mail.ReadWrite"})  # Mail.ReadBasic leaves out what a look-up searches by


def check(around: Surroundings) -> Iterator[Finding]:
    """What the token of each app says."""
    for app in around.apps:
        name, token = f"app {app}", around.token(app)
        if not isinstance(token, Token):
            why = token.why if isinstance(token, Unreachable) else "there is no token (entra)"
            yield _SAY.skipped(name, _SENDS, why)
            continue
        lanes = [lane for lane in lanes_of(around.settings, around.wanted) if lane.app == app]
        yield from of_claims(name, claims_of(token.value), lanes)
    if not around.apps:
        yield _SAY.skipped("apps", _SENDS, "no app is set up completely (settings)")


def of_claims(name: str, claims: Mapping[str, Any] | None, lanes: list[Lane]) -> Iterator[Finding]:
    """What the claims of a token mean for these lanes of its app. None: the token cannot be read."""
    if claims is None:
        yield _SAY.green(name, _SENDS, "the token cannot be read", "the mailboxes below are the proof")
        return
    if who := person_of(claims):
        scopes = claims["scp"]
        yield _SAY.green(
            name, _SENDS, f"delegated permissions in the token: {scopes}",
            f"it may do what {who} may do, and sends as {who}; other mailboxes need Mail.Send.Shared and Send As",
        )  # fmt: skip
        return
    roles = _roles(claims)
    told = f"roles in the token: {listed(sorted(roles), 10) or 'none'}"
    if "Mail.Send" in roles:
        yield _SAY.green(name, _SENDS, told, "Mail.Send: it may send as every mailbox of the tenant", _NARROW)
    else:
        yield _SAY.green(
            name, _SENDS, told, "no Mail.Send in the token: it may send only as mailboxes of an RBAC scope in Exchange",
            "the mailboxes below are the proof",
        )  # fmt: skip
    # Rights of Exchange's RBAC are in no token, so this is a warning; mailboxes.py asks each mailbox.
    drafting = [lane.mailbox for lane in lanes if lane.delivery is DeliveryMode.DRAFT]
    if drafting and "Mail.ReadWrite" not in roles:
        yield _SAY.green(
            name, "may it make drafts?", "Mail.ReadWrite is not in the token",
            f"POSTROOM_DELIVERY=draft needs it for {listed(drafting)}, in the token or by RBAC: see mailboxes",
        )  # fmt: skip
    if lanes and any(lane.delivery is DeliveryMode.AUTO for lane in lanes) and "Mail.ReadWrite" not in roles:
        yield _SAY.green(
            name, "may it send large files?", "Mail.ReadWrite is not in the token",
            "without it (or RBAC's Application Mail.ReadWrite) mail with more than about 3 MB of files waits for it",
        )  # fmt: skip
    holding = [lane.mailbox for lane in lanes if lane.on_unknown is OnUnknown.HOLD]
    if not roles & READS:
        whose = f"; for {listed(holding)} (on_unknown = hold) a person has to look" if holding else ""
        yield _SAY.green(
            name, "may it look for mail in Sent Items?", "neither Mail.Read nor Mail.ReadWrite is in the token",
            f"after an outcome that nobody knows, Postroom cannot look whether the mail was sent{whose}",
        )  # fmt: skip


def roles_of(token: str) -> frozenset[str]:
    """The application permissions in a token; empty if it cannot be read."""
    return _roles(claims_of(token) or {})


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    roles = claims.get("roles")
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()
