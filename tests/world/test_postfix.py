"""Postfix, as a relay before us, hands a queue on: each mail once, with everybody who gets it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from postroom.access.smtp_logins import Login
from postroom.mail import mime_source
from tests.acceptance.conftest import until
from tests.smtp.conftest import LOCAL, PASSWORD, SHOP, Server

from .programs import unpacked, unpacked_library

pytestmark = pytest.mark.world

ANN, FOLDED = "ann@contoso.com", ",\n "
QUEUES = ("incoming", "active", "deferred", "bounce", "defer", "corrupt", "hold", "flush", "trace", "saved")
SETTINGS = """
compatibility_level = 3.6
myhostname = web1.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {folder}/spool
data_directory = {folder}/data
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {folder}
mail_owner = daemon
setgid_group = mail
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH PATH SASL_PATH
export_environment = MAIL_CONFIG LD_LIBRARY_PATH PATH SASL_PATH
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{port}
smtp_dns_support_level = disabled
smtp_host_lookup = native
minimal_backoff_time = 1s
queue_run_delay = 1s
"""
SERVICES = """
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Postfix with a folder of its own, which sends all mail to `server`."""

    def __init__(self, root: Path, folder: Path, server: Server, *settings: str) -> None:
        self.root, self.folder = root, folder
        text = SETTINGS.format(folder=folder, root=root, port=server.port)
        (folder / "main.cf").write_text(text + "\n".join(settings) + "\n")
        (folder / "master.cf").write_text(SERVICES)
        self.environment = {**os.environ, "MAIL_CONFIG": str(folder), "LD_LIBRARY_PATH": str(root / "usr/lib/postfix")}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Postfix's daemons, until the end of the block."""
        command = [self.root / "usr/lib/postfix/sbin/master", "-c", self.folder, "-d"]
        with (self.folder / "out").open("wb") as out:
            master = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        try:
            yield
        finally:
            master.terminate()
            master.wait(20)

    def send(self, message: bytes, *recipients: str, sender: str = "noreply@contoso.com") -> None:
        command = [self.root / "usr/sbin/sendmail", "-C", self.folder, "-i", "-f", sender, *recipients]
        ran = subprocess.run(command, input=message, env=self.environment, capture_output=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr.decode()

    def know_password(self, port: int, name: str, password: str) -> None:
        (self.folder / "passwords").write_text(f"[127.0.0.1]:{port} {name}:{password}\n")

    def waiting(self) -> int:
        """How many mails are still in its queue."""
        found = [one for name in (*QUEUES[:3], "maildrop") for one in (self.folder / "spool" / name).rglob("[0-9A-F]*")]
        return sum(one.is_file() for one in found)  # a folder of deferred mail stays


@pytest.fixture
def postfix() -> Iterator[Callable[..., Postfix]]:
    """Makes a Postfix of a server and of further settings."""
    root = unpacked("postfix", "usr/lib/postfix/sbin/master")
    if os.getuid() != 0:
        pytest.skip("Postfix starts as root only")
    with tempfile.TemporaryDirectory(prefix="postfix-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for queue in (*QUEUES, "private", "public", "maildrop", "pid"):
            (folder / "spool" / queue).mkdir(parents=True)
            if queue != "pid":
                shutil.chown(folder / "spool" / queue, "daemon")
        for queue in ("maildrop", "public"):
            shutil.chown(folder / "spool" / queue, group="mail")
            (folder / "spool" / queue).chmod(0o730 if queue == "maildrop" else 0o710)
        (folder / "data").mkdir()
        shutil.chown(folder / "data", "daemon")
        yield lambda server, *settings: Postfix(root, folder, server, *settings)


def a_message(subject: str, *to: str) -> bytes:
    return f"From: noreply@contoso.com\nTo: {FOLDED.join(to)}\nSubject: {subject}\n\nHello\n".encode()


def test_a_queue_of_five_hundred_arrives_each_mail_once(server: Server, postfix: Callable[..., Postfix]) -> None:
    relay = postfix(server)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(relay.send, a_message(str(number), ANN), ANN) for number in range(500)]
    for one in sent:
        one.result()
    with relay.running():
        until(lambda: len(server.kept.mails) >= 500 and not relay.waiting(), "the queue to be empty")

    sources = [one for one in server.kept.sources if isinstance(one, bytes)]
    assert sorted(int(str(mime_source.head_of(one).text("subject"))) for one in sources) == list(range(500))


@pytest.mark.parametrize(("settings", "mails"), [((), 7), (("smtp_destination_recipient_limit = 500",), 1)])
def test_each_of_many_recipients_gets_a_mail_once_and_all_in_one_mail_with_the_limit_that_the_docs_name(
    server: Server, postfix: Callable[..., Postfix], settings: tuple[str, ...], mails: int
) -> None:
    visible = [f"v{number}@contoso.com" for number in range(60)]
    hidden = [f"h{number}@contoso.com" for number in range(250)]
    relay = postfix(server, *settings)
    relay.send(a_message("All", *visible), *visible, *hidden)
    with relay.running():
        until(lambda: len(server.kept.mails) >= mails and not relay.waiting(), "the queue to be empty")

    assert len(server.kept.mails) == mails
    assert sorted(one for mail in server.kept.mails for one in mail.to) == sorted(visible)
    assert sorted(one for mail in server.kept.mails for one in mail.bcc) == sorted(hidden)


def over_tls(relay: Postfix, authority: trustme.CA, *settings: str) -> None:
    """From its next start on it trusts the server by its certificate only."""
    authority.cert_pem.write_to_path(relay.folder / "ca.pem")
    trust = ("smtp_tls_security_level = verify", "smtp_tls_verify_cert_match = localhost")
    with (relay.folder / "main.cf").open("a") as file:
        file.write("\n".join([*trust, f"smtp_tls_CAfile = {relay.folder}/ca.pem", *settings, ""]))


def test_a_mail_goes_by_tls(server: Server, postfix: Callable[..., Postfix], authority: trustme.CA) -> None:
    relay = postfix(server)
    over_tls(relay, authority)
    relay.send(a_message("Hello", ANN), ANN)
    with relay.running():
        until(lambda: bool(server.kept.mails) and not relay.waiting(), "the queue to be empty")

    assert server.kept.mails[0].to == (ANN,)


# Cyrus SASL's plug-ins, by which Postfix logs in: https://www.postfix.org/SASL_README.html
LOGS_IN = ("smtp_sasl_auth_enable = yes", "smtp_sasl_security_options = noanonymous")


@pytest.mark.parametrize(("wrapped", "mechanism"), [(False, "plain"), (True, "login")])
def test_a_mail_goes_with_a_login_and_waits_while_the_password_is_wrong(
    open_server: Callable[..., Server],
    postfix: Callable[..., Postfix],
    authority: trustme.CA,
    wrapped: bool,
    mechanism: str,
) -> None:
    server = open_server(SHOP)
    relay = postfix(server)
    relay.environment["SASL_PATH"] = str(unpacked_library("libsasl2-modules", "sasl2/libplain.so").parent)
    port = server.tls_port if wrapped else server.port
    of_its_own = (
        f"relayhost = [127.0.0.1]:{port}",
        f"smtp_tls_wrappermode = {'yes' if wrapped else 'no'}",
        f"smtp_sasl_mechanism_filter = {mechanism}",
        f"smtp_sasl_password_maps = texthash:{relay.folder}/passwords",
        "maximal_backoff_time = 1s",
        "max_use = 1",  # each process reads the password anew
    )
    over_tls(relay, authority, *LOGS_IN, *of_its_own)
    message = a_message("Hello", ANN).replace(b"noreply@", b"shop@")
    relay.know_password(port, "shop", "wrong")
    relay.send(message, ANN, sender="shop@contoso.com")
    with relay.running():
        until(lambda: any(one["event"] == "smtp.rejected" for one in server.events), "the login to be refused")
        assert server.kept.mails == []
        assert relay.waiting()
        relay.know_password(port, "shop", PASSWORD)
        until(lambda: bool(server.kept.mails) and not relay.waiting(), "the queue to be empty")

    assert [str(mail.sender) for mail in server.kept.mails] == ["shop@contoso.com"]


def test_what_is_refused_comes_back_to_its_sender_and_not_again_and_again(
    open_server: Callable[..., Server], postfix: Callable[..., Postfix]
) -> None:
    server = open_server(Login(name="web", senders=("noreply@contoso.com",), networks=LOCAL.networks))
    relay = postfix(server)
    relay.send(a_message("Forged", ANN).replace(b"noreply@", b"boss@"), ANN)
    with relay.running():
        until(lambda: any(one["event"] == "smtp.refused" for one in server.events), "the mail to be refused")
        until(lambda: not relay.waiting(), "its report to be refused too")

    assert server.kept.mails == []
