"""A mail in JSON keeps Graph's rules, and a mail in MIME has all that was asked for."""

import base64
import json
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.graph.requests import JSON_LIMIT, MIME_LIMIT, DraftPlan, GraphRequest, plan_draft, request_for
from postroom.graph.searches import JOB_PROPERTY
from postroom.jobs.outcome import Refused
from postroom.mail.address import Address
from postroom.mail.message import Message
from postroom.mail.model import Attachment
from postroom.mail.priority import Importance

ANN = Address("Ann Lee", "ann@contoso.com")
BOB = Address("", "bob@fabrikam.com")
PLAIN = Message(
    job_id="0197-job",
    sender=Address("", "noreply@contoso.com"),
    to=(BOB,),
    cc=(),
    bcc=(),
    reply_to=(),
    subject="Hello",
    html=None,
    text="Good morning",
    headers={},
    attachments=(),
    importance=Importance.NORMAL,
    save_to_sent_items=True,
    read_receipt=False,
    delivery_receipt=False,
)


def test_an_alias_is_the_sender_in_both_forms_and_the_id_is_the_mailbox_s() -> None:
    message = PLAIN._replace(sender=Address("", "shop@fabrikam.com"), mailbox="noreply@contoso.com")

    found = in_json(message)["message"]
    mime = in_mime(message._replace(html="<p>Good morning</p>"))

    assert found["from"] == {"emailAddress": {"address": "shop@fabrikam.com"}}
    assert mime["From"] == "shop@fabrikam.com"
    assert found["internetMessageId"] == mime["Message-ID"] == "<0197-job@contoso.com>"


def request(message: Message) -> GraphRequest:
    made = request_for(message)
    assert isinstance(made, GraphRequest)
    return made


def in_json(message: Message) -> dict[str, Any]:
    made = request(message)
    assert (made.mode, made.content_type) == ("json", "application/json")
    found: dict[str, Any] = json.loads(made.body)
    return found


