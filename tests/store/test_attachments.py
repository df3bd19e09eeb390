"""Large attachments are stored apart from their mail, and removed with it. On a real server."""

from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from postroom.errors import InvalidMail, KeyConflict, Unavailable
from postroom.jobs.job import Job
from postroom.jobs.outcome import Refused
from postroom.mail.content import PIECE, AttachmentMissing, Stored
from postroom.mail.model import Attachment, Mail
from postroom.mail.validation import MB
from postroom.store import functions
from postroom.store.attachments import INSIDE, SMALL, Attachments
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

from .room import ACCEPTED, FREE, SENDER, Room, mail

LARGE = bytes(range(256)) * 4096  # 1 MiB: three pieces, the last one incomplete
OTHER = LARGE[::-1]
DEAD = "2d6d8a0e-9f0b-4b57-8a63-0c1d2e3f4a5b"


@pytest.fixture(params=["redis", "folder"])
def place(request: pytest.FixtureRequest, room: Room, tmp_path: Path) -> Path:
    """The room keeps attachments here, or, where this is empty for ever, in Redis."""
    if request.param == "folder":
        room.ledger = Ledger(room.redis, tmp_path)
    return tmp_path


def with_files(*contents: bytes | Path, **fields: object) -> Mail:
    return mail(attachments=[Attachment(f"{i}.bin", one) for i, one in enumerate(contents)], **fields)


def mail_of(job: Job, room: Room) -> Mail:
    return Mail.from_json(job.mail, room.ledger.attachments)


def kept(room: Room, place: Path) -> list[str]:
    """What is kept of attachments, after the worker has removed what is due."""
    room.ledger.attachments.remove_due()
    keys = [key.decode() for key in room.redis.scan_iter(PREFIX + "*") if b"files" in key or b"staged" in key]
    return sorted(keys) + sorted(path.name for path in place.iterdir() if path.is_dir())


def test_a_large_attachment_is_not_in_the_payload_and_comes_back_whole_and_in_ranges(room: Room, place: Path) -> None:
    room.take(with_files(LARGE, b"small", OTHER, b"x" * SMALL))

    job = room.held()

    found = mail_of(job, room).attachments
    assert len(job.mail) < 2 * SMALL
    assert [one.read() for one in found] == [LARGE, b"small", OTHER, b"x" * SMALL]
    assert found[2].read(PIECE - 1, PIECE + 2) == OTHER[PIECE - 1 : PIECE + 2]
    assert found[0].read(5, 5) == b""


def test_small_attachments_stay_in_the_payload_up_to_a_total_size(room: Room) -> None:
    room.take(with_files(*[b"x" * SMALL] * 9))

    assert len(room.held().mail) < INSIDE * 4 / 3 + 3_000


def test_a_file_is_taken_in_from_its_path(room: Room, place: Path, folder: Path) -> None:
    (folder / "large.bin").write_bytes(LARGE)
    room.take(with_files(folder / "large.bin"))

    assert mail_of(room.held(), room).attachments[0].read() == LARGE


def test_the_same_content_under_the_same_key_is_the_same_job_however_it_comes(room: Room, folder: Path) -> None:
    (folder / "0.bin").write_bytes(LARGE)
    first = room.take(with_files(LARGE), key="k")
    in_json = with_files().model_dump(exclude_unset=True) | {
        "attachments": [{"filename": "0.bin", "content": b64encode(LARGE).decode()}]
    }
    shared = Ledger(room.redis, folder)

    receipts = [
        room.receipt(with_files(folder / "0.bin"), key="k"),
        room.receipt(Mail.model_validate(in_json), key="k"),
        shared.take_in("another", with_files(LARGE), "k", None, now=room.now),
    ]

    assert [(one.id, one.known) for one in receipts] == [(first, True)] * 3


def test_a_known_key_or_a_conflict_leaves_nothing_behind(room: Room, place: Path) -> None:
    room.take(with_files(LARGE), key="k")
    before = kept(room, place)

    assert room.receipt(with_files(LARGE), key="k").known
    with pytest.raises(KeyConflict):
        room.take(with_files(OTHER), key="k")

    assert kept(room, place) == before


