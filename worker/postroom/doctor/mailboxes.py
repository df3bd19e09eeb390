"""The mailboxes: whether each exists, has a licence, and may be used by its app. Nothing is sent to find out.

A sendMail without any recipient can never be sent. It is answered with 400 where the app may use the mailbox, and with
403 where it may not: a request is authorised before it is validated. That order is what stand-ins show, and is not
documented. So what was seen is shown, and `--send-to` is the proof.
"""

from collections.abc import Iterator, Sequence

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.propagation import Witnessed, of_refusal
from postroom.doctor.rights import roles_of
from postroom.doctor.senders import MOST, Lane, lane_of, lanes_of
from postroom.doctor.surroundings import GraphAccess, Surroundings, Unreachable
from postroom.doctor.trial import trial_mail
from postroom.errors import PostroomError
from postroom.graph.proof import TO_NOBODY, is_let_in
from postroom.graph.token_claims import claims_of, person_of
from postroom.jobs.outcome import Accepted, Held, Outcome, Throttled
from postroom.jobs.reasons import plain_text, reason_of
from postroom.mail.message import DeliveryMode
from postroom.store import verdicts
from postroom.store.verdicts import Scope, Verdicts

_SAY = Reporter(Group.MAILBOXES)
MAY_SEND = "may its app send from it?"
_MAY_NOT = "is it closed to the app?"
_DRAFTS = "may its app make drafts in it?"
NO_ANSWER, PATIENCE = "no answer", 3
NO_SUCH_DRAFT = "AAMkpostroom-doctor-no-such-message"


def check(around: Surroundings) -> Iterator[Finding]:
    """Each mailbox that mail is sent from, and each that must be refused."""
    lanes = lanes_of(around.settings, around.wanted)
    yield from _of_lanes(around, lanes)
    if not lanes:
        yield _SAY.skipped("mailboxes", MAY_SEND, "no sender is configured; name one with --sender")
    for address in around.wanted.not_senders:
        yield _of_outsider(around, lane_of(around.settings, address.address))


def _of_lanes(around: Surroundings, lanes: Sequence[Lane]) -> Iterator[Finding]:
    """Each of these, until Graph has been silent so often that the rest would only take time."""
    silent = 0
    for number, lane in enumerate(lanes):
        if number == MOST or silent == PATIENCE:
            why = "Graph does not answer" if silent == PATIENCE else "name them with --sender"
            yield _SAY.skipped("others", MAY_SEND, f"{len(lanes) - number} more mailboxes: {why}")
            return
        findings = list(_of_lane(around, lane))
        yield from findings
        silent = silent + 1 if findings[0].seen.startswith(NO_ANSWER) else 0


def _of_lane(around: Surroundings, lane: Lane) -> Iterator[Finding]:
    access = around.graph_of(lane.app)
    if isinstance(access, Unreachable):
        yield _SAY.skipped(lane.mailbox, MAY_SEND, f"app {lane.app}: {access.why}")
        return
    outcome = access.graph.send_mail(lane.mailbox, TO_NOBODY, access.call())
    known = _note(around, lane, outcome)
    yield of_outcome(lane, outcome, _witnessed(around, lane, access, known))
    if not is_let_in(outcome):
        return
    if lane.delivery is not DeliveryMode.SEND and (finding := of_drafts(lane, _asked_for_drafts(access, lane))):
        yield finding
    if around.wanted.send_to:
        yield of_trial(
            lane, trial_mail(access, lane, around.wanted.send_to, around.clock()), around.wanted.send_to.address
        )


def _witnessed(around: Surroundings, lane: Lane, access: GraphAccess, known: Verdicts | None) -> Witnessed:
    token = access.token.value
    person = person_of(claims_of(token) or {})
    return Witnessed(known, roles_of(token), around.identity(lane.app).client_id, around.clock(), person)


def of_outcome(lane: Lane, outcome: Outcome, witnessed: Witnessed) -> Finding:
    """What Graph's answer to a mail that cannot be sent means."""
    seen = told(outcome)
    if is_let_in(outcome):
        let_in = f"yes: let in, and refused only for want of recipients ({_short(outcome)})"
        return _SAY.green(lane.mailbox, MAY_SEND, let_in)
    match outcome:
        case Held(reason="access_denied"):
            return of_refusal(lane, seen, outcome, witnessed)
        case Held(reason="mailbox_not_found"):
            return _not_found(lane, seen, outcome.answer.graph_code)
        case Held(reason=name):
            reason = reason_of(name)
            return _SAY.red(
                lane.mailbox, MAY_SEND, seen, plain_text(reason.meaning) if reason else name,
                plain_text(reason.next_step) if reason else "see what Graph says, and docs/operations.md",
            )  # fmt: skip
        case Accepted():
            return _SAY.red(
                lane.mailbox, MAY_SEND, seen, "it accepted a mail without recipients, which Graph never does",
                "check POSTROOM_GRAPH_URL: something else answers in Graph's place",
            )  # fmt: skip
        case Throttled():
            meaning = "the mailbox or the app is throttled, so this says nothing of its rights"
            return _SAY.yellow(lane.mailbox, MAY_SEND, seen, meaning, "look again in some minutes")
    return _SAY.yellow(
        lane.mailbox, MAY_SEND, seen, "Graph gave no clear answer, so this says nothing of its rights",
        "look again in a minute: `postroom doctor --only mailboxes`; --send-to ME@… sends one mail as proof",
    )  # fmt: skip


