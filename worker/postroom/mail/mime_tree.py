"""The parts of a MIME message: where each begins and ends in its source (RFC 2046).

Nothing is copied and no line becomes an object of its own, so a message takes hardly more memory than it has bytes.
(Python's parser makes an object of each line, and compares each with all boundaries.) Their number and depth are
bounded before anything in them is read.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from typing import cast

from postroom.mail import mime_source
from postroom.mail.charsets import decoded, text_of

MOST_PARTS = 1000
DEEPEST = 10
# RFC 5322 allows lines of 998 bytes. Many applications write longer ones, and Exchange takes them.
LONGEST_LINE = 64 * 1024
_AT_ONCE = 57 * 1024  # bytes, which make whole lines of base64
_LONGEST_HEADER = 256 * 1024
_SIGNED_LINE = (
    f"a line of what is signed or encrypted is longer than {LONGEST_LINE // 1024} kB, and to wrap it would void the"
    " signature: let the program wrap its lines before it signs (base64 or quoted-printable)"
)
_FOLDED_AT = 990  # bytes; RFC 5322 allows lines of 998
_BLANK = re.compile(rb"\s*")
_UUENCODED = {"x-uuencode", "uuencode", "uue", "x-uue"}


class Unreadable(Exception):
    """The parts of this message cannot be told apart; its argument says why."""


@dataclass(frozen=True)
class Part:
    """A part. Its header is `source[begin:body]`, its content `source[body:end]`; `parts` are those within it."""

    source: bytes
    begin: int
    body: int
    end: int
    header: Message
    parts: tuple["Part", ...] = ()

    @cached_property
    def kind(self) -> str:
        """Its type in small letters: `text/plain`."""
        return self.header.get_content_type()

    @cached_property
    def filename(self) -> str | None:
        """The name of the file that it is; None if it has none."""
        name = self.header.get_filename()
        return None if name is None else decoded(name)

    def parameter(self, name: str) -> str:
        """A parameter of its type, such as its charset; empty if it has none."""
        value = self.header.get_param(name)
        return str(value[2] if isinstance(value, tuple) else value or "")

    def content(self) -> bytes:
        """Its bytes. What is not encoded as it says stays as it is."""
        view = memoryview(self.source)[self.body : self.end]
        encoding = str(self.header.get("content-transfer-encoding", "")).strip().lower()
        if encoding == "base64":
            return _from_base64(view)
        if encoding == "quoted-printable":
            return binascii.a2b_qp(view)
        data = bytes(view)
        # Its lines have 62 bytes. The library makes an object of each.
        return _from_uu(data) if encoding in _UUENCODED and data.count(b"\n") < 1000 + len(data) // 20 else data

    def text(self) -> str:
        """Its content as text, whatever is wrong with its charset."""
        return text_of(self.content(), self.parameter("charset"))


def tree(source: bytes) -> Part:
    """The whole message as one part. Unreadable if it has too many parts, or they cannot be told apart."""
    return _part(source, 0, len(source), 0, [MOST_PARTS], "text/plain")


def _part(source: bytes, begin: int, end: int, depth: int, left: list[int], usual: str) -> Part:
    left[0] -= 1
    if left[0] < 0:
        raise Unreadable(f"it has more than {MOST_PARTS} parts")
    body = _body(source, begin, end)
    header = Message()
    header.set_default_type(usual)
    for one in mime_source.head_of(source[begin:body]).fields:
        if one.name.startswith("content-") and one.name not in header:
            header[one.name] = one.value
    if header.get_content_maintype() != "multipart":
        return Part(source, begin, body, end, header)
    boundary = header.get_boundary()
    if not boundary or depth >= DEEPEST:
        raise Unreadable("a multipart has no boundary" if not boundary else f"its parts are more than {DEEPEST} deep")
    usual = "message/rfc822" if header.get_content_subtype() == "digest" else "text/plain"
    inner = tuple(
        _part(source, *limits, depth + 1, left, usual)
        for limits in _between(source, body, end, boundary.encode(errors="replace"))
    )
    return Part(source, begin, body, end, header, inner)


def _body(source: bytes, begin: int, end: int) -> int:
    """Where the content of the part begins whose header begins there."""
    if source.startswith(b"\r\n", begin, end):
        return begin + 2
    found = source.find(b"\r\n\r\n", begin, min(end, begin + _LONGEST_HEADER))
    if found < 0 and end - begin > _LONGEST_HEADER:
        raise Unreadable(f"the header of a part is larger than {_LONGEST_HEADER // 1024} kB")
    return end if found < 0 else found + 4


def _between(source: bytes, begin: int, end: int, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Where each part between these boundaries begins and ends. The last boundary may be missing.

    Unreadable where parts would be lost: without any boundary, or behind the last one.
    """
    line = re.compile(rb"\r\n--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r\n|\Z)")
    starts, at = None, max(begin - 2, 0)  # the end of the header's empty line is the first boundary's
    while found := line.search(source, at, end):
        if starts is not None:
            yield starts, max(starts, found.start())
        if found[1]:
            _check_epilogue(line, source, found.end(), end)
            return
        starts, at = min(found.end() + 2, end), found.end()  # a line end may be the next boundary's too
    if starts is not None:
        yield starts, end
    elif not _BLANK.fullmatch(source, begin, end):
        raise Unreadable("a multipart has none of the boundaries that its header names, so nobody could read its parts")


