"""`postroom events check`: what sample events would send."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroom.cloudevents.preview import Trial  # needs an extra

from pathlib import Path

import click

from postroom.cli.options import JSON, fail
from postroom.cli.output import to_json_text
from postroom.cli.printable import say
from postroom.settings.loading import load_settings


@click.group()
def events() -> None:
    """Try the rules that make mails from events."""


@events.command("check")
@click.argument("samples", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rules", type=click.Path(path_type=Path), help="The file of rules; POSTROOM_EVENTS if not given.")
@JSON
def check(samples: tuple[Path, ...], rules: Path | None, as_json: bool) -> None:
    """Show what each sample event would send; nothing is sent.

    SAMPLES are files with an event or a list of events in JSON, or folders of such files. Exit 1 if a sample would send
    nothing, or if a template cannot be rendered with its variables.
    """
    try:
        from postroom.cloudevents.rules import EventRules  # noqa: PLC0415 - an extra
    except ImportError as error:
        fail(1, f"Rules for events need {error.name}: pip install 'postroom[api]'")
    from postroom.cloudevents.preview import trials  # noqa: PLC0415 - slow to import
    from postroom.render import Renderer  # noqa: PLC0415 - the same

    settings = load_settings()
    file = rules or settings.events
    if file is None:
        raise click.UsageError("give --rules, or set POSTROOM_EVENTS")
    parsed = EventRules.parse(file.read_text(encoding="utf-8"), str(file))
    with Renderer(settings.templates) as templates:
        results = list(trials(samples, parsed, templates, settings.sender))
    say(to_json_text(results) if as_json else "\n".join(trial_text(one) for one in results))
    sys.exit(1 if any(one.faults for one in results) else 0)


def trial_text(trial: "Trial") -> str:
    """The mail that one rule makes from a sample event, or the faults, as text."""
    lines = [f"{trial.sample}: {trial.event or 'no event'}"]
    if mail := trial.mail:
        lines.append(f"  rule {trial.rule} sends {mail.template}: {trial.subject or 'no subject'}")
        lines.append(f"  from {mail.sender}")
        lines += [f"  {kind} {', '.join(getattr(mail, kind))}" for kind in ("to", "cc", "bcc") if getattr(mail, kind)]
    lines += [f"  FAULT {fault}" for fault in trial.faults]
    return "\n".join(lines)
