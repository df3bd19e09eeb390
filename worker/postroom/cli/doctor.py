"""`postroom doctor`: what keeps mail from being sent, and what to do about it."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap

import click
from rich.console import Console

from postroom.cli.options import JSON
from postroom.cli.output import open_console, printed, to_json_text
from postroom.cli.printable import say
from postroom.doctor.examination import examine
from postroom.doctor.finding import Finding, Group, Level, changes, worst
from postroom.doctor.surroundings import Wanted
from postroom.errors import InvalidMail
from postroom.mail.address import Address

EXIT_CODES = {Level.GREEN: 0, Level.RED: 1, Level.YELLOW: 3}
FIRST_LOOK_S, LONGEST_LOOK_S = 10.0, 600.0
_MARKS = {
    Level.GREEN: ("ok", "green"),
    Level.YELLOW: ("LOOK", "bold yellow"),
    Level.RED: ("FAULT", "bold red"),
    Level.SKIPPED: ("skipped", "dim"),
}
_INDENT = 10


class _AddressType(click.ParamType[Address]):
    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        try:
            return Address.parse(str(value))
        except (InvalidMail, ValueError) as error:
            self.fail(str(error), param, ctx)


ADDRESS = _AddressType()


@click.command()
@click.option("--sender", "senders", type=ADDRESS, multiple=True, help="Look at this mailbox, instead of those set.")
@click.option("--not-sender", "not_senders", type=ADDRESS, multiple=True, help="Prove that this mailbox is refused.")
@click.option("--send-to", type=ADDRESS, help="Send one mail from each mailbox to this address, as proof.")
@click.option("--watch", is_flag=True, help="Look again, ever more seldom, until all is green; print what changes.")
@click.option("--only", type=click.Choice([group.value for group in Group]), multiple=True, help="Only this group.")
@JSON
def doctor(
    senders: tuple[Address, ...],
    not_senders: tuple[Address, ...],
    send_to: Address | None,
    watch: bool,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find out why mail is not sent, from the settings to each mailbox.

    Nothing is sent unless --send-to asks for it. Exit codes: 0 if all is green, 3 if something is yellow, 1 if
    something is red.
    """
    wanted = Wanted(senders=senders, not_senders=not_senders, send_to=send_to)
    groups = [Group(one) for one in only]

    def look() -> Iterator[Finding]:
        return examine(wanted, groups, os.environ, Path.cwd())

    if as_json:
        found = list(look())
        say(to_json_text(_as_json(found)))
    else:
        found = list(print_findings(look(), open_console()))
    if watch and worst(found) is not Level.GREEN:
        # What was sent once proves enough: no watch sends again and again.
        wanted = Wanted(senders=senders, not_senders=not_senders)
        found = watch_until_green(found, lambda: list(look()), time.sleep, as_json=as_json)
    sys.exit(EXIT_CODES[worst(found)])


def watch_until_green(
    found: list[Finding], look: Callable[[], list[Finding]], pause: Callable[[float], None], *, as_json: bool
) -> list[Finding]:
    """Looks again until all is green or Ctrl-C, and prints a line for each change. Returns what was found last."""
    wait = FIRST_LOOK_S
    if not as_json:
        say(f"\nWatching: the next look is in {wait:.0f} s, later ones more seldom (Ctrl-C ends it).")
    while worst(found) is not Level.GREEN:
        before = found
        try:
            pause(wait)
            found = look()
        except KeyboardInterrupt:  # what was found last decides the exit code
            return before
        wait = min(wait * 2, LONGEST_LOOK_S)
        for finding in changes(before, found):
            say(_change(finding, as_json=as_json))
    return found


def _change(finding: Finding, *, as_json: bool) -> str:
    at = datetime.now(UTC)
    if as_json:
        return to_json_text({"at": at, **_fields(finding)}, indent=None)
    step = f" -> {finding.next}" if finding.next and finding.level is not Level.GREEN else ""
    return f"{at:%H:%M:%S} {_MARKS[finding.level][0]:5} {finding.group} {finding.name}: {finding.seen}{step}"


def print_findings(findings: Iterable[Finding], console: Console) -> Iterator[Finding]:
    """Prints each finding as soon as it is made, then the summary; passes them on."""
    width = min(console.width, 110)
    group: Group | None = None
    seen: list[Finding] = []
    for finding in findings:
        if finding.group is not group:
            group = finding.group
            console.print(printed(f"\n{group}", style="bold"))
        _print(finding, console, width)
        seen.append(finding)
        yield finding
    _print_summary(seen, console)


def _print(finding: Finding, console: Console, width: int) -> None:
    mark, style = _MARKS[finding.level]
    for number, (line, line_style) in enumerate(_lines(finding, width - _INDENT)):
        console.print(printed(f"  {mark if number == 0 else '':8}", style=style), end="")
        console.print(printed(line, style=line_style), soft_wrap=True)


def _lines(finding: Finding, width: int) -> Iterator[tuple[str, str]]:
    """The lines of a finding with their styles: a paragraph where all is well, else what was seen, means, is next."""
    quiet = finding.level in (Level.GREEN, Level.SKIPPED)
    if quiet:
        yield from ((line, "dim") for line in _wrapped(f"{finding.name}: {finding.asked} {finding.seen}", width))
    else:
        yield f"{finding.name}: {finding.asked}", "bold"
    rows = [] if quiet else [("seen", finding.seen)]
    rows += [("note" if quiet else "means", finding.meaning), ("next", finding.next)]
    for label, text in rows:
        for number, line in enumerate(_wrapped(text, width - 6) if text else ()):
            yield f"{label if number == 0 else '':6}{line}", "dim" if quiet else ""


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)


def _print_summary(found: list[Finding], console: Console) -> None:
    level = worst(found)
    count = {one: sum(finding.level is one for finding in found) for one in Level}
    told = f"{count[Level.RED]} fault(s), {count[Level.YELLOW]} to look at, {count[Level.GREEN]} in order"
    skipped = f", {count[Level.SKIPPED]} skipped" if count[Level.SKIPPED] else ""
    console.print(printed(f"\n{told}{skipped}.", style=_MARKS[level][1]))
    first = next((finding for finding in found if finding.level is level), None)
    if first is not None and level is not Level.GREEN:
        console.print(printed(f"Begin with {first.group}, {first.name}: {first.next}"), soft_wrap=True)


def _as_json(found: list[Finding]) -> dict[str, object]:
    return {"level": worst(found).value, "findings": [_fields(finding) for finding in found]}


def _fields(finding: Finding) -> dict[str, str]:
    names = ("group", "name", "level", "asked", "seen", "meaning", "next")
    return {name: str(getattr(finding, name)) for name in names}
