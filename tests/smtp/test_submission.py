"""An envelope and a message become a Mail: who gets it, from whom, what the X-Postroom headers ask for."""

from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import Any

import pytest

from postroom.access.smtp_logins import Login
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.smtp.submission import AS_IT_CAME, Reply, Submission, read

ANYBODY = Login(name="", senders=("*",))
SHOP = Login(name="shop", senders=("shop@contoso.com", "*@news.contoso.com"))
SENDER = "noreply@contoso.com"


def source(*lines: str, body: str = "Hello\r\n") -> bytes:
    return ("".join(f"{line}\r\n" for line in lines) + "\r\n" + body).encode()


def reading(
    message: bytes, *recipients: str, sender: str = SENDER, login: Login = ANYBODY, default: str | None = None
) -> Submission | Reply:
    people = [Address.parse(one) for one in recipients or ("ann@contoso.com",)]
    return read(message, sender, people, login, Address.parse(default) if default else None)


def submitted(message: bytes, *recipients: str, **given: Any) -> Submission:
    found = reading(message, *recipients, **given)
    assert isinstance(found, Submission), str(found)
    return found


def mail(message: bytes, *recipients: str, **given: Any) -> Mail:
    return submitted(message, *recipients, **given).mail


def refused(message: bytes, *recipients: str, **given: Any) -> str:
    found = reading(message, *recipients, **given)
    assert isinstance(found, Reply)
    return str(found)


# Who gets it


def test_the_source_is_kept_as_it_came() -> None:
    message = source(
        "From: noreply@contoso.com", "To: Ann <ann@contoso.com>", "X-Own:  a\r\n\tb ", body="a\r\n\r\n.\r\n"
    )
    found = mail(message)

    assert found.mime == message
    assert (found.sender, found.to, found.cc, found.bcc) == (SENDER, ('"Ann" <ann@contoso.com>',), (), ())


def test_recipients_that_no_header_names_are_bcc() -> None:
    message = source("From: noreply@contoso.com", "To: ann@contoso.com", "Cc: Bob <BOB@contoso.com>")
    found = mail(message, "ann@contoso.com", "bob@contoso.com", "cem@contoso.com")

    assert (found.to, found.cc, found.bcc) == (("ann@contoso.com",), ('"Bob" <bob@contoso.com>',), ("cem@contoso.com",))


def test_an_address_that_is_only_in_a_header_gets_nothing() -> None:
    message = source("From: noreply@contoso.com", "To: ann@contoso.com, bob@contoso.com", "Bcc: dan@contoso.com")
    found = mail(message, "bob@contoso.com")

    assert (found.to, found.cc, found.bcc) == (("bob@contoso.com",), (), ())


def test_if_headers_cannot_be_read_all_recipients_are_bcc() -> None:
    found = mail(source("From: noreply@contoso.com", "To: <ann@contoso.com> <bob@contoso.com>"))
    assert (found.to, found.bcc) == ((), ("ann@contoso.com",))


def test_the_same_recipient_twice_gets_it_once() -> None:
    found = mail(source("From: noreply@contoso.com"), "ann@contoso.com", "Ann@Contoso.com")
    assert len(found.recipients) == 1


# From whom


def test_from_goes_before_mail_from_and_mail_from_before_the_default() -> None:
    to = "To: ann@contoso.com"
    assert mail(source("From: Shop <a@contoso.com>", to), sender="b@contoso.com").sender == '"Shop" <a@contoso.com>'
    assert mail(source(to), sender="b@contoso.com", default="c@contoso.com").sender == "b@contoso.com"
    assert mail(source(to), sender="", default="c@contoso.com").sender == "c@contoso.com"
    assert mail(source("From: a@contoso.com", to), sender="bounce+1=x@list.example").sender == "a@contoso.com"


@pytest.mark.parametrize(
    "lines",
    [
        ("From: a@contoso.com, b@contoso.com",),
        ("From: a@contoso.com", "From: b@contoso.com"),
        ("From: <a@contoso.com> <b@contoso.com>",),
    ],
)
def test_from_names_one_address_or_the_mail_is_refused(lines: tuple[str, ...]) -> None:
    assert refused(source(*lines)).startswith("550 5.6.0 From must be one header")


