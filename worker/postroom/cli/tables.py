"""Reads a list of people from a file, row by row: CSV as spreadsheets write it, or one JSON object per line."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from postroom.mail.json_text import json_value

DELIMITERS = ",;\t|"
LONGEST_CELL = 1024 * 1024
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class RowFault(Exception):
    """A fault in one line of the file (from 1). The lines after it can still be read."""

    def __init__(self, line: int, fault: str) -> None:
        self.line, self.fault = line, fault
        super().__init__(f"line {line}: {fault}")


class FileFault(Exception):
    """A fault of the whole file."""


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one row, by the names of its columns; some may be missing. `line` is its last line, from 1."""

    line: int
    values: Mapping[str, Any]
    columns: Sequence[str]


def read(path: Path, encoding: str | None) -> Iterator[Row | RowFault]:
    """The rows of the file, or the fault of a row. Empty lines are left out. Raises FileFault if none can be read.

    The default `encoding` is UTF-8, or UTF-16 if the file begins with its BOM.
    """
    with path.open("rb") as file:
        begins_as_utf_16 = file.read(2) in UTF_16
    # Bytes that are invalid in this encoding are read as lone surrogates, so that their line can be reported.
    given = encoding or ("utf-16" if begins_as_utf_16 else "utf-8-sig")
    try:
        with path.open(encoding=given, errors="surrogateescape", newline="") as text:
            yield from (_json_rows if path.suffix.lower() in {".jsonl", ".ndjson"} else _csv_rows)(text, given)
    except LookupError:
        raise FileFault(f"no such encoding: {encoding}") from None
    except UnicodeError as error:
        raise FileFault(f"cannot be read as {given} ({error})") from None


def _json_rows(text: TextIO, encoding: str) -> Iterator[Row | RowFault]:
    for line, content in enumerate(text, 1):
        if not content.strip():
            continue
        if not _is_text(content):
            yield RowFault(line, _not_of(encoding))
            continue
        try:
            values = json_value(content)
        except ValueError as error:
            yield RowFault(line, f"not JSON: {error}")
            continue
        yield (
            Row(line, values, list(values))
            if isinstance(values, dict)
            else RowFault(line, 'not a JSON object, {"column": value, …}')
        )


def _csv_rows(text: TextIO, encoding: str) -> Iterator[Row | RowFault]:
    first = text.readline()
    value = first.strip().lower()
    if value.startswith("sep=") and len(value) == len("sep=;"):  # Excel's way to name the separator
        delimiter, before, lines = value[-1], 1, chain(text)
    else:
        delimiter, before, lines = max(DELIMITERS, key=_unquoted(first).count), 0, chain([first], text)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield RowFault(reader.line_num + before, f"not CSV: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num + before
        if names is None:
            names = _names(cells, line, encoding)
        elif not all(map(_is_text, cells)):
            yield RowFault(line, _not_of(encoding))
        elif len(cells) > len(names) and any(cells[len(names) :]):
            yield RowFault(
                line, f"{len(cells)} cells for {len(names)} columns (a {delimiter!r} that is not in quotes?)"
            )
        else:
            # A missing cell differs from an empty one.
            yield Row(line, dict(zip(names, cells, strict=False)), names)
    if names is None:
        raise FileFault("is empty; its first line must name the columns")


def _names(cells: list[str], line: int, encoding: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:  # spreadsheets may write empty cells after the last column
        names.pop()
    if not all(map(_is_text, names)):
        raise FileFault(f"line {line}: {_not_of(encoding)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        fault = f"the column {twice[0]!r} is there twice" if twice[-1:] != [""] and twice else "a column has no name"
        raise FileFault(f"line {line}: {fault}")
    return names


def _unquoted(line: str) -> str:
    return "".join(line.split('"')[::2])


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _not_of(encoding: str) -> str:
    name = "UTF-8" if encoding == "utf-8-sig" else encoding
    return f"not {name}; save the file as UTF-8, or say what it is (--encoding cp1252 for most of Excel's)"
