"""The source of a MIME message: its header fields, as far as Postroom needs them to send the message on.

Fields are read and written as bytes, so that a message is sent unchanged: https://www.rfc-editor.org/rfc/rfc5322
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from postroom.mail.charsets import decoded, text_of_field

LONGEST_HEADER = 256 * 1024
# In one address list. Nobody writes a list with more of them, and reading one would take long.
MOST_ESCAPES = 200

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:.*\r\n(?:[ \t].*\r\n)*")  # without DOTALL, `.` ends with the line
_CHARSET = re.compile(rb";[ \t\r\n]*charset[ \t]*=[ \t]*\"?([!-~]{1,60}?)[\";\s]", re.IGNORECASE)
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
# The parts of an address list: quoted text, an address in angle brackets, a separator, other text. Comments are removed
# before.
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|<[^<>]*>|[,;:]|[^",;:<>]+', re.DOTALL)
_SPECIAL = re.compile(r"[()<>\[\]:;@\\,]")
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|\((?:\\.|[^()\\])*\)', re.DOTALL)


class Field(NamedTuple):
    """One header field. `raw` is the whole field, with its line ends; `charset` is what the message says of itself."""

    name: str
    raw: bytes
    charset: str = ""

    @property
    def text(self) -> str:
        """The field's value, unfolded and decoded (RFC 2047)."""
        return decoded(self.value)

    @property
    def people(self) -> list["Person"] | None:
        """The mailboxes in the field; None if it is not a readable list of mailboxes."""
        return _people(self.value)

    @property
    def names_one(self) -> bool:
        """Whether the field names one mailbox, and nobody could read it otherwise: its name is quoted where it must."""
        items = _items(self.value)
        return items is not None and len(items) == 1 and not _is_odd(items[0]) and ";" not in _tokens_of(self.value)

    @property
    def is_list(self) -> bool:
        """Whether each name of this address list stands as RFC 5322 has it: in plain words, or quoted."""
        items = _items(self.value)
        return items is not None and not any(map(_is_odd, items))

    @property
    def value(self) -> str:
        """The field's value, unfolded; its encoded words are not decoded."""
        value = self.raw.partition(b":")[2].replace(b"\r\n", b"").replace(b"\t", b" ")
        return text_of_field(value, self.charset).strip()


class Person(NamedTuple):
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Source:
    """A message in two parts. `body` begins with the empty line that ends the header, if there is one.

    It is a view of what was read, for a message may be large.
    """

    fields: tuple[Field, ...]
    body: memoryview

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
        return b"".join([*(field.raw for field in self.fields), self.body])


def faults(source: bytes) -> Iterator[str]:
    """Why this message cannot be sent, as texts; empty if it can."""
    if lone := _LONE.search(source):
        kind = "LF without CR" if lone[0] == b"\n" else "CR without LF"
        line = source.count(b"\n", 0, lone.start()) + 1
        yield f"line {line} has a {kind}; lines end in CRLF (in Python: message.as_bytes(policy=email.policy.SMTP))"
    if b"\x00" in source:
        yield "it contains NUL characters"
    if len(source) > LONGEST_HEADER and b"\r\n\r\n" not in b"\r\n" + source[: LONGEST_HEADER + 4]:
        yield f"its header is larger than {LONGEST_HEADER // 1024} kB"
    elif not lone and (wrong := _no_field(source)):
        yield f"line {wrong} of its header is no header field; each is `Name: value`, and an empty line ends them"


def parse(source: bytes) -> Source:
    """The message in its two parts. ValueError if a line of its header is not part of a field."""
    fields, at = _fields(source)
    if at < len(source) and not source.startswith(b"\r\n", at):
        raise ValueError("a line of the header is no field")
    types = (one.raw for one in fields if one.name == "content-type")
    charset = found[1].decode() if (found := _CHARSET.search(next(types, b""))) else ""
    return Source(tuple(one._replace(charset=charset) for one in fields), memoryview(source)[at:])


def head_of(source: bytes) -> Source:
    """The header fields of a message of which `source` may be only the beginning."""
    return Source(tuple(_fields(source)[0]), memoryview(b""))


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


def _people(value: str) -> list[Person] | None:
    """The mailboxes of an address list; None if it could be read in two ways.

    `email.utils.getaddresses` finds addresses in text that others read as names (CVE-2023-27043).
    """
    items = _items(value)
    people = [_person(item) for item in items or ()]
    return None if items is None or None in people else [person for person in people if person]


def _items(value: str) -> list[list[str]] | None:
    """The tokens of each mailbox of an address list, without the names of groups; None if it could be read in two ways.

    What ends no group begins none: `Printer: 2nd floor <a@b.com>` has a colon in its name.
    """
    tokens = _tokens_of(value)
    if value.strip() and not tokens:
        return None
    ends = len(tokens) - tokens[::-1].index(";") if ";" in tokens else 0
    items: list[list[str]] = [[]]
    named = False  # an address was read in this item
    for place, part in enumerate(tokens):
        if part in {",", ";"} or (part == ":" and place < ends and not named):
            items.append([])
            items[-2] = [] if part == ":" else items[-2]
            named = False
        elif part == ":" and named:
            return None
        else:
            items[-1].append(part)
            named = named or "@" in part
    return [item for item in items if "".join(item).strip()]


def _is_odd(item: list[str]) -> bool:
    """Whether a name has what only a quoted one may (RFC 5322, 3.2.3). Exchange takes an `@` there for the sender's."""
    at = next((place for place, token in enumerate(item) if token.startswith("<")), 0)
    return ":" in item or any(_SPECIAL.search(token) for token in item[:at] if not token.startswith('"'))


def _without_comments(value: str) -> str:
    before = None
    while before != value and value.count("(") <= MOST_ESCAPES:  # removes nested comments, the innermost first
        before, value = value, _COMMENT.sub(lambda match: match[1] or "", value)
    return value


def _tokens_of(value: str) -> list[str]:
    """The tokens of an address list without its comments; empty if it cannot be divided into such."""
    tokens: list[str] = []
    value, at = _without_comments(value) if value.count("\\") <= MOST_ESCAPES else "<", 0
    while at < len(value):
        match = _TOKEN.match(value, at)
        if not match:
            return []
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
