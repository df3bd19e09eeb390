"""Usual SMTP clients, unchanged: each can send a mail, and shows the reason when one is refused."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from .conftest import PASSWORD, SHOP, Server

pytestmark = pytest.mark.smtp_clients

MESSAGE = (
    "From: Shop <shop@contoso.com>\r\nTo: ann@contoso.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\n\r\nGrüße\r\n.\r\n..\r\nFrom me\r\n"
).encode()


class Client:
    """One program. `send` runs it for this server with a login over TLS, and gives its exit code and its output."""

    def __init__(self, folder: Path, ca: Path) -> None:
        self.folder, self.ca = folder, ca
        (folder / "message").write_bytes(MESSAGE)

    def send(self, server: Server, password: str = PASSWORD) -> tuple[int, str]:
        command, given = self.command(server, password)
        # As on a machine of one's own: what these programs print is not ours to choose.
        environment = {**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "NODE_EXTRA_CA_CERTS": str(self.ca)}
        ran = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False, env=environment)
        return ran.returncode, (ran.stdout + ran.stderr).decode()

    def command(self, server: Server, password: str) -> tuple[list[str], bytes]:
        raise NotImplementedError


class Swaks(Client):
    def command(self, server: Server, password: str) -> tuple[list[str], bytes]:
        tls = ["--tls", "--tls-verify", "--tls-ca-path", str(self.ca)]
        where = ["--server", f"localhost:{server.port}", *tls]
        login = ["--auth", "LOGIN", "--auth-user", "shop", "--auth-password", password]
        envelope = ["--from", "shop@contoso.com", "--to", "ann@contoso.com,bob@contoso.com"]
        data = MESSAGE.decode().replace("\r\n", "\n").removesuffix("\n")  # it adds one
        return ["swaks", *where, *login, *envelope, "--protocol", "ESMTPSA", "--data", data], b""


class Msmtp(Client):
    def command(self, server: Server, password: str) -> tuple[list[str], bytes]:
        where = ["--host=localhost", f"--port={server.port}", "--tls=on", f"--tls-trust-file={self.ca}"]
        login = ["--auth=plain", "--user=shop", f"--passwordeval=echo '{password}'"]
        command = ["msmtp", "--file=/dev/null", *where, *login, "--from=shop@contoso.com"]
        return [*command, "ann@contoso.com", "bob@contoso.com"], MESSAGE.replace(b"\r\n", b"\n")


class Curl(Client):
    def command(self, server: Server, password: str) -> tuple[list[str], bytes]:
        where = [
            "--url",
            f"smtps://localhost:{server.tls_port}",
            "--cacert",
            str(self.ca),
            "--user",
            f"shop:{password}",
        ]
        envelope = [
            "--mail-from",
            "shop@contoso.com",
            "--mail-rcpt",
            "ann@contoso.com",
            "--mail-rcpt",
            "bob@contoso.com",
        ]
        return ["curl", "--verbose", *where, *envelope, "--upload-file", str(self.folder / "message")], b""


class Nodemailer(Client):
    SCRIPT = """
      const [port, pass, raw] = JSON.parse(process.argv[1]);
      const room = require("nodemailer").createTransport({
        host: "localhost", port, requireTLS: true, auth: { user: "shop", pass } });
      const envelope = { from: "shop@contoso.com", to: ["ann@contoso.com", "bob@contoso.com"] };
      room.sendMail({ envelope, raw: Buffer.from(raw, "base64") }).then(
        sent => console.log(sent.response), error => { console.error(error.response); process.exit(1); });
    """

    def command(self, server: Server, password: str) -> tuple[list[str], bytes]:
        given = json.dumps([server.port, password, base64.b64encode(MESSAGE).decode()])
        return ["node", "-e", self.SCRIPT, given], b""


def has_nodemailer() -> bool:
    found = ["node", "-e", "require.resolve('nodemailer')"]
    return bool(shutil.which("node")) and subprocess.run(found, capture_output=True, check=False).returncode == 0


KINDS = {"swaks": Swaks, "msmtp": Msmtp, "curl": Curl, "nodemailer": Nodemailer}


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA) -> Client:
    name = request.param
    if not (has_nodemailer() if name == "nodemailer" else shutil.which(name)):
        pytest.skip(f"no {name} on this machine")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return KINDS[name](tmp_path, tmp_path / "ca.pem")


def test_a_mail_is_handed_over_with_a_login_over_tls_as_it_is(
    client: Client, open_server: Callable[..., Server]
) -> None:
    server = open_server(SHOP)
    code, said = client.send(server)

    assert code == 0, said
    (mail,) = server.kept.mails
    assert (mail.sender, mail.to, mail.bcc) == (
        '"Shop" <shop@contoso.com>',
        ("ann@contoso.com",),
        ("bob@contoso.com",),
    )
    assert isinstance(mail.mime, bytes)
    sent, kept = (message_from_bytes(one, policy=policy.default) for one in (MESSAGE, mail.mime))
    assert isinstance(sent, EmailMessage)
    assert isinstance(kept, EmailMessage)
    assert (kept["subject"], kept.get_content()) == (sent["subject"], sent.get_content())


def test_a_wrong_password_is_shown_to_the_client_s_user(client: Client, open_server: Callable[..., Server]) -> None:
    server = open_server(SHOP)
    code, said = client.send(server, "guess")

    assert code != 0
    assert "5.7.8" in said or "535" in said or "4.7.0" in said, said
    assert server.kept.mails == []
