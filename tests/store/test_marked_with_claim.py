"""A mail that needs only a post is marked with its claim, if the worker has a token for its app."""

from dataclasses import replace
from typing import Any

import pytest

from postroom.graph.requests import GraphRequest, request_for
from postroom.jobs.job import Claimant, Job, Status
from postroom.jobs.lane_limits import LaneLimits
from postroom.mail.address import Address
from postroom.mail.message import compose
from postroom.mail.model import Attachment, Mail
from postroom.store.functions import PREFIX

from .room import ACCEPTED, BUSY, FREE, NO_ANSWER, SENDER, Room, mail

APP = FREE.app


def claim(room: Room, *apps: str, token: str | None = None) -> Job | None:
    return room.ledger.claim(SENDER, Claimant(token or room.name("token"), 60, apps, 7.0), now=room.now)


def held(room: Room, *apps: str) -> Job:
    job = claim(room, *apps)
    assert job is not None
    return job


def uploaded(room: Room) -> int:
    return int(room.redis.hget(f"{PREFIX}uploaded:{SENDER}", "total") or 0)


def test_the_attempt_begins_with_the_claim_and_has_its_token_as_request_id(room: Room) -> None:
    room.take()

    job = held(room, "another", APP)

    assert (job.marked, job.asked_at) == (True, 7.0)
    found = room.read(job.id)
    assert found.status is Status.SENDING
    assert [(one.number, one.outcome, one.client_request_id) for one in found.attempts] == [(1, "open", job.token)]
    room.jump(1)
    assert room.settle(job, ACCEPTED)
    found = room.read(job.id)
    assert found.status is Status.ACCEPTED
    assert [(one.number, one.outcome, one.client_request_id) for one in found.attempts] == [(1, "accepted", job.token)]


OTHERS: dict[str, dict[str, Any]] = {
    "a template": {"template": "welcome", "text": None},
    "a file": {"attachments": [Attachment("a.txt", b"x")]},
    "both bodies, which go as MIME": {"html": "<p>x</p>"},
    "headers": {"headers": {"List-Id": "x"}},
    "its own source": {"mime": b"Subject: x\r\n\r\nx", "text": None},
    "a large body": {"text": "x" * 20_000},
}


@pytest.mark.parametrize("fields", OTHERS.values(), ids=OTHERS)
def test_a_mail_that_needs_more_than_a_post_is_marked_separately(room: Room, fields: dict[str, Any]) -> None:
    given = {"sender": SENDER, "to": ["ann@contoso.com"], "text": "hello"} | fields
    room.take(Mail(**{name: value for name, value in given.items() if value is not None}))

    job = held(room, APP)

    assert not job.marked
    assert room.read(job.id).status is Status.QUEUED
    assert room.mark(job) == "marked"


def test_a_mail_for_whose_app_the_worker_has_no_token_is_marked_separately(room: Room) -> None:
    room.take()

    assert not held(room, "another").marked


def test_a_mail_that_goes_by_a_draft_is_marked_separately(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, by_draft=True)})
    room.take()

    assert not held(room, APP).marked


def test_the_probe_of_a_lane_or_an_app_in_trouble_is_marked_separately(room: Room) -> None:
    for scope in ("lane", "app"):
        room.take()
        room.redis.hset(f"{PREFIX}{scope}:{SENDER if scope == 'lane' else APP}", "trouble", 1)
        job = held(room, APP)
        assert not job.marked
        assert room.mark(job) == "marked"
        room.settle(job, ACCEPTED)


def test_a_mail_in_doubt_that_is_sent_again_is_marked_separately(room: Room) -> None:
    room.take()
    room.settle(held(room, APP), NO_ANSWER)
    room.jump(20)
    room.tick()
    look_up = held(room, APP)
    assert (look_up.to_look_up, look_up.marked) == (True, False)
    room.redis.hset(f"{PREFIX}job:{look_up.id}", "resend", 1)  # as if that had found nothing
    room.redis.zrem(f"{PREFIX}claims:{SENDER}", look_up.id)
    room.redis.zadd(f"{PREFIX}ready:again:{SENDER}", {look_up.id: 1})

    again = held(room, APP)

    assert (again.resend, again.marked) == (True, False)


