"""Exim, as the mail server of a machine, hands mail on: with and without a login, one by one and in a queue."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from postroom.mail import mime_source
from postroom.mail.model import Mail
from tests.smtp.conftest import PASSWORD, SHOP, Server

pytestmark = pytest.mark.world

EXIM = shutil.which("exim4", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
SETTINGS = """
primary_hostname = web1.example
spool_directory = {folder}/spool
log_file_path = {folder}/log-%s
pid_file_path = {folder}/pid
keep_environment =
trusted_users = root : {user}
never_users =
untrusted_set_sender = *
remote_max_parallel = 1
queue_run_in_order = true
tls_certificate =
begin routers
to_postroom:
  driver = manualroute
  transport = to_postroom
  route_list = * 127.0.0.1::{port} byname
  self = send
begin transports
to_postroom:
  driver = smtp
  hosts_try_fastopen =
  {transport}
begin retry
* * F,1h,1m
begin authenticators
{authenticators}
"""
LOGIN = """
login:
  driver = plaintext
  public_name = PLAIN
  client_send = ^shop^{password}
"""


class Exim:
    """Exim with a folder of its own, which sends all mail to `server`."""

    def __init__(self, folder: Path, server: Server, transport: str = "", authenticators: str = "") -> None:
        self._settings = folder / "exim.conf"
        self._settings.write_text(
            SETTINGS.format(
                folder=folder,
                port=server.port,
                user=pwd.getpwuid(os.getuid()).pw_name,
                transport=transport,
                authenticators=authenticators,
            )
        )
        self._settings.chmod(0o644)

    def run(self, *arguments: str, given: bytes = b"") -> str:
        command = [EXIM, "-C", str(self._settings), *arguments]
        ran = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
        said = (ran.stdout + ran.stderr).decode()
        assert ran.returncode == 0, said
        return said

    def send(self, message: bytes, *recipients: str, how: str = "-odf", sender: str = "noreply@contoso.com") -> None:
        self.run(how, "-i", "-f", sender, *recipients, given=message)

    def waiting(self) -> int:
        """How many mails are still in its queue."""
        return int(self.run("-bpc"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Exim's own user can use too."""
    if not EXIM:
        pytest.skip("no exim4 on this machine (apt-get install exim4-daemon-light)")
    with tempfile.TemporaryDirectory(prefix="exim-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "spool").mkdir()
        if os.getuid() == 0:
            exim = pwd.getpwnam("Debian-exim")
            for one in (folder, folder / "spool"):
                os.chown(one, exim.pw_uid, exim.pw_gid)
        yield folder


MESSAGE = (
    "From: Shop <noreply@contoso.com>\nTo: Ann <ann@contoso.com>\nSubject: Grüße\n"
    "Content-Type: text/plain; charset=utf-8\nMIME-Version: 1.0\n\nGrüße\n.\n..\nFrom me\n"
).encode()


def test_a_mail_without_tls_is_handed_over_once_and_nothing_stays(folder: Path, server: Server) -> None:
    exim = Exim(folder, server, "hosts_avoid_tls = *")
    exim.send(MESSAGE, "ann@contoso.com", "bob@contoso.com")

    (mail,) = server.kept.mails
    assert exim.waiting() == 0
    assert (mail.to, mail.bcc) == (('"Ann" <ann@contoso.com>',), ("bob@contoso.com",))
    assert text_of(mail) == "Grüße\r\n.\r\n..\r\nFrom me\r\n"


def test_a_mail_goes_by_tls_with_a_login(
    folder: Path, open_server: Callable[..., Server], authority: trustme.CA
) -> None:
    server = open_server(SHOP)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "ca.pem").chmod(0o644)
    transport = f"hosts_require_tls = *\n  hosts_require_auth = *\n  tls_verify_certificates = {folder}/ca.pem"
    transport += "\n  tls_verify_hosts = *\n  tls_verify_cert_hostnames =\n  tls_sni = localhost"
    exim = Exim(folder, server, transport, LOGIN.format(password=PASSWORD))
    exim.send(MESSAGE.replace(b"noreply@", b"shop@"), "ann@contoso.com", sender="shop@contoso.com")

    (mail,) = server.kept.mails
    assert exim.waiting() == 0
    assert mail.sender == '"Shop" <shop@contoso.com>'


def test_a_wrong_password_leaves_the_mail_in_the_queue_and_the_right_one_sends_it(
    folder: Path, open_server: Callable[..., Server]
) -> None:
    server = open_server(SHOP)
    message = MESSAGE.replace(b"noreply@", b"shop@")
    transport = "hosts_require_tls = *\n  hosts_require_auth = *\n  tls_verify_hosts =\n  tls_try_verify_hosts ="
    Exim(folder, server, transport, LOGIN.format(password="guess")).send(message, "ann@contoso.com")
    assert server.kept.mails == []

    exim = Exim(folder, server, transport, LOGIN.format(password=PASSWORD))
    assert exim.waiting() == 1
    exim.run("-qff")
    assert exim.waiting() == 0


def test_a_queue_of_a_hundred_is_sent_each_mail_once(folder: Path, server: Server) -> None:
    exim = Exim(folder, server, "hosts_avoid_tls = *")
    for number in range(100):
        exim.send(MESSAGE.replace("Grüße\nC".encode(), f"{number}\nC".encode()), "ann@contoso.com", how="-odq")
    assert server.kept.mails == []
    exim.run("-q")

    assert exim.waiting() == 0
    subjects = [
        mime_source.head_of(bytes(one)).text("subject") for one in server.kept.sources if isinstance(one, bytes)
    ]
    assert sorted(map(int, filter(None, subjects))) == list(range(100))


def test_cron_s_mail_is_from_its_machine_s_user(folder: Path, server: Server) -> None:
    exim = Exim(folder, server)
    cron = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@web1> backup\n\nfailed\n"
    exim.send(cron, "ops@contoso.com", sender="root@web1.example")

    (mail,) = server.kept.mails
    assert (mail.sender, mail.to, mail.bcc) == ("root@web1.example", (), ("ops@contoso.com",))


def test_a_large_file_arrives_whole(folder: Path, server: Server) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "noreply@contoso.com", "ann@contoso.com", "Plan"
    message.set_content("text")
    content = os.urandom(3_000_000)
    message.add_attachment(content, maintype="application", subtype="zip", filename="plan.zip")
    Exim(folder, server).send(message.as_bytes(), "ann@contoso.com")

    (mail,) = server.kept.mails
    assert (mail.subject, mail.text, [one.filename for one in mail.attachments]) == ("Plan", "text\r\n", ["plan.zip"])
    assert mail.attachments[0].read() == content


def text_of(mail: Mail) -> str:
    assert isinstance(mail.mime, bytes)
    return message_from_bytes(mail.mime).get_payload(decode=True).decode()
