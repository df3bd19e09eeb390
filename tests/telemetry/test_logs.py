import json
import logging
import os
import select
import sys
from collections.abc import Callable
from io import StringIO

import pytest
import structlog
from redis.exceptions import OutOfMemoryError

from postroom.telemetry import logs


class Loop:
    def __init__(self) -> None:
        self.news: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self.news.append(lambda: callback(*arguments))

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> None:
        self.call_soon(callback, *arguments)


class File(StringIO):
    flushed = 0
    fault: Exception | None = None

    def flush(self) -> None:
        self.flushed += 1
        if self.fault:
            raise self.fault


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> File:
    file = File()
    monkeypatch.setattr(sys, "__stderr__", file)
    return file


@pytest.fixture(autouse=True)
def _as_before() -> None:
    structlog.reset_defaults()


def events(file: File) -> list[str]:
    return [json.loads(line)["event"] for line in file.getvalue().splitlines()]


def test_what_people_said_commands_no_terminal_and_stays_whole_in_json(file: File) -> None:
    evil = "Zoë\x1b[2J\x9b\u202e\r\n"
    logs.start("console")("mail.cancelled", by=evil)
    assert r"by=Zoë\x1b[2J\x9b\u202e\r\n" in file.getvalue()
    assert file.getvalue().count("\n") == 1

    file.seek(0)
    file.truncate()
    logs.start("json")("mail.cancelled", by=evil)
    assert json.loads(file.getvalue())["by"] == evil


def test_a_line_is_there_at_once(file: File) -> None:
    emit = logs.start("json")

    emit("mail.accepted", job="a")
    assert events(file) == ["mail.accepted"]
    emit("mail.dead", job="b")
    assert events(file) == ["mail.accepted", "mail.dead"]
    assert file.flushed == 2


def test_lines_of_one_turn_of_a_loop_go_together(file: File) -> None:
    loop = Loop()
    emit = logs.start("json", lambda: loop)

    emit("mail.accepted", job="a")
    emit("mail.dead", job="b")

    assert (events(file), len(loop.news)) == ([], 1)
    loop.news.pop()()
    assert (events(file), file.flushed) == (["mail.accepted", "mail.dead"], 1)
    emit("mail.accepted", job="c")
    loop.news.pop()()
    assert events(file) == ["mail.accepted", "mail.dead", "mail.accepted"]


def test_a_log_that_nobody_reads_delays_no_mail_and_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as file, os.fdopen(ours, "rb") as reader:
        monkeypatch.setattr(sys, "__stderr__", file)
        loop = Loop()
        here: list[Loop | None] = [loop]
        emit = logs.start("json", lambda: here[0])
        for number in range(2000):
            emit("mail.accepted", job=str(number))
        loop.news.pop()()
        here[0] = None  # another thread
        emit("tick.failed", job="2000")
        read = b""

        for _ in range(2001):
            while select.select([reader], [], [], 0)[0]:
                read += os.read(reader.fileno(), 65536)
            if not loop.news:
                break
            loop.news.pop()()

    assert [json.loads(line)["job"] for line in read.splitlines()] == [str(number) for number in range(2001)]


def test_a_log_that_nobody_ever_reads_loses_its_oldest_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_KEPT", 1000)
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as file, os.fdopen(ours, "rb"):
        monkeypatch.setattr(sys, "__stderr__", file)
        loop = Loop()
        lines = logs._LinesOfLoop(file, lambda: loop)
        for number in range(20_000):
            lines.write(f"{number}\n")
        loop.news.pop()()

        [kept] = lines._waiting

    assert len(kept) <= 1000
    assert kept.splitlines()[-1] == "19999"


@pytest.mark.parametrize("fault", [OSError("no space"), ValueError("closed")])
def test_a_log_that_cannot_be_written_is_no_fault_of_the_mail(file: File, fault: Exception) -> None:
    loop = Loop()
    file.fault = fault

    logs.start("json")("mail.accepted", job="a")
    logs.start("json", lambda: loop)("mail.accepted", job="a")
    loop.news.pop()()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "consumer: Cannot connect to redis://:**@r:6379/0: no.\nAgain",
            "consumer: Cannot connect to redis://:**@r:6379/0: no.",
        ),
        (
            "Received unregistered task of type 'x'.\nThe body: ann@contoso.com",
            "Received unregistered task of type 'x'.",
        ),
        ("Received invalid task: {'to': 'ann@contoso.com'}", "Received invalid task"),
    ],
)
def test_lines_of_celery_about_its_broker_keep_nothing_of_a_mail(said: str, told: str) -> None:
    record = logging.makeLogRecord({"msg": said})

    assert logs._first_line(record)
    assert record.getMessage() == told


def test_an_error_of_redis_that_kombu_logs_again_and_again_takes_a_line() -> None:
    error = OutOfMemoryError("command not allowed")
    record = logging.makeLogRecord(
        {"msg": "Error in timer: %r", "args": (error,), "exc_info": (type(error), error, None)}
    )

    assert logs._type_of_redis_error(record)
    assert (record.getMessage(), record.exc_info) == ("Error in timer: OutOfMemoryError", None)
