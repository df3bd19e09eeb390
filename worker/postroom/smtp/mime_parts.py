"""Splits a MIME message into bodies and files, for mail that is too large to be sent unchanged.

This is done only if nothing is lost that a reader needs. A signed or encrypted message would not be the same.
"""

import html
import mimetypes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from postroom.mail.fields import MANAGED_HEADERS, MOST_HEADERS, is_trace
from postroom.mail.mime_source import Source
from postroom.mail.mime_tree import Part, Unreadable, tree
from postroom.mail.model import Attachment, file_name
from postroom.mail.priority import Importance
from postroom.mail.validation import MAX_REQUEST

# What reports have beside the text: RFC 3464, RFC 8098, RFC 5965, RFC 6533.
_REPORT = re.compile(
    "message/((?:global-)?(?:delivery-status|disposition-notification)|feedback-report|global-headers)"
    "|text/(rfc822-headers)"
)
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_BODY_ENDS = re.compile(r"</body\s*>", re.IGNORECASE)
_LONGEST_NAME = 76
_LARGE_BODY = f"its bodies have more than {MAX_REQUEST} bytes"
_SIGNED = "it is signed or encrypted ({}), which must stay byte for byte: send its files apart, or a link to them"
# Other forms of the text or the page beside them, which programs show that do not know these (RFC 2046, 5.1.4).
_OTHER_FORMS = {"text/x-amp-html", "text/watch-html", "text/enriched", "text/richtext"}


class Whole(Exception):
    """This message cannot be taken apart; its argument says why."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader sees of some parts, in one or two forms."""

    text: str | None = None
    html: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to read."""
        return not (self.text or "").strip() and not (self.html or "").strip()


@dataclass(slots=True)
class Parts:
    """`tags` say what is not as it came: `left-out:TYPE` of another form of the body, `report:as-files`."""

    text: str | None = None
    html: str | None = None
    files: list[Attachment] = field(default_factory=list)
    tags: dict[str, None] = field(default_factory=dict)


def parts_of(source: bytes) -> Parts:
    """The bodies and files of the message. Raises Whole if it cannot be taken apart."""
    found = Parts()
    try:
        shown = _shown(tree(source), (), found)
    except Unreadable as error:
        raise Whole(str(error)) from None
    if len(shown.text or "") + len(shown.html or "") > MAX_REQUEST:
        raise Whole(_LARGE_BODY)
    found.text, found.html = shown.text, shown.html
    return found


def fields_of(message: Source) -> dict[str, Any]:
    """What the header fields say of the mail, by its field. Of several header fields with one name the first counts."""
    headers: dict[str, str] = {}
    for one in message.fields:
        left_out = one.name in MANAGED_HEADERS or one.name.startswith("content-") or is_trace(one.name)
        text = "".join(character for character in one.text if character.isprintable())
        if text and not left_out and len(one.name) <= _LONGEST_NAME and len(headers) < MOST_HEADERS:
            headers.setdefault(one.name.title(), text)
    importance = (message.text("importance") or "").lower()
    return {
        "headers": headers,
        "importance": importance if importance in set(Importance) else None,
        "read_receipt": bool(message.text("disposition-notification-to")),
        "delivery_receipt": bool(message.text("return-receipt-to")),
    }


def _shown(part: Part, inside: tuple[str, ...], into: Parts) -> Shown:
    """What a reader sees of this part; files go `into` it. `inside` are the kinds of multipart around it."""
    if not part.kind.startswith("multipart/"):
        return _leaf(part, inside, into)
    kind = part.kind.removeprefix("multipart/")
    if kind in {"signed", "encrypted"}:
        raise Whole(_SIGNED.format(part.kind))
    if kind == "report":
        into.tags["report:as-files"] = None
    if kind == "alternative":
        return _alternative(part, (*inside, kind), into)
    return _one_after_another([_shown(inner, (*inside, kind), into) for inner in part.parts])


def _alternative(part: Part, inside: tuple[str, ...], into: Parts) -> Shown:
    """The last of each form is the best: https://www.rfc-editor.org/rfc/rfc2046#section-5.1.4"""
    other_forms = [one for one in part.parts if one.kind in _OTHER_FORMS and _is_body(one)]
    found = [_shown(inner, inside, into) for inner in part.parts if inner not in other_forms]
    if all(one.is_blank for one in found):  # nothing else shows what they say
        into.files += [_file(one, inside, len(into.files) + 1) for one in other_forms]
    else:
        into.tags |= {f"left-out:{one.kind}": None for one in other_forms}
    return _of_alternatives(found)