def _check_epilogue(line: re.Pattern[bytes], source: bytes, at: int, end: int) -> None:
    """What follows the last boundary is for nobody. A further part there would be lost, with all that it says."""
    while found := line.search(source, at, end):
        if not found[1]:
            raise Unreadable("a part follows behind the last boundary of its multipart, where nobody reads it")
        at = found.end()


def _from_base64(data: memoryview) -> bytes:
    for written in (lambda: data, lambda: bytes(data) + b"=="):  # some programs leave the last signs out
        try:
            return binascii.a2b_base64(written())
        except ValueError:
            pass
    return bytes(data)


def _from_uu(data: bytes) -> bytes:
    message = Message()
    message["content-transfer-encoding"] = "x-uuencode"
    message.set_payload(data.decode("latin-1"))
    return cast("bytes", message.get_payload(decode=True))


def has_long_line(source: bytes, begin: int = 0, end: int | None = None) -> bool:
    """Whether a line there is longer than `LONGEST_LINE`."""
    end = len(source) if end is None else end
    while end - begin > LONGEST_LINE:
        begin = source.rfind(b"\n", begin, begin + LONGEST_LINE + 1) + 1
        if begin == 0:
            return True
    return False


def with_short_lines(source: bytes, depth: int = 0) -> bytes:
    """The same message without lines that are too long: such a header field is folded, such a part is in base64.

    Unreadable where that cannot be, with the reason and what to do.
    """
    if not has_long_line(source):
        return source
    if depth > DEEPEST:
        raise Unreadable(f"its messages are more than {DEEPEST} deep")
    return b"".join(_wrapped(tree(source), depth))


def _wrapped(part: Part, depth: int) -> Iterator[bytes]:
    """The part from its header to its end, as pieces."""
    source = part.source
    if not has_long_line(source, part.begin, part.end):
        yield source[part.begin : part.end]
        return
    head = _folded_head(source[part.begin : part.body])
    if not has_long_line(source, part.body, part.end):
        yield head + source[part.body : part.end]
    elif part.kind in {"multipart/signed", "multipart/encrypted"}:
        raise Unreadable(_SIGNED_LINE)
    elif part.kind.startswith("multipart/"):
        at = part.body
        yield head
        for inner in part.parts:
            yield source[at : inner.begin]
            yield from _wrapped(inner, depth)
            at = inner.end
        yield source[at : part.end]
    elif part.kind.startswith("message/"):  # MIME forbids base64 for it, which some programs do not know
        yield from _not_encoded(head)
        yield b"\r\n" + with_short_lines(part.content(), depth + 1)
    else:
        yield from _in_base64(head, part.content())


def _in_base64(head: bytes, content: bytes) -> Iterator[bytes]:
    yield from _not_encoded(head)
    yield b"Content-Transfer-Encoding: base64\r\n"
    for begin in range(0, len(content), _AT_ONCE):  # the library makes an object of each line
        lines = base64.encodebytes(content[begin : begin + _AT_ONCE]).rstrip()
        yield b"\r\n" + lines.replace(b"\n", b"\r\n")


def _not_encoded(head: bytes) -> Iterator[bytes]:
    """The fields of a header but for the one that says how the content is encoded."""
    return (one.raw for one in mime_source.head_of(head).fields if one.name != "content-transfer-encoding")


def _folded_head(head: bytes) -> bytes:
    """The header with its long lines folded at blanks, which changes no value (RFC 5322, 2.2.3)."""
    if not has_long_line(head):
        return head
    fields = mime_source.head_of(head).fields
    left = head[sum(len(one.raw) for one in fields) :]
    if has_long_line(left):
        raise Unreadable(f"a line of {len(left) // 1024} kB in the header of a part is no header field")
    lines = ((one.name, line) for one in fields for line in one.raw.splitlines(keepends=True))
    return b"".join([*(_folded(name, line) if len(line) > LONGEST_LINE else line for name, line in lines), left])


def _folded(name: str, line: bytes) -> bytes:
    lines = [b""]
    for word in re.findall(rb"[ \t]*[^ \t]+|[ \t]+", line):
        if len(word) > LONGEST_LINE:
            size = len(word) // 1024
            raise Unreadable(
                f"its header field {name.title()} has {size} kB without a blank: shorten it, or leave it out"
            )
        if len(lines[-1]) + len(word) > _FOLDED_AT and lines[-1].strip() and word.strip():
            lines.append(b"")
        lines[-1] += word
    return b"\r\n".join(lines)
