"""`postroom bulk`: one mail for each row of a file. Every row is checked before the first mail is taken in."""

import csv
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click

from postroom.cli.options import JSON, fail, pairs, time_option
from postroom.cli.printable import say
from postroom.cli.recipients import Columns, Recipients
from postroom.cli.tables import FileFault
from postroom.client import BatchCounts, BatchResult, Client
from postroom.errors import Unavailable
from postroom.jobs.job import Receipt
from postroom.mail.model import Attachment, Mail
from postroom.mail.priority import Priority
from postroom.settings.loading import load_settings
from postroom.settings.values import duration

SAID = 20  # faults that are listed one by one
PORTION = 200
LOOK_S = 1.0


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--batch", required=True, help="The name of this mailing. Run again, it sends nobody twice.")
@click.option("--template", help="The name of a template. Columns are its variables.")
@click.option("--text", help="A ready text body, instead of a template.")
@click.option("--html", help="A ready HTML body, instead of a template.")
@click.option("--subject", help="The subject; beside a template it wins over the template's.")
@click.option("--from", "sender", help="The mailbox it leaves from; POSTROOM_SENDER if not given.")
@click.option("--reply-to", multiple=True, help="Where answers go; may be given several times.")
@click.option("--locale", help="The language of the template, such as de or de-AT.")
@click.option(
    "--attach", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True, help="A file for all."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of every mail.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable that is the same for all.")
@click.option("--priority", type=click.Choice([p.value for p in Priority]), help="normal if not given.")
@click.option("--at", "scheduled_at", metavar="TIME", help="When: an ISO time with its zone.")
@click.option("--expires", "expires_at", metavar="TIME", help="Do not send after this: an ISO time with its zone.")
@click.option("--to-column", help="The column of addresses; the one named to, email or mail if not given.")
@click.option("--name-column", help="The column of names that stand before the addresses.")
@click.option("--locale-column", help="The column of languages.")
@click.option(
    "--map", "mapped", multiple=True, metavar="VARIABLE=COLUMN", help="The column that a variable comes from."
)
@click.option("--encoding", help="The file's encoding, such as cp1252; UTF-8 or UTF-16 if not given.")
@click.option("--duplicates", is_flag=True, help="An address may stand in the file several times.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Where to write what became of each row."
)
@click.option("--dry-run", is_flag=True, help="Only check the file.")
@click.option("--wait", is_flag=True, help="Wait until all have ended; exit 1 if one is not accepted.")
@JSON
def bulk(
    file: Path, batch: str, mapped: tuple[str, ...], encoding: str | None, duplicates: bool, report: Path | None,
    dry_run: bool, wait: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Send one mail for each row of a CSV or JSON Lines file.

    postroom bulk people.csv --template newsletter --batch newsletter-2026-11 --priority low

    Every line is checked before the first mail is taken in, with its template if the template is on this machine. If
    the command is interrupted, run it again with the same file and options: it continues.
    """
    columns = Columns(
        **{name: given.pop(f"{name}_column") for name in ("to", "name", "locale")},
        variables=pairs("--map", mapped),
    )
    settings = load_settings()
    try:
        people = Recipients.of(file, encoding, columns, _fields(given))
        if settings.sender is None and "sender" not in people.fields:
            raise click.UsageError("who sends this? Give --from, or set POSTROOM_SENDER")
        count = _checked(people, settings.templates, duplicates=duplicates)
        if dry_run:
            _say({"rows": count, "taken": 0}, f"{count} rows are right. Nothing was taken in.", as_json=as_json)
            return
        _run(
            Client.from_env(),
            people,
            batch,
            count,
            report or file.with_suffix(".report.csv"),
            wait=wait,
            as_json=as_json,
        )
    except FileFault as fault:
        fail(2, f"{file}: {fault}")


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that every mail has."""
    fields = {name: value for name, value in given.items() if value}
    if braced := [name for name in ("subject", "text", "html") if "{{" in fields.get(name, "")]:
        raise click.UsageError(f"--{braced[0]} is sent as it is; {{{{ … }}}} is for a template (--template)")
    for option, name in (("--at", "scheduled_at"), ("--expires", "expires_at")):
        if name in fields:
            fields[name] = _absolute(option, fields[name])
    for option, name in (("--var", "variables"), ("--header", "headers")):
        if name in fields:
            fields[name] = pairs(option, fields[name])
    if attach := fields.pop("attach", ()):
        fields["attachments"] = [Attachment(path.name, path) for path in attach]
    return fields


def _absolute(option: str, text: str) -> Any:
    """An absolute time. A time from now would make other mails when the command is run again."""
    try:
        duration(text)
    except ValueError:
        return time_option(option, text)
    raise click.BadParameter(
        "a time from now is another one whenever this is run again; give an ISO time", param_hint=option
    )


# Checking


def _checked(people: Recipients, templates: Path, *, duplicates: bool) -> int:
    """The number of rows. Ends the program if a row is wrong."""
    count, wrong = 0, 0
    with _progress("checked", None) as done, _renderer(people, templates) as render:
        for fault in people.check(render, duplicates=duplicates):
            count += 1
            done()
            if fault is None:
                continue
            wrong += 1
            if wrong <= SAID:
                say(str(fault), err=True)
    if wrong:
        more = f" ({wrong - SAID} more lines are not shown)" if wrong > SAID else ""
        fail(2, f"{wrong} of {count} rows are wrong{more}. Nothing was taken in.")
    return count


@contextmanager
def _renderer(people: Recipients, templates: Path) -> Iterator[Callable[[Mail], object]]:
    """The function that tries a mail's template. It does nothing if the templates are not on this machine."""
    if "template" in people.fields and not templates.is_dir():
        say(f"Templates are not here ({templates}/), so they were not tried.", err=True)
    if "template" not in people.fields or not templates.is_dir():
        yield lambda _: None
        return
    from postroom.render import Renderer  # noqa: PLC0415 - only here

    with Renderer(templates) as renderer:
        yield lambda mail: renderer.render(str(mail.template), mail.variables, mail.locale)


# Taking in


def _run(
    client: Client, people: Recipients, batch: str, count: int, report: Path, *, wait: bool, as_json: bool
) -> None:
    part, stopped, result, counts = report.with_name(report.name + ".part"), None, None, None
    try:
        result = _taken_in(client, people, batch, count, part)
        if wait:
            counts = _followed(client, batch)
    except KeyboardInterrupt:
        stopped = "Interrupted. What was taken in is kept and goes on; run the same command again for the rest."
    except (Unavailable, FileFault) as error:
        stopped = f"{error}. Run the same command again: it goes on where it was."
    _write_report(client, part, report)
    if stopped or result is None:
        fail(1, "", str(stopped), f"Report: {report}")
    _tell(result, counts, batch, report, as_json=as_json)
    all_well = not result.refused and (counts is None or counts.accepted == counts.total)
    sys.exit(0 if all_well else 1)


def _taken_in(client: Client, people: Recipients, batch: str, count: int, part: Path) -> BatchResult:
    lines: dict[int, int] = {}  # line numbers of the rows that have no receipt yet

    with part.open("w", encoding="utf-8", newline="") as file, _progress("taken in", count) as done:
        taken = csv.writer(file)

        def mails() -> Iterator[Mail]:
            for row, (line, mail) in enumerate(people.mails()):
                lines[row] = line
                yield mail

        def on_receipt(row: int, receipt: Receipt) -> None:
            taken.writerow([lines.pop(row), receipt.id, ""])
            done()

        result = client.send_many(mails(), batch, on_receipt=on_receipt)
        for row, error in result.refused:
            taken.writerow([lines[row], "", str(error)])
        return BatchResult(
            taken=result.taken, known=result.known, refused=[(lines[row], e) for row, e in result.refused]
        )


def _followed(client: Client, batch: str) -> BatchCounts:
    """Waits until all mails of the batch have ended, and returns its counts."""
    with _progress("ended", client.batch(batch).total) as done:
        before = 0
        while True:
            began = time.monotonic()
            counts = client.batch(batch)
            ended = counts.accepted + counts.dead + counts.cancelled + counts.expired
            done(ended - before)
            before = ended
            if ended == counts.total:
                return counts
            # Counting a large batch takes long. It may take at most a tenth of the time.
            time.sleep(max(LOOK_S, 9 * (time.monotonic() - began)))


def _write_report(client: Client, part: Path, report: Path) -> None:
    """Writes line, job, status and reason of each row, as they are now."""
    with part.open(encoding="utf-8", newline="") as file, report.open("w", encoding="utf-8", newline="") as out:
        written = csv.writer(out)
        written.writerow(["line", "id", "status", "reason"])
        rows = csv.reader(file)
        while some := list(islice(rows, PORTION)):
            now = _statuses(client, [job_id for _, job_id, _ in some if job_id])
            for line, job_id, error in some:
                status, reason = now.get(job_id, ("refused", error) if error else ("", ""))
                written.writerow([line, job_id, status, reason])
    part.unlink()


def _statuses(client: Client, job_ids: list[str]) -> dict[str, tuple[str, str]]:
    try:
        return {one.id: (str(one.status), one.reason or "") for one in client.read(job_ids)}
    except Unavailable:
        return {}


# Telling


def _tell(result: BatchResult, counts: BatchCounts | None, batch: str, report: Path, *, as_json: bool) -> None:
    for line, error in result.refused[:SAID]:
        say(f"line {line}: {error}", err=True)
    summary: dict[str, Any] = {
        "batch": batch,
        "taken": result.taken,
        "known": result.known,
        "refused": len(result.refused),
    }
    text = f"{result.taken} taken in, {result.known} known already, {len(result.refused)} refused. Report: {report}"
    if counts:
        summary["counts"] = dataclasses.asdict(counts)
        text += f"\n{counts.accepted} of {counts.total} accepted, {counts.dead} dead."
    _say(summary | {"report": str(report)}, text, as_json=as_json)


def _say(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    say(json.dumps(data) if as_json else text)


def _progress(what: str, total: int | None) -> AbstractContextManager[Callable[..., None]]:
    from postroom.cli.progress import progress  # noqa: PLC0415 - takes longer to import than most commands take

    return progress(what, total)
