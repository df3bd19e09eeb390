"""Shows that an app may send from where it should, and from nowhere else, without sending anything.

The answers are shown as they are (see graph/proof.py), and `postroom setup test` or `postroom doctor --send-to` sends a
mail.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from postroom.graph.client import Graph
from postroom.graph.proof import TO_NOBODY, is_let_in
from postroom.graph.requests import Call
from postroom.graph.tokens import Token, Tokens
from postroom.jobs.outcome import Held, Outcome, Throttled
from postroom.transport.http import Http

_DEADLINE_S = 30.0


class May(StrEnum):
    """What Graph's answer shows."""

    YES = "may send"
    NO = "may not send"
    NOBODY = "no such mailbox"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown for one mailbox, and Graph's answer. `as_wanted` is None where the answer proves nothing."""

    mailbox: str
    should: bool
    may: May
    answer: str

    @property
    def as_wanted(self) -> bool | None:
        if self.may in (May.UNCLEAR, May.NOBODY):
            return None
        return self.should == (self.may is May.YES)


def gather(
    http: Http, graph_url: str, tokens: Tokens, inside: Iterable[str], outside: Iterable[str]
) -> list[Shown] | str:
    """What Graph says for mailboxes that the app should send from, and for others; or why there is no token."""
    token = tokens.get()
    if not isinstance(token, Token):
        reason = "Entra asks to wait" if isinstance(token, Throttled) else token.reason
        return f"no token: {reason}{f': {token.answer.detail}' if token.answer.detail else ''}"
    graph = Graph(graph_url, http)
    asked = [*((box, True) for box in inside), *((box, False) for box in outside)]
    return [_ask(graph, token, mailbox, should=should) for mailbox, should in asked]


def _ask(graph: Graph, token: Token, mailbox: str, *, should: bool) -> Shown:
    call = Call(token=token.value, client_request_id=str(uuid.uuid4()), deadline_s=_DEADLINE_S)
    outcome = graph.send_mail(mailbox, TO_NOBODY, call)
    answer = outcome.answer
    seen = f"{answer.http_status or 'nothing'} {answer.graph_code or answer.detail or ''}".strip()
    return Shown(mailbox, should, _shows(outcome), seen)


def _shows(outcome: Outcome) -> May:
    if is_let_in(outcome):
        return May.YES
    match outcome:
        case Held(reason="access_denied"):
            return May.NO
        case Held(reason="mailbox_not_found"):
            return May.NOBODY
    return May.UNCLEAR