def test_a_from_that_is_no_address_is_refused_with_why() -> None:
    assert refused(source("From: a@@b")).startswith("550 5.1.7 From is not an address: ")


@pytest.mark.parametrize("author", ["root (Cron Daemon)", "root", "(nobody)<root>", '"Cron" <root>'])
def test_a_local_user_as_from_is_as_if_there_were_none(author: str) -> None:
    message = source(f"From: {author}")
    assert mail(message, sender="root@web1.example", default=SENDER).sender == "root@web1.example"
    assert mail(message, sender="root", default=SENDER).sender == SENDER
    assert mail(message, sender="", default=SENDER).sender == SENDER


@pytest.mark.parametrize(
    ("author", "sender"),
    [
        ("shop@contoso.com <shop@contoso.com>", "shop@contoso.com"),
        ('"shop@contoso.com" <shop@contoso.com>', "shop@contoso.com"),
        ("[Printer] 2nd floor <shop@contoso.com>", '"[Printer] 2nd floor" <shop@contoso.com>'),
        ("Printer: 2nd floor <shop@contoso.com>", '"Printer: 2nd floor" <shop@contoso.com>'),
    ],
)
def test_a_name_that_should_be_quoted_is_the_sender_s_unless_it_has_an_at(author: str, sender: str) -> None:
    assert mail(source(f"From: {author}")).sender == sender


def test_a_sender_that_the_login_may_not_be_is_removed() -> None:
    message = source("From: shop@contoso.com", "Sender: boss@contoso.com")
    assert mail(message, login=SHOP).mime == source("From: shop@contoso.com")
    assert mail(message).mime == message


def test_a_login_has_its_senders_and_no_others() -> None:
    for sender in ("shop@contoso.com", "SHOP@contoso.com", "x@news.contoso.com"):
        assert mail(source(f"From: {sender}"), login=SHOP).sender
    for sender in ("boss@contoso.com", "shop@contoso.com.evil.example", "news.contoso.com@contoso.com"):
        assert refused(source(f"From: {sender}"), login=SHOP).startswith("550 5.7.1 login shop may not send")
    assert refused(source(), login=SHOP, sender="boss@contoso.com").startswith("550 5.7.1")
    assert refused(source(), login=SHOP, sender="", default="boss@contoso.com").startswith("550 5.7.1")


# Keys


def test_a_message_that_comes_again_has_the_same_key_and_another_has_another() -> None:
    message = source("From: a@contoso.com", "Message-ID: <1@contoso.com>")
    key = submitted(message, "ann@contoso.com", "bob@contoso.com").key

    assert key
    assert submitted(message, "bob@contoso.com", "ann@contoso.com").key == key
    assert submitted(message, "ann@contoso.com").key != key
    assert submitted(message.replace(b"Hello", b"Hallo"), "ann@contoso.com", "bob@contoso.com").key != key
    assert submitted(source("From: a@contoso.com")).key is None


def test_a_key_of_the_client_s_own_belongs_to_its_login() -> None:
    lines = ("From: shop@contoso.com", "X-Postroom-Key: order/4711")
    assert submitted(source(*lines)).key == "smtp//order/4711"
    assert submitted(source(*lines), login=SHOP).key == "smtp/shop/order/4711"


# What headers ask for


def test_headers_for_postroom_take_effect_and_are_removed() -> None:
    found = mail(
        source(
            "From: a@contoso.com",
            "x-postroom-priority: High",
            "X-Postroom-Scheduled-At: 2026-12-24T18:00+01:00",
            "X-Postroom-Key: k",
            "X-Postroom-Job: 1",
            "Subject: Hi",
        )
    )
    assert found.mime == source("From: a@contoso.com", "Subject: Hi")
    assert (found.priority, str(found.scheduled_at)) == ("high", "2026-12-24 18:00:00+01:00")


