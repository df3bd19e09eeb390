"""Every message of the corpus arrives as it was meant: by SMTP, as `mime`, split because it is large, by a draft."""

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message as Parsed
from typing import Any

import pytest

from postroom.access.smtp_logins import Login
from postroom.graph.requests import DraftPlan, GraphRequest, plan_draft, request_for, session_body
from postroom.mail.address import Address
from postroom.mail.message import Message, Ready, compose
from postroom.mail.model import Mail
from postroom.smtp.submission import AS_IT_CAME, Reply, Submission, read

from .corpus import Letter, letters

ALL = list(letters())
ANN = Address("", "ann@contoso.com")
ANYBODY = Login(name="", senders=("*",))
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SHOP = "shop@contoso.com"
each_letter = pytest.mark.parametrize("letter", ALL, ids=[one.name for one in ALL])


def test_the_corpus_is_large_and_each_of_its_messages_has_a_name() -> None:
    assert len({one.name for one in ALL}) == len(ALL) >= 60


@each_letter
def test_by_smtp(letter: Letter) -> None:
    found = read(letter.source, SHOP, [ANN], ANYBODY, None)
    assert isinstance(found, Submission), str(found)
    assert seen(request_for(message_of(found.mail))) == expected(letter)


@each_letter
def test_as_mime(letter: Letter) -> None:
    author = letter.author.rpartition(" <")[0]
    mail = Mail(sender=Address(author, SHOP), to=[ANN], mime=letter.source)
    assert seen(request_for(message_of(mail))) == expected(letter)


@pytest.mark.world
@each_letter
def test_so_large_that_it_is_taken_apart(letter: Letter) -> None:
    found = read(enlarged(letter.source), SHOP, [ANN], ANYBODY, None)
    if letter.refused:
        assert isinstance(found, Reply)
        assert letter.refused in str(found)
        return
    assert isinstance(found, Submission), str(found)
    assert found.mail.mime is None
    assert seen(request_for(message_of(found.mail))) == expected(letter.as_large())


@pytest.mark.world
@each_letter
def test_by_a_draft(letter: Letter) -> None:
    # With a file that is uploaded beside it.
    large = b"z" * 3_100_000
    found = read(enlarged(letter.source, large), SHOP, [ANN], ANYBODY, None)
    if letter.refused:
        return
    assert isinstance(found, Submission), str(found)
    message = message_of(found.mail)
    plan = plan_draft(message)
    assert isinstance(plan, DraftPlan)
    assert [message.attachments[place].read() for place in plan.to_add] == [large]
    assert json.loads(session_body(message.attachments[plan.to_add[0]]))["AttachmentItem"]["size"] == len(large)
    assert seen(plan.request) == expected(letter.as_large())


# What a reader sees, by Python's parser


@dataclass(frozen=True)
class Seen:
    subject: str
    author: str
    to: list[str]
    text: str | None
    html: str | None
    files: list[tuple[str, bytes]]


def expected(letter: Letter) -> Seen:
    files = sorted(letter.files)
    return Seen(
        plain(letter.subject), letter.author, ["ann@contoso.com"], shown(letter.text), shown(letter.html), files
    )


def shown(text: str | None) -> str | None:
    """Without line ends and blanks, which mail does not keep; no text at all is as an empty one."""
    return "".join(text.split()) or None if text is not None else None


def plain(text: str) -> str:
    return " ".join(text.split())


def seen(request: Any) -> Seen:
    assert isinstance(request, GraphRequest), request
    if request.mode == "json":
        body = json.loads(request.body)
        return of_json(body.get("message", body))
    return of_mime(message_from_bytes(base64.b64decode(request.body), policy=policy.compat32))


def of_json(message: dict[str, Any]) -> Seen:
    sender = message.get("from", {}).get("emailAddress", {"address": SHOP})
    author = f"{sender['name']} <{sender['address']}>" if sender.get("name") else sender["address"]
    files = [(one["name"], base64.b64decode(one["contentBytes"])) for one in message.get("attachments", [])]
    body, kind = shown(message["body"]["content"]), message["body"]["contentType"]
    to = [one["emailAddress"]["address"] for one in message["toRecipients"]]
    return Seen(
        plain(message["subject"]),
        author,
        to,
        None if kind == "html" else body,
        body if kind == "html" else None,
        sorted(files),
    )


