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
    assert refused(source("From: root")).startswith("550 5.1.7 From is not an address: ")


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


def invitation(message: EmailMessage) -> None:
    message.get_payload()[0].add_alternative("BEGIN:VCALENDAR", subtype="calendar")


def unknown_charset(message: EmailMessage) -> None:
    message.get_payload()[0].get_payload()[0].set_param("charset", "x-klingon")


def endless(message: EmailMessage) -> None:
    message["X-Boundaries"] = "boundary " * 101


@pytest.mark.parametrize("change", [signed, invitation, unknown_charset, endless])
def test_a_message_that_parts_would_change_is_refused_with_what_to_do(change: Any) -> None:
    message = large()
    change(message)
    assert refused(message.as_bytes()).startswith(
        f"552 5.3.4 a message over {AS_IT_CAME} bytes goes as bodies and files"
    )
