"""Templates and variables that would harm a worker harm neither it nor other mail; nor does who kills its children."""

import signal
from pathlib import Path

import psutil
import pytest

from postroom import Status

from ..acceptance.conftest import SENDER, Room, a_mail, until

BAD = "bad@contoso.com"
TEMPLATES = {
    "hello": "Hello {{ name }}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x",
    "padded": "{{ '%999999999d' % 1 }}",
    "raw": "{{ html|safe }}",
}


@pytest.fixture
def templates(room: Room) -> Path:
    folder = room.folder / "templates"
    for name, body in TEMPLATES.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "subject.txt").write_text("Hello")
        (folder / name / "body.html").write_text(body)
    return folder


def test_mail_whose_rendering_never_ends_or_overflows_is_dead_and_high_mail_of_others_leaves_meanwhile(
    room: Room, templates: Path
) -> None:
    worker = room.start_worker_process(POSTROOM_TEMPLATES=str(templates), POSTROOM_RATE="off")
    client = room.client()

    def send(template: str, sender: str = SENDER, priority: str = "normal", **variables: object) -> str:
        fields = {"from": sender, "template": template, "variables": variables, "priority": priority}
        return client.send(a_mail(text=None, **fields)).id

    harmful = [send("loops", BAD) for _ in range(2)]
    harmful += [send("padded", BAD), send("raw", BAD, html="<div>" * 20_000)]
    high = [send("hello", SENDER, "high", name="Ann") for _ in range(10)]

    assert {room.settled(job).status for job in high} == {Status.ACCEPTED}
    assert client.status(harmful[1]).status is not Status.DEAD  # nobody waited for it
    ends = [room.settled(job) for job in harmful]
    assert {(end.status, end.reason) for end in ends} == {(Status.DEAD, "template")}
    assert worker.poll() is None
    assert len(room.sandbox.messages()) == len(high)


def test_children_that_somebody_kills_cost_no_mail_and_double_none(room: Room, templates: Path) -> None:
    worker = room.start_worker_process(POSTROOM_TEMPLATES=str(templates), POSTROOM_RATE="off")
    client = room.client()
    jobs = [
        client.send(a_mail(text=None, template="hello", variables={"name": str(number)})).id for number in range(60)
    ]
    for number in range(0, 60, 15):
        until(lambda number=number: len(room.sandbox.messages()) >= number, "some to have left")
        for child in renderers(worker.pid):
            child.kill()

    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}
    assert len(room.sandbox.messages()) == len(jobs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_workers_children_end_with_it(room: Room, templates: Path, number: int) -> None:
    worker = room.start_worker_process(POSTROOM_TEMPLATES=str(templates), POSTROOM_RATE="off")
    room.settled(room.client().send(a_mail(text=None, template="hello", variables={"name": "Ann"})).id)
    children = renderers(worker.pid)
    assert children

    room.end(worker, number)

    assert psutil.wait_procs(children, timeout=20)[1] == []


def renderers(worker: int) -> list[psutil.Process]:
    """The processes in which a worker renders."""
    children = psutil.Process(worker).children(recursive=True)
    return [child for child in children if "postroom.render" in " ".join(child.cmdline())]
