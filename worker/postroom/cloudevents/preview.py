"""Tries rules and templates on sample events, and shows what would be sent. Nothing is sent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from postroom.cloudevents.parsing import BadEvents, Event, read_sample
from postroom.cloudevents.rules import EventRules, Planned
from postroom.errors import TemplateFault
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.render import Renderer, Templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The result of one rule for one sample event. `faults` says why no mail would be sent, or why it would be dead."""

    sample: str
    event: str | None
    rule: str | None
    mail: Mail | None
    subject: str | None
    faults: tuple[str, ...]


def trials(
    samples: Iterable[Path], rules: EventRules, templates: Renderer | Templates, default_sender: Address | None
) -> Iterator[Trial]:
    """A trial for each rule that matches a sample; for a sample that no rule matches, one trial that says so.

    `samples` are files, or folders with *.json files.
    """
    for sample in _files(samples):
        try:
            events = read_sample(sample.read_bytes()).events
        except BadEvents as error:
            yield Trial(sample=str(sample), event=None, rule=None, mail=None, subject=None, faults=error.faults)
            continue
        for event in events:
            planned = rules.plan(event, default_sender)
            for one in planned or [Planned(rule="", faults=("no rule fits this event",))]:
                yield _trial(sample, event, one, templates)


def _trial(sample: Path, event: Event, planned: Planned, templates: Renderer | Templates) -> Trial:
    mail, faults, subject = planned.mail, planned.faults, None
    if mail is not None:
        try:
            subject = templates.render(mail.template or "", mail.variables, mail.locale).subject
        except TemplateFault as error:
            faults = (*faults, str(error))
    return Trial(
        sample=str(sample),
        event=f"{event.type} {event.id}",
        rule=planned.rule or None,
        mail=mail,
        subject=mail.subject or subject if mail else None,
        faults=faults,
    )


def _files(samples: Iterable[Path]) -> Iterator[Path]:
    for sample in samples:
        yield from sorted(sample.glob("*.json")) if sample.is_dir() else [sample]
