"""Rules that make mails from events: which events they match, and where in an event the recipients and variables are.

Expressions are JMESPath (https://jmespath.org), compiled when the rules are read. Template, sender and priority never
come from an event: the sender of events decides the content of a mail, but not from whom it is.
"""

import difflib
import fnmatch
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from postroom.cloudevents.parsing import Event
from postroom.errors import ConfigError, InvalidMail
from postroom.jobs.callbacks import Callbacks
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.mail.priority import Priority
from postroom.mail.validation import plainly

RECIPIENTS = ("to", "cc", "bcc", "reply_to")
NO_RECIPIENT = "no_recipient"
INVALID = "invalid"
UNMATCHED = "unmatched"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True)
class Expression:
    """A JMESPath expression, compiled."""

    text: str
    compiled: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: object) -> "Expression":
        """The expression with this text. ValueError says where it is wrong."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str) or not text.strip():
            raise ValueError('a JMESPath expression in quotes is needed, as in "data.requester.mail"')
        try:
            return cls(text, jmespath.compile(text))
        except JMESPathError as error:
            raise ValueError(f"no JMESPath expression: {str(error).splitlines()[0]}") from None

    def of(self, event: Mapping[str, Any]) -> Any:
        """The value of the expression for an event, or None. ValueError if it cannot be applied; it quotes no data."""
        try:
            return self.compiled.search(event)
        except JMESPathError as error:
            raise ValueError(f"the expression does not fit this event ({type(error).__name__})") from None


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _variables(value: object) -> object:
    """The variables of a rule, in which each string, at any depth, is an expression. Other values stay as they are."""
    if isinstance(value, str):
        return Expression.parse(value)
    if isinstance(value, dict):
        return {name: _variables(inner) for name, inner in value.items()}
    return [_variables(inner) for inner in value] if isinstance(value, list) else value


AnExpression = Annotated[Expression, BeforeValidator(Expression.parse)]
Expressions = Annotated[tuple[AnExpression, ...], BeforeValidator(_listed)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Rule(BaseModel):
    """One rule: which events it matches, and which mail it makes from each."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)

    type: Annotated[Patterns, Field(min_length=1)]
    source: Patterns = ()
    when: AnExpression | None = None
    template: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    sender: Annotated[Address, BeforeValidator(Address.parse)] | None = Field(default=None, alias="from")
    to: Expressions = ()
    cc: Expressions = ()
    bcc: Expressions = ()
    reply_to: Expressions = ()
    subject: AnExpression | None = None
    locale: AnExpression | None = None
    variables: Annotated[Mapping[str, Any], BeforeValidator(_variables)] = {}
    priority: Priority = Priority.NORMAL
    tags: tuple[str, ...] = ()
    on_accepted: Mapping[str, Any] | None = None
    on_dead: Mapping[str, Any] | None = None

    @model_validator(mode="after")
    def _can_call(self) -> "Rule":
        try:
            Callbacks.of(self.on_accepted, self.on_dead)
        except InvalidMail as fault:
            raise ValueError(str(fault)) from None
        return self

    @model_validator(mode="after")
    def _has_recipients(self) -> "Rule":
        if not (self.to or self.cc or self.bcc):
            raise ValueError("to: an expression that finds the recipients is needed")
        return self

    def fits(self, event: Event) -> bool:
        """Whether the rule matches this event. ValueError if its `when` cannot be applied."""
        attributes = event.attributes
        return (
            any(fnmatch.fnmatchcase(event.type, pattern) for pattern in self.type)
            and (not self.source or any(fnmatch.fnmatchcase(event.source, pattern) for pattern in self.source))
            and (self.when is None or _is_true(self.when.of(attributes)))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The result of one rule for an event: a mail with its idempotency key, or why there is none."""

    rule: str
    mail: Mail | None = None
    key: str = ""
    reason: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventRules:
    """All rules, by name."""

    rules: Mapping[str, Rule]

    @classmethod
    def parse(cls, text: str, where: str) -> "EventRules":
        """The rules in the text of a file named `where`. ConfigError lists all faults."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where}: {error}") from None
        faults = [f"{where}: {name!r} does not belong here (only [rules.NAME])" for name in content if name != "rules"]
        rules: dict[str, Rule] = {}
        tables = content.get("rules", {})
        for name, table in tables.items() if isinstance(tables, dict) else ():
            try:
                rules[name] = Rule.model_validate(table)
            except ValidationError as error:
                faults += [f"{where}: [rules.{name}] {fault}" for fault in _faults(error)]
            if not _NAME.fullmatch(name):
                faults.append(f"{where}: [rules.{name}] a name has letters, digits, - and _")
        if not rules and not faults:
            faults.append(f"{where}: no rule in it ([rules.NAME] begins one)")
        if faults:
            raise ConfigError(faults)
        return cls(rules)

    def plan(self, event: Event, default_sender: Address | None) -> list[Planned]:
        """The results of all rules that match the event, in the order of the file; empty if none matches."""
        return [planned for name, rule in self.rules.items() if (planned := _plan(name, rule, event, default_sender))]