def in_mime(message: Message) -> EmailMessage:
    made = request(message)
    assert (made.mode, made.content_type) == ("mime", "text/plain")
    parsed = message_from_bytes(base64.b64decode(made.body, validate=True), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_a_simple_mail_goes_as_json() -> None:
    assert in_json(PLAIN) == {
        "message": {
            "subject": "Hello",
            "body": {"contentType": "text", "content": "Good morning"},
            "internetMessageId": "<0197-job@contoso.com>",
            "toRecipients": [{"emailAddress": {"address": "bob@fabrikam.com"}}],
            "internetMessageHeaders": [{"name": "x-postroom-job", "value": "0197-job"}],
            "singleValueExtendedProperties": [{"id": JOB_PROPERTY, "value": "0197-job"}],
        }
    }


def test_json_carries_every_field() -> None:
    found = in_json(
        PLAIN._replace(
            sender=Address("The Post Room", "noreply@contoso.com"),
            cc=(ANN,),
            bcc=(BOB,),
            reply_to=(ANN,),
            html="<p>Grüße</p>",
            text=None,
            headers={"X-Campaign": "spring"},
            attachments=(Attachment("a.pdf", b"%PDF"), Attachment("logo.png", b"png", content_id="logo")),
            importance=Importance.HIGH,
            save_to_sent_items=False,
            read_receipt=True,
            delivery_receipt=True,
        )
    )
    assert found["saveToSentItems"] is False
    message = found["message"]
    ann = {"emailAddress": {"name": "Ann Lee", "address": "ann@contoso.com"}}
    assert message["from"] == {"emailAddress": {"name": "The Post Room", "address": "noreply@contoso.com"}}
    assert message["ccRecipients"] == [ann]
    assert message["replyTo"] == [ann]
    assert message["bccRecipients"] == [{"emailAddress": {"address": "bob@fabrikam.com"}}]
    assert message["body"] == {"contentType": "html", "content": "<p>Grüße</p>"}
    assert message["importance"] == "high"
    assert message["isReadReceiptRequested"] is True
    assert message["isDeliveryReceiptRequested"] is True
    assert message["internetMessageHeaders"] == [
        {"name": "X-Campaign", "value": "spring"},
        {"name": "x-postroom-job", "value": "0197-job"},
    ]
    assert message["attachments"] == [
        {
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": "a.pdf",
            "contentType": "application/pdf",
            "contentBytes": "JVBERg==",
        },
        {
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": "logo.png",
            "contentType": "image/png",
            "contentBytes": "cG5n",
            "isInline": True,
            "contentId": "logo",
        },
    ]


def test_graph_gets_no_empty_list_and_no_more_than_five_headers() -> None:
    message = in_json(PLAIN._replace(to=(), bcc=(BOB,), headers={f"x-{n}": "v" for n in range(4)}))["message"]
    assert [] not in message.values()
    assert len(message["internetMessageHeaders"]) == 5
    assert all(h["name"].lower().startswith("x-") for h in message["internetMessageHeaders"])


@pytest.mark.parametrize(
    "change",
    [
        {"html": "<p>both</p>"},
        {"headers": {"List-Unsubscribe": "<https://contoso.com/u>"}},
        {"headers": {f"x-{n}": "v" for n in range(5)}},
        {"headers": {"x-name": "Grüße"}},
    ],
)
def test_what_json_cannot_carry_goes_as_mime(change: dict[str, Any]) -> None:
    assert request(PLAIN._replace(**change)).mode == "mime"


def test_text_and_html_that_must_not_be_saved_go_as_json_with_the_html() -> None:
    found = in_json(PLAIN._replace(html="<p>both</p>", save_to_sent_items=False))
    assert found["message"]["body"] == {"contentType": "html", "content": "<p>both</p>"}
    assert found["saveToSentItems"] is False


def test_an_address_that_is_not_ascii_goes_as_json_where_it_can() -> None:
    found = in_json(PLAIN._replace(html="<p>both</p>", to=(Address("", "jürgen@contoso.com"),)))
    assert found["message"]["toRecipients"] == [{"emailAddress": {"address": "jürgen@contoso.com"}}]


def test_mime_carries_every_field() -> None:
    parsed = in_mime(
        PLAIN._replace(
            sender=Address("The Post Room", "noreply@contoso.com"),
            to=(Address('Lee, "Ann" \\ Ünï', "ann@contoso.com"), BOB),
            cc=(Address('Lee, "Ann" \\', "cc@contoso.com"),),
            bcc=(Address("", "hidden@contoso.com"),),
            reply_to=(ANN,),
            html="<img src='cid:logo'>",
            headers={"List-Unsubscribe": "<https://contoso.com/u?a=b>", "X-Note": "Grüße"},
            attachments=(Attachment("Größe.pdf", b"%PDF"), Attachment("logo.png", b"png", content_id="logo")),
            importance=Importance.LOW,
            read_receipt=True,
            delivery_receipt=True,
        )
    )
    assert {name: str(value) for name, value in parsed.items() if name != "Content-Type"} == {
        "From": "The Post Room <noreply@contoso.com>",
        "To": '"Lee, \\"Ann\\" \\\\ Ünï" <ann@contoso.com>, bob@fabrikam.com',
        "Cc": '"Lee, \\"Ann\\" \\\\" <cc@contoso.com>',
        "Bcc": "hidden@contoso.com",
        "Reply-To": "Ann Lee <ann@contoso.com>",
        "Subject": "Hello",
        "Message-ID": "<0197-job@contoso.com>",
        "x-postroom-job": "0197-job",
        "Importance": "low",
        "Disposition-Notification-To": '"The Post Room" <noreply@contoso.com>',
        "Return-Receipt-To": '"The Post Room" <noreply@contoso.com>',
        "List-Unsubscribe": "<https://contoso.com/u?a=b>",
        "X-Note": "Grüße",
        "MIME-Version": "1.0",
    }
    assert shape(parsed) == (
        "multipart/mixed",
        [
            (
                "multipart/alternative",
                ["text/plain", ("multipart/related", ["text/html", "image/png"])],
            ),
            "application/pdf",
        ],
    )


def shape(part: Any) -> Any:
    if not part.is_multipart():
        assert part["Content-Transfer-Encoding"] == "base64"
        return part.get_content_type()
    return part.get_content_type(), [shape(inner) for inner in part.iter_parts()]


NOT_IN_A_LINE = "".join(map(chr, [*range(9), *range(10, 32), 127, 0x85, 0x2028, 0x2029]))
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=NOT_IN_A_LINE), max_size=150)
BODY = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n\r"), max_size=200)
NAME = LINE.map(str.strip)
ADDRESS = st.builds(
    Address,
    NAME,
    st.sampled_from(["ann@contoso.com", "o'neil+x=y@sub.contoso.com", "jörg@contoso.com", "ann@bücher.example"]),
)
ADDRESSES = st.lists(ADDRESS, max_size=4).map(tuple)
FILES = st.lists(
    st.builds(
        Attachment,
        NAME.filter(bool),
        st.binary(max_size=200),
        st.sampled_from([None, "text/plain", "message/rfc822", "multipart/mixed", "image/png"]),
        st.none() | st.sampled_from(["logo", "a+b=c@contoso.com"]),
    ),
    max_size=3,
    unique_by=lambda file: file.content_id or object(),
).map(tuple)
MESSAGE = st.builds(
    PLAIN._replace,
    sender=ADDRESS,
    to=ADDRESSES,
    cc=ADDRESSES,
    bcc=ADDRESSES,
    reply_to=ADDRESSES,
    subject=LINE,
    text=BODY,
    html=st.none() | BODY,
    headers=st.fixed_dictionaries({"List-Id": LINE}, optional={"x-1": LINE}),
    attachments=FILES,
)


