"""What Graph takes and refuses in a MIME sendMail, without a server."""

from __future__ import annotations

from base64 import b64encode, encodebytes
from contextlib import suppress
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.mailboxes import Exchange
from postroom.sandbox.graph.mime_mail import read_mime_mail
from postroom.sandbox.options import SandboxOptions


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Müller <hr@contoso.com>"
    message["To"] = "Zoë <zoe@fabrikam.com>, bob@fabrikam.com"
    message["Bcc"] = "archive@contoso.com"
    message["Subject"] = "Grüße aus München"
    message["Message-ID"] = "<7@contoso.com>"
    message["List-Unsubscribe"] = "<https://contoso.example/leave>"
    message.set_content("Hallo Zoë")
    message.add_alternative("<p>Hallo Zoë</p>", subtype="html")
    return message


def test_text_html_and_headers_are_read() -> None:
    mail = read_mime_mail(b64encode(letter().as_bytes()))

    assert (mail.text, mail.html) == ("Hallo Zoë\n", "<p>Hallo Zoë</p>\n")
    assert (mail.subject, mail.message_id) == ("Grüße aus München", "<7@contoso.com>")
    assert str(mail.to[0]) == "Zoë <zoe@fabrikam.com>"
    assert ("List-Unsubscribe", "<https://contoso.example/leave>") in mail.headers
    assert mail.save is True


def test_bcc_is_in_the_envelope_and_not_in_the_delivered_headers() -> None:
    mail = read_mime_mail(b64encode(letter().as_bytes()))

    assert [one.address for one in mail.recipients()] == ["zoe@fabrikam.com", "bob@fabrikam.com", "archive@contoso.com"]
    assert "bcc" not in {name.casefold() for name, _ in mail.headers}


def test_files_and_inline_images_are_found() -> None:
    message = letter()
    message.add_attachment(b"1,2", maintype="text", subtype="csv", filename="zahlen.csv")
    message.get_payload()[0].get_payload()[1].add_related(b"PNG", "image", "png", cid="<logo>")  # type: ignore[union-attr, index]

    files = {one.filename: one for one in read_mime_mail(b64encode(message.as_bytes())).attachments}

    assert files["zahlen.csv"].content == b"1,2"
    assert (files["unnamed"].content_id, files["unnamed"].inline) == ("logo", True)


def test_a_forwarded_message_is_one_attachment() -> None:
    message = letter()
    inner = EmailMessage()
    inner["Subject"] = "the original"
    inner.set_content("inner text")
    message.add_attachment(inner)

    mail = read_mime_mail(b64encode(message.as_bytes()))

    assert [one.content_type for one in mail.attachments] == ["message/rfc822"]
    assert b"inner text" in mail.attachments[0].content


def test_base64_in_lines_is_taken() -> None:
    assert read_mime_mail(encodebytes(letter().as_bytes())).subject == "Grüße aus München"


@pytest.mark.parametrize("body", [b"", b"To: ann@fabrikam.com\r\n\r\nplain", b"%%%%", b"YQ=", "grüße".encode()])
def test_what_is_not_base64_is_refused(body: bytes) -> None:
    with pytest.raises(GraphError) as caught:
        read_mime_mail(body)

    assert (caught.value.status, caught.value.code) == (400, "ErrorMimeContentInvalidBase64String")


def test_a_message_to_nobody_is_refused() -> None:
    with pytest.raises(GraphError) as caught:
        read_mime_mail(b64encode(b"Subject: x\r\n\r\nbody"))

    assert caught.value.code == "ErrorInvalidRecipients"


def test_base64_of_no_message_is_refused() -> None:
    with pytest.raises(GraphError) as caught:
        read_mime_mail(b64encode(b"\r\njust words"))

    assert caught.value.code == "ErrorMimeContentInvalid"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_comes_it_is_a_mail_or_a_graph_error(headers: bytes, body: bytes) -> None:
    source = b"To: ann@fabrikam.com\r\n" + headers + b"\r\n\r\n" + body
    with suppress(GraphError):
        read_mime_mail(b64encode(source))


@pytest.mark.parametrize(
    "author", ["hr@contoso.com <hr@contoso.com>", "[Printer] 2nd floor <hr@contoso.com>", "HR: us <hr@contoso.com>"]
)
def test_a_from_that_is_no_mailbox_is_taken_for_another_s(author: str) -> None:
    options = SandboxOptions()
    source = f"From: {author}\r\nTo: zoe@fabrikam.com\r\n\r\n".encode()
    with pytest.raises(GraphError, match="ErrorSendAsDenied"):
        Exchange(options).require_send_as("hr@contoso.com", read_mime_mail(b64encode(source)))
    quoted = source.replace(author.encode(), f'"{author.partition(" <")[0]}" <hr@contoso.com>'.encode())
    Exchange(options).require_send_as("hr@contoso.com", read_mime_mail(b64encode(quoted)))
