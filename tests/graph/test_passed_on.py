"""A message that came as MIME leaves unchanged, except for the fields that Exchange acts on: recipients and sender."""

import base64
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest

from postroom.errors import InvalidMail
from postroom.graph.requests import GraphRequest, plan_draft, request_for
from postroom.jobs.outcome import Refused
from postroom.mail.address import Address
from postroom.mail.content import Stored
from postroom.mail.message import Message, Ready, compose
from postroom.mail.model import Mail
from postroom.mail.validation import MAX_MIME

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SOURCE = (
    b"From: Shop <shop@contoso.com>\r\nTo: Ann <ann@contoso.com>\r\nMessage-ID: <1@shop>\r\n"
    b"Date: Wed, 25 Nov 2026 04:00:00 +0100\r\nX-Odd:   a\r\n\t b\r\n\r\nbody\xff\r\n.\r\n"
)
MAILBOX = Address("Shop", "shop@contoso.com")
TO_ANN = {"to": ["ann@contoso.com"]}


def message(
    source: bytes = SOURCE, *, own: tuple[str, ...] = ("shop@contoso.com",), redirect: str | None = None, **fields: Any
) -> Message:
    mail = Mail.model_validate({"from": MAILBOX, "mime": source, **(fields or TO_ANN)})
    assert mail.mime is not None
    ready = Ready(source=mail.mime, own=frozenset(own), taken_in_at=NOON)
    return compose(mail, MAILBOX, "job-1", None, Address.parse(redirect) if redirect else None, ready)


def passed_on(made: Message) -> bytes:
    request = request_for(made)
    assert isinstance(request, GraphRequest)
    assert (request.mode, request.content_type) == ("mime", "text/plain")
    return base64.b64decode(request.body)


def test_a_source_leaves_byte_for_byte_under_the_job_s_header() -> None:
    assert passed_on(message()) == b"x-postroom-job: job-1\r\n" + SOURCE


def test_hidden_recipients_are_added_as_bcc_and_one_that_the_client_wrote_is_replaced() -> None:
    source = SOURCE.replace(b"\r\nMessage-ID", b"\r\nBCC: dan@contoso.com\r\nMessage-ID")
    sent = passed_on(message(source, **TO_ANN, bcc=["bob@contoso.com", "cem@contoso.com"]))

    head = b"x-postroom-job: job-1\r\nBcc: bob@contoso.com,\r\n cem@contoso.com\r\n"
    assert sent == head + SOURCE


def test_headers_that_name_others_than_the_recipients_are_written_anew() -> None:
    source = SOURCE.replace(b"Ann <ann@contoso.com>", b"ann@contoso.com, bob@contoso.com").replace(
        b"X-Odd", b"cc: dan@contoso.com\r\nX-Odd"
    )
    sent = passed_on(message(source))

    rest = SOURCE.replace(b"To: Ann <ann@contoso.com>\r\n", b"")
    assert sent == b"x-postroom-job: job-1\r\nTo: ann@contoso.com\r\n" + rest


@pytest.mark.parametrize("to", [b"ann@contoso.com\r\nTO : bob@contoso.com", b"<ann@contoso.com> <bob@contoso.com>"])
def test_a_header_that_readers_may_read_in_two_ways_is_written_anew(to: bytes) -> None:
    sent = passed_on(message(SOURCE.replace(b"Ann <ann@contoso.com>", to)))

    assert b"bob@" not in sent
    assert b"To: ann@contoso.com\r\n" in sent


def test_an_empty_group_stays() -> None:
    source = SOURCE.replace(b"Ann <ann@contoso.com>", b"undisclosed-recipients:;")
    assert passed_on(message(source, bcc=["bob@contoso.com"])).endswith(source)


def test_the_staging_address_stands_in_for_recipients_of_every_kind() -> None:
    source = SOURCE.replace(b"X-Odd", b"Cc: bob@contoso.com\r\nBcc: x@contoso.com\r\nX-Odd")
    sent = passed_on(
        message(source, **TO_ANN, cc=["bob@contoso.com"], bcc=["cem@contoso.com"], redirect="test@contoso.com")
    )
    head = sent.partition(b"\r\n\r\n")[0]

    for line in (b"To: test@contoso.com", b"Cc: test@contoso.com", b"Bcc: test@contoso.com"):
        assert line in head.split(b"\r\n")
    assert head.count(b"test@contoso.com") == 3


