"""Makes a mail from each row of a list of people: the meaning of its columns, and the faults of its lines."""

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
    """The meaning of the columns of a list. All other columns are template variables with the column's name.

    `variables` maps variables to columns with other names. Without `to`, the column with a usual name (such as `email`)
    is used.
    """

    to: str | None = None
    name: str | None = None
    locale: str | None = None
    variables: Mapping[str, str]

    def of(self, first: Row) -> "Columns":
        """The same with `to`, found in this row. Raises FileFault, which names a missing column."""
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
    """The file, and the parts of each row's mail: `fields` are the same for all mails."""

    path: Path
    encoding: str | None
    columns: Columns
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, encoding: str | None, columns: Columns, fields: Mapping[str, Any]) -> "Recipients":
        """The recipients of a file. Raises FileFault if it cannot be read, or if a column is missing."""
        first_fault: RowFault | None = None
        for row in tables.read(path, encoding):
            if isinstance(row, Row):
                return cls(path=path, encoding=encoding, columns=columns.of(row), fields=fields)
            first_fault = first_fault or row
        raise FileFault(f"has no row that can be read: {first_fault}" if first_fault else "has no row")

    def mails(self) -> Iterator[tuple[int, Mail]]:
        """Each line with its mail. The file must have been checked."""
        for row in tables.read(self.path, self.encoding):
            if isinstance(row, RowFault):
                raise FileFault(f"has changed since it was checked: {row}")
            yield row.line, self._mail(row)

    def check(self, render: Callable[[Mail], object], *, duplicates: bool) -> Iterator[RowFault | None]:
        """Gives None or the fault for each row. `render` tries the template; `duplicates` allows repeated addresses."""
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
            # Hashes instead of the addresses themselves, which would take ten times as much memory.
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
