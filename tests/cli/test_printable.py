"""What others wrote is printed as text: it commands no terminal, and is no markup."""

import json
import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from postroom.cli import batches, check, dead, events, holds, job_output, keys, stats
from postroom.cli.output import open_console, to_json_text
from postroom.cli.printable import printable
from postroom.client import BatchCancelled, BatchCounts
from postroom.jobs.job import Act, Attempt, Delivery, Hold, Status
from postroom.mail.priority import Priority
from postroom.operations.dead_letters import Kind, Letter, Overview
from postroom.operations.stats import Lane, Stats, Worker

CLI = Path(check.__file__).parent
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
# ESC, BEL, CR, DEL, a C1 control (CSI), right-to-left override, a line separator, half a surrogate pair; and markup.
EVIL = "a\x1b[31m\x07\r\x7f\x9b2J\u202e\u2028\ud83d[/red][bold]:smile:"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028\ud83d]")


def delivery(status: Status = Status.DEFERRED) -> Delivery:
    attempt = Attempt(
        number=1, at=NOON, outcome=EVIL, reason=EVIL, detail=EVIL, http_status=400, graph_code=EVIL, request_id=EVIL,
        client_request_id=EVIL, duration_ms=1, worker=EVIL, redirected_to=EVIL,
    )  # fmt: skip
    return Delivery(
        id=EVIL, status=status, reason=EVIL, next_at=NOON, sender=EVIL, lane=EVIL + "x", batch=EVIL,
        priority=Priority.NORMAL, key=EVIL, recipients=1, attempts=[attempt], http_status=400, graph_code=EVIL,
        request_id=EVIL, created_at=NOON, scheduled_at=None, expires_at=None, ended_at=None, tags=(EVIL,),
        requeued_from=EVIL, replaced_by=EVIL, pause_reason=EVIL, paused_until=NOON, hold=HOLD, in_doubt=True,
        audit=[Act(at=NOON, by=EVIL, did=EVIL, why=EVIL, fields=(EVIL,))],
    )  # fmt: skip


HOLD = Hold(scope="batch", name=EVIL, reason="other " + EVIL, since=NOON, by=EVIL, detail=EVIL, waiting=1)
COUNTS = {status.value: 1 for status in Status}
FIGURES = Stats(
    at=NOON, workers=[Worker(name=EVIL, slots=1, silent_s=0.0, settings="a", redirect_all_to=EVIL),
                      Worker(name="b", slots=1, silent_s=0.0, settings="b")],
    jobs=COUNTS, in_doubt=1, dead_by_reason={EVIL: 1}, holds=[HOLD], journal=[], waiting_lanes=1,
    lanes=[Lane(lane=EVIL, app=EVIL, ready=1, later=1, sending=1, wakes_at=NOON, paused_until=NOON, pause_reason=EVIL,
                oldest_due_at=NOON, pace=0.5)],
    oldest_due_s=1.0, rounds_queued=1, events={EVIL: 1}, memory=None,
)  # fmt: skip
LETTERS = Overview(
    total=1, reasons=[Kind(reason=EVIL, count=1, in_doubt=1, newest=delivery(Status.DEAD))], letters=[delivery()]
)
BATCH = BatchCounts(batch=EVIL, total=7, in_doubt=1, **COUNTS)


@pytest.mark.parametrize(
    "shown",
    [
        job_output.jobs_table([delivery()], 10_000),
        job_output.job_details(delivery()),
        job_output.job_summary(delivery()),
        holds.holds_table([HOLD], 10_000),
        batches.batch_table(BATCH),
        stats.stats_overview(FIGURES, 10_000),
        dead.dead_letters_overview(LETTERS, 10_000),
        dead.letter_details(Letter(job=delivery(), mail={"subject": EVIL, "to": [EVIL]})),
    ],
    ids=["jobs", "status", "demo", "holds", "batch", "stats", "dead list", "dead show"],
)
def test_tables_show_data_as_it_is_without_what_a_terminal_obeys(
    shown: RenderableType, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = open_console()
    console.file = StringIO()
    console.print(shown)

    text = console.file.getvalue()
    assert COMMANDS.findall(text) == []
    assert r"a\x1b[31m\x07\r\x7f\x9b2J\u202e\u2028\ud83d[/red][bold]:smile:" in text


def test_json_has_the_same_values_in_escapes_of_its_own() -> None:
    text = to_json_text({"reason": EVIL})
    assert COMMANDS.findall(text) == []
    assert json.loads(text) == {"reason": EVIL}


def test_usual_text_stays_as_it_is() -> None:
    for text in ("", "Ann\tLee\n", "Größe — 日本語 👩‍👩‍👧", "[red]"):
        assert printable(text) == text


def test_nothing_of_the_command_line_is_printed_in_another_way() -> None:
    own = {"output.py", "printable.py", "progress.py"}
    for file in CLI.glob("*.py"):
        if file.name not in own:
            code = file.read_text(encoding="utf-8")
            assert not re.search(r"click\.echo|(?<![\w.])(print|Console|Text)\(|\.write\(", code), file.name
    for module in (events, keys):  # these say lines and tables by the same functions
        assert "say" in vars(module)
    assert issubclass(type(open_console()), Console)


def test_messages_of_actions_are_lines_of_data() -> None:
    told = batches.cancelled_message(
        BatchCancelled(batch=EVIL, cancelled=1, accepted=1, sending=1, in_doubt=1, ended_before=1)
    )
    assert COMMANDS.findall(printable(told)) == []
