"""What an SMTP client may rely on: the answers, the extensions, and that 250 comes after the mail is stored."""

import smtplib
import socket
import ssl
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage

import pytest
from aiosmtpd.smtp import SMTP

from postroom.errors import InvalidMail, KeyConflict, Unavailable
from postroom.jobs.job import Receipt
from postroom.mail.model import Mail
from postroom.smtp.session import SmtpSession

from .conftest import LOCAL, MESSAGE, PASSWORD, SENDER, SHOP, Server


def test_a_mail_is_stored_as_it_was_sent_before_the_client_reads_250(server: Server) -> None:
    with server.client() as client:
        client.begin()
        assert client.say(MESSAGE + b".") == b"250 2.0.0 Ok: queued as job-1\r\n"
        assert server.kept.sources == [MESSAGE]


def test_the_greeting_tells_what_the_server_can_do(server: Server) -> None:
    with server.client() as client:
        can = client.hello()
        assert {b"SIZE 10000000", b"8BITMIME", b"SMTPUTF8", b"PIPELINING", b"ENHANCEDSTATUSCODES", b"STARTTLS"} <= set(
            can
        )
        assert b"AUTH LOGIN PLAIN" in can  # from this network even without TLS
        assert client.say(b"HELO client").startswith(b"250 ")


def test_dots_eight_bits_and_long_lines_arrive_as_they_left(server: Server) -> None:
    message = MESSAGE + b"\r\n..\r\n.x\r\n" + "Grüße 😀".encode() + b"\xff\r\n" + b"long" * 10_000 + b"\r\n"
    with server.client() as client:
        client.begin(b"<noreply@contoso.com> BODY=8BITMIME")
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        assert client.say(stuffed + b".").startswith(b"250 ")
        assert server.kept.sources == [message]


@pytest.mark.parametrize("body", [b"", b"\r\n", b"..\r\n", b"\r\n..\r\n", b"A: b\r\n\r\n...\r\n..\r\n\r\n"])
def test_dots_at_the_begin_of_a_line_arrive_wherever_the_line_is(server: Server, body: bytes) -> None:
    with server.client() as client:
        client.begin()
        assert client.say(body + b".")[:3] in {b"250", b"550"}
        client.begin()
        client.say(MESSAGE + body + b".")
    lines = [line[1:] if line.startswith(b".") else line for line in body.split(b"\r\n")]
    assert server.kept.sources[-1] == MESSAGE + b"\r\n".join(lines)


def test_a_line_of_any_length_arrives_in_lines_that_others_take(server: Server) -> None:
    line = b"x" * 70_000 + "ä".encode()
    with server.client() as client:
        client.begin()
        assert client.say(MESSAGE + line + b"\r\n.").startswith(b"250 ")
        client.begin()
        assert client.say(b"From: noreply@contoso.com\r\nX-A: " + line + b"\r\n\r\n.").startswith(
            b"550 5.6.0 its header field X-A has"
        )
    (source,) = server.kept.sources
    assert isinstance(source, bytes)
    assert max(map(len, source.split(b"\r\n"))) < 100
    assert message_from_bytes(source).get_payload(decode=True) == b"Hello\r\n" + line + b"\r\n"


def test_wishes_for_reports_are_ignored(server: Server) -> None:
    with server.client() as client:
        client.hello()
        assert client.say(b"MAIL FROM:<noreply@contoso.com> RET=HDRS ENVID=QQ314159").startswith(b"250 ")
        assert client.say(b"RCPT TO:<ann@contoso.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ann@x.example")[:3] == b"250"
        assert client.say(b"RCPT TO:<ann@contoso.com> NOTIFI=NEVER").startswith(b"555 5.5.4 ")


def test_commands_that_come_all_at_once_are_answered_in_order(server: Server) -> None:
    with server.client() as client:
        client.hello()
        envelope = b"MAIL FROM:<noreply@contoso.com>\r\nRCPT TO:<ann@contoso.com>\r\nRCPT TO:<bad>\r\nDATA\r\n"
        client.write(envelope)
        assert [client.line()[:9] for _ in range(4)] == [b"250 2.1.0", b"250 2.1.5", b"550 5.1.3", b"354 End d"]
        client.write(MESSAGE + b".\r\nRSET\r\nNOOP\r\nQUIT\r\n")
        assert [client.line()[:9] for _ in range(4)] == [b"250 2.0.0"] * 3 + [b"221 2.0.0"]
        assert client.gone()