def test_a_mail_marked_with_its_second_claim_brings_its_attempts_along(room: Room) -> None:
    room.take()
    assert room.settle(held(room, APP), BUSY)
    room.jump(3600)

    job = held(room, APP)

    assert (job.marked, job.attempts) == (True, 1)


def test_a_claim_whose_reply_was_lost_is_the_same_and_was_marked_once(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((2, 60),))})
    room.take()
    room.take()
    first = claim(room, APP, token="t")

    assert claim(room, APP, token="t") == first
    assert first is not None
    assert first.marked
    assert held(room, APP).id != first.id
    room.take()
    assert claim(room, APP) is None, "both have spent their part of the rate"


def test_a_mail_marked_with_its_claim_spends_rate_and_recipients(room: Room) -> None:
    room.publish(lanes={SENDER: LaneLimits(app=APP, parallel=4, daily_recipients=5, rates=((1, 10),))})
    room.take(mail(to=3))
    room.take(mail(to=2))
    room.take()
    room.settle(held(room, APP), ACCEPTED)
    assert claim(room, APP) is None
    assert room.wakes_in() == 11

    room.jump(11)
    room.settle(held(room, APP), ACCEPTED)

    room.jump(11)
    assert claim(room, APP) is None
    assert room.wakes_in() > 80_000, "no recipient is left of the day"


def test_a_mail_is_marked_separately_where_the_upload_budget_may_be_too_small_for_it(room: Room) -> None:
    room.take()
    room.take()
    room.mark(room.held(), 150_000_000 - 1000)

    job = held(room, APP)

    assert not job.marked
    assert room.mark(job, 900) == "marked"


def test_a_mail_marked_with_its_claim_is_in_doubt_when_its_worker_is_lost(room: Room) -> None:
    room.take()
    job = held(room, APP)
    room.tick(62)

    found = room.read(job.id)

    assert (found.status, found.reason, found.in_doubt) == (Status.DEFERRED, "unknown", True)


def test_a_further_request_of_the_attempt_has_a_mark_of_its_own(room: Room) -> None:
    room.take()
    job = held(room, APP)

    assert room.mark(job) == "marked"  # Graph rejected the token
    assert [one.number for one in room.read(job.id).attempts] == [1]


LONG = "x" * 60
REQUESTS: dict[str, dict[str, Any]] = {
    "short": {},
    "quotes and line ends": {"text": '"\\\n\t' * 1500},
    "other letters": {"text": "ä漢\U0001f600" * 900, "subject": "漢" * 200},
    "html": {"html": "<p>&amp;</p>" * 900, "text": None},
    "many recipients": {"to": [f"{n}@contoso.com" for n in range(250)], "cc": [f"c{n}@b.de" for n in range(250)]},
    "with names": {"to": [f"Änn <{n}@contoso.com>" for n in range(250)]},
    "all flags": {
        "reply_to": [f"{n}@contoso.com" for n in range(9)],
        "importance": "high",
        "save_to_sent_items": False,
        "read_receipt": True,
        "delivery_receipt": True,
    },
}


@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("redirected", [None, Address("", f"{LONG}@{LONG}.{LONG}.com")], ids=["", "redirected"])
def test_a_mail_marked_with_its_claim_counts_at_least_the_bytes_of_its_request(
    room: Room, fields: dict[str, Any], redirected: Address | None
) -> None:
    given = {"sender": f"Post Office <{SENDER}>", "to": ["a@b.de"], "subject": "s", "text": "x"} | fields
    room.take(Mail(**{name: value for name, value in given.items() if value is not None}))

    job = held(room, APP)

    assert job.marked
    message = compose(Mail.of_job(job.mail), Address("Post DeliveryContext", SENDER), job.id, None, redirected)
    request = request_for(message)
    assert isinstance(request, GraphRequest)
    assert request.mode == "json"
    assert len(request.body) <= uploaded(room)