def of_mime(message: Parsed) -> Seen:
    texts: list[str] = []
    pages: list[str] = []
    files: list[tuple[str, bytes]] = []
    for one in leaves(message):
        name = one.get_filename()
        if name is not None or one.get_content_disposition() == "attachment":
            raw = dict(one.raw_items()).get("Content-Disposition", "")
            if not raw.isascii():  # Python's parser does not know UTF-8 in a header
                name = raw.partition('"')[2].rstrip('"').encode(errors="surrogateescape").decode()
            files.append((decoded(name or ""), content_of(one)))
        elif one.get_content_type() in {"text/plain", "text/html"}:
            (pages if one.get_content_type() == "text/html" else texts).append(text_of(one))
    author = decoded(message["from"])
    author = re.sub(r"\\(.)", r"\1", re.sub(r'^"(.*)"( <)', r"\1\2", author))
    author = re.sub(r" \(.*\)$|^<(.*)>$", r"\1", author)
    to = re.findall(r"[a-z]+@[a-z.]+", message["to"])
    return Seen(
        plain(decoded(message.get("subject", ""))),
        author,
        to,
        shown("".join(texts)) if texts else None,
        shown("".join(pages)) if pages else None,
        sorted(files),
    )


def leaves(part: Parsed) -> list[Parsed]:
    if part.get_content_maintype() == "multipart" and isinstance(part.get_payload(), list):
        return [leaf for inner in part.get_payload() for leaf in leaves(inner)]  # type: ignore[arg-type]
    return [] if part.get_content_maintype() == "multipart" else [part]


def content_of(part: Parsed) -> bytes:
    if part.is_multipart():
        inner = part.get_payload(0)
        assert isinstance(inner, Parsed)
        return inner.as_bytes(policy=policy.compat32.clone(linesep="\r\n"))
    if "Content-Transfer-Encoding" in part:
        encoding = part["Content-Transfer-Encoding"].strip()
        del part["Content-Transfer-Encoding"]
        part["Content-Transfer-Encoding"] = encoding
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data


OTHER_NAMES = {"iso-8859-8-i": "iso-8859-8", "windows-874": "cp874"}


def text_of(part: Parsed) -> str:
    charset = str(part.get_content_charset("utf-8"))
    for name in (OTHER_NAMES.get(charset, charset), "utf-8", "cp1252"):
        try:
            return content_of(part).decode(name)
        except (LookupError, ValueError):
            pass
    raise AssertionError(charset)


def decoded(value: str) -> str:
    value = re.sub(r"=\?x-nope\?", "=?utf-8?", value.replace("\r\n", "").replace("\t", " "))
    return str(make_header(decode_header(value)))


# What the doors and the workers do around it


def message_of(mail: Mail) -> Message:
    sender = Address(mail.sender.name if mail.sender else "", SHOP)
    ready = Ready(source=mail.mime, own=frozenset({SHOP}), taken_in_at=NOON) if mail.mime is not None else None
    return compose(mail, sender, "job-1", None, None, ready)


def enlarged(source: bytes, file: bytes = b"") -> bytes:
    """The same message in one that is too large to be passed on: by what no reader shows, or by a file."""
    head, _, body = source.partition(b"\r\n\r\n")
    fields = re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", head + b"\r\n")
    own = b"".join(one for one in fields if one.lower().startswith(b"content-"))
    outer = b"".join(one for one in fields if not one.lower().startswith((b"content-", b"mime-version")))
    unseen = b"" if file else (b"x" * 70 + b"\r\n") * (AS_IT_CAME // 70)
    more = b"--large\r\nContent-Type: application/zip; name=large.zip\r\n\r\n" + file + b"\r\n" if file else b""
    kind = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=large\r\n\r\n"
    return outer + kind + unseen + b"--large\r\n" + own + b"\r\n" + body + b"\r\n" + more + b"--large--\r\n"
