"""What a person sees in a terminal: lists that fit it, and a demo that needs nothing and leaves nothing behind."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from rich.console import Console

from postroom.cli.job_output import job_details, jobs_table
from postroom.jobs.job import Attempt, Delivery, Status
from postroom.mail.priority import Priority

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ID = "524b3e20-60fd-4458-868a-dec81c423c9a"
COMMAND = [sys.executable, "-m", "postroom"]


def attempt(number: int, outcome: str, reason: str | None = None, code: str | None = None) -> Attempt:
    return Attempt(
        number=number,
        at=NOON,
        outcome=outcome,
        reason=reason,
        detail=None,
        http_status=401 if code else 202,
        graph_code=code,
        request_id="r-1",
        client_request_id=None,
        duration_ms=8,
    )


def delivery(*attempts: Attempt) -> Delivery:
    record = {
        "status": Status.DEFERRED,
        "reason": "held",
        "next_at": "1764000000000",
        "sender": "noreply@contoso.com",
        "lane": "noreply@contoso.com",
        "priority": Priority.NORMAL,
        "recipients": "1",
        "created": "1763800000000",
    }
    return Delivery.from_record(ID, record, list(attempts))


def printed(thing: object, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(thing)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 10_000])
def test_a_list_has_one_line_a_job_at_any_width_and_cuts_nothing_off(width: int) -> None:
    held = attempt(0, "held", "invalid_client_secret", "AADSTS7000215")
    head, *lines = printed(jobs_table([delivery(held), delivery()], width), width)

    assert head.startswith("job")
    assert [line.split()[:3] for line in lines] == [[ID, "deferred", "(held)"]] * 2
    assert all(len(line) <= width for line in (head, *lines))
    assert ("AADSTS7000215" in lines[0]) == ("answer" in head)


def test_a_list_in_a_pipe_has_every_column() -> None:
    (head, _) = printed(jobs_table([delivery(attempt(1, "held", "x", "X"))], 10_000), 10_000)

    assert head.split() == ["job", "status", "taken", "in", "next", "tries", "answer", "from", "recipients"]


def test_what_repeats_for_days_stands_in_a_few_lines() -> None:
    held = [attempt(0, "held", "invalid_client_secret", "AADSTS7000215")] * 70
    lines = printed(job_details(delivery(*held, attempt(1, "accepted"))), 120)

    assert len([line for line in lines if "invalid_client_secret" in line]) == 1
    assert any("70 times" in line for line in lines)
    assert any(line.startswith("try 1") and "accepted  HTTP 202" in line for line in lines)


# The demo


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder without templates, whose .env would lead a worker astray."""
    with TemporaryDirectory(prefix="pr-") as name:
        (Path(name) / ".env").write_text("POSTROOM_CREDENTIAL=certificate\nPOSTROOM_NONSENSE=1\n")
        yield Path(name)


def left_behind(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cwd"]) if str(process.info["cwd"]).startswith(str(folder))]


def test_the_demo_runs_in_any_folder(folder: Path) -> None:
    run = subprocess.run([*COMMAND, "demo"], cwd=folder, capture_output=True, text=True, timeout=90, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "Four mails accepted by Graph, and one dead letter" in run.stdout


def test_dev_is_alone_in_its_folder_and_leaves_no_process_behind(folder: Path) -> None:
    dev = subprocess.Popen([*COMMAND, "dev"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert dev.stdout
    with dev.stdout:
        assert any("In another terminal" in line for line in dev.stdout)
        found = [folder / ".postroom", *(folder / ".postroom").rglob("*")]
        assert {oct(file.stat().st_mode & 0o077) for file in found} == {"0o0"}
        assert any(file.name.endswith(".aof") for file in found)
        again = subprocess.run([*COMMAND, "dev"], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(timeout=30) == 0

    assert (again.returncode, "another `postroom dev`" in again.stderr) == (1, True)
    assert "POSTROOM_GRAPH_URL" in (folder / ".postroom/env").read_text()
    assert "API_KEY=pr_" in (folder / ".postroom/api").read_text()
    assert (folder / ".postroom/api").stat().st_mode & 0o077 == 0
    assert left_behind(folder) == []
