"""Shows that an app may send from where it should, and from nowhere else, without sending anything.

A sendMail without recipients is refused in any case. Where the app may send, Graph refuses the mail (400), else it
refuses the app (403).
"""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from postroom.graph.tokens import Token, Tokens
from postroom.jobs.outcome import Throttled
from postroom.transport.http import Http, Lost, NotSent

_NOBODY = {"message": {"subject": "", "body": {"contentType": "text", "content": ""}, "toRecipients": []}}
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
    asked = [*((box, True) for box in inside), *((box, False) for box in outside)]
    return [_ask(http, graph_url, token, mailbox, should=should) for mailbox, should in asked]


def _ask(http: Http, graph_url: str, token: Token, mailbox: str, *, should: bool) -> Shown:
    headers = {
        "Authorization": f"Bearer {token.value}",
        "Content-Type": "application/json",
        "client-request-id": str(uuid.uuid4()),
    }
    url = f"{graph_url.rstrip('/')}/v1.0/users/{quote(mailbox, safe='@')}/sendMail"
    try:
        answer = http.exchange("POST", url, headers=headers, body=json.dumps(_NOBODY).encode(), deadline_s=_DEADLINE_S)
    except (NotSent, Lost) as fault:
        return Shown(mailbox, should, May.UNCLEAR, str(fault))
    may = {400: May.YES, 403: May.NO, 404: May.NOBODY}.get(answer.status, May.UNCLEAR)
    return Shown(mailbox, should, may, f"{answer.status} {_code(answer.body)}".strip())


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
