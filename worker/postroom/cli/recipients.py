"""A list of people as mails: which column is what, and what is wrong with which line."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from postroom.cli import tables
from postroom.cli.tables import FileFault, Row, RowFault
from postroom.errors import InvalidMail, TemplateFault
from postroom.mail.address import Address
from postroom.mail.model import Mail

ADDRESS_COLUMNS = ("to", "email", "e-mail", "mail", "address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a list are. All others are variables of the template, under their own names.

    `variables` names other columns for variables. Without `to`, it is the column whose name says so.
    """

    to: str | None = None
    name: str | None = None
    locale: str | None = None
    variables: Mapping[str, str]

    def of(self, first: Row) -> "Columns":
        """The same with `to`, now that a row is there. FileFault names what is not there."""
        there = first.columns
        named = (self.to, self.name, self.locale, *self.variables.values())
        if missing := [column for column in named if column is not None and column not in there]:
            raise FileFault(f"there is no column {missing[0]!r}; there are {', '.join(map(repr, there))}")
        if self.to is not None:
            return self
        matches = [column for column in there if column.strip().lower() in ADDRESS_COLUMNS]
        if len(matches) != 1:
            which = (
                f"several could be it ({', '.join(map(repr, matches))})"
                if matches
                else f"there are {', '.join(map(repr, there))}"
            )
            raise FileFault(f"which column has the addresses? {which}; say so with --to-column")
        return replace(self, to=matches[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """The file, and what each row's mail is made of: `fields` are those of every mail."""

    path: Path
    encoding: str | None
    columns: Columns
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, encoding: str | None, columns: Columns, fields: Mapping[str, Any]) -> "Recipients":
        """FileFault if the file cannot be read, or has not the columns."""
        first_fault: RowFault | None = None
        for row in tables.read(path, encoding):
            if isinstance(row, Row):
                return cls(path=path, encoding=encoding, columns=columns.of(row), fields=fields)
            first_fault = first_fault or row
        raise FileFault(f"has no row that can be read: {first_fault}" if first_fault else "has no row")

    def mails(self) -> Iterator[tuple[int, Mail]]:
        """Each line with its mail, of a file that was checked."""
        for row in tables.read(self.path, self.encoding):
            if isinstance(row, RowFault):
                raise FileFault(f"has changed since it was checked: {row}")
            yield row.line, self._mail(row)

    def check(self, render: Callable[[Mail], object], *, duplicates: bool) -> Iterator[RowFault | None]:
        """For each row None or what is wrong with it; `render` tries the template, `duplicates` are right."""
        lines: dict[bytes, int] = {}
        for row in tables.read(self.path, self.encoding):
            if isinstance(row, RowFault):
                yield row
                continue
            try:
                mail = self._mail(row)
                render(mail)
            except (InvalidMail, TemplateFault) as fault:
                yield RowFault(row.line, str(fault))
                continue
            # Not the addresses themselves: a long list of them takes ten times as much memory.
            short = hashlib.blake2b(mail.to[0].lane.encode(), digest_size=8).digest()
            before = lines.setdefault(short, row.line)
            twice = before != row.line and not duplicates
            yield (
                RowFault(row.line, f"the same address as in line {before} (--duplicates, if that is meant)")
                if twice
                else None
            )

    def _mail(self, row: Row) -> Mail:
        columns, values = self.columns, dict(self.fields) | {"to": [self._address(row)]}
        if columns.locale and row.values.get(columns.locale):
            values["locale"] = row.values[columns.locale]
        if "template" in values:
            renamed = {column: variable for variable, column in columns.variables.items()}
            fixed = {columns.to, columns.locale, *columns.variables.values()}
            own = {name: value for name, value in row.values.items() if name not in fixed}
            own |= {renamed[name]: row.values[name] for name in renamed if name in row.values}
            values["variables"] = dict(values.get("variables", {})) | own
        return Mail.model_validate(values)

    def _address(self, row: Row) -> str:
        given = _text(row, self.columns.to)
        if not given:
            raise InvalidMail(f"{self.columns.to}: no address")
        name = _text(row, self.columns.name)
        try:
            return str(Address(name, Address.parse(given).address)) if name else Address.parse(given)
        except ValueError as error:
            raise InvalidMail(f"{self.columns.to}: {error}") from None


def _text(row: Row, column: str | None) -> str:
    value = row.values.get(column) if column else None
    return str(value).strip() if isinstance(value, str | int) else ""