def test_addresses_may_be_in_any_script(server: Server) -> None:
    with server.client() as client:
        client.hello()
        assert client.say(b"MAIL FROM:<noreply@contoso.com> SMTPUTF8").startswith(b"250 ")
        assert client.say("RCPT TO:<häns@exämple.com>".encode()).startswith(b"250 ")
        client.say(b"DATA")
        client.say("From: noreply@contoso.com\r\nTo: Häns <häns@exämple.com>\r\n\r\nhi\r\n.".encode())
    assert server.kept.mails[0].to == ("Häns <häns@xn--exmple-cua.com>".replace("Häns ", '"Häns" '),)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Unavailable("Redis did not answer"), b"451 4.3.0 The mail could not be kept just now; send it again later"),
        (InvalidMail("to: more recipients than this sender may reach in a day (5)"), b"550 5.6.0 to: more recipients"),
        (ZeroDivisionError(), b"451 4.3.0 "),
    ],
)
def test_an_answer_says_whether_to_try_again_a_mail_that_could_not_be_stored(
    server: Server, answer: Exception, told: bytes
) -> None:
    def fail(mail: Mail, key: str | None) -> Receipt:
        raise answer

    server.kept.answer = fail
    with server.client() as client:
        client.begin()
        assert client.say(MESSAGE + b".").startswith(told)
        assert client.say(b"MAIL FROM:<noreply@contoso.com>").startswith(b"250 ")  # the connection goes on


def test_a_mail_that_was_sent_before_is_answered_with_the_first_job(server: Server) -> None:
    server.kept.answer = lambda mail, key: Receipt(id="job-0", known=True)
    with server.client() as client:
        client.begin()
        assert client.say(MESSAGE + b".") == b"250 2.0.0 Ok: queued as job-0 (it was kept already)\r\n"


def test_a_key_of_another_mail_is_refused_and_a_key_made_of_the_message_is_never_one(server: Server) -> None:
    def conflict(mail: Mail, key: str | None) -> Receipt:
        raise KeyConflict("k", "job-0")

    server.kept.answer = conflict
    with server.client() as client:
        client.begin()
        told = client.say(b"X-Postroom-Key: k\r\n" + MESSAGE + b".")
        assert told.startswith(b"550 5.5.4 X-Postroom-Key: this key already belongs to another mail (job job-0)")
        client.begin()
        told = client.say(b"Message-ID: <1@x>\r\n" + MESSAGE + b".")
        assert told == b"250 2.0.0 Ok: queued as job-0 (it was kept already)\r\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (b"MAIL FROM:<a@contoso.com>", b"503 5.5.1 "),
        (b"HELLO", b"500 5.5.2 "),
        (b"EXPN x", b"502 5.5.1 "),
        (b"AUTH CRAM-MD5", b"503 5.5.1 "),
    ],
)
def test_each_refusal_has_an_enhanced_status(server: Server, command: bytes, told: bytes) -> None:
    with server.client() as client:
        assert client.say(command).startswith(told)


def test_faults_of_an_envelope_are_answered_at_the_command_that_has_them(server: Server) -> None:
    with server.client() as client:
        client.hello()
        assert client.say(b"RCPT TO:<ann@contoso.com>").startswith(b"503 5.5.1 ")
        assert client.say(b"MAIL FROM:<a@contoso.com> SIZE=99999999").startswith(
            b"552 5.3.4 the message is larger than"
        )
        assert client.say(b"MAIL FROM:<a@contoso.com> FOO=1").startswith(b"555 5.5.4 ")
        assert client.say(b"MAIL FROM:<a@contoso.com> AUTH=<>").startswith(b"250 2.1.0 ")
        assert client.say(b"RCPT TO:<ann@@contoso.com>").startswith(b"553 5.1.3 ")
        assert client.say(b"DATA").startswith(b"503 5.5.1 ")


def test_the_null_sender_is_the_default_sender(server: Server) -> None:
    with server.client() as client:
        client.begin(b"<>")
        client.say(b"To: ann@contoso.com\r\n\r\nhi\r\n.")
    assert server.kept.mails[0].sender == SENDER


