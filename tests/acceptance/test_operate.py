"""The operator's commands, on a mail room of real processes."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

from postroom import Mail, Status

from .conftest import SENDER, Room, a_mail, until

REFUSED = {"recipient": "bad@contoso.com", "status": 400, "code": "ErrorInvalidRecipients"}


def data(room: Room, *arguments: str) -> Any:
    done = room.postroom(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def dead(room: Room, **fields: Any) -> str:
    job_id = room.client().send(a_mail(to=["bad@contoso.com"], **fields), key=f"k{fields}", batch=None).id
    assert room.settled(job_id).status is Status.DEAD
    return job_id


def test_a_dead_letter_is_found_understood_mended_and_sent(room: Room) -> None:
    room.sandbox.add_fault(**REFUSED)
    room.start_worker_process()
    mended, changed = dead(room), dead(room, subject="A typo in the address")

    listed = data(room, "dead", "list", "--reason", "invalid_recipients")
    assert (listed["total"], listed["reasons"][0]["count"], len(listed["letters"])) == (2, 2, 2)
    assert room.postroom("dead", "requeue", mended, "--dry-run").stdout == "Would be: 1 requeued.\n"
    room.sandbox.clear_faults()
    requeued = room.postroom("dead", "requeue", mended, "--why", "the mailbox exists by now", "--by", "ann")
    new = data(room, "dead", "requeue", changed, "--to", "good@contoso.com")["id"]

    assert (requeued.returncode, requeued.stdout) == (0, "1 requeued.\n")
    assert (room.settled(mended).status, room.settled(new).status) == ("accepted", "accepted")
    assert sorted(mail.to[0] for mail in room.sandbox.wait_for_messages(2)) == ["bad@contoso.com", "good@contoso.com"]
    shown = data(room, "dead", "show", mended)["job"]
    assert [(act["did"], act["by"], act["why"]) for act in shown["audit"]] == [
        ("requeued", "ann", "the mailbox exists by now")
    ]
    assert "replaced by" in room.postroom("status", changed).stdout
    until(lambda: {"mail.requeued", "mail.replaced"} <= {line["event"] for line in room.log()}, "the log to be told")


def test_dead_letters_are_let_go_by_filter_and_only_with_a_reason(room: Room) -> None:
    room.sandbox.add_fault(**REFUSED)
    room.start_worker_process()
    letters = [dead(room, subject=f"no {number}") for number in range(3)]

    assert room.postroom("dead", "discard", "--sender", SENDER).returncode == 2
    assert room.postroom("dead", "discard", "--why", "x").returncode == 2
    assert room.postroom("dead", "discard", letters[0], "--sender", SENDER, "--why", "x").returncode == 2
    done = room.postroom("dead", "discard", "--sender", SENDER, "--since", "1h", "--why", "a test")

    assert (done.returncode, done.stdout) == (0, "3 discarded.\n")
    assert {str(room.client().status(letter).reason) for letter in letters} == {"discarded"}
    again = room.postroom("dead", "requeue", letters[0], "nobody")
    assert again.returncode == 1
    assert "neither dead nor expired" in again.stderr
    assert "no such job" in again.stderr
    assert data(room, "dead", "list") == {"total": 0, "reasons": [], "letters": []}


WRONG_USES = (
    ("dead", "requeue"),
    ("dead", "requeue", "--all", "--to", "x@contoso.com"),
    ("dead", "requeue", "a", "b", "--subject", "x"),
    ("dead", "requeue", "a", "--edit", "[]"),
    ("dead", "requeue", "a", "--expires", "soon"),
    ("dead", "list", "--since", "soon"),
    ("cancel",),
    ("cancel", "a", "--batch", "b"),
    ("stats", "--here"),
    ("hold", "newsletter-2026"),
)


def test_a_wrong_use_is_exit_code_2(room: Room) -> None:
    codes = {" ".join(words): room.postroom(*words).returncode for words in WRONG_USES}
    assert codes == dict.fromkeys(codes, 2)


def test_a_batch_is_counted_and_cancelled(room: Room) -> None:
    client = room.client()
    for number in range(3):
        client.send(a_mail(subject=str(number)), batch="news")

    assert data(room, "batch", "news")["queued"] == 3
    assert room.postroom("cancel", "--batch", "news").stdout == "Batch news: 3 cancelled.\n"
    counts = data(room, "batch", "news")
    assert (counts["cancelled"], counts["total"]) == (3, 3)
    assert data(room, "cancel", "--batch", "news")["ended_before"] == 3
    for command in (("batch", "none"), ("cancel", "--batch", "none")):
        done = room.postroom(*command)
        assert (done.returncode, "No job of a batch 'none'" in done.stderr) == (1, True)


def test_stats_say_whether_a_worker_is_alive(room: Room) -> None:
    room.client().send(a_mail())
    alone = room.postroom("stats")
    assert alone.returncode == 0
    assert "NO WORKER IS ALIVE" in alone.stdout
    assert [room.postroom("stats", "--ready", *here).returncode for here in ((), ("--here",))] == [1, 1]

    room.start_worker_process()
    until(lambda: room.client().find(status=Status.ACCEPTED), "the mail to be sent")

    told = data(room, "stats")
    assert (told["jobs"]["accepted"], told["workers"][0]["slots"]) == (1, 4)
    assert [room.postroom("stats", "--ready", *here).returncode for here in ((), ("--here",))] == [0, 0]
    assert "NO WORKER" not in room.postroom("stats").stdout
    room.kill()
    name = next(iter(room.redis.hkeys("{postroom}:workers")))
    room.redis.hset("{postroom}:workers", name, f"{(room.redis.time()[0] - 16) * 1000} 8")
    assert room.postroom("stats", "--ready").returncode == 1


def test_redirection_and_differences_between_workers_are_seen_everywhere(room: Room, tmp_path: Path) -> None:
    instead = {"POSTROOM_REDIRECT_ALL_TO": "test@contoso.com"}
    room.environment["POSTROOM_TEMPLATES"] = str(tmp_path)
    for part in ("subject.txt", "body.txt"):
        (tmp_path / "both" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "both" / part).write_text("Hello")
    first = room.start_worker_process(**instead)
    until(lambda: "worker.ready" in room.raw_log(), "the start")
    job = room.client().send(a_mail(to=["ann@contoso.com", "bob@contoso.com"], subject="Your order")).id
    (attempt,) = room.settled(job).attempts

    (message,) = room.sandbox.messages()
    assert message.subject == "[to ann@contoso.com and 1 more] Your order"
    assert (attempt.worker or "").endswith(f":{first.pid}")
    status = room.postroom("status", job).stdout
    assert "to test@contoso.com instead of its recipients" in status
    assert f"worker {attempt.worker}" in status
    (ready,) = [line for line in room.log() if line["event"] == "worker.ready"]
    assert ready["redirect_all_to"].startswith("t…@contoso.com")
    room.environment |= instead
    assert "WARNING: all mail goes to test@contoso.com" in room.postroom("check").stdout
    room.environment.pop("POSTROOM_REDIRECT_ALL_TO")
    figures = until(lambda: (told := room.postroom("stats").stdout).count("ALL MAIL") and told, "the worker's facts")
    assert "ALL MAIL of all workers goes to test@contoso.com" in figures

    (tmp_path / "none").mkdir()
    room.start_worker_process(POSTROOM_TEMPLATES=str(tmp_path / "none"))

    until(lambda: [line for line in room.log() if line["event"] == "workers.differ"], "the line in the log")
    figures = room.postroom("stats").stdout
    assert "ALL MAIL of 1 of 2 workers" in figures
    assert re.search(rf"templates \w{{8}}: {attempt.worker} ", figures)
    assert len(re.findall(r"settings \w{8}: ", figures)) == 2
    assert "version " not in figures
    mail = Mail(sender=SENDER, to=["ann@contoso.com"], template="both")
    jobs = [room.client().send(mail).id for _ in range(8)]
    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}


def test_stats_end_with_one_line_when_redis_is_away_or_stands_still(room: Room) -> None:
    pid = room.redis.info("server")["process_id"]
    room.environment["POSTROOM_REDIS_URL"] = room.redis_url
    os.kill(pid, signal.SIGSTOP)
    try:
        still = room.postroom("stats", "--ready")
    finally:
        os.kill(pid, signal.SIGCONT)
    room.environment["POSTROOM_REDIS_URL"] = "redis://127.0.0.1:1"
    away = room.postroom("stats")

    for done in (still, away):
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert "Redis did not answer" in done.stderr
