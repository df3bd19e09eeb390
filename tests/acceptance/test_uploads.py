"""Mail with large attachments leaves whole and once, and an upload goes on where another worker stopped."""

import os
from collections.abc import Callable
from hashlib import sha256

import pytest

from postroom.jobs.job import Status
from postroom.mail.model import Attachment

from .conftest import Room, a_mail, until

OpenRoom = Callable[..., Room]
WRITER = ("Mail.Send", "Mail.ReadWrite")
MB = 1024 * 1024
SOON = {"POSTROOM_BACKOFF": "100ms", "POSTROOM_LEASE": "10s"}


def files(*sizes: int) -> tuple[Attachment, ...]:
    return tuple(Attachment(f"{number}.bin", os.urandom(size)) for number, size in enumerate(sizes))


def arrived(room: Room, job_id: str) -> list[tuple[str, str]]:
    """Name and content of what the one mail of this job carried."""
    (message,) = room.sandbox.messages(job=job_id)
    return sorted(
        (attachment.filename, sha256(room.sandbox.attachment(message, place)).hexdigest())
        for place, attachment in enumerate(message.attachments)
    )


def sent(attachments: tuple[Attachment, ...]) -> list[tuple[str, str]]:
    return sorted((attachment.filename, sha256(attachment.read()).hexdigest()) for attachment in attachments)


def ranges(room: Room) -> int:
    return len(room.sandbox.requests(stage="upload"))


def test_small_middle_and_large_attachments_arrive_together(open_room: OpenRoom) -> None:
    room = open_room(roles=WRITER)
    room.start_worker_process(slots=2)
    attachments = files(100, 2 * MB, 2 * MB, 9 * MB)

    delivery = room.settled(room.client().send(a_mail(attachments=attachments)).id)

    assert delivery.status is Status.ACCEPTED
    assert arrived(room, delivery.id) == sent(attachments)
    assert room.redis.keys("*files:*") == []


@pytest.mark.parametrize("headers", [{}, {"List-Unsubscribe": "<https://contoso.com/bye>"}])
def test_an_answer_that_repeats_the_files_is_read_whole(open_room: OpenRoom, headers: dict[str, str]) -> None:
    """Graph repeats what was posted, so its 201 is as large as the request."""
    room = open_room(roles=WRITER)
    room.start_worker_process(slots=2)
    attachments = files(1_300_000) if headers else files(1_600_000, 1_600_000)

    delivery = room.settled(room.client().send(a_mail(attachments=attachments, headers=headers)).id)

    assert (delivery.status, len(delivery.attempts)) == (Status.ACCEPTED, 1)
    assert arrived(room, delivery.id) == sent(attachments)


@pytest.mark.parametrize(
    "fault",
    [
        {"stage": "upload", "status": 429, "retry_after": 1, "after": 1},
        {"stage": "upload", "status": 502, "after": 1},
        {"stage": "upload", "effect": "reset", "after": 2},
        {"stage": "draft", "status": 504, "accepted": True},
    ],
    ids=["429", "502", "reset at the last range", "draft unknown"],
)
def test_a_fault_on_the_way_leaves_nothing_out_and_nothing_twice(
    open_room: OpenRoom, fault: dict[str, str | int]
) -> None:
    room = open_room(settings=SOON, roles=WRITER)
    room.sandbox.add_fault(times=1, **fault)
    room.start_worker_process(slots=2)
    attachments = files(9 * MB)

    delivery = room.settled(room.client().send(a_mail(attachments=attachments)).id)

    assert delivery.status is Status.ACCEPTED
    assert arrived(room, delivery.id) == sent(attachments)
    assert room.sandbox.stats()["drafts"] == 0


def test_a_worker_that_stops_leaves_its_upload_to_the_next(open_room: OpenRoom) -> None:
    room = open_room(settings=SOON, roles=WRITER)
    slow = room.sandbox.add_fault(stage="upload", effect="pass", delay=0.3)
    worker = room.start_worker_process(slots=2)
    attachments = files(16 * MB)
    job = room.client().send(a_mail(attachments=attachments)).id
    until(lambda: ranges(room) >= 2, "the upload to be under way")
    assert room.end(worker) == 0
    room.sandbox.remove_fault(slow)
    before = ranges(room)
    assert before < 5

    room.start_worker_process(slots=2)

    assert room.settled(job).status is Status.ACCEPTED
    assert arrived(room, job) == sent(attachments)
    assert ranges(room) == 5, "none was put twice"


def test_a_cancelled_mail_leaves_no_draft_and_no_upload(open_room: OpenRoom) -> None:
    room = open_room(settings=SOON, roles=WRITER)
    room.sandbox.add_fault(stage="upload", effect="pass", delay=0.3)
    room.start_worker_process(slots=2)
    client = room.client()
    job = client.send(a_mail(attachments=files(30 * MB // 2))).id
    until(lambda: ranges(room) >= 1, "the upload to begin")

    assert client.cancel(job).status is Status.CANCELLED

    until(lambda: room.sandbox.stats()["drafts"] == 0, "the draft to be removed")
    assert room.sandbox.messages(job=job) == []
    assert client.status(job).status is Status.CANCELLED


def test_without_the_permission_a_large_mail_waits_alone(open_room: OpenRoom) -> None:
    room = open_room(settings=SOON)
    room.start_worker_process(slots=2)
    client = room.client()
    large = client.send(a_mail(attachments=files(4 * MB))).id
    until(lambda: client.status(large).reason == "held", "the large one to be held")

    assert room.settled(client.send(a_mail()).id).status is Status.ACCEPTED
    assert client.status(large).attempts[-1].reason == "needs_mail_readwrite"
