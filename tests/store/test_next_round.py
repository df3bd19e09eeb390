"""A worker's slot goes on with the next round in the queue, without Celery. Time is an argument."""

import json
import re
from itertools import pairwise

import pytest
from redis.exceptions import ResponseError

from postroom.errors import PostroomError
from postroom.jobs.job import Claimant, Job
from postroom.jobs.retry import Policy, decide
from postroom.mail.priority import Priority
from postroom.store import functions, settle_codec
from postroom.store.functions import PREFIX

from .room import ACCEPTED, OTHER, SENDER, Room, mail

THIRD = "third@contoso.com"


@pytest.fixture(autouse=True)
def quick(room: Room) -> None:
    room.tick()
    room.quick(SENDER, OTHER, THIRD)


def go_on(
    room: Room, job: Job, token: str = "next", *, slice_expired: bool = False, may_switch_lane: bool = True
) -> Job | None:
    """Settles this job as accepted, and gives the next one."""
    if job.token != token and room.record(job.id).get(b"phase") == b"claimed":
        assert room.mark(job) == "marked"
    move = decide(ACCEPTED, job.attempts, Policy(), lambda: 0.5)
    done, following = room.ledger.settle(
        job,
        move,
        ACCEPTED,
        7,
        claimant=Claimant(token, 60),
        slice_expired=slice_expired,
        may_switch_lane=may_switch_lane,
        now=room.now,
    )
    assert done
    return following


def started(room: Room, lane: str = SENDER) -> Job:
    """A job of this lane, in a round that Celery has brought."""
    queue = "postroom.high" if room.redis.llen("postroom.high") else "postroom"
    assert json.loads(json.loads(room.redis.rpop(queue))["body"])[0] == [lane]
    return room.held(lane)


def test_a_slot_goes_on_with_the_round_that_waits_longest(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.take(mail(THIRD))

    following = go_on(room, started(room))

    assert following is not None
    assert (following.lane, following.token) == (OTHER, "next")
    assert room.rounds() == [THIRD]
    assert room.redis.hget("{postroom}:lane:" + OTHER, "asked") == b"0"


def test_an_invited_slot_takes_the_rounds_that_wait_in_the_queue(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))

    first = room.ledger.claim("", Claimant("a", 60), may_switch_lane=True, now=room.now)
    again = room.ledger.claim("", Claimant("a", 60), may_switch_lane=True, now=room.now)
    second = room.ledger.claim("", Claimant("b", 60), may_switch_lane=True, now=room.now)

    assert first is not None
    assert second is not None
    assert again == first._replace(others_wait=True)
    assert [(job.lane, job.others_wait) for job in (first, second)] == [(SENDER, True), (OTHER, False)]
    assert room.ledger.claim("", Claimant("c", 60), may_switch_lane=True, now=room.now) is None


def test_a_round_goes_on_with_its_own_lane_first(room: Room) -> None:
    room.take()
    room.take()
    room.take(mail(OTHER))

    following = go_on(room, started(room))

    assert following is not None
    assert following.lane == SENDER


def test_when_a_slice_is_over_another_lane_has_its_turn_and_a_round_is_asked_for_the_first(room: Room) -> None:
    room.take()
    job = started(room)
    room.take(mail(OTHER))
    room.take()

    following = go_on(room, job, slice_expired=True)

    assert following is not None
    assert following.lane == OTHER
    assert room.rounds() == [SENDER]


def test_a_round_for_a_high_mail_comes_first(room: Room) -> None:
    room.take()
    job = started(room)
    room.take(mail(OTHER))
    room.take(mail(THIRD, priority=Priority.HIGH))

    following = go_on(room, job)

    assert following is not None
    assert following.lane == THIRD


def test_rounds_of_lanes_that_have_nothing_are_passed_over(room: Room) -> None:
    room.take()
    job = started(room)
    gone = room.take(mail(OTHER))
    room.take(mail(THIRD))
    room.redis.delete(f"{{postroom}}:job:{gone}")

    following = go_on(room, job)

    assert following is not None
    assert following.lane == THIRD