def test_a_key_taken_while_the_files_are_staged_leaves_nothing_behind(room: Room, place: Path) -> None:
    attachments = room.ledger.attachments
    store = attachments.store
    ids: list[str] = []

    def while_another_comes(*arguments: object) -> list[Stored]:
        found = store(*arguments)
        attachments.store = store
        ids.append(room.take(with_files(OTHER), key="k"))
        return found

    attachments.store = while_another_comes
    with pytest.raises(KeyConflict):
        room.take(with_files(LARGE), key="k")

    job = room.held()
    assert (job.id, mail_of(job, room).attachments[0].read()) == (ids[0], OTHER)
    room.mark(job)
    room.settle(job, ACCEPTED)
    assert kept(room, place) == []


def test_a_mail_with_more_recipients_than_allowed_leaves_no_files(room: Room, place: Path) -> None:
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=1)})

    with pytest.raises(InvalidMail, match="more recipients"):
        room.take(mail(to=2, attachments=with_files(LARGE).attachments))

    assert kept(room, place) == []


def test_files_go_with_the_mail_s_content_when_it_is_accepted_or_cancelled(room: Room, place: Path) -> None:
    room.take(with_files(LARGE))
    room.send()
    room.ledger.cancel(room.take(with_files(LARGE)), now=room.now)

    assert kept(room, place) == []


def test_files_of_a_dead_letter_are_kept_as_long_as_its_record(room: Room, place: Path) -> None:
    room.take(with_files(LARGE))
    room.send(Refused(reason="bad"))
    assert kept(room, place) != []

    room.jump(7201)
    room.tick()

    assert kept(room, place) == []


def test_staged_files_that_no_mail_took_over_are_removed_after_an_hour(room: Room, place: Path) -> None:
    died_before_take_in(room)
    room.jump(3599)
    room.tick()
    assert kept(room, place) != []

    room.jump(2)
    room.tick()

    assert kept(room, place) == []


def died_before_take_in(room: Room) -> None:
    """Stages a mail's files as take-in does, and stops there."""

    def stage(part: str, value: bytes) -> None:
        functions.run(room.redis, "stage", room.now, "", "", 0, DEAD, part, value)

    room.ledger.attachments.store([LARGE], DEAD, stage)


def test_many_abandoned_files_are_removed_in_bounded_steps(room: Room) -> None:
    for number in range(150):
        functions.run(room.redis, "stage", room.now, "", "", 0, f"dead-{number}", "0:0", b"x")
    room.jump(3601)

    busy = room.ledger.tick("worker", 8, 60, now=room.now).busy

    assert busy
    assert room.redis.zcard(PREFIX + "staged") == 50
    room.tick()
    assert room.redis.keys(PREFIX + "files:*") == []


def test_files_of_a_job_are_not_taken_for_abandoned_ones(room: Room, place: Path) -> None:
    room.take(with_files(LARGE))
    room.jump(3601)
    room.tick()

    assert mail_of(room.held(), room).attachments[0].read() == LARGE


def test_a_repeated_message_changes_nothing_of_the_job_it_made(room: Room, place: Path) -> None:
    room.ledger.take_in("id", with_files(LARGE), None, None, now=room.now)
    before = kept(room, place)

    again = room.ledger.take_in("id", with_files(LARGE), None, None, now=room.now)

    assert (again.id, again.known, kept(room, place)) == ("id", False, before)
    room.send()
    room.ledger.take_in("id", with_files(LARGE), None, None, now=room.now)
    assert kept(room, place) == []


class LosesReplies:
    """A connection on which each script runs twice, as it does when the first reply was lost."""

    def __init__(self, connection: "redis.Redis[bytes]") -> None:
        self._redis = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    def fcall(self, *arguments: Any) -> Any:
        self._redis.fcall(*arguments)
        return self._redis.fcall(*arguments)


def test_a_lost_reply_costs_no_files(room: Room, place: Path) -> None:
    ledger = Ledger(LosesReplies(room.redis), room.ledger.attachments.folder)

    ledger.take_in("id", with_files(LARGE), "k", None, now=room.now)

    room.ledger = ledger
    assert mail_of(room.held(), room).attachments[0].read() == LARGE


def test_the_same_task_twice_at_once_leaves_one_job_and_its_files(room: Room, place: Path) -> None:
    attachments = room.ledger.attachments
    store = attachments.store

    def while_it_runs_again(*arguments: object) -> list[Stored]:
        attachments.store = store
        found = store(*arguments)
        room.ledger.take_in("id", with_files(LARGE), None, None, now=room.now)
        return found

    attachments.store = while_it_runs_again
    room.ledger.take_in("id", with_files(LARGE), None, None, now=room.now)

    assert mail_of(room.held(), room).attachments[0].read() == LARGE
    assert len(room.redis.keys(PREFIX + "files:*")) == 1
    room.ledger.attachments.remove_due()
    assert len([one for one in place.iterdir() if one.is_dir()]) <= 1