def _not_found(lane: Lane, seen: str, code: str | None) -> Finding:
    if code == "MailboxNotEnabledForRESTAPI":
        return _SAY.red(
            lane.mailbox, MAY_SEND, seen,
            "the address exists, and has no mailbox in Exchange Online: no licence, on-premises, or soft-deleted",
            "give it a licence with Exchange Online, or make it a shared mailbox; a new mailbox takes up to a day",
        )  # fmt: skip
    return _SAY.red(
        lane.mailbox, MAY_SEND, seen, "there is no such mailbox in the tenant: a typing error, or it was deleted",
        f"correct the sender {lane.sender} (a mailbox's own address, no group and no contact), or create the mailbox",
    )  # fmt: skip


def of_outsider(lane: Lane, outcome: Outcome, roles: frozenset[str]) -> Finding:
    """What the answer means for a mailbox that must be refused."""
    seen, name = told(outcome), f"not {lane.mailbox}"
    if isinstance(outcome, Held) and outcome.reason == "access_denied":
        return _SAY.green(name, _MAY_NOT, f"yes, it was refused ({_short(outcome)})")
    if is_let_in(outcome):
        cause = (
            "Mail.Send in the token opens every mailbox, whatever scope there is in Exchange"
            if "Mail.Send" in roles
            else "a scope or a role assignment in Exchange includes it, or a change has not reached all of Exchange yet"
        )
        cure = (
            "remove the Mail.Send consent in Entra (Enterprise applications, Permissions), and keep the RBAC scope"
            if "Mail.Send" in roles
            else "Get-ManagementRoleAssignment -RoleAssignee APP and its scope; after a change, wait up to 2 hours"
        )
        return _SAY.red(name, _MAY_NOT, f"the app was let in ({_short(outcome)})", cause, cure)
    return _SAY.yellow(
        name, _MAY_NOT, seen, "this proves nothing: only an existing mailbox can be refused", "name one that exists"
    )


def _of_outsider(around: Surroundings, lane: Lane) -> Finding:
    access = around.graph_of(lane.app)
    if isinstance(access, Unreachable):
        return _SAY.skipped(f"not {lane.mailbox}", _MAY_NOT, f"app {lane.app}: {access.why}")
    outcome = access.graph.send_mail(lane.mailbox, TO_NOBODY, access.call())
    return of_outsider(lane, outcome, roles_of(access.token.value))


def _asked_for_drafts(access: GraphAccess, lane: Lane) -> bool | None:
    """Whether drafts may be made: asked by removing one that does not exist. None: no clear answer."""
    outcome = access.graph.delete_draft(lane.mailbox, NO_SUCH_DRAFT, access.call())
    if isinstance(outcome, Held) and outcome.reason == "needs_mail_readwrite":
        return False
    status = outcome.answer.http_status
    return True if status in (204, 400, 404) else None


def of_drafts(lane: Lane, permitted: bool | None) -> Finding | None:
    """What it means for a lane whether its app may make drafts; None where only large mail would need it."""
    if permitted:
        return _SAY.green(lane.mailbox, _DRAFTS, "yes")
    if lane.delivery is not DeliveryMode.DRAFT:
        return None
    if permitted is None:
        return _SAY.yellow(lane.mailbox, _DRAFTS, "no clear answer", "this says nothing", "look again in a minute")
    return _SAY.red(
        lane.mailbox, _DRAFTS, "no: refused (needs_mail_readwrite)",
        "delivery = draft makes each mail a draft first, for which the app lacks Mail.ReadWrite: its mail is held",
        "grant Mail.ReadWrite (in Exchange: the role Application Mail.ReadWrite for the same scope), or remove "
        "POSTROOM_DELIVERY=draft",
    )  # fmt: skip


def of_trial(lane: Lane, outcome: Outcome, to: str) -> Finding:
    """What became of the one mail that `--send-to` asked for."""
    asked = f"does a mail to {to} leave?"
    if isinstance(outcome, Accepted):
        return _SAY.green(
            lane.mailbox, asked, f"accepted (request-id {outcome.answer.request_id})",
            "whether it arrives, only the inbox shows; a bounce would come to the sender's own inbox",
        )  # fmt: skip
    reason = reason_of(getattr(outcome, "reason", "throttled"))
    return _SAY.red(
        lane.mailbox, asked, told(outcome), plain_text(reason.meaning) if reason else "it was not accepted",
        plain_text(reason.next_step) if reason and reason.next_step else "see docs/operations.md",
    )  # fmt: skip


def told(outcome: Outcome) -> str:
    """An answer in words: status, Graph's code, its text, and the request-id that Microsoft's support asks for."""
    answer = outcome.answer
    parts = [str(answer.http_status or NO_ANSWER), answer.graph_code or "", answer.detail or ""]
    request = f" (request-id {answer.request_id})" if answer.request_id else ""
    return " ".join(filter(None, parts)) + request


def _short(outcome: Outcome) -> str:
    return f"{outcome.answer.http_status} {outcome.answer.graph_code or ''}".strip()


def _note(around: Surroundings, lane: Lane, outcome: Outcome) -> Verdicts | None:
    """What is known of this lane, this answer included; None without Redis."""
    redis = around.redis
    if isinstance(redis, Unreachable):
        return None
    try:
        if is_let_in(outcome):
            return verdicts.allowed(redis, Scope.LANE, lane.name)
        if isinstance(outcome, Held):
            return verdicts.refused(redis, Scope.LANE, lane.name, outcome.reason)
        return verdicts.known(redis, Scope.LANE, lane.name)
    except PostroomError:
        return None