# TLS and logins


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("secure", [False, True])
def test_a_login_sends_as_its_senders_over_either_kind_of_tls(
    open_server: Callable[..., Server], mechanism: str, secure: bool
) -> None:
    server = open_server(SHOP)
    opened = (
        smtplib.SMTP_SSL("localhost", server.tls_port, context=server.trust)
        if secure
        else smtplib.SMTP("localhost", server.port)
    )
    with opened as client:
        if not secure:
            assert not client.has_extn("auth")
            client.starttls(context=server.trust)
        client.user, client.password = "shop", PASSWORD
        client.ehlo()
        client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
        message = EmailMessage()
        message["From"], message["To"] = "Shop <shop@contoso.com>", "ann@contoso.com"
        client.send_message(message)
        message.replace_header("From", "boss@contoso.com")
        with pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.1 login shop may not send from this address"):
            client.send_message(message)
    assert [mail.sender for mail in server.kept.mails] == ['"Shop" <shop@contoso.com>']


def test_no_password_is_accepted_without_tls_and_no_mail_without_a_login(open_server: Callable[..., Server]) -> None:
    server = open_server(SHOP)
    with server.client() as client:
        assert not any(line.startswith(b"AUTH") for line in client.hello())
        assert client.say(b"AUTH PLAIN AHNob3AAeA==").startswith(b"538 5.7.11 ")
        assert client.say(b"MAIL FROM:<shop@contoso.com>").startswith(b"530 5.7.0 Log in first: STARTTLS, then AUTH")


def test_a_client_from_another_network_reads_which_setting_lets_it_in(open_server: Callable[..., Server]) -> None:
    server = open_server(LOCAL.__class__(name="far", senders=("*",), networks=()))
    with server.client() as client:
        assert not any(line.startswith(b"AUTH") for line in client.hello())
        assert b"POSTROOM_SMTP_ALLOW" in client.say(b"MAIL FROM:<shop@contoso.com>")


def test_after_starttls_all_that_came_before_it_is_forgotten(server: Server) -> None:
    with server.client() as client:
        client.hello()
        client.say(b"MAIL FROM:<noreply@contoso.com>")
        # What comes in one packet with STARTTLS could be anybody's: CVE-2011-0411.
        client.write(b"STARTTLS\r\nRCPT TO:<evil@contoso.com>\r\nNOOP\r\n")
        assert client.line().startswith(b"220 ")
        client.start_tls()
        assert client.say(b"RCPT TO:<ann@contoso.com>").startswith(b"503 5.5.1 ")
        client.begin()
        assert client.say(MESSAGE + b".").startswith(b"250 ")
    assert server.kept.mails[0].recipients == ("ann@contoso.com",)


def test_without_a_certificate_starttls_is_not_offered(open_server: Callable[..., Server]) -> None:
    with open_server(LOCAL, certificate=False).client() as client:
        assert b"STARTTLS" not in client.hello()
        assert client.say(b"STARTTLS").startswith(b"454 4.7.0 ")


def test_old_versions_of_tls_are_refused(server: Server) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with server.client() as client:
        client.trust = old
        client.say(b"STARTTLS")
        with pytest.raises(OSError):  # noqa: PT011 - alert, reset or end of file, as it comes
            client.start_tls()


def test_a_client_that_sends_nothing_more_still_hears_all_answers(server: Server) -> None:
    """As Exim 4.96 ends each connection: the final dot and QUIT in one write, then a half-close."""
    with server.client() as client:
        client.begin()
        client.write(MESSAGE + b".\r\nQUIT\r\n")
        client.sock.shutdown(socket.SHUT_WR)

        assert client.line().startswith(b"250 2.0.0 Ok: queued")
        assert client.line().startswith(b"221 ")
        assert client.gone()
    assert server.kept.sources == [MESSAGE]


@pytest.mark.parametrize("unfinished", [MESSAGE, MESSAGE + b".", b""])
def test_a_message_that_breaks_off_is_not_kept(server: Server, unfinished: bytes) -> None:
    with server.client() as client:
        client.begin()
        client.write(unfinished)
        client.sock.shutdown(socket.SHUT_WR)

        assert client.gone()
    assert server.kept.sources == []


@pytest.mark.parametrize(
    "arg",
    [
        "<a@b.com>",
        " <a.b+c@x-y.example> SIZE=10 BODY=8BITMIME",
        "<a@b.com>SIZE=1",
        "<>",
        "<a@b.com> (c) SIZE=1",
        "a@b.com",
        "<a..b@b.com>",
    ],
)
def test_a_usual_address_is_read_as_every_other(arg: str) -> None:
    class Quick(SmtpSession):
        def __init__(self) -> None:
            self.local_part_limit = 0

    assert Quick()._getaddr(arg) == SMTP._getaddr(Quick(), arg)