def key_of(event: Event, rule: str) -> str:
    """What names its mail: the same event is the same mail, however often and in whatever format it is delivered."""
    digest = hashlib.sha256(f"{event.source}\n{event.id}".encode()).hexdigest()[:32]
    return f"{rule}/{digest}"


def _plan(name: str, rule: Rule, event: Event, default_sender: Address | None) -> Planned | None:
    try:
        if not rule.fits(event):
            return None
    except ValueError as error:
        return Planned(rule=name, reason=INVALID, faults=(f"when: {error}",))
    faults: list[str] = []
    values = _values(rule, event, faults)
    if faults:
        return Planned(rule=name, reason=INVALID, faults=tuple(faults))
    if not any(values.get(kind) for kind in ("to", "cc", "bcc")):
        looked = [f"{kind}: {one.text}" for kind in ("to", "cc", "bcc") for one in getattr(rule, kind)]
        return Planned(
            rule=name, reason=NO_RECIPIENT, faults=tuple(f"{one} finds no address in this event" for one in looked)
        )
    try:
        mail = Mail.model_validate(values).with_sender(default_sender)
    except InvalidMail as error:
        return Planned(rule=name, reason=INVALID, faults=error.faults)
    return Planned(rule=name, mail=mail, key=key_of(event, name))


def _values(rule: Rule, event: Event, faults: list[str]) -> dict[str, Any]:
    """The fields of the mail. A field whose expression finds nothing is left out."""

    def found(where: str, expression: Expression) -> Any:
        try:
            return expression.of(event.attributes)
        except ValueError as error:
            faults.append(f"{where}: {error}")
            return None

    def filled(where: str, value: Any) -> Any:
        match value:
            case Expression():
                return found(where, value)
            case dict():
                inner = {name: filled(f"{where}.{name}", one) for name, one in value.items()}
                return {name: one for name, one in inner.items() if one is not None}
            case list():
                return [filled(where, one) for one in value]
            case _:
                return value

    recipients = {kind: _distinct(_flat(found(kind, one) for one in getattr(rule, kind))) for kind in RECIPIENTS}
    about = {"event_id": event.id, "event_source": event.source, "event_type": event.type}
    values = {
        "from": rule.sender,
        **recipients,
        "template": rule.template,
        "subject": rule.subject and found("subject", rule.subject),
        "locale": rule.locale and found("locale", rule.locale),
        "variables": filled("variables", dict(rule.variables)),
        "priority": rule.priority,
        "tags": rule.tags,
        "metadata": {name: value[:500] for name, value in about.items()},
    }
    return {name: value for name, value in values.items() if value not in (None, [], ())}


def _flat(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(iter(value))
        elif value not in (None, ""):
            yield value


def _distinct(values: Iterator[Any]) -> list[Any]:
    """The recipients, each once, in their order: a person may be found by two expressions."""
    seen: dict[str, Any] = {}
    for value in values:
        seen.setdefault(str(value).casefold(), value)
    return list(seen.values())


def _is_true(value: Any) -> bool:
    """Whether JMESPath takes the value as true: empty values are false, 0 is true."""
    return value not in (None, False, "", [], {}) or (value == 0 and value is not False)


def _faults(error: ValidationError) -> Iterator[str]:
    names = ["from" if name == "sender" else name for name in Rule.model_fields]
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, names, n=1)
            yield f"{where}: no such field" + (f" ({near[0]}?)" if near else "")
        elif fault["type"] == "missing":
            yield f"{where}: missing"
        else:
            yield f"{where}: {plainly(fault['msg'])}".removeprefix(": ")
