"""Many mails taken in together, and what they share kept once, on a real server."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from postroom import Attachment, Client
from postroom.client import short_ids
from postroom.errors import InvalidMail, KeyConflict, PostroomError
from postroom.jobs.job import Receipt, recipient_token
from postroom.jobs.outcome import Refused
from postroom.mail.model import Mail
from postroom.operations.dead_letters import DeadLetters
from postroom.store import functions
from postroom.store.attachments import SMALL
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor
from postroom.store.shared_content import Entry, Sharing
from tests.conftest import OTHER_SERVER

from .room import ACCEPTED, FREE, OTHER, SENDER, Room

BODY = "<p>" + "news " * 200
LARGE = Attachment("prices.pdf", bytes(range(256)) * 300)
ORDER = Actor("order", "ops@mailhost")


def letter(n: int, **fields: Any) -> Mail:
    given = {"from": SENDER, "to": [f"u{n}@contoso.com"], "subject": f"Hello {n}", "html": BODY}
    return Mail.model_validate(given | fields)


def entries(room: Room, mails: Sequence[Mail], sharing: Sharing) -> list[Entry]:
    return [sharing.entry(room.name("job"), mail, None, batch="news") for mail in mails]


def take_many(room: Room, mails: Sequence[Mail]) -> list[str]:
    sharing = Sharing()
    given = entries(room, mails, sharing)
    found = room.ledger.take_in_many(given, "news", sharing.common(given), now=room.now)
    assert all(isinstance(one, Receipt) for one in found), found
    return [one.id for one in found if isinstance(one, Receipt)]


def kinds(room: Room) -> set[str]:
    """What kinds of keys hold content."""
    found = {key.decode().removeprefix(PREFIX).split(":")[0] for key in room.redis.scan_iter(PREFIX + "*", count=1000)}
    return found & {"mail", "shared", "shares", "files", "staged"}


def sent(room: Room) -> tuple[Mail, list[bytes]]:
    """The next mail and what its attachments hold, as a worker finds them; then it is accepted."""
    job = room.sending()
    mail = Mail.from_json(job.mail, room.ledger.attachments)
    contents = [one.read() for one in mail.attachments]
    assert room.settle(job, ACCEPTED)
    return mail, contents


def shared_parts(room: Room) -> list[dict[str, bytes]]:
    keys = room.redis.scan_iter(PREFIX + "shared:*", count=1000)
    return [{name.decode(): value for name, value in room.redis.hgetall(key).items()} for key in keys]


def test_what_mails_share_is_kept_once_and_each_is_claimed_whole(room: Room) -> None:
    mails = [letter(n, headers={"X-Shop": "7"}) for n in range(3)]
    take_many(room, mails)

    assert kinds(room) == {"shared", "shares"}
    (part,) = shared_parts(room)
    assert [name for name, value in part.items() if BODY.encode() in value] == ["mail"]
    assert [sent(room)[0] for _ in mails] == mails


def test_mails_that_share_little_are_kept_as_single_ones_are(room: Room) -> None:
    take_many(room, [letter(n, html=None, text=f"Hello {n}") for n in range(2)])

    assert kinds(room) == {"mail"}
    assert {room.record(job_id).get(b"v") for job_id in ("job-1", "job-2")} == {None}


def test_the_same_numbers_of_another_kind_are_not_the_same(room: Room) -> None:
    mails = [letter(n, html=None, template="t", locale="de", variables={"pad": "x" * 300, "on": on}) for n, on in
             enumerate([1, True, 1.0])]  # fmt: skip
    take_many(room, mails)

    assert [str(sent(room)[0].variables["on"]) for _ in mails] == ["1", "True", "1.0"]


def test_the_last_portion_uses_what_the_first_ones_shared(room: Room) -> None:
    sharing = Sharing()
    for portion in ([letter(0), letter(1)], [letter(2), letter(3)], [letter(4)]):
        given = entries(room, portion, sharing)
        room.ledger.take_in_many(given, "news", sharing.common(given), now=room.now)

    (part,) = shared_parts(room)
    assert {f"job-{n}" for n in range(1, 6)} < part.keys()


def test_the_shared_part_goes_with_the_last_mail_that_needs_it(room: Room) -> None:
    one, two, three = take_many(room, [letter(n) for n in range(3)])
    assert room.send() == one
    room.ledger.cancel(two, now=room.now)
    assert kinds(room) == {"shared", "shares"}

    assert room.send(Refused(reason="bad")) == three
    room.jump(3601)
    room.tick()
    assert kinds(room) == {"shared", "shares"}  # a dead letter may be sent again

    room.ledger.requeue([three], ORDER, now=room.now)
    assert room.ledger.records.payload(one) is None
    assert sent(room)[0] == letter(2)
    assert kinds(room) == set()


@pytest.mark.parametrize("end", ["discarded", "swept"])
def test_a_dead_letter_of_a_batch_leaves_nothing_behind(room: Room, end: str) -> None:
    jobs = take_many(room, [letter(n, attachments=[LARGE]) for n in range(2)])
    for _ in jobs:
        room.send(Refused(reason="bad"))
    if end == "discarded":
        room.ledger.discard(jobs, ORDER, now=room.now)
    else:
        room.jump(7201)
        room.tick()

    assert kinds(room) == set()


def test_an_operator_sees_the_whole_mail(room: Room) -> None:
    jobs = take_many(room, [letter(n) for n in range(2)])
    room.send(Refused(reason="bad"))

    shown = DeadLetters(room.ledger).show(jobs[0], content=True).mail
    assert shown == json.loads(letter(0).to_json())


def test_a_large_attachment_of_all_is_stored_once_and_read_by_each(room: Room) -> None:
    assert LARGE.size > SMALL
    take_many(room, [letter(n, attachments=[LARGE]) for n in range(3)])

    assert len(list(room.redis.scan_iter(PREFIX + "files:*"))) == 1
    assert not room.redis.exists(PREFIX + "staged")
    assert [sent(room)[1] for _ in range(3)] == [[LARGE.content]] * 3


def test_large_attachments_of_their_own_are_each_one_s_own(room: Room) -> None:
    own = [Attachment("invoice.pdf", bytes([n]) * (SMALL + 1)) for n in range(2)]
    take_many(room, [letter(n, attachments=[one]) for n, one in enumerate(own)])

    assert len(list(room.redis.scan_iter(PREFIX + "files:*"))) == 2
    assert [sent(room)[1] for _ in own] == [[one.content] for one in own]


def test_a_changed_letter_has_its_changes_and_the_attachment_that_all_share(room: Room) -> None:
    old, mate = take_many(room, [letter(n, attachments=[LARGE]) for n in range(2)])
    room.send(Refused(reason="bad"))
    assert room.send() == mate

    changes = {"html": None, "text": "Hi", "to": "ann@contoso.com"}
    assert DeadLetters(room.ledger).change(old, changes, ORDER)[0] == "replaced"

    found, contents = sent(room)
    assert (found.html, found.text, found.to, found.subject) == (None, "Hi", ("ann@contoso.com",), "Hello 0")
    assert contents == [LARGE.content]
    assert kinds(room) == set()


def test_a_repeated_call_whose_reply_was_lost_changes_nothing(room: Room) -> None:
    sharing = Sharing()
    given = entries(room, [letter(n, attachments=[LARGE]) for n in range(3)], sharing)
    common = sharing.common(given)
    first = room.ledger.take_in_many(given, "news", common, now=room.now)
    before = {key: room.redis.dump(key) for key in room.redis.scan_iter()}

    assert room.ledger.take_in_many(given, "news", common, now=room.now) == first
    assert {key: room.redis.dump(key) for key in room.redis.scan_iter()} == before

    for _ in given:
        room.send()
    assert room.ledger.take_in_many(given, "news", common, now=room.now) == first
    assert kinds(room) == set()


def test_what_was_shared_is_brought_again_when_all_that_had_it_have_left(room: Room) -> None:
    sharing = Sharing()
    for n in range(2):
        given = entries(room, [letter(2 * n, attachments=[LARGE]), letter(2 * n + 1, attachments=[LARGE])], sharing)
        room.ledger.take_in_many(given, "news", sharing.common(given), now=room.now)
        assert [sent(room)[1] for _ in given] == [[LARGE.content]] * 2
        assert kinds(room) == set()


def test_what_two_producers_brought_at_once_is_kept_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    mails = [letter(n, attachments=[LARGE]) for n in range(4)]
    ours, others = Sharing(), Sharing()
    mine, theirs = entries(room, mails[:2], ours), entries(room, mails[2:], others)
    slow = Ledger(room.redis)
    store = slow.attachments.store

    def overtaken(*arguments: Any) -> Any:
        stored = store(*arguments)
        room.ledger.take_in_many(theirs, "news", others.common(theirs), now=room.now)
        return stored

    monkeypatch.setattr(slow.attachments, "store", overtaken)
    slow.take_in_many(mine, "news", ours.common(mine), now=room.now)

    assert len(list(room.redis.scan_iter(PREFIX + "files:*"))) == 1
    assert [sent(room)[1] for _ in range(4)] == [[LARGE.content]] * 4


def test_each_mail_has_an_answer_of_its_own_and_one_that_cannot_be_taken_in_stops_no_other(room: Room) -> None:
    first = room.take(letter(9), key="k")
    sharing = Sharing()
    mails = [letter(0), letter(9), letter(1), letter(2), letter(3, to=["a@b.de"] * 2)]
    keys = [None, "k", "k", "long" * 200, None]
    room.publish(lanes={SENDER: replace(FREE, daily_recipients=1)})
    given = [sharing.entry(room.name("job"), mail, key) for mail, key in zip(mails, keys, strict=True)]

    told: list[Receipt | PostroomError] = room.ledger.take_in_many(given, None, sharing.common(given), now=room.now)

    assert isinstance(told[0], Receipt)
    assert told[1] == Receipt(id=first, known=True)
    assert [type(error) for error in told[2:]] == [KeyConflict, InvalidMail, InvalidMail]


def test_mails_before_a_fault_of_the_script_are_complete(room: Room) -> None:
    given = entries(room, [letter(n, html=None, text=f"Hello {n}") for n in range(3)], Sharing())
    room.redis.set(f"{PREFIX}to:{recipient_token('u1@contoso.com')}", "no index")

    with pytest.raises(PostroomError, match="WRONGTYPE"):
        room.ledger.take_in_many(given, "news", None, now=room.now)

    room.tick()
    assert sent(room)[0] == letter(0, html=None, text="Hello 0")
    assert room.claim() is None


def test_a_round_is_asked_for_each_of_many_lanes(room: Room) -> None:
    take_many(room, [letter(n, **{"from": (SENDER, OTHER)[n % 2]}) for n in range(6)])

    assert set(room.rounds()) == {SENDER, OTHER}


def test_an_older_worker_leaves_a_mail_alone_whose_content_it_cannot_find(room: Room) -> None:
    (job_id, _) = take_many(room, [letter(n) for n in range(2)])
    older = functions.CODE.replace(" FORMAT = 2,", " FORMAT = 1,")
    assert older != functions.CODE
    text, prefix = functions.library(older)
    room.redis.function_load(text)

    answer = room.redis.fcall(f"{prefix}claim", 0, room.now, SENDER, "token", 60_000)

    assert answer == [b"nothing"]
    assert room.read(job_id).reason == "newer_version"
    room.jump(30)
    assert sent(room)[0] == letter(0)


@pytest.mark.skipif(bool(OTHER_SERVER), reason="the figure is of the server that the wheel brings")
def test_a_waiting_job_of_a_batch_costs_redis_less_than_900_bytes_beyond_its_own_content(room: Room) -> None:
    def used() -> int:
        return sum(room.redis.memory_usage(key, samples=0) for key in room.redis.scan_iter(PREFIX + "*", count=1000))

    Client(room.ledger).send(letter(0))
    before = used()
    Client(room.ledger).send_many((letter(n) for n in range(2_000)), "news")

    (part,) = shared_parts(room)
    own = sum(len(value) for name, value in part.items() if len(name) == len(short_ids(1)[0]))
    assert (used() - before - own) / 2_000 < 900
