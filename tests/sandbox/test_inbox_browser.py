"""The inbox in a real browser: what a mail may not do there, and what the page's own script does."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office, mail

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--ignore-certificate-errors"),
    *("--virtual-time-budget=4000", "--dump-dom"),
]


@pytest.fixture
def open_page(tmp_path: Path) -> Callable[[str], str]:
    """The page as it stands in the browser once its scripts have run."""

    def open_one(url: str) -> str:
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path}", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return open_one


def test_a_mail_runs_nothing_and_loads_nothing(
    office: Office, sandbox: Sandbox, open_page: Callable[[str], str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        outside.settimeout(0)
        there = f"http://127.0.0.1:{outside.getsockname()[1]}"
        body = (
            f'<p>Seen</p><script>fetch("{there}/script")</script><img src="{there}/image">'
            f'<img src="x" onerror="fetch(\'{there}/error\')"><link rel="stylesheet" href="{there}/style">'
            f'<meta http-equiv="refresh" content="0;url={there}/away"><iframe src="{there}/frame"></iframe>'
        )
        office.send(mail(subject=f"<img src='{there}/subject'>", body={"contentType": "html", "content": body}))

        shown = open_page(f"{office.address.url}/messages/{sandbox.messages()[-1].id}")

        assert "&lt;img src=" in shown
        assert requests_to(outside) == []


def requests_to(listener: socket.socket) -> list[bytes]:
    """What was asked for; Chromium opens a connection for a frame before it sees that the frame is forbidden."""
    found = []
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return found
        with connection:
            connection.settimeout(5)  # Chromium has ended: what it sent is there, and then comes the end
            if sent := connection.recv(1000):
                found.append(sent)


def test_the_list_shows_times_of_the_reader_s_own_clock(office: Office, open_page: Callable[[str], str]) -> None:
    office.send(mail(subject="Minutes"))

    shown = open_page(f"{office.address.url}/")

    assert "Minutes" in shown
    assert 'title="' in shown[shown.index("<time") :]  # the script gave each time its long form
