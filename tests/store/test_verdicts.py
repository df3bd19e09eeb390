"""When Microsoft let an app use a mailbox and when it refused that is kept, at next to no cost."""

from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from postroom.jobs.job import moment
from postroom.jobs.outcome import Held, Outcome
from postroom.jobs.outcome import Scope as Of
from postroom.jobs.ticks import TokenProbe
from postroom.store import verdicts
from postroom.store.functions import PREFIX
from postroom.store.verdicts import Scope, Verdicts

from .room import ACCEPTED, NO_TOKEN, NOT_ALLOWED, SENDER, Room


@pytest.fixture
def room(connection: "redis.Redis[bytes]") -> Room:
    return Room(connection)


def known(room: Room, scope: Scope = Scope.LANE, name: str = SENDER) -> Verdicts:
    return verdicts.known(room.redis, scope, name, now=room.now)


def sent(room: Room, outcome: Outcome) -> datetime:
    room.take()
    room.send(outcome)
    return moment(room.now)


def test_nothing_is_known_of_a_mailbox_that_was_never_used(room: Room) -> None:
    assert known(room) == Verdicts()
    assert room.redis.exists(f"{PREFIX}lane:{SENDER}") == 0


def test_success_and_refusal_are_kept_of_the_mailbox_and_success_of_the_app(room: Room) -> None:
    first = sent(room, ACCEPTED)
    room.jump(7200)
    last = sent(room, ACCEPTED)
    room.jump(60)
    refused = sent(room, NOT_ALLOWED)

    expected = Verdicts(
        allowed_first=first, allowed_at=last,
        refused_first=refused, refused_since=refused, refused_at=refused, refused_reason="access_policy",
    )  # fmt: skip
    assert known(room) == expected
    assert known(room).is_refused
    app = known(room, Scope.APP, "main")
    assert (app.allowed_first, app.allowed_at, app.refused_at) == (first, last, None)


def test_a_refusal_after_a_success_begins_anew_and_the_very_first_one_stays(room: Room) -> None:
    first = moment(room.now)
    verdicts.refused(room.redis, Scope.LANE, SENDER, "access_denied", now=room.now)
    room.jump(100)
    verdicts.allowed(room.redis, Scope.LANE, SENDER, now=room.now)
    assert not known(room).is_refused
    room.jump(1)
    again = moment(room.now)
    verdicts.refused(room.redis, Scope.LANE, SENDER, "access_denied", now=room.now)
    room.jump(100)
    last = verdicts.refused(room.redis, Scope.LANE, SENDER, "access_denied", now=room.now)

    assert (last.refused_first, last.refused_since, last.refused_at) == (first, again, moment(room.now))


def test_an_app_that_gets_no_token_is_refused_until_a_probe_brings_one(room: Room) -> None:
    sent(room, NO_TOKEN)
    assert known(room, Scope.APP, "main").refused_reason == "invalid_client_secret"
    assert known(room) == Verdicts()  # the mailbox was not asked

    room.jump(10)
    (probe,) = room.ledger.tick("worker", 8, 60, now=room.now).probes
    assert isinstance(probe, TokenProbe)
    room.ledger.probed(probe, None, now=room.now)
    assert known(room, Scope.APP, "main").allowed_at == moment(room.now)
    assert not known(room, Scope.APP, "main").is_refused


def test_a_mailbox_that_sends_all_the_time_costs_a_write_in_a_minute(room: Room) -> None:
    def written() -> Any:
        return room.redis.hget(f"{PREFIX}lane:{SENDER}", "allowed_at")

    sent(room, ACCEPTED)
    before = written()
    for _ in range(5):
        room.jump(10)
        sent(room, ACCEPTED)
    assert written() == before
    room.jump(10)
    sent(room, ACCEPTED)
    assert written() == str(room.now).encode()


def test_a_refusal_is_told_by_its_last_reason_and_since_when_it_has_that(room: Room) -> None:
    verdicts.refused(room.redis, Scope.APP, "main", "invalid_client_secret", now=room.now)
    first = datetime.fromtimestamp(room.now / 1000, UTC)
    room.jump(3600)
    later = verdicts.refused(room.redis, Scope.APP, "main", "expired_client_secret", now=room.now)

    assert later.refused_reason == "expired_client_secret"
    assert later.refused_at == later.refused_since == datetime.fromtimestamp(room.now / 1000, UTC)
    assert later.refused_first == first


def test_a_hold_of_one_mail_says_nothing_of_its_mailbox(room: Room) -> None:
    sent(room, Held(reason="needs_mail_readwrite", scope=Of.MAIL))

    assert known(room) == Verdicts()