@pytest.mark.parametrize(
    "message",
    [
        '{"body":"W10=","headers":{"task":"postroom.send","id":"x"}}',
        '{"body":"W10=","headers":{"task":"postroom.round","id":"x"}}',  # as Celery itself would write it
        '{"body":"[[{}]]","headers":{"task":"postroom.round"}}',
        "no JSON",
        "[]",
    ],
)
def test_a_message_that_is_no_round_of_ours_is_left_to_celery(room: Room, message: str) -> None:
    room.take()
    job = started(room)
    room.redis.rpush("postroom", message)  # where the next one is taken from
    room.take(mail(OTHER))

    assert go_on(room, job) is None
    assert room.redis.lindex("postroom", -1) == message.encode()


def test_a_repeated_settle_gives_the_same_job_of_the_other_lane(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.take(mail(THIRD))
    job = started(room)

    first, again = go_on(room, job), go_on(room, job)

    assert first is not None
    assert again == first
    assert room.rounds() == [THIRD]


def test_a_first_claim_that_finds_nothing_goes_on_with_another_lane_and_may_be_repeated(room: Room) -> None:
    room.take(mail(OTHER))

    first, again = (room.ledger.claim(SENDER, Claimant("t", 60), may_switch_lane=True, now=room.now) for _ in range(2))

    assert first is not None
    assert (first.lane, first) == (OTHER, again)
    assert room.claim(OTHER) is None


def test_a_round_that_may_not_switch_lanes_or_claims_nothing_takes_no_other_round(room: Room) -> None:
    room.take()
    job = started(room)
    room.take(mail(OTHER))

    assert go_on(room, job, may_switch_lane=False) is None
    assert go_on(room, job, token="") is None
    assert room.rounds() == [OTHER]


def test_no_script_writes_a_lane_an_app_or_a_held_batch_past_the_cache() -> None:
    written_past_states = r"redis\.call\('(?:HSET|HDEL|HINCRBY|HSETNX)', keys\.(?:lane|app|held_batch)\("
    assert re.findall(written_past_states, functions.CODE) == []


def test_each_move_of_a_joint_call_does_what_it_does_alone(room: Room) -> None:
    """And what fails, fails alone."""
    room.take()
    room.take()
    claim, settle, mark = (f"{functions.LIBRARY}{name}" for name in ("claim", "settle", "mark"))

    calls = [
        (claim, 0, room.now, SENDER, "a", 60_000, "w", 0),
        (settle, 0, room.now, SENDER, "job", "a", "no JSON", "", 60_000, "w", 0, 0),
        (mark, 0, room.now, "nobody", "a", 60_000, "w", "c", 1),
        (claim, 0, room.now, SENDER, "b", 60_000, "w", 0),
    ]
    first, failed, void, second = room.redis.fcall(*functions.in_one(calls))

    assert [answer[0] for answer in (first, void, second)] == [b"claimed", b"void", b"claimed"]
    assert first[1] != second[1]
    assert isinstance(failed, ResponseError)
    with pytest.raises(PostroomError, match="a fault of Postroom itself"), functions.or_unavailable():
        raise failed


def test_indexes_are_complete_after_a_joint_call_even_where_one_move_fails(room: Room) -> None:
    for _ in range(3):
        room.take()
    first, second = room.sending(), room.sending()
    claim, settle = (f"{functions.LIBRARY}{name}" for name in ("claim", "settle"))
    done = settle_codec.encode_transition(decide(ACCEPTED, 0, Policy(), lambda: 0.5), ACCEPTED, 7, {})

    calls = [
        (settle, 0, room.now, SENDER, first.id, first.token, done, "a", 60_000, "w", 0, 0, "main"),
        (settle, 0, room.now, SENDER, "job", "a", "no JSON", "", 60_000, "w", 0, 0),
        (settle, 0, room.now, SENDER, second.id, second.token, done, "", 60_000, "w", 0, 0),
        (claim, 0, room.now, OTHER, "b", 60_000, "w", 0),
    ]
    answers = room.redis.fcall(*functions.in_one(calls))

    third = answers[0][1][1].decode()
    indexes = {name: set(room.redis.zrange(f"{PREFIX}{name}", 0, -1)) for name in INDEXES}
    accepted = {first.id.encode(), second.id.encode()}
    assert indexes == {
        "status:queued": set(),
        "status:sending": {third.encode()},
        "status:accepted": accepted,
        "jobs": accepted,
        "leases": {third.encode()},
    }
    assert room.read(third).status == "sending"


INDEXES = ("status:queued", "status:sending", "status:accepted", "jobs", "leases")


def test_a_probe_that_is_claimed_is_known_to_the_next_move_of_the_same_call(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.redis.hset(f"{PREFIX}app:main", "trouble", 1)
    claim = f"{functions.LIBRARY}claim"

    calls = [(claim, 0, room.now, lane, f"token-{lane}", 60_000, 0) for lane in (SENDER, OTHER)]
    first, second = room.redis.fcall(*functions.in_one(calls))

    assert (first[0], second[0]) == (b"claimed", b"nothing")


def test_lanes_that_wait_for_the_same_reason_wake_at_different_moments(room: Room) -> None:
    """As where Graph has stopped to answer, and each mailbox that nobody knows has one request under way."""
    room.ledger.tick("worker", 100, 60, now=room.now)
    lanes = [f"box{number}@contoso.com" for number in range(20)]
    for lane in lanes:
        room.take(mail(lane))
        room.take(mail(lane))
        room.sending(lane)

    wakes = sorted(room.wakes_in(lane) for lane in lanes)

    assert wakes[0] >= 3
    assert wakes[-1] <= 5
    assert all(later - earlier < 1 for earlier, later in pairwise(wakes))
    assert wakes[-1] - wakes[0] > 1


def test_a_settle_that_arrives_once_more_too_late_claims_nothing(room: Room) -> None:
    """Its first try was given up, and reaches Redis after the round has gone on."""
    for _ in range(5):
        room.take()
    first = room.held()
    second = go_on(room, first)
    assert second
    third = go_on(room, second, "third")
    assert third

    assert go_on(room, first) is None
    assert room.redis.zcard(f"{PREFIX}claims:{SENDER}") == 1


def test_a_claim_that_arrives_once_more_too_late_claims_nothing(room: Room) -> None:
    for _ in range(3):
        room.take()
    claimant = Claimant("once", 60)
    first = room.ledger.claim(SENDER, claimant, now=room.now)
    assert first
    assert room.ledger.claim(SENDER, claimant, now=room.now) == first
    assert go_on(room, first)

    assert room.ledger.claim(SENDER, claimant, now=room.now) is None


def test_a_joint_call_that_ends_very_many_jobs_writes_each_and_leaves_the_rest_to_the_next(room: Room) -> None:
    lanes = [f"lane{number}@contoso.com" for number in range(16)]
    for number in range(2000):
        room.take(mail(lanes[number % 16], expires_at=room.at(60)))
    alive = {room.take(mail(lane)) for lane in lanes}
    room.jump(3600)

    for turn in range(200):
        room.quick(*lanes)
        calls = [(f"{functions.LIBRARY}claim", 0, room.now, lane, f"t{turn}-{lane}", 60000, "w", 0) for lane in lanes]
        said = room.redis.fcall(*functions.in_one(calls))
        assert not [one for one in said if isinstance(one, ResponseError)]
        statuses = {name: room.redis.zcard(f"{PREFIX}status:{name}") for name in ("queued", "expired")}
        assert sum(statuses.values()) == 2016
        if statuses["queued"] == len(alive):
            break

    assert statuses["expired"] == 2000
    assert {job.decode() for job in room.redis.zrange(f"{PREFIX}leases", 0, -1)} <= alive


def test_one_index_takes_more_than_lua_can_pass_at_once(room: Room) -> None:
    """As many moves as one call may have, each with index entries to write."""
    code = (
        functions.CODE
        + """
    functions.register('gather_many', {'allow-oom'}, function()
      call.gathered = {}
      for n = 1, 20000 do indexes.gather('many', 'id' .. n, n % 2 == 0 and n) end
      indexes.write_gathered()
      return redis.call('ZCARD', 'many')
    end)"""
    )
    text, prefix = functions.library(code)
    room.redis.function_load(text, replace=True)

    assert room.redis.fcall(f"{prefix}gather_many", 0, "") == 10000


def test_a_lease_without_a_claim_is_removed_and_changes_no_job(room: Room) -> None:
    accepted = room.take()
    room.send()
    room.redis.zadd(f"{PREFIX}leases", {accepted: room.now})

    room.tick(300)

    assert room.read(accepted).status == "accepted"
    assert room.redis.zcard(f"{PREFIX}leases") == 0