@settings(max_examples=60, deadline=None)
@example(PLAIN._replace(headers={"List-Id": "x"}, subject="=?utf-8?q?not_encoded?= " + "long " * 40))
@example(PLAIN._replace(headers={"List-Id": "x" * 2000}, subject="y" * 2000))
@example(PLAIN._replace(headers={"List-Id": "a  b\tc "}, subject=" two  spaces "))
@given(MESSAGE)
def test_mime_reads_back_as_what_was_asked_for(message: Message) -> None:
    parsed = in_mime(message)
    wanted = {"From": (message.sender,), "To": message.to, "Cc": message.cc, "Bcc": message.bcc}
    for name, addresses in (wanted | {"Reply-To": message.reply_to}).items():
        found = parsed[name].addresses if parsed[name] else ()
        assert [in_utf8(a.addr_spec) for a in found] == [transported(a.address) for a in addresses]
        assert [closed_up(a.display_name) for a in found] == [closed_up(a.name) for a in addresses]
    assert parsed["Subject"] == message.subject
    for name, value in message.headers.items():
        assert parsed[name] == value

    body = parsed.get_body(("plain",))
    if message.text or not message.html:
        assert body is not None
        assert lines(body.get_content()) == lines(message.text or "")
    html = parsed.get_body(("html",))
    assert lines(html.get_content() if html else "") == lines(message.html or "")

    found_files = [part for part in parsed.walk() if part.get_filename() is not None]
    assert sorted((p.get_filename(), p.get_payload(decode=True), p["Content-ID"]) for p in found_files) == sorted(
        (a.filename, a.content, a.content_id and f"<{a.content_id}>") for a in message.attachments
    )


def in_utf8(text: str) -> str:
    return text.encode(errors="surrogateescape").decode()


def closed_up(name: str) -> str:
    """Python's reader puts a space between two encoded words of a name, against RFC 2047 section 6.2."""
    return "".join(name.split())


def transported(address: str) -> str:
    return address.replace("bücher", "xn--bcher-kva")


def lines(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text.rstrip("\r\n"))


@settings(max_examples=60, deadline=None)
@given(MESSAGE)
def test_no_value_adds_a_header_and_no_line_is_too_long(message: Message) -> None:
    head = base64.b64decode(request(message).body).split(b"\r\n\r\n")[0]
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    lists = {b"To": message.to, b"Cc": message.cc, b"Bcc": message.bcc, b"Reply-To": message.reply_to}
    assert sorted(name for name in names if not name.startswith(b"Content-")) == sorted(
        [b"From", b"Subject", b"Message-ID", b"x-postroom-job", b"MIME-Version"]
        + [name for name, addresses in lists.items() if addresses]
        + [name.encode() for name in message.headers]
    )
    assert max(map(len, head.split(b"\r\n"))) <= 998
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r" not in head.replace(b"\r\n", b"")