def test_a_template_takes_the_body_s_place_and_a_subject_wins_over_its_own() -> None:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Reply-To"] = "a@contoso.com", "ann@contoso.com", "help@contoso.com"
    message["X-Postroom-Template"] = "welcome"
    message["X-Postroom-Variables"] = '{"name": "Änne Lee", "items": [' + ", ".join(["1234567890"] * 50) + "]}"
    message.set_content("ignored")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
    found = mail(message.as_bytes())

    assert (found.template, found.text, found.subject, found.mime) == ("welcome", None, None, None)
    assert found.variables == {"name": "Änne Lee", "items": [1234567890] * 50}
    assert (found.reply_to, found.attachments[0].filename) == (("help@contoso.com",), "a.pdf")
    message["Subject"] = "Grüße"
    assert mail(message.as_bytes()).subject == "Grüße"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("X-Postroom-Templat: welcome", "X-Postroom-Templat: no such header (X-Postroom-Template?)"),
        ("X-Postroom-Template: ../../etc/passwd", "template: "),
        ("X-Postroom-Template: =?utf-8?q?=2E=2E=2Fetc?=", "template: "),
        ("X-Postroom-Variables: {}", "given without X-Postroom-Template"),
        ("X-Postroom-Priority: urgent", "X-Postroom-Priority: high, normal, low are the priorities"),
        ("X-Postroom-Scheduled-At: tomorrow", "X-Postroom-Scheduled-At: no time"),
        ("X-Postroom-Scheduled-At: 2026-12-24T18:00", "scheduled_at: a time without its zone"),
        ("X-Postroom-Key: a\r\nX-Postroom-Key: b", "X-Postroom-Key: given 2 times"),
        ("X-Postroom-Key:", "X-Postroom-Key: empty"),
        ("X-Postroom-Template: welcome\r\nX-Postroom-Variables: {", "X-Postroom-Variables: no JSON"),
        ("X-Postroom-Template: welcome\r\nX-Postroom-Variables: [1]", "variables: "),
        (
            "X-Postroom-Template: welcome\r\nX-Postroom-Variables: " + '{"a":' * 900 + "1" + "}" * 900,
            "nested more than 180 levels deep",
        ),
        ("X-Postroom-Template: welcome\r\nX-Postroom-Variables: " + "[" * 100_000, "nested more than 180 levels deep"),
        ('X-Postroom-Template: welcome\r\nX-Postroom-Variables: {"a": NaN}', "variables"),
    ],
)
def test_a_header_that_is_wrong_is_named(line: str, told: str) -> None:
    found = refused(source("From: a@contoso.com", line))
    assert found.startswith("550 5.6.0 ")
    assert told in found


def test_an_answer_is_one_short_line_of_ascii_whatever_the_mail_holds() -> None:
    reply = str(Reply(code=550, status="5.6.0", text="a\r\n250 ok\tü" + "x" * 1000))
    assert reply.startswith("550 5.6.0 a??250 ok??x")
    assert len(reply) < 510


# What Graph does not take as MIME

LARGE = b"\x01" * AS_IT_CAME


def large(**more: Any) -> EmailMessage:
    message = EmailMessage(policy=SMTPUTF8)
    message["From"], message["To"] = "a@contoso.com", "ann@contoso.com"
    message["Subject"], message["List-Id"], message["X-Own"] = "Plän", "<news.contoso.com>", "1"
    message["Message-ID"], message["Date"] = "<1@contoso.com>", "Wed, 25 Nov 2026 04:00:00 +0000"
    message.set_content("text")
    message.add_alternative("<p>Häuser <img src='cid:logo'></p>", subtype="html")
    message.get_payload()[1].add_related(b"PNG", maintype="image", subtype="png", cid="<logo>", filename="logo.png")
    message.add_attachment(LARGE, maintype="application", subtype="zip", filename="plän.zip")
    return message


