"""Formats the output of commands: JSON, tables that fit the terminal, and times."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from postroom.cli.printable import in_json, printable

GAP = 2
ENDLESS = 10_000


def to_json_text(value: object, *, indent: int | None = 2) -> str:
    """`value` as JSON, with times as ISO 8601 in UTC; one line without an `indent`."""

    def other(thing: object) -> object:
        if isinstance(thing, datetime):
            return thing.isoformat()
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        if hasattr(thing, "to_json"):  # a Mail, whose class takes long to import
            return json.loads(thing.to_json())
        return str(thing)

    return in_json(json.dumps(value, default=other, ensure_ascii=False, indent=indent))


def open_console(*, markup: bool = False) -> Console:
    """The console to print to: as wide as the terminal, or without a limit if a file or another program reads.

    With `markup`, text such as `[bold]` is a command, so data in it needs `rich.markup.escape`.
    """
    return Console(highlight=False, markup=markup, emoji=False, width=None if sys.stdout.isatty() else ENDLESS)


def printed(text: str, style: str = "") -> Text:
    """A text of a table that may contain data."""
    return Text(printable(text), style)


def columns_table(
    columns: dict[str, list[Text]], dispensable: Sequence[str], width: int, unbroken: str = "job"
) -> Table:
    """Rows with as many columns as fit into `width`. Empty columns are left out, then the dispensable ones in turn."""
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    for name in dispensable:
        if sum(_width(head, cells) + GAP for head, cells in columns.items()) - GAP > width:
            columns.pop(name, None)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == unbroken)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def fraction(pace: float) -> str:
    """A fraction of the full pace, such as `1/4`."""
    return f"1/{round(1 / pace)}"


def _width(name: str, cells: Sequence[Text]) -> int:
    return max(cell_len(name), *(cell.cell_len for cell in cells))


def time_text(value: datetime | None) -> str:
    """Date and time in this machine's time zone; empty for None."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short_time(value: datetime | None) -> str:
    """The time of day if it is today, else the date."""
    if value is None:
        return ""
    local, today = value.astimezone(), datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d")