@settings(max_examples=60, deadline=None)
@given(MESSAGE)
def test_json_keeps_graphs_rules_whatever_the_mail(message: Message) -> None:
    found = in_json(message._replace(html=None, headers={}))["message"]
    assert found["subject"] == message.subject
    assert found["body"]["content"] == (message.text or "")
    assert [] not in found.values()
    for name, addresses in (("toRecipients", message.to), ("bccRecipients", message.bcc)):
        shown = [(r["emailAddress"].get("name", ""), r["emailAddress"]["address"]) for r in found.get(name, [])]
        assert shown == [(a.name, a.address) for a in addresses]
    shown_files = [(f["name"], base64.b64decode(f["contentBytes"])) for f in found.get("attachments", [])]
    assert shown_files == [(a.filename, a.content) for a in message.attachments]


def of_size(size: int) -> tuple[Attachment, ...]:
    return (Attachment("a.bin", bytes(size)),)


def test_json_that_is_too_large_is_refused_with_size_and_limit() -> None:
    assert len(request(PLAIN._replace(attachments=of_size(2_990_000))).body) <= JSON_LIMIT
    refused = request_for(PLAIN._replace(attachments=of_size(3_000_000)))
    assert isinstance(refused, Refused)
    assert refused.reason == "too_large"
    assert re.search(r"4000\d{3} bytes as JSON.*at most 4000000", str(refused.answer.detail))


def test_mime_that_is_too_large_is_refused_with_size_and_limit() -> None:
    large = PLAIN._replace(headers={"List-Id": "x"})
    assert len(request(large._replace(attachments=of_size(1_180_000))).body) <= MIME_LIMIT
    for size in (1_236_000, 1_300_000):
        refused = request_for(large._replace(attachments=of_size(size)))
        assert isinstance(refused, Refused)
        assert refused.reason == "too_large"
        assert re.search(r"2\d{6} bytes as MIME.*at most 2200000", str(refused.answer.detail))


def test_a_mail_too_large_for_mime_only_because_of_two_bodies_goes_as_json_with_the_html() -> None:
    found = in_json(PLAIN._replace(html="<p>both</p>", attachments=of_size(2_000_000)))
    assert found["message"]["body"] == {"contentType": "html", "content": "<p>both</p>"}


def test_a_request_shows_no_content() -> None:
    assert "Good morning" not in repr(request(PLAIN))


# Invitations, and drafts of what is large

INVITATION = Attachment("invite.ics", b"BEGIN:VCALENDAR\r\n", "text/calendar; method=REQUEST")


def test_an_invitation_is_an_alternative_with_its_method() -> None:
    sent = PLAIN._replace(
        html="<p>x</p>", attachments=(INVITATION, Attachment("a.csv", b"1", "text/csv; charset=utf-8"))
    )
    request = request_for(sent)
    assert isinstance(request, GraphRequest)
    assert request.mode == "mime"
    alternative, file = message_from_bytes(base64.b64decode(request.body), policy=policy.default).iter_parts()
    kinds = [(one.get_content_type(), one.get_param("method")) for one in alternative.iter_parts()]

    assert kinds == [("text/plain", None), ("text/html", None), ("text/calendar", "REQUEST")]
    assert list(alternative.iter_parts())[2].get_payload(decode=True) == INVITATION.read()
    assert (file.get_content_type(), file.get_param("charset")) == ("text/csv", "utf-8")


def test_the_draft_of_a_large_mail_has_both_bodies_and_its_invitation() -> None:
    files = tuple(Attachment(f"{n}.bin", b"x" * size) for n, size in enumerate((700_000, 700_000, 3_500_000)))
    for attachments in (files, (*files, INVITATION)):
        plan = plan_draft(PLAIN._replace(html="<p>x</p>", attachments=attachments))
        assert isinstance(plan, DraftPlan)
        assert (plan.request.mode, plan.to_add) == ("mime", (1, 2))
        read = message_from_bytes(base64.b64decode(plan.request.body))
        kinds = {part.get_content_type() for part in read.walk()}
        assert {"text/plain", "text/html"} <= kinds
        assert ("text/calendar" in kinds) is (INVITATION in attachments)
