"""Messages of Django become mails of Postroom."""

import threading
from collections.abc import Iterator
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail

from postroom import InvalidMail, Mail, Unavailable
from postroom.testing import Outbox

if not settings.configured:
    backend = "postroom.django.EmailBackend"
    settings.configure(
        **({"MAILERS": {"default": {"BACKEND": backend}}} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": backend})
    )
    django.setup()

# What Django has instead of these is newer than the oldest Django that the backend is for.
pytestmark = pytest.mark.filterwarnings("ignore:.*(fail_silently|get_connection|MIMEBase).* (is|are) deprecated")

ANN, BOB = "ann@contoso.com", "bob@contoso.com"


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(sender="noreply@contoso.com") as outbox:
        yield outbox


def sent(outbox: Outbox, message: EmailMessage) -> Mail:
    assert message.send() == 1
    return outbox.mails[-1]


def a_message(**fields: Any) -> EmailMultiAlternatives:
    return EmailMultiAlternatives(**({"subject": "Hello", "body": "Hi", "to": [ANN]} | fields))


def test_send_mail_is_taken_in_with_both_bodies_and_the_sender_s_name(outbox: Outbox) -> None:
    assert send_mail("Hello", "Hi", "Contoso <news@contoso.com>", [ANN, BOB], html_message="<p>Hi</p>") == 1

    mail = outbox.mails[0]
    assert mail.sender == '"Contoso" <news@contoso.com>'
    assert (mail.to, mail.subject, mail.text, mail.html) == ((ANN, BOB), "Hello", "Hi", "<p>Hi</p>")


def test_every_field_of_a_message_is_kept(outbox: Outbox) -> None:
    message = a_message(cc=[BOB], bcc=["c@contoso.com"], reply_to=["Help <help@contoso.com>"], headers={"X-Shop": "7"})

    mail = sent(outbox, message)

    assert (mail.cc, mail.bcc, mail.reply_to) == ((BOB,), ("c@contoso.com",), ('"Help" <help@contoso.com>',))
    assert mail.headers == {"X-Shop": "7"}
    assert mail.sender == "noreply@contoso.com"  # the message names none


def test_an_html_message_and_an_empty_one_keep_their_form(outbox: Outbox) -> None:
    message = EmailMessage("Hello", "<p>Hi</p>", None, [ANN])
    message.content_subtype = "html"

    assert sent(outbox, message).html == "<p>Hi</p>"
    assert sent(outbox, EmailMessage("Only a subject", "", None, [ANN])).text == "\n"


def test_attachments_are_kept_in_each_of_django_s_forms(outbox: Outbox) -> None:
    message = a_message()
    message.attach("notes.txt", "schön", "text/plain")
    message.attach("data.bin", b"\x00\x01")
    message.attach(None, b"%PDF", "application/pdf")
    message.attach("forwarded.eml", EmailMessage("Inner", "body", "x@contoso.com", [BOB]), "message/rfc822")
    logo = MIMEImage(b"\x89PNG\r\n\x1a\n", "png")
    logo.add_header("Content-ID", "<logo>")
    message.attach(logo)
    report = MIMEBase("text", "csv")
    report.set_payload("a;b")
    report.add_header("Content-Disposition", "attachment", filename="report.csv")
    message.attach(report)
    part = MIMEPart()
    part.set_content(b"zip", "application", "zip", filename="all.zip")
    message.attachments.append(part)

    found = {one.filename: (one.read(), one.mime_type, one.content_id) for one in sent(outbox, message).attachments}

    inner, kind, _ = found.pop("forwarded.eml")
    assert (b"Subject: Inner" in inner, kind) == (True, "message/rfc822")
    assert found == {
        "notes.txt": ("schön".encode(), "text/plain", None),
        "data.bin": (b"\x00\x01", "application/octet-stream", None),
        "attachment-3.pdf": (b"%PDF", "application/pdf", None),
        "attachment-5.png": (b"\x89PNG\r\n\x1a\n", "image/png", "logo"),
        "report.csv": (b"a;b", "text/csv", None),
        "all.zip": (b"zip", "application/zip", None),
    }


def test_headers_for_postroom_say_key_batch_and_priority_and_do_not_leave(outbox: Outbox) -> None:
    headers = {"X-Postroom-Key": "k", "x-postroom-batch": "news", "X-Postroom-Priority": "low", "X-Shop": "7"}
    for _ in range(2):
        assert a_message(headers=headers).send() == 1

    assert [(job.key, job.batch, job.mail.priority, job.mail.headers) for job in outbox.sent] == [
        ("k", "news", "low", {"X-Shop": "7"})
    ]


def test_a_template_takes_the_place_of_the_body(outbox: Outbox) -> None:
    headers = {"X-Postroom-Template": "welcome", "X-Postroom-Variables": '{"name": "Ann"}'}

    mail = sent(outbox, EmailMessage("", "", None, [ANN], headers=headers))

    assert (mail.template, mail.variables, mail.subject) == ("welcome", {"name": "Ann"}, None)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (a_message(alternatives=[("a", "text/html"), ("b", "text/html")]), "two bodies of text/html"),
        (a_message(alternatives=[("<html amp4email>", "text/x-amp-html")]), "not text/x-amp-html; attach it as a file"),
        (a_message(headers={"X-Postroom-Kay": "1"}), "no such header X-Postroom-Kay"),
        (a_message(headers={"X-Postroom-Template": "welcome"}), "body: given beside X-Postroom-Template"),
        (a_message(body="", headers={"X-Postroom-Template": "w", "X-Postroom-Variables": "["}), "is not JSON"),
        (
            a_message(body="", headers={"X-Postroom-Template": "w", "X-Postroom-Variables": "[" * 100_000}),
            "nested more than 180 levels deep",
        ),
        (a_message(to=["ann@@contoso.com"]), "to.0: not an address"),
    ],
)
def test_what_cannot_be_sent_as_it_is_says_why_or_fails_silently(
    outbox: Outbox, message: EmailMultiAlternatives, fault: str
) -> None:
    with pytest.raises(InvalidMail, match=fault):
        message.send()

    good = a_message()
    assert get_connection(fail_silently=True).send_messages([message, good]) == 1
    assert len(outbox.mails) == 1