def test_a_mail_whose_files_were_given_up_meanwhile_is_not_taken_in(room: Room, place: Path) -> None:
    attachments = room.ledger.attachments
    store = attachments.store

    def slowly(*arguments: object) -> list[Stored]:
        found = store(*arguments)
        room.jump(3601)
        room.tick()
        return found

    attachments.store = slowly
    with pytest.raises(Unavailable, match="given up"):
        room.take(with_files(LARGE))
    attachments.store = store

    assert room.claim() is None
    assert kept(room, place) == []


def test_a_file_that_is_gone_is_reported_as_missing(room: Room, place: Path) -> None:
    room.take(with_files(LARGE))
    for file in place.glob("*/0"):
        file.unlink()
    for key in room.redis.keys(PREFIX + "files:*"):
        room.redis.hdel(key, "0:1")

    found = mail_of(room.held(), room).attachments[0]

    for begin, end in ((0, len(LARGE)), (PIECE, PIECE + 1)):
        with pytest.raises(AttachmentMissing):
            found.read(begin, end)


def test_a_share_that_is_not_mounted_is_not_taken_for_a_missing_file(room: Room, tmp_path: Path, folder: Path) -> None:
    Ledger(room.redis, tmp_path).take_in("id", with_files(LARGE), None, None, now=room.now)
    payload = room.held().mail

    for elsewhere in (Attachments(room.redis, folder), Attachments(room.redis)):
        with pytest.raises(OSError, match=r"."):
            Mail.from_json(payload, elsewhere).attachments[0].read()
    room.redis.zadd(PREFIX + "files", {"36": 1})
    assert Attachments(room.redis, folder).remove_due() == (0, 1)


def test_a_mail_names_no_file_outside_the_folder(room: Room, tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"secret")
    here = Attachments(room.redis, tmp_path / "folder")
    forged = Stored(where="folder", name="..", number=0, piece=PIECE, size=6, sha256="")

    with pytest.raises(AttachmentMissing):
        here.read(forged, 0, 6)


def test_a_folder_that_cannot_be_written_is_unavailable(room: Room, tmp_path: Path) -> None:
    nowhere = Ledger(room.redis, tmp_path / "nowhere")

    with pytest.raises(Unavailable, match="POSTROOM_ATTACHMENTS cannot be written"):
        nowhere.take_in("id", with_files(LARGE), None, None, now=room.now)


def test_the_largest_mail_is_the_one_that_workers_published(room: Room, place: Path) -> None:
    room.publish(max_message=MB)
    attachments = room.ledger.attachments
    store, attachments.store = attachments.store, None  # it is refused before anything is stored

    with pytest.raises(InvalidMail, match=r"the mail takes 1\.3 MB .* at most 1\.0 MB .*MAX_MESSAGE"):
        room.take(with_files(LARGE))
    with pytest.raises(InvalidMail, match=r"the mail takes 1\.1 MB"):
        room.take(mail().model_copy(update={"text": "x" * 1_150_000}))

    assert kept(room, place) == []
    attachments.store = store
    room.publish(max_message=2 * MB)
    assert room.take(with_files(LARGE))


def test_a_file_that_cannot_be_removed_holds_up_no_other(room: Room, tmp_path: Path) -> None:
    room.ledger = Ledger(room.redis, tmp_path)
    room.take(with_files(LARGE))
    (stuck,) = (path for path in tmp_path.iterdir() if path.is_dir())
    stuck.rename(tmp_path / "aside")
    stuck.write_bytes(b"no folder")
    room.send()
    room.take(with_files(LARGE))
    room.send()

    assert room.ledger.attachments.remove_due() == (1, 1)
    ((_, place_in_line),) = room.redis.zrange(PREFIX + "files", 0, -1, withscores=True)
    assert place_in_line > room.now


def test_a_full_redis_takes_no_files(room: Room) -> None:
    room.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable):
            room.take(with_files(LARGE))
    finally:
        room.redis.config_set("maxmemory", "0")

    assert room.redis.keys(PREFIX + "files*") == []
