"""The source of a MIME message: its header fields, as far as Postroom needs them to send the message on.

Fields are read and written as bytes, so that a message is sent unchanged: https://www.rfc-editor.org/rfc/rfc5322
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import NamedTuple

LONGEST_HEADER = 256 * 1024
# In one address list. Nobody writes a list with more of them, and reading one would take long.
MOST_ESCAPES = 200

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:.*\r\n(?:[ \t].*\r\n)*")  # without DOTALL, `.` ends with the line
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
# The parts of an address list: quoted text, an address in angle brackets, a separator, other text. Comments are removed
# before.
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|<[^<>]*>|[,;:]|[^",;:<>]+', re.DOTALL)
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|\((?:\\.|[^()\\])*\)', re.DOTALL)


class Field(NamedTuple):
    """One header field. `raw` is the whole field, with its line ends."""

    name: str
    raw: bytes

    @property
    def text(self) -> str:
        """The field's value, unfolded and decoded (RFC 2047)."""
        return decoded(self._value)

    @property
    def people(self) -> list["Person"] | None:
        """The mailboxes in the field; None if it is not a readable list of mailboxes."""
        return _people(self._value)

    @property
    def _value(self) -> str:
        value = self.raw.partition(b":")[2].replace(b"\r\n", b"")
        return value.decode("utf-8", "replace").strip()


class Person(NamedTuple):
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Source:
    """A message in two parts. `body` begins with the empty line that ends the header, if there is one."""

    fields: tuple[Field, ...]
    body: bytes

    def all(self, name: str) -> list[Field]:
        """The fields with this name, which must be given in lower case. The case in the message does not matter."""
        return [field for field in self.fields if field.name == name]

    def text(self, name: str) -> str | None:
        """The value of the first field with this name; None if there is none."""
        return next((field.text for field in self.fields if field.name == name), None)

    def people(self, name: str) -> list[Person] | None:
        """The mailboxes in all fields with this name; None if one of the fields cannot be read."""
        lists = [field.people for field in self.all(name)]
        return None if None in lists else [person for people in lists if people for person in people]

    def without(self, names: Iterable[str]) -> "Source":
        """This message without the fields of these names, which must be given in lower case."""
        gone = set(names)
        return Source(tuple(field for field in self.fields if field.name not in gone), self.body)

    def __bytes__(self) -> bytes:
        return b"".join(field.raw for field in self.fields) + self.body


def faults(source: bytes) -> Iterator[str]:
    """Why this message cannot be sent, as texts; empty if it can."""
    if lone := _LONE.search(source):
        kind = "LF without CR" if lone[0] == b"\n" else "CR without LF"
        line = source.count(b"\n", 0, lone.start()) + 1
        yield f"line {line} has a {kind}; lines end in CRLF (in Python: message.as_bytes(policy=email.policy.SMTP))"
    if b"\x00" in source:
        yield "it contains NUL characters"
    head = source.partition(b"\r\n\r\n")[0]
    if len(head) > LONGEST_HEADER:
        yield f"its header is larger than {LONGEST_HEADER // 1024} kB"
    elif not lone and (wrong := _no_field(source)):
        yield f"line {wrong} of its header is no header field; each is `Name: value`, and an empty line ends them"


def parse(source: bytes) -> Source:
    """The message in its two parts. ValueError if a line of its header is not part of a field."""
    fields, at = _fields(source)
    if at < len(source) and not source.startswith(b"\r\n", at):
        raise ValueError("a line of the header is no field")
    return Source(tuple(fields), source[at:])


def head_of(source: bytes) -> Source:
    """The header fields of a message of which `source` may be only the beginning."""
    return Source(tuple(_fields(source)[0]), b"")


def _fields(source: bytes) -> tuple[list[Field], int]:
    fields, at = [], 0
    while match := _FIELD.match(source, at):
        fields.append(Field(match[1].decode("ascii").lower(), match[0]))
        at = match.end()
    return fields, at


def _no_field(source: bytes) -> int:
    """The number, from 1, of the first line of the header that belongs to no field; 0 if there is none."""
    _, at = _fields(source)
    return 0 if at == len(source) or source.startswith(b"\r\n", at) else source.count(b"\n", 0, at) + 1


def decoded(value: str) -> str:
    """A value with its encoded words (RFC 2047) decoded; unchanged if they cannot be decoded."""
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value


def _people(value: str) -> list[Person] | None:
    """The mailboxes of an address list; None if it could be read in two ways.

    `email.utils.getaddresses` finds addresses in text that others read as names (CVE-2023-27043).
    """
    tokens = _tokens(_without_comments(value)) if value.count("\\") <= MOST_ESCAPES else None
    if tokens is None:
        return None
    people: list[Person] = []
    item: list[str] = []
    for part in [*tokens, ","]:
        if part == ":":
            if "@" in "".join(item):
                return None
            item = []  # this was the name of a group
        elif part not in {",", ";"}:
            item.append(part)
        elif "".join(item).strip():
            if (person := _person(item)) is None:
                return None
            people.append(person)
            item = []
        else:
            item = []
    return people


def _without_comments(value: str) -> str:
    before = None
    while before != value and value.count("(") <= MOST_ESCAPES:  # removes nested comments, the innermost first
        before, value = value, _COMMENT.sub(lambda match: match[1] or "", value)
    return value


def _tokens(value: str) -> list[str] | None:
    tokens, at = [], 0
    while at < len(value):
        match = _TOKEN.match(value, at)
        if not match:
            return None
        tokens.append(match[0])
        at = match.end()
    return tokens


def _person(item: list[str]) -> Person | None:
    """The mailbox in `Name <address>`, or in an address alone."""
    at = next((place for place, token in enumerate(item) if token.startswith("<")), None)
    if at is None:
        return Person("", "".join(item).strip())
    if "".join(item[at + 1 :]).strip():
        return None
    name = "".join(_unquoted(token) for token in item[:at]).strip()
    return Person(decoded(name), item[at][1:-1].strip())


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if token.startswith('"') else token
