"""A large attachment through real workers, kept in Redis or in a folder that producers and workers share."""

import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom import Attachment, Client
from postroom.store.ledger import Ledger

from .conftest import SENDER, Room, a_mail, until

CONTENT = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(params=["redis", "folder"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "folder" else None


def test_two_megabytes_arrive_and_leave_nothing_behind(open_room: Callable[..., Room], shared: Path | None) -> None:
    room = open_room(settings={"POSTROOM_ATTACHMENTS": str(shared)} if shared else {})
    room.start_worker_process(slots=2)
    path = room.folder / "plan.bin"
    path.write_bytes(CONTENT)
    client = Client(Ledger(room.redis, shared))
    in_json = {"filename": "plan.bin", "content": b64encode(CONTENT).decode()}
    task = {"from": SENDER, "to": ["bob@contoso.com"], "text": "x", "attachments": [in_json]}

    by_client = client.send(a_mail(attachments=[Attachment("plan.bin", path)])).id
    by_command = room.postroom("send", "--to", "cem@contoso.com", "--text", "x", "--attach", str(path)).stdout.strip()
    by_task = room.celery().send_task("postroom.send", args=[task], queue="postroom").id

    for job in (by_client, by_command):
        assert room.settled(job).status == "accepted"
    assert room.settled_task(by_task).status == "accepted"
    arrived = room.sandbox.messages()
    assert {message.job for message in arrived} == {by_client, by_command, by_task}
    assert all(room.sandbox.attachment(message) == CONTENT for message in arrived)
    assert room.redis.keys("{postroom}:files:*") == room.redis.keys("{postroom}:mail:*") == []
    until(lambda: not shared or not [one for one in os.scandir(shared) if one.is_dir()], "the files to be removed")


def test_a_mail_whose_file_is_gone_is_dead_and_never_sent_without_it(
    open_room: Callable[..., Room], shared: Path | None
) -> None:
    room = open_room(settings={"POSTROOM_ATTACHMENTS": str(shared)} if shared else {})
    client = Client(Ledger(room.redis, shared))
    job = client.send(a_mail(attachments=[Attachment("plan.bin", CONTENT)])).id
    for file in shared.glob("*/0") if shared else ():
        file.unlink()
    for key in room.redis.keys("{postroom}:files:*"):
        room.redis.hdel(key, "0:2")

    room.start_worker_process(slots=2)

    found = room.settled(job)
    assert (found.status, found.reason) == ("dead", "attachment_missing")
    assert room.sandbox.messages() == []