@pytest.mark.parametrize(
    ("subject", "instead"),
    [
        (b"Subject: Your order\r\n", b"Subject: [to ann@contoso.com and 1 more] Your order"),
        (b"", b"Subject: [to ann@contoso.com and 1 more]"),
        (b"Subject: =?utf-8?q?M=C3=BCll?=\r\n", b"Subject: =?utf-8?"),
    ],
)
def test_with_a_staging_address_the_subject_says_to_whom_the_mail_would_go(subject: bytes, instead: bytes) -> None:
    source = SOURCE.replace(b"X-Odd", subject + b"X-Odd")
    sent = passed_on(message(source, **TO_ANN, bcc=["cem@contoso.com"], redirect="test@contoso.com"))
    lines = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")

    (line,) = [line for line in lines if line.startswith(b"Subject:")]
    assert line.startswith(instead)
    parsed = message_from_bytes(sent, policy=policy.default)
    assert parsed["Subject"].startswith("[to ann@contoso.com and 1 more]")


@pytest.mark.parametrize("own", [("shop@contoso.com",), ("main@contoso.com", "shop@contoso.com")])
def test_a_from_that_is_the_mailbox_s_own_stays(own: tuple[str, ...]) -> None:
    assert passed_on(message(own=own)).endswith(SOURCE)


@pytest.mark.parametrize("author", [b"root@host.example", b"a@contoso.com, shop@contoso.com", b"", b"root"])
def test_any_other_from_becomes_the_mailbox_and_a_sender_beside_it_goes(author: bytes) -> None:
    source = SOURCE.replace(b"Shop <shop@contoso.com>", author + b"\r\nSender: boss@contoso.com")
    sent = passed_on(message(source))

    rest = SOURCE.replace(b"From: Shop <shop@contoso.com>\r\n", b"")
    assert sent == b'x-postroom-job: job-1\r\nFrom: "Shop"\r\n <shop@contoso.com>\r\n' + rest


def test_date_and_message_id_are_added_where_they_are_missing() -> None:
    source = b"From: shop@contoso.com\r\nTo: ann@contoso.com\r\nX-Postroom-Job: another's\r\n\r\n"
    head = b"x-postroom-job: job-1\r\nDate: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-ID: <job-1@contoso.com>\r\n"

    assert passed_on(message(source)) == head + b"From: shop@contoso.com\r\nTo: ann@contoso.com\r\n\r\n"


def test_a_source_goes_unchanged_by_a_draft_too() -> None:
    plan = plan_draft(message())
    assert not isinstance(plan, Refused)
    assert (plan.request, plan.to_add) == (request_for(message()), ())


# The field


def test_the_largest_source_fits_into_a_request_and_a_larger_one_is_no_mail() -> None:
    head = b"From: shop@contoso.com\r\n\r\n"
    people = [f"{number:03}@contoso.com" for number in range(500)]
    room = MAX_MIME - len(head) - sum(map(len, people))
    assert isinstance(request_for(message(head + b"x" * room, bcc=people)), GraphRequest)
    with pytest.raises(InvalidMail, match="mime: "):
        message(head + b"x" * (room + 1), bcc=people)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"text": "x", "subject": "y"}, "mime: given together with subject, text"),
        ({"attachments": [{"filename": "a", "content": ""}]}, "mime: given together with attachments"),
        ({"save_to_sent_items": False}, "save_to_sent_items: cannot be false for MIME"),
        ({"mime": b"a\n"}, "mime: line 1 has a LF without CR; lines end in CRLF (in Python: "),
        ({"mime": "no base64!"}, "mime: a str here is read as base64"),
        ({"mime": {"where": "redis"}}, "mime: bytes, base64 or a pathlib.Path is needed"),
    ],
)
def test_fields_that_do_not_go_with_a_source_are_named(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidMail) as caught:
        Mail.model_validate({"from": MAILBOX, "mime": SOURCE, **TO_ANN, **fields})
    assert any(told.startswith(fault) for told in caught.value.faults), caught.value.faults


def test_a_mail_with_a_source_comes_back_from_json_and_only_it_needs_newer_workers() -> None:
    mail = Mail.model_validate({"from": MAILBOX, "mime": SOURCE, **TO_ANN})

    assert Mail.from_json(mail.to_json()) == mail
    assert Mail.model_validate({**TO_ANN, "mime": base64.b64encode(SOURCE).decode()}).mime == SOURCE
    assert (mail.format, Mail.model_validate({**TO_ANN, "text": "x"}).format) == (2, 1)
    kept = Stored(where="redis", name="n", number=0, piece=1, size=len(SOURCE), sha256="0" * 64)
    assert Mail.from_json(mail.with_contents({0: kept}).to_json()).mime == kept


