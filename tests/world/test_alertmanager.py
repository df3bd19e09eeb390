"""Alertmanager, which has its own SMTP client and templates, sends its alerts through us."""

import json
import subprocess
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import requests
import trustme

from tests.acceptance.conftest import until
from tests.smtp.conftest import Server
from tests.store.redis_servers import free_port

from .programs import program

pytestmark = pytest.mark.world

SETTINGS = """
global:
  smtp_smarthost: localhost:{port}
  smtp_from: Alerts <noreply@contoso.com>
  smtp_require_tls: true
route:
  receiver: ops
  group_wait: 0s
receivers:
- name: ops
  email_configs:
  - to: ops@contoso.com, night@contoso.com
    send_resolved: false
    tls_config:
      ca_file: {ca}
"""


def test_an_alert_arrives_with_both_bodies(server: Server, tmp_path: Path, authority: trustme.CA) -> None:
    alertmanager = program("prometheus-alertmanager", "prometheus-alertmanager")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "settings.yml").write_text(SETTINGS.format(port=server.port, ca=tmp_path / "ca.pem"))
    port = free_port()
    options = [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", f"--storage.path={tmp_path}"]
    command = [alertmanager, f"--config.file={tmp_path}/settings.yml", *options]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: is_ready(port), "Alertmanager to be ready")
        alert = [{"labels": {"alertname": "DiskFull", "host": "wéb1"}, "annotations": {"summary": "<90 %>"}}]
        told = requests.post(f"http://127.0.0.1:{port}/api/v2/alerts", data=json.dumps(alert), timeout=10, headers=JSON)
        assert told.status_code == 200, told.text
        until(lambda: bool(server.kept.mails), "the alert to come")
    finally:
        process.terminate()
        process.wait(20)

    (mail,) = server.kept.mails
    assert (mail.sender, mail.to) == ('"Alerts" <noreply@contoso.com>', ("ops@contoso.com", "night@contoso.com"))
    assert isinstance(mail.mime, bytes)
    read = message_from_bytes(mail.mime, policy=policy.default)
    assert isinstance(read, EmailMessage)
    html = read.get_body(("html",))
    assert html is not None
    assert "DiskFull" in read["subject"]
    assert "wéb1" in html.get_content()


JSON = {"Content-Type": "application/json"}


def is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False
