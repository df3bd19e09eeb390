"""A mailing whose program is stopped or killed, and callbacks whose worker dies before or after a mail has ended."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from postroom import Status
from postroom.runtime.failpoints import Failpoint
from postroom.store.intake import PORTION

from ..acceptance.conftest import PATIENCE_S, Room, a_mail, until
from .test_failpoints import has_halted

ROWS = 4 * PORTION + 50


@pytest.mark.parametrize(
    ("failpoint", "number", "exit_code", "answered"),
    [
        (Failpoint.TAKING_IN, "KILL", -signal.SIGKILL, 0),
        (Failpoint.TAKEN_IN, "KILL", -signal.SIGKILL, 2 * PORTION),
        (Failpoint.TAKEN_IN, "INT", 1, 2 * PORTION),
    ],
)
def test_a_mailing_that_is_stopped_halfway_goes_on_where_it_was_and_nobody_has_it_twice(
    room: Room, tmp_path: Path, failpoint: Failpoint, number: str, exit_code: int, answered: int
) -> None:
    file, report = tmp_path / "people.csv", tmp_path / "people.report.csv"
    file.write_text("email,name\n" + "".join(f"u{n}@contoso.com,U{n}\n" for n in range(ROWS)))

    first = mailing(room, file, HALT_AT=failpoint, HALT_WITH=number, HALT_AFTER="1")

    assert first.returncode == exit_code, first.stderr
    kept = room.client().batch("news").total
    assert kept in {answered, answered + PORTION}  # another portion was on its way
    if number == "INT":
        assert "Interrupted. What was taken in is kept" in first.stderr
        told = rows(report)  # of what it had been told
        assert {row["status"] for row in told} <= {"queued"}
        assert len(told) <= kept
    second = mailing(room, file)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout) == {
        "batch": "news",
        "taken": ROWS - kept,
        "known": kept,
        "refused": 0,
        "report": str(report),
    }
    assert room.client().batch("news").total == ROWS
    assert [(row["line"], row["status"]) for row in rows(report)] == [(str(n + 2), "queued") for n in range(ROWS)]
    assert len({row["id"] for row in rows(report)}) == ROWS


def mailing(room: Room, file: Path, **halt: str) -> "subprocess.CompletedProcess[str]":
    text = ("--text", "Hello", "--subject", "News")
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.command", "bulk", str(file), "--batch", "news", *text, "--json"],
        env=room.environment | halt,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def rows(report: Path) -> list[dict[str, str]]:
    with report.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_task_is_called_whichever_side_of_the_end_its_worker_dies_on(room: Room) -> None:
    found = {}
    for n, failpoint in enumerate((Failpoint.SETTLED, Failpoint.ANSWERED, Failpoint.CONSUMED)):
        worker = room.start_worker_process(
            slots=1,
            app="tests.faults.halting",
            HALT_AT=failpoint,
            HALT_WITH="KILL",
            POSTROOM_UNKNOWN_LOOKUPS="100ms",
        )
        job = room.client().send(a_mail(**{"from": f"m{n}@contoso.com"}), on_accepted={"task": "shop.welcomed"}).id
        until(lambda worker=worker: has_halted(worker), "the worker to die")
        found[failpoint] = job

    room.end_leases()
    room.start_worker_process(POSTROOM_UNKNOWN_LOOKUPS="100ms")
    room.end_wait_for_cut_off_workers(found[Failpoint.ANSWERED])
    assert {room.settled(job).status for job in found.values()} == {Status.ACCEPTED}
    until(lambda: len(called(room)) == len(found), "the tasks to be called")
    assert sorted(called(room)) == sorted(found.values())
    assert room.redis.xlen("{postroom}:callbacks") == 0


def called(room: Room) -> list[str]:
    return [json.loads(json.loads(message)["body"])[0][0] for message in room.redis.lrange("celery", 0, -1)]
