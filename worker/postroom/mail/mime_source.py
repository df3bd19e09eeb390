"""The source of a MIME message, as far as it must be understood to pass it on: its header fields, as they stand there.

Fields are read and written as bytes, for what is passed on stays as it came: https://www.rfc-editor.org/rfc/rfc5322
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import NamedTuple

LONGEST_HEADER = 256 * 1024
# In one address list: more of them is no list that anybody writes, and takes long to read.
MOST_ESCAPES = 200

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:.*\r\n(?:[ \t].*\r\n)*")  # without DOTALL: each line by itself
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
# Of an address list: quoted text, an address in angles, what separates; a comment is taken out before.
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|<[^<>]*>|[,;:]|[^",;:<>]+', re.DOTALL)
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|\((?:\\.|[^()\\])*\)', re.DOTALL)


class Field(NamedTuple):
    """One header field. `raw` is all of it, with its line ends."""

    name: str
    raw: bytes

    @property
    def text(self) -> str:
        """What it says, unfolded and decoded (RFC 2047)."""
        return decoded(self._value)

    @property
    def people(self) -> list["Person"] | None:
        """The mailboxes that it names; None if it cannot be read as a list of them."""
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
    """A message in two parts; `body` has the empty line before it, if there is one."""

    fields: tuple[Field, ...]
    body: bytes

    def all(self, name: str) -> list[Field]:
        """The fields of this name (in lower case), whatever the case they stand there in."""
        return [field for field in self.fields if field.name == name]

    def text(self, name: str) -> str | None:
        """What the first field of this name says; None if there is none."""
        return next((field.text for field in self.fields if field.name == name), None)

    def people(self, name: str) -> list[Person] | None:
        """Whom all fields of this name name; None if one of them cannot be read."""
        lists = [field.people for field in self.all(name)]
        return None if None in lists else [person for people in lists if people for person in people]

    def without(self, names: Iterable[str]) -> "Source":
        """The same without the fields of these names."""
        gone = set(names)
        return Source(tuple(field for field in self.fields if field.name not in gone), self.body)

    def __bytes__(self) -> bytes:
        return b"".join(field.raw for field in self.fields) + self.body


def faults(source: bytes) -> Iterator[str]:
    """Why this cannot be passed on; nothing if it can."""
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
    """The message in its parts; ValueError if a line of its header is no field."""
    fields, at = _fields(source)
    if at < len(source) and not source.startswith(b"\r\n", at):
        raise ValueError("a line of the header is no field")
    return Source(tuple(fields), source[at:])


def head_of(source: bytes) -> Source:
    """The header fields of what is perhaps only the beginning of a message."""
    return Source(tuple(_fields(source)[0]), b"")


def _fields(source: bytes) -> tuple[list[Field], int]:
    fields, at = [], 0
    while match := _FIELD.match(source, at):
        fields.append(Field(match[1].decode("ascii").lower(), match[0]))
        at = match.end()
    return fields, at


def _no_field(source: bytes) -> int:
    """The number of the first line of the header that is no field; 0 if all are."""
    _, at = _fields(source)
    return 0 if at == len(source) or source.startswith(b"\r\n", at) else source.count(b"\n", 0, at) + 1


def decoded(value: str) -> str:
    """A value without the encoding of RFC 2047; as it is, where that cannot be read."""
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value


def _people(value: str) -> list[Person] | None:
    """An address list, strictly: what could be read in two ways is not read.

    `email.utils.getaddresses` finds addresses in what others read as names (CVE-2023-27043).
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
            item = []  # the name of a group
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
    while before != value and value.count("(") <= MOST_ESCAPES:  # from the inside outwards
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
    """`Name <address>`, or an address alone."""
    at = next((place for place, token in enumerate(item) if token.startswith("<")), None)
    if at is None:
        return Person("", "".join(item).strip())
    if "".join(item[at + 1 :]).strip():
        return None
    name = "".join(_unquoted(token) for token in item[:at]).strip()
    return Person(decoded(name), item[at][1:-1].strip())


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if token.startswith('"') else token
