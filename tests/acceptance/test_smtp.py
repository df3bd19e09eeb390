"""Mail that comes in by SMTP, through real processes, up to the sandbox's inbox."""

import os
import signal
import smtplib
import ssl
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from postroom.access.smtp_logins import hashed
from postroom.jobs.job import Status
from tests.mail.corpus import multi, part, whole

from .conftest import SENDER, Room

OpenRoom = Callable[..., Room]
MB = 1024 * 1024


def a_message(to: str = "Ann Lee <ann@contoso.com>", **headers: str) -> EmailMessage:
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"], message["Subject"] = SENDER, to, "Grüße aus dem Haus"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("Grüße\n.\n..\nFrom here on\n")
    return message


def a_report(size: int) -> bytes:
    """A bounce with the message that came back, of this size."""
    status = part("message/delivery-status", "Reporting-MTA: dns; mx.example\r\n")
    returned = part("message/rfc822; name=order.eml", "Subject: Order\r\n\r\n" + ("x" * 70 + "\r\n") * (size // 72))
    text = part("text/plain", "It did not arrive.")
    return whole(multi("report; report-type=delivery-status", text, status, returned)).replace(b"shop@", b"noreply@")


def job_of(answer: bytes) -> str:
    return answer.decode().rpartition("queued as ")[2].split()[0]


def handed_over(client: smtplib.SMTP, source: bytes, *recipients: str) -> str:
    """The job's id."""
    client.ehlo_or_helo_if_needed()
    client.mail(SENDER)
    for recipient in recipients:
        assert client.rcpt(recipient)[0] == 250
    code, answer = client.data(source)
    assert code == 250, answer
    return job_of(answer)


def test_what_is_handed_over_arrives_as_it_was_sent(open_room: OpenRoom) -> None:
    room = open_room(roles=("Mail.Send", "Mail.ReadWrite"), keep_mime_message_id=True)
    room.start_worker_process(slots=2)
    server, (port,) = room.start_smtp()
    small = a_message(Message_ID="<1@shop.contoso.com>", Date="Wed, 25 Nov 2026 04:00:00 +0000", X_Own="a")
    small.add_attachment(os.urandom(100_000), maintype="application", subtype="pdf", filename="plän.pdf")
    large = a_message("dan@contoso.com", Message_ID="<2@shop.contoso.com>")
    large.add_attachment(content := os.urandom(5 * MB), maintype="application", subtype="zip", filename="plän.zip")
    report = a_report(MB * 2)
    by_template = a_message("eva@contoso.com", X_Postroom_Template="welcome", X_Postroom_Variables='{"name": "Eva"}')
    del by_template["Subject"]

    with smtplib.SMTP("127.0.0.1", port) as client:
        job = handed_over(client, small.as_bytes(), "ann@contoso.com", "bob@contoso.com")
        assert handed_over(client, small.as_bytes(), "ann@contoso.com", "bob@contoso.com") == job
        in_parts = handed_over(client, large.as_bytes(), "dan@contoso.com")
        reported = handed_over(client, report, "fay@contoso.com")
        rendered = handed_over(client, by_template.as_bytes(), "eva@contoso.com")

    assert {room.settled(one).status for one in (job, in_parts, reported, rendered)} == {Status.ACCEPTED}
    (arrived,) = room.sandbox.messages(job=job)
    head, _, source = room.sandbox.source(arrived).encode().partition(b"bob@contoso.com\r\n")
    assert head == f"x-postroom-job: {job}\r\nBcc: ".encode()
    assert source == small.as_bytes()
    (arrived,) = room.sandbox.messages(job=in_parts)
    assert (arrived.subject, arrived.text and arrived.text.strip()) == ("Grüße aus dem Haus", large_text())
    assert [one.filename for one in arrived.attachments] == ["plän.zip"]
    assert room.sandbox.attachment(arrived) == content
    (arrived,) = room.sandbox.messages(job=reported)
    assert (arrived.text or "").strip() == "It did not arrive."
    assert [one.filename for one in arrived.attachments] == ["delivery-status.txt", "order.eml"]
    assert room.sandbox.attachment(arrived) == b"Reporting-MTA: dns; mx.example\r\n"
    assert room.client().status(reported).tags == ("report:as-files",)
    (arrived,) = room.sandbox.messages(job=rendered)
    assert arrived.subject == "Welcome to Contoso, Eva"
    assert room.redis.keys("{postroom}:files:*") == []
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) == 0
    log = (room.folder / "smtp.log").read_text()
    assert '"event": "smtp.stopping"' in log
    assert "@" not in log


def large_text() -> str:
    return "Grüße\r\n.\r\n..\r\nFrom here on"


def test_a_mail_that_left_in_spite_of_an_error_is_found_by_its_own_message_id(open_room: OpenRoom) -> None:
    room = open_room(
        settings={"POSTROOM_UNKNOWN_LOOKUPS": "100ms,400ms", "POSTROOM_LEASE": "10s"},
        roles=("Mail.Send", "Mail.Read"),
        keep_mime_message_id=True,
    )
    _, (port,) = room.start_smtp()
    message = a_message(Message_ID="<1@shop.contoso.com>").as_bytes()
    with smtplib.SMTP("127.0.0.1", port) as client:
        first = handed_over(client, message, "ann@contoso.com")
        # The same message for somebody else: what was found of the first says nothing about this one.
        second = handed_over(client, message, "bob@contoso.com")
    room.sandbox.add_fault(stage="graph", recipient="ann@contoso.com", status=504, accepted=True, times=1)
    room.sandbox.add_fault(stage="graph", recipient="bob@contoso.com", status=504, times=1)
    room.start_worker_process(slots=2)

    outcomes = [[attempt.outcome for attempt in room.settled(job).attempts] for job in (first, second)]

    assert (outcomes[0][0], outcomes[0][-1]) == ("unknown", "found")
    assert outcomes[1] == ["unknown", "notfound", "notfound", "accepted"]
    assert [len(room.sandbox.messages(job=job)) for job in (first, second)] == [1, 1]


def test_a_login_of_the_file_comes_in_over_either_kind_of_tls(open_room: OpenRoom, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "smtp.pem")
    (tmp_path / "postroom.toml").write_text(
        f'[smtp.shop]\npassword_hash = "{hashed("sesame")}"\nsenders = ["*@contoso.com"]\n'
        '[senders."shop@contoso.com"]\nmailbox = "noreply@contoso.com"\n'
    )
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    files = {"POSTROOM_SMTP_CERTIFICATE": "smtp.pem", "POSTROOM_CONFIG": "postroom.toml"}
    settings = {name: str(tmp_path / value) for name, value in files.items()}
    room = open_room(settings={"POSTROOM_CONFIG": settings["POSTROOM_CONFIG"]})
    room.start_worker_process(slots=2)
    _, (port, tls_port) = room.start_smtp("--tls-port", "0", **settings)
    message = a_message()
    message.replace_header("From", "The Shop <shop@contoso.com>")

    with smtplib.SMTP("localhost", port) as client:
        client.starttls(context=trust)
        client.login("shop", "sesame")
        client.send_message(message)
    with smtplib.SMTP_SSL("localhost", tls_port, context=trust) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.8"):
            client.login("shop", "guess")
        client.login("shop", "sesame")
        client.send_message(message)

    (one, other) = room.sandbox.wait_for_messages(2, timeout=60)
    assert one.sender == other.sender == "noreply@contoso.com"
    sent = message_from_bytes(room.sandbox.source(one).encode(), policy=policy.default)
    assert str(sent["from"]) == "The Shop <noreply@contoso.com>"
    assert "sesame" not in (room.folder / "smtp.log").read_text()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"POSTROOM_SMTP_ALLOW": ""}, "POSTROOM_SMTP_ALLOW is missing (127.0.0.1 is one; or [smtp.NAME]"),
        ({"POSTROOM_SMTP_ALLOW": "10.0.0.1/8"}, "POSTROOM_SMTP_ALLOW: 10.0.0.1/8 has host bits set; 10.1.2.0/24 is a"),
        ({"POSTROOM_SMTP_CERTIFICATE": "/none.pem"}, "POSTROOM_SMTP_CERTIFICATE: no file or folder /none.pem"),
        ({"POSTROOM_SMTP_CERTIFICATE": "/etc/hostname"}, "/etc/hostname is no certificate with its key"),
    ],
)
def test_wrong_settings_end_it_at_start_by_name(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    from click.testing import CliRunner

    from postroom.cli.main import main

    for name, value in ({"POSTROOM_REDIS_URL": "redis://localhost:1", "POSTROOM_SMTP_ALLOW": "::1"} | settings).items():
        monkeypatch.setenv(name, value)
    ran = CliRunner().invoke(main, ["smtp", "--port", "0"])

    assert ran.exit_code == 2
    assert told in ran.output


def test_several_processes_share_the_ports(open_room: OpenRoom) -> None:
    room = open_room()
    server, (port,) = room.start_smtp("--processes", "2")

    jobs = []
    for _ in range(6):
        with smtplib.SMTP("127.0.0.1", port) as client:
            jobs.append(handed_over(client, a_message().as_bytes(), "ann@contoso.com"))

    assert len(room.client().read(jobs)) == len(set(jobs))
    assert room.end(server) == 0