# What others would read otherwise


@pytest.mark.parametrize(
    ("field", "name", "written"),
    [
        ("From", b"shop@contoso.com <shop@contoso.com>", b'From: "Shop"\r\n <shop@contoso.com>'),
        ("From", b"[Printer] 2nd floor <shop@contoso.com>", b'From: "Shop"\r\n <shop@contoso.com>'),
        ("From", b"Printer: 2nd floor <shop@contoso.com>", b'From: "Shop"\r\n <shop@contoso.com>'),
        ("From", b"Printers: 2nd floor <shop@contoso.com>;", b'From: "Shop"\r\n <shop@contoso.com>'),
        ("To", b"ann@contoso.com <ann@contoso.com>", b"To: ann@contoso.com"),
        ("To", b"[A] <ann@contoso.com>", b"To: ann@contoso.com"),
    ],
)
def test_a_name_that_only_quotes_make_one_is_not_passed_on(field: str, name: bytes, written: bytes) -> None:
    before = next(line for line in SOURCE.split(b"\r\n") if line.startswith(field.encode()))
    sent = passed_on(message(SOURCE.replace(before, field.encode() + b": " + name)))

    assert sent == b"x-postroom-job: job-1\r\n" + written + b"\r\n" + SOURCE.replace(before + b"\r\n", b"")


@pytest.mark.parametrize(
    "name",
    [b'"shop@contoso.com" <shop@contoso.com>', b"Shop <shop@contoso.com> (the shop)", b"Shop Inc. <shop@contoso.com>",
     b"=?utf-8?q?Sh=C3=B6p=40?= <shop@contoso.com>", b"<shop@contoso.com>", b"shop@contoso.com"],
)  # fmt: skip
def test_a_from_that_is_one_mailbox_stays_as_it_is(name: bytes) -> None:
    source = SOURCE.replace(b"Shop <shop@contoso.com>", name)
    assert passed_on(message(source)).endswith(source)


def test_letters_that_are_not_ascii_leave_as_encoded_words_whatever_charset_they_came_in() -> None:
    source = (
        b"From: Sh\xf6p <shop@contoso.com>\r\nTo: Z\xc3\xb6e <ann@contoso.com>\r\n"
        b"Reply-To: H\xf6lp <help@contoso.com>\r\n"
        b"Subject: Gr\xfc\xdfe\r\n\tzur\xfcck\r\nX-Own: \xc3\xa4\r\nMessage-ID: <1@shop>\r\nDate: x\r\n\r\nb\xf6dy"
    )
    sent = passed_on(message(source))
    head, _, body = sent.partition(b"\r\n\r\n")
    read = message_from_bytes(sent, policy=policy.default)

    assert head.isascii()
    assert body == b"b\xf6dy"
    assert [str(read[name]) for name in ("from", "to", "reply-to", "subject", "x-own")] == [
        "Shöp <shop@contoso.com>", "Zöe <ann@contoso.com>", "Hölp <help@contoso.com>", "Grüße zurück", "ä",
    ]  # fmt: skip


def test_a_field_is_in_the_charset_that_the_message_says() -> None:
    source = SOURCE.replace(
        b"X-Odd", b'Subject: \xc3\xe5\xe9\xe1\r\nContent-Type: text/plain;\r\n charset="windows-1253"\r\nX-Odd'
    )
    read = message_from_bytes(passed_on(message(source)), policy=policy.default)
    assert str(read["subject"]) == "Γεια"


def test_traces_of_the_way_here_do_not_go_on() -> None:
    traces = [
        "Received: from a", "Return-Path: <b@c.d>", "Resent-To: b@contoso.com", "ARC-Seal: i=1", "DKIM-Signature: v=1",
        "Authentication-Results: x", "X-MS-Exchange-Organization-AuthAs: Internal", "Delivered-To: b@contoso.com",
    ]  # fmt: skip
    source = "".join(f"{trace}\r\n" for trace in traces).encode() + SOURCE
    assert passed_on(message(source)) == b"x-postroom-job: job-1\r\n" + SOURCE