def _leaf(part: Part, inside: tuple[str, ...], into: Parts) -> Shown:
    if part.kind.startswith("application/") and "pkcs7" in part.kind:
        raise Whole(_SIGNED.format("S/MIME"))
    is_body = _is_body(part)
    if is_body and part.kind in {"text/plain", "text/html"} and part.end - part.body > 2 * MAX_REQUEST:
        raise Whole(_LARGE_BODY)
    if is_body and part.kind == "text/plain":
        return Shown(text=part.text())
    if is_body and part.kind == "text/html":
        return Shown(html=part.text())
    into.files.append(_file(part, inside, len(into.files) + 1))
    return Shown()


def _is_body(part: Part) -> bool:
    return part.header.get_content_disposition() != "attachment" and not part.filename


def _of_alternatives(shown: Sequence[Shown]) -> Shown:
    found = [one for one in shown if not one.is_blank] or shown
    texts = [one.text for one in found if one.text is not None]
    plain = [one.text for one in found if one.text is not None and one.html is None]
    pages = [one.html for one in found if one.html is not None]
    return Shown(text=next(reversed(plain or texts), None), html=next(reversed(pages), None))


def _one_after_another(found: Iterable[Shown]) -> Shown:
    """All of them in their order. Text after a page is written below it: beside it, it would be its other form."""
    some = [one for one in found if one != Shown()]
    texts = [one.text for one in some if one.text is not None]
    text = "\r\n".join(texts) if texts and len(texts) == len(some) else None
    if all(one.html is None for one in some):
        return Shown(text=text)
    first, *others = [_as_html(one.text or "") if one.html is None else one.html for one in some]
    ends = _BODY_ENDS.search(first)
    at = ends.start() if ends else len(first)
    return Shown(text=text, html="".join([first[:at], *others, first[at:]]))


def _as_html(text: str) -> str:
    return f'<div style="white-space: pre-wrap">{html.escape(text)}</div>'


def _file(part: Part, inside: tuple[str, ...], number: int) -> Attachment:
    otherwise = f"part-{number}{mimetypes.guess_extension(part.kind) or '.bin'}"
    content_type = part.kind + "".join(_parameters(part)) if "/" in part.kind else None
    if report := _REPORT.fullmatch(part.kind):  # fields and values, for people and programs
        otherwise, content_type = f"{report[1] or report[2]}.txt", "text/plain"
    fields: dict[str, Any] = {"filename": file_name(part.filename or "", otherwise), "content_type": content_type}
    content_id = str(part.header.get("content-id", "")).strip().removeprefix("<").removesuffix(">")
    inline = "related" in inside or part.header.get_content_disposition() == "inline"
    if _CONTENT_ID.fullmatch(content_id) and inline:
        fields["content_id"] = content_id
    return Attachment(content=part.content(), **fields)


def _parameters(part: Part) -> Iterable[str]:
    """The parameters of a file's type without which it would be another: a text's charset, an invitation's method."""
    for name in ("charset", "method") if part.kind.startswith("text/") else ():
        value = part.parameter(name)
        if re.fullmatch(r"[A-Za-z0-9_.:-]{1,60}", value):
            yield f"; {name}={value}"
