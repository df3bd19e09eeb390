"""`postroom setup` as a real process, which a person watches: sign-in by a code, the plan, kill -9, undo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from postroom.sandbox import SandboxAddress
from postroom.sandbox.control import Sandbox

NOTHING = {"applications": 0, "deleted": 0, "principals": 0, "grants": 0, "assignments": 0}
APP = ("app", "--name", "Mail worker", "--senders", "mail-senders@contoso.com")


class Terminal:
    """Runs `postroom setup …` in a folder; a person enters each code as `user`."""

    def __init__(self, sandbox: Sandbox, address: SandboxAddress, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.user = "admin@contoso.com"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "AZURE_"))}
        self._environment = clean | {
            "POSTROOM_AUTHORITY_URL": address.authority_url,
            "POSTROOM_GRAPH_URL": address.graph_url,
            "POSTROOM_CA_BUNDLE": address.ca_file,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "postroom", "setup", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.sandbox.wait_for_requests(1, timeout=30, stage="token")
        while not (codes := self.sandbox.sign_ins()):
            assert process.poll() is None, process.communicate()
        self.sandbox.sign_in(codes[0], self.user)
        return process

    def run(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(typed, timeout=90)
        return process.returncode, out, err


@pytest.fixture
def terminal(sandbox: Sandbox, address: SandboxAddress, tmp_path: Path) -> Terminal:
    return Terminal(sandbox, address, tmp_path)


def test_a_dry_run_shows_the_plan_and_changes_nothing(terminal: Terminal) -> None:
    code, out, err = terminal.run(*APP, "--features", "draft,trace", "--dry-run")
    assert code == 0, err
    assert "enter the code" in err
    assert " 1. register the app 'Mail worker'" in out
    assert "a thief of the key could: send mail in the name of these mailboxes" in out
    assert out.endswith("Nothing was changed (--dry-run).\n")
    assert terminal.sandbox.change_directory() == NOTHING
    assert list(terminal.folder.iterdir()) == []


def test_who_says_no_changes_nothing(terminal: Terminal) -> None:
    code, _, err = terminal.run(*APP, typed="n\n")
    assert (code, "Nothing was changed." in err) == (1, True)
    assert terminal.sandbox.change_directory() == NOTHING


@pytest.mark.world
def test_killed_in_the_middle_run_again_and_undone(terminal: Terminal) -> None:
    with terminal.start(*APP, "--yes") as process:
        while terminal.sandbox.change_directory()["principals"] == 0:
            assert process.poll() is None
        process.kill()
    code, out, err = terminal.run(*APP, "--yes")
    assert code == 0, err
    assert "noreply@contoso.com: may send (should" in out
    assert "admin@contoso.com: may not send (should not" in out
    assert "register the app" not in out
    assert terminal.sandbox.change_directory() == {**NOTHING, "applications": 1, "principals": 1, "assignments": 1}
    code, out, err = terminal.run("undo", "--name", "Mail worker", typed="y\n")
    assert code == 0, err
    assert terminal.sandbox.change_directory() == NOTHING
    assert list(terminal.folder.iterdir()) == []


def test_a_person_who_declines_is_no_surprise(terminal: Terminal) -> None:
    terminal.user = ""
    code, _, err = terminal.run(*APP)
    assert code == 1
    assert "the sign-in was not completed" in err
    assert "Traceback" not in err


def test_a_policy_and_a_missing_role_are_told(terminal: Terminal) -> None:
    terminal.user = "clerk@contoso.com"
    code, _, err = terminal.run(*APP, "--yes")
    assert code == 1
    assert "needs the role" in err


def test_a_certificate_for_who_works_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "postroom", "setup", "certificate", "--out", "a.pem", "--days", "30"]
    first, second = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False) for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 1)
    assert "SHA-256 thumbprint:" in first.stdout
    assert '"keyCredentials"' in first.stdout
    assert "not overwritten" in second.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.pem", "a.cer.pem"}
    assert b"PRIVATE KEY" not in (tmp_path / "a.cer.pem").read_bytes()