def test_a_large_message_goes_as_bodies_and_files() -> None:
    message = large()
    message.add_attachment(EmailMessage(policy=SMTP))
    found = mail(message.as_bytes())

    assert (found.mime, found.subject, found.text) == (None, "Plän", "text\r\n")
    assert found.html == "<p>Häuser <img src='cid:logo'></p>\r\n"
    assert found.headers == {"List-Id": "<news.contoso.com>", "X-Own": "1"}
    files = [(a.filename, a.content_type, a.content_id) for a in found.attachments]
    assert files[:2] == [("logo.png", "image/png", "logo"), ("plän.zip", "application/zip", None)]
    assert files[2][1] == "message/rfc822"
    assert found.attachments[1].read() == LARGE


def signed(message: EmailMessage) -> None:
    message.set_type("multipart/signed")


def endless(message: EmailMessage) -> None:
    for _ in range(1001):
        message.add_attachment(b"", maintype="application", subtype="zip")


@pytest.mark.parametrize("change", [signed, endless])
def test_a_message_that_parts_would_change_is_refused_with_what_to_do(change: Any) -> None:
    message = large()
    change(message)
    assert refused(message.as_bytes()).startswith(
        f"552 5.3.4 a message over {AS_IT_CAME} bytes goes as bodies and files"
    )


def test_a_part_that_no_boundary_shows_is_refused_and_not_lost() -> None:
    parts = f"--a\r\n{TEXT}\r\n--a--\r\n--a\r\n{FILE}\r\n--a--\r\n"
    for boundary, why in (("a", "behind the last boundary"), ("b", "none of the boundaries")):
        head = f"From: a@contoso.com\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n"
        assert why in refused((head + parts).encode())
    twice_ended = f"{head}--b\r\n{FILE}\r\n--b--\r\n--b--\r\n"
    assert mail(twice_ended.encode()).attachments[0].filename == "a.zip"


def test_a_calendar_s_request_goes_along_with_its_method() -> None:
    message = large()
    message.get_payload()[0].add_alternative("BEGIN:VCALENDAR", subtype="calendar", params={"method": "REQUEST"})
    (found,) = [one for one in mail(message.as_bytes()).attachments if one.is_invitation]
    assert (found.content_type, found.read()) == (
        "text/calendar; charset=utf-8; method=REQUEST",
        b"BEGIN:VCALENDAR\r\n",
    )


def multipart(kind: str, *parts: str) -> str:
    mark = f"={kind}{len(''.join(parts))}"
    inner = "".join(f"--{mark}\r\n{part}\r\n" for part in parts)
    return f"Content-Type: multipart/{kind};\r\n\tboundary={mark}\r\n\r\n{inner}--{mark}--"


TEXT, FOOTER = "Content-Type: text/plain\r\n\r\ntext", "Content-Type: text/plain\r\n\r\n-- <all>"
PAGE = "Content-Type: text/html\r\n\r\n<html><body><p>page</p></body></html>"
FILE = "Content-Type: application/zip; name=a.zip\r\n\r\n" + "z" * AS_IT_CAME
BLANK, BLANK_PAGE = "Content-Type: text/plain\r\n\r\n", "Content-Type: text/html\r\n\r\n\r\n"
SMALL_FILE = "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nx"
BELOW = '<html><body><p>page</p><div style="white-space: pre-wrap">-- &lt;all&gt;</div></body></html>'
ONLY_PAGE = "<html><body><p>page</p></body></html>"


@pytest.mark.parametrize(
    ("message", "text", "html", "files"),
    [
        (multipart("mixed", PAGE, FOOTER, FILE), None, BELOW, ["a.zip"]),
        (multipart("mixed", TEXT, FOOTER, FILE), "text\r\n-- <all>", None, ["a.zip"]),
        (multipart("mixed", multipart("alternative", TEXT, PAGE), FOOTER, FILE), "text\r\n-- <all>", BELOW, ["a.zip"]),
        (multipart("alternative", TEXT, multipart("mixed", PAGE, FILE, FOOTER)), "text", BELOW, ["a.zip"]),
        (multipart("mixed", multipart("related", PAGE, FILE), SMALL_FILE), None, ONLY_PAGE, ["a.zip", "a.txt"]),
        (multipart("mixed", TEXT, FILE, FOOTER, SMALL_FILE), "text\r\n-- <all>", None, ["a.zip", "a.txt"]),
        (multipart("x-unknown", TEXT, FILE), "text", None, ["a.zip"]),
        (multipart("alternative", TEXT, PAGE, FILE), "text", ONLY_PAGE, ["a.zip"]),
        (multipart("alternative", TEXT, BLANK, BLANK_PAGE, FILE), "text", None, ["a.zip"]),
        (multipart("mixed", FILE), " ", None, ["a.zip"]),
    ],
)
def test_only_alternatives_become_alternatives_and_what_follows_a_body_stays_behind_it(
    message: str, text: str | None, html: str | None, files: list[str]
) -> None:
    found = mail(f"From: a@contoso.com\r\n{message}".encode())
    assert (found.text, found.html, [one.filename for one in found.attachments]) == (text, html, files)


