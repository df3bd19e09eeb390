"""The content of an attachment or of a MIME source: bytes in memory, a file of the producer, or content in the store.

Each of the three has a size and is read in ranges, so a large one never needs to be in memory as a whole.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from postroom.errors import InvalidMail

# In base64 exactly 512 KiB: pieces of a multiple of three bytes can be encoded one by one.
PIECE = 384 * 1024


class AttachmentMissing(Exception):
    """Stored content is missing, in part or as a whole, or was changed. A retry does not help."""


class Source(Protocol):
    """Where stored content is read from."""

    def read(self, stored: "Stored", begin: int, end: int) -> bytes:
        """The bytes from `begin` to before `end`.

        AttachmentMissing if they are gone; Unavailable or OSError if a retry may help.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it was when the attachment was made."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def at(cls, path: Path) -> Self:
        """The file at this path; ValueError if it cannot be read, or is none."""
        try:
            status = path.stat()  # first, because opening a pipe waits for whoever writes into it
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path.name} is no file but a pipe, device or folder; write its content into one")
            with path.open("rb"):
                pass
        except OSError as error:
            raise ValueError(f"cannot read the file {path.name} ({error.strerror})") from None
        return cls(path=path, size=status.st_size, modified_ns=status.st_mtime_ns)

    def read(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` to before `end`. InvalidMail if the file has changed, or cannot be read any longer."""
        try:
            with self.path.open("rb") as file:
                now = os.fstat(file.fileno())
                file.seek(begin)
                data = file.read(end - begin)
        except OSError as error:
            raise InvalidMail(f"attachments: {self.path.name} cannot be read any longer ({error.strerror})") from None
        if (now.st_size, now.st_mtime_ns, len(data)) != (self.size, self.modified_ns, end - begin):
            raise InvalidMail(f"attachments: {self.path.name} has changed since the mail was made")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Content that is kept apart from its mail.

    `where` is "redis" or "folder", `name` the name of the mail's files there, `number` this one's number among them.
    `piece` is the size of each of its pieces in bytes; the last one may be smaller.
    """

    where: str
    name: str
    number: int
    piece: int
    size: int
    sha256: str
    source: Source | None = field(default=None, compare=False, repr=False)

    def read(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` to before `end`; see `Source`. If all are read, they are compared with the SHA-256."""
        if self.source is None:
            raise TypeError("this mail was read without a place to read its attachments from")
        data = self.source.read(self, begin, end)
        if (begin, end) == (0, self.size) and hashlib.sha256(data).hexdigest() != self.sha256:
            raise AttachmentMissing("what is stored is not what was taken in")
        return data

    def to_json(self) -> dict[str, str | int]:
        """The fields that stand for this content in the mail's JSON."""
        return {name: getattr(self, name) for name in _SAID}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], source: Source | None) -> Self:
        """The content whose fields `to_json` wrote, perhaps in a newer version. It is read from `source`.

        ValueError where a field has another form: a name or number could otherwise be a path to any file.
        """
        if wrong := [name for name, form in _FORMS.items() if not _has_form(fields.get(name), form)]:
            raise ValueError(f"stored content has no usable {', '.join(wrong)}")
        return cls(**{name: fields[name] for name in _SAID}, source=source)


_SAID = ("where", "name", "number", "piece", "size", "sha256")
# A text must match a pattern, a number must be within limits.
_FORMS: Mapping[str, str | range] = {
    "where": "redis|folder",
    "name": "[0-9A-Za-z-]{1,64}",
    "number": range(1000),
    "piece": range(1, 2**24),
    "size": range(2**31),
    "sha256": "[0-9a-f]{64}",
}


def _has_form(value: object, form: str | range) -> bool:
    if isinstance(form, str):
        return isinstance(value, str) and re.fullmatch(form, value) is not None
    return type(value) is int and value in form


Content = bytes | File | Stored


def size_of(content: Content) -> int:
    """The size of any content in bytes."""
    return len(content) if isinstance(content, bytes) else content.size


def read(content: Content, begin: int = 0, end: int | None = None) -> bytes:
    """The bytes of any content from `begin` to before `end`; all of them by default."""
    end = size_of(content) if end is None else end
    return content[begin:end] if isinstance(content, bytes) else content.read(begin, end)


def pieces(content: Content) -> Iterator[bytes]:
    """All bytes of any content, piece by piece. Each piece has `PIECE` bytes; the last one may be smaller."""
    size = size_of(content)
    return (read(content, begin, min(begin + PIECE, size)) for begin in range(0, size, PIECE))
