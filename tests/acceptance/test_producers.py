"""A mailing from a file to its report, and a producer's own task that is called when a mail has ended."""

import base64
import csv
import subprocess
import sys
from pathlib import Path

from celery import Celery

from postroom import Mail, Status

from .conftest import SENDER, Room, until


def test_a_mailing_is_followed_to_its_end_and_the_report_tells_each_row_s(room: Room, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    room.sandbox.add_fault(recipient="nobody@contoso.com", status=400, code="ErrorInvalidRecipients")
    room.start_worker_process()
    file.write_text("email,name\nann@contoso.com,Ann\nnobody@contoso.com,Nobody\nbob@contoso.com,Bob\n")
    mailing = ("bulk", str(file), "--template", "welcome", "--batch", "news", "--priority", "low")

    assert room.postroom(*mailing, "--dry-run").stdout == "3 rows are right. Nothing was taken in.\n"
    assert room.client().batch("news").total == 0
    done = room.postroom(*mailing, "--wait")

    assert done.returncode == 1, done.stderr
    assert (
        done.stdout
        == f"3 taken in, 0 known already, 0 refused. Report: {tmp_path}/people.report.csv\n2 of 3 accepted, 1 dead.\n"
    )
    with (tmp_path / "people.report.csv").open(newline="") as report:
        told = [(row["line"], row["status"], row["reason"]) for row in csv.DictReader(report)]
    assert told == [("2", "accepted", ""), ("3", "dead", "invalid_recipients"), ("4", "accepted", "")]
    assert {mail.to: mail.subject for mail in room.sandbox.messages()} == {
        ("ann@contoso.com",): "Welcome to Contoso, Ann",
        ("bob@contoso.com",): "Welcome to Contoso, Bob",
    }
    file.write_text("email,nam\nann@contoso.com,Ann\n")
    wrong = room.postroom(*mailing)
    assert wrong.returncode == 2
    assert "but there is" in wrong.stderr
    assert wrong.stderr.endswith("1 of 1 rows are wrong. Nothing was taken in.\n")
    braces = room.postroom("bulk", str(file), "--subject", "Hi {{ name }}", "--text", "x", "--batch", "news")
    assert (braces.returncode, "--subject is sent as it is" in braces.stderr) == (2, True)


def test_a_batch_with_a_large_attachment_arrives_whole(room: Room) -> None:
    room.start_worker_process()
    prices = b"%PDF" + bytes(200_000)
    mails = [
        Mail.model_validate(
            {
                "from": SENDER,
                "to": [f"u{n}@contoso.com"],
                "text": "See the attached prices. " * 20,
                "attachments": [{"filename": "prices.pdf", "content": base64.b64encode(prices).decode()}],
            }
        )
        for n in range(3)
    ]
    result = room.client().send_many(mails, "prices")

    assert result.taken == 3
    until(lambda: room.client().batch("prices").accepted == 3, "the batch to be accepted")
    assert [room.sandbox.attachment(message) for message in room.sandbox.messages()] == [prices] * 3
    assert not list(room.redis.scan_iter("{postroom}:shared:*")) + list(room.redis.scan_iter("{postroom}:files:*"))


SHOP = """
from celery import Celery
app = Celery("shop", broker={url!r}, backend={url!r})

@app.task(name="shop.note")
def note(job_id, order, *, what):
    with open({log!r}, "a") as file:
        file.write(f"{{what}} {{order}} {{job_id}}\\n")
"""


def test_a_worker_of_the_producer_s_own_runs_what_is_called(room: Room) -> None:
    room.sandbox.add_fault(recipient="nobody@contoso.com", status=400, code="ErrorInvalidRecipients")
    room.start_worker_process()
    url, log = room.redis_url.replace("unix://", "redis+socket://"), room.folder / "shop.log"
    (room.folder / "shop.py").write_text(SHOP.format(url=url, log=str(log)))
    shop: Celery = room.celery()
    note = shop.signature("shop.note", args=(4711,))
    calls = {"on_accepted": note.clone(kwargs={"what": "sent"}), "on_dead": note.clone(kwargs={"what": "failed"})}

    by_client = room.client().send(Mail(sender=SENDER, to=["ann@contoso.com"], text="Hi"), **calls).id
    values = {"from": SENDER, "to": ["nobody@contoso.com"], "text": "Hi"}
    by_task = shop.send_task("postroom.send", args=[values], kwargs=calls, queue="postroom").id
    no_mail = shop.send_task("postroom.send", args=[{}], kwargs=calls, queue="postroom").id
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo", "--loglevel", "error"],
        cwd=room.folder,
        env=room.environment | {"PYTHONPATH": str(room.folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    room.stack.callback(worker.wait)
    room.stack.callback(worker.terminate)

    until(lambda: log.exists() and len(log.read_text().splitlines()) == 3, "the tasks to be run")
    assert sorted(log.read_text().splitlines()) == sorted(
        [f"sent 4711 {by_client}", f"failed 4711 {by_task}", f"failed 4711 {no_mail}"]
    )
    assert room.settled(by_client).status is Status.ACCEPTED
