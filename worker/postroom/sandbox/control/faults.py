"""Faults: rules that say which requests are struck, and what happens to them. With a seed, chance is repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from random import Random
from typing import Any

from postroom.sandbox.exchange.message import Outgoing

STAGES = (
    "graph",
    "draft",
    "attachment",
    "upload",
    "delete",
    "lookup",
    "token",
    "discovery",
    "directory",
    "machine",
    "vault",
)
_WRITING = ("graph", "draft", "attachment", "upload", "delete", "directory")
EFFECTS = {
    "answer": "an error in place of the service",
    "hang": "never answers",
    "reset": "the connection breaks (RST)",
    "close": "the connection closes without an answer",
    "pass": "the service answers, delayed, dripping or with tokens revoked",
}
_KINDS: tuple[tuple[tuple[str, ...], type | tuple[type, ...], str], ...] = (
    (("stage", "mailbox", "recipient", "subject", "job", "effect", "code", "message", "body"), str, "a text"),
    (("after", "times", "status"), int, "a whole number"),
    (("probability", "delay", "drip"), (int, float), "a number"),
    (("headers",), Mapping, "an object"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One fault. The first group says whom it strikes, the second what happens then.

    With `accepted` the request does its work first (the mail is taken in, the draft made, the range kept), and the
    effect hides it from the client.
    """

    stage: str = "graph"
    """`graph` is whatever sends (sendMail, a draft's send), `draft` its creation, `attachment` what is added to it,
    `upload` the ranges of an upload session, `delete` the end of a message, `lookup` the search for one,
    `directory` what administrators call."""
    mailbox: str = ""
    """The mailbox's address; empty: any."""
    recipient: str = ""
    """An address, or `@domain` for all of a domain."""
    subject: str = ""
    """A part of the subject."""
    job: str = ""
    probability: float = 1.0
    after: int = 0
    """Spares this many matching requests first."""
    times: int | None = None
    """Strikes this often, then no more; None: until cleared."""

    effect: str = "answer"
    accepted: bool = False
    status: int | None = None
    """None: the usual one for the code, else 503."""
    code: str = ""
    """Graph's error code, or the number of the AADSTS error; empty: the usual one for the status."""
    message: str = ""
    retry_after: float | str | None = None
    """Seconds, or an HTTP date."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    """The raw body in place of an error object: a gateway's HTML, or an empty string."""
    delay: float = 0.0
    """Seconds to wait before anything else happens."""
    drip: float | None = None
    """Seconds between the bytes of the answer, head included."""
    revoke_tokens: bool = False
    """All tokens that were issued until now become invalid."""

    @classmethod
    def from_json(cls, rule: Mapping[str, Any]) -> FaultRule:
        """The rule in this object. Raises ValueError, which says what is wrong with it."""
        known = {one.name for one in fields(cls)}
        for name in rule:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f" ({near[0]}?)" if near else f"; a rule has {', '.join(sorted(known))}"
                raise ValueError(f"a fault rule has no field {name!r}{hint}")
        for names, kind, what in _KINDS:
            for name in names:
                if rule.get(name) is not None and (isinstance(rule[name], bool) or not isinstance(rule[name], kind)):
                    raise ValueError(f"{name} is {rule[name]!r}; it has to be {what}")
        return cls(**rule)

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it can be {', '.join(STAGES)}")
        if self.effect not in EFFECTS:
            raise ValueError(f"effect is {self.effect!r}; it can be {', '.join(EFFECTS)}")
        if self.accepted and self.stage not in _WRITING:
            raise ValueError(f"accepted goes with the stages {', '.join(_WRITING)} only: no other changes anything")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; it goes from 0 to 1")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status is {self.status}; it goes from 200 to 599")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is {self.times}; leave it out, or strike at least once")
        if min(self.after, self.delay, self.drip or 0) < 0:
            raise ValueError("after, delay and drip cannot be negative")

    def to_json(self) -> dict[str, Any]:
        """The rule's fields as a JSON object."""
        return asdict(self) | {"headers": dict(self.headers)}

    def strikes(self, stage: str, mailbox: str, mail: Outgoing | None, job: str) -> bool:
        """Whether the rule is about this request, before counts and chance decide."""
        if stage != self.stage or (self.mailbox and self.mailbox.casefold() != mailbox):
            return False
        if self.job and self.job != job:
            return False
        if not (self.recipient or self.subject):
            return True
        if mail is None or self.subject.casefold() not in mail.subject.casefold():
            return False
        wanted = self.recipient.casefold()
        people = (person.address.casefold() for person in mail.recipients())
        return not wanted or any(one == wanted or (wanted[0] == "@" and one.endswith(wanted)) for one in people)


@dataclass(slots=True)
class ActiveFault:
    """A rule that is in force, and how many requests it has matched and struck."""

    id: str
    rule: FaultRule
    met: int = 0
    struck: int = 0

    def to_json(self) -> dict[str, Any]:
        """The rule and its counts as a JSON object."""
        return {"id": self.id, "met": self.met, "struck": self.struck, **self.rule.to_json()}


class Faults:
    """The rules in force, in the order they were added: the first that strikes decides."""

    def __init__(self, seed: int | None = None) -> None:
        self._chance = Random(seed)  # noqa: S311  dice, no secret
        self._active: dict[str, ActiveFault] = {}
        self._added = 0

    def add(self, rule: FaultRule) -> str:
        """Adds the rule, and returns its id."""
        self._added += 1
        fault = ActiveFault(f"fault-{self._added}", rule)
        self._active[fault.id] = fault
        return fault.id

    def remove(self, fault_id: str) -> bool:
        """Removes a rule. False where there is none with this id."""
        return self._active.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Removes all rules."""
        self._active.clear()

    def active(self) -> list[ActiveFault]:
        """All rules, also those that have struck as often as they may."""
        return list(self._active.values())

    def strike(self, stage: str, mailbox: str = "", mail: Outgoing | None = None, job: str = "") -> ActiveFault | None:
        """The fault that strikes this request, if any."""
        for fault in self._active.values():
            rule = fault.rule
            if not rule.strikes(stage, mailbox, mail, job):
                continue
            fault.met += 1
            if fault.met <= rule.after or (rule.times is not None and fault.struck >= rule.times):
                continue
            if rule.probability < 1 and self._chance.random() >= rule.probability:
                continue
            fault.struck += 1
            return fault
        return None