AMP = "Content-Type: text/x-amp-html\r\n\r\n<html amp4email>"


@pytest.mark.parametrize(
    ("message", "tags"),
    [
        (multipart("report", TEXT, FILE), ("report:as-files",)),
        (multipart("mixed", multipart("alternative", TEXT, AMP, PAGE), FILE), ("left-out:text/x-amp-html",)),
        (multipart("mixed", TEXT, FILE), ()),
    ],
)
def test_a_tag_says_what_of_a_large_message_is_not_as_it_came(message: str, tags: tuple[str, ...]) -> None:
    assert mail(f"From: a@contoso.com\r\n{message}".encode()).tags == tags


@pytest.mark.parametrize("beside", ["Content-Type: text/plain\r\n\r\n", "Content-Type: text/html\r\n\r\n \r\n"])
def test_an_amp_page_beside_which_nothing_is_to_be_read_goes_as_a_file(beside: str) -> None:
    message = multipart("mixed", multipart("alternative", beside, AMP), FILE)
    found = mail(f"From: a@contoso.com\r\n{message}".encode())
    assert ([one.read() for one in found.attachments][:1], found.tags) == ([b"<html amp4email>"], ())


def test_what_header_fields_ask_for_is_kept_of_a_large_message() -> None:
    head = [
        "From: a@contoso.com", "Importance: High", "Disposition-Notification-To: a@contoso.com",
        "Return-Receipt-To: a@contoso.com", "Reply-To: Help Desk <help@contoso.com>", "References: <1@a>\r\n\t<2@a>",
        "List-Unsubscribe:\r\n\t<https://contoso.com/u>", "Received: from x", "ARC-Seal: i=1",
        "Resent-To: b@contoso.com", "DKIM-Signature: v=1", "X-MS-Exchange-Organization-SCL: -1",
    ]  # fmt: skip
    found = mail("\r\n".join([*head, FILE]).encode())

    assert found.headers == {"References": "<1@a> <2@a>", "List-Unsubscribe": "<https://contoso.com/u>"}
    assert (found.importance, found.read_receipt, found.delivery_receipt) == ("high", True, True)
    assert found.reply_to == ('"Help Desk" <help@contoso.com>',)


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("x-klingon", b"plain", "plain"),
        ("us-ascii", "Grüße".encode(), "Grüße"),
        ("us-ascii", b"Gr\xfc\xdfe", "Grüße"),
        ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        ("windows-874", b"\xca\xc7\xd1\xca", "สวัส"),
        ("iso-2022-jp", "日本".encode("iso-2022-jp"), "日本"),
        ("punycode", b"abc-", "abc-"),
        ("base64", b"YQ==", "YQ=="),
    ],
)
def test_a_body_is_read_whatever_its_charset_is_called(charset: str, data: bytes, text: str) -> None:
    part = f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + data
    assert (
        mail(multipart("mixed", "PART", FILE).encode().replace(b"PART", part).join([b"From: a@x.de\r\n", b""])).text
        == text
    )


def test_what_no_reader_takes_for_a_subject_does_not_stop_a_large_message() -> None:
    found = mail(b"From: a@x.de\r\nSubject: Gr\xfc\xdfe=?utf-8?q?=0A?= =?nope?q?b?=\r\n" + FILE.encode())
    assert found.subject == "Grüße b"
