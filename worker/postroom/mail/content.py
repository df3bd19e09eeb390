"""What an attachment or a source holds: bytes in memory, a file of the producer's, or content kept apart from its mail.

All three are known by their size and read in ranges, so that nobody needs the whole of a large one in memory.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from postroom.errors import InvalidMail

# In base64 exactly 512 KiB: pieces of a multiple of three bytes can be encoded one by one.
PIECE = 384 * 1024


class AttachmentMissing(Exception):
    """Stored content is no longer all there, or no longer what it was. No retry brings it back."""


class Source(Protocol):
    """Where stored content is read from."""

    def read(self, stored: "Stored", begin: int, end: int) -> bytes:
        """These bytes of it. AttachmentMissing if they are gone; Unavailable or OSError if they may come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it was when the attachment was made."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def at(cls, path: Path) -> Self:
        """The file at this path; ValueError if it cannot be read."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
        except OSError as error:
            raise ValueError(f"cannot read the file ({error.strerror})") from None
        return cls(path=path, size=status.st_size, modified_ns=status.st_mtime_ns)

    def read(self, begin: int, end: int) -> bytes:
        """These bytes of it. InvalidMail if it is not the same file any longer."""
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
    """Content apart from its mail: `where` it is kept, the `name` of that mail's files there, its number among them.

    `piece` is how many bytes each of its pieces has, except the last.
    """

    where: str
    name: str
    number: int
    piece: int
    size: int
    sha256: str
    source: Source | None = field(default=None, compare=False, repr=False)

    def read(self, begin: int, end: int) -> bytes:
        """These bytes of it; see `Source`. The whole is compared with its SHA-256."""
        if self.source is None:
            raise TypeError("this mail was read without a place to read its attachments from")
        data = self.source.read(self, begin, end)
        if (begin, end) == (0, self.size) and hashlib.sha256(data).hexdigest() != self.sha256:
            raise AttachmentMissing("what is stored is not what was taken in")
        return data

    def to_json(self) -> dict[str, str | int]:
        """What the mail says of it."""
        return {name: getattr(self, name) for name in _SAID}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], source: Source | None) -> Self:
        """What `to_json` wrote, perhaps in a newer version, to be read from `source`."""
        return cls(**{name: fields[name] for name in _SAID}, source=source)


_SAID = ("where", "name", "number", "piece", "size", "sha256")


Content = bytes | File | Stored


def size_of(content: Content) -> int:
    """Its size in bytes."""
    return len(content) if isinstance(content, bytes) else content.size


def read(content: Content, begin: int = 0, end: int | None = None) -> bytes:
    """Its bytes from `begin` to before `end`; all of them by default."""
    end = size_of(content) if end is None else end
    return content[begin:end] if isinstance(content, bytes) else content.read(begin, end)


def pieces(content: Content) -> Iterator[bytes]:
    """All of it, piece by piece; each has `PIECE` bytes, except the last."""
    size = size_of(content)
    return (read(content, begin, min(begin + PIECE, size)) for begin in range(0, size, PIECE))