def test_a_message_to_nobody_is_left_out_as_django_does(outbox: Outbox) -> None:
    assert a_message(to=[]).send() == 0
    assert get_connection().send_messages([]) == 0
    assert outbox.mails == []


def test_threads_share_the_backend(outbox: Outbox) -> None:
    threads = [threading.Thread(target=lambda n=n: a_message(subject=str(n)).send()) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(str(mail.subject) for mail in outbox.mails) == [str(n) for n in range(8)]


def test_redis_away_is_an_error_or_silence(outbox: Outbox) -> None:
    with outbox.unavailable():
        with pytest.raises(Unavailable):
            a_message().send()
        assert a_message().send(fail_silently=True) == 0
    assert a_message().send() == 1


def test_an_invitation_as_an_alternative_goes_along_with_its_method(outbox: Outbox) -> None:
    kind = "text/calendar; method=REQUEST"
    mail = sent(outbox, a_message(alternatives=[("<p>Hi</p>", "text/html"), ("BEGIN:VCALENDAR", kind)]))
    (invitation,) = mail.attachments
    assert (mail.html, mail.text, invitation.mime_type, invitation.is_invitation) == ("<p>Hi</p>", "Hi", kind, True)


def test_what_a_mail_program_would_take_is_taken(outbox: Outbox) -> None:
    message = a_message()
    message.attach("x" * 300 + ".csv", "a;b", "text/csv; charset=utf-8")
    message.attach("two\nlines.txt", "x", "text/plain")
    names = [one.filename for one in sent(outbox, message).attachments]
    assert names == ["x" * 196 + ".csv", "twolines.txt"]


def test_no_foreign_exception_leaves_the_backend(outbox: Outbox) -> None:
    unknown, letters = a_message(), a_message()
    unknown.encoding, letters.encoding = "x-klingon", "us-ascii"
    for message in (unknown, letters):
        message.attach("a.txt", "ü", "text/plain")
    part = MIMEBase("image", "png")
    part.add_header("Content-ID", "<a b>")
    part.set_payload("x")
    with_id = a_message(attachments=[part])
    deep = a_message(body="", headers={"X-Postroom-Template": "w", "X-Postroom-Variables": "[" * 100_000})
    for message in (unknown, letters, with_id, deep):
        with pytest.raises(InvalidMail):
            message.send()
        assert get_connection(fail_silently=True).send_messages([message]) == 0
