"""An hour's outage ends no waiting mail. Time is an argument."""

from collections import Counter

import pytest

from postroom.jobs.job import Job
from postroom.jobs.outcome import Answer, Deferred, LookupResult, NotPermitted, Outcome, Scope, Unknown
from postroom.jobs.retry import OnUnknown, Policy, after_lookup, decide

from .room import ACCEPTED, Room, mail

LANES = [f"m{n}@contoso.com" for n in range(4)]
POLICY = Policy()
HOUR, STEP = 3600, 6
LOOK_LATER = Deferred(reason="look_up_failed", free=True, answer=Answer(http_status=503))
AWAY = Deferred(reason="no_connection", scope=Scope.APP, free=True)
OUTAGES: dict[str, tuple[Outcome, LookupResult]] = {
    "503": (Unknown(reason="service_unavailable", answer=Answer(http_status=503)), LOOK_LATER),
    "503 with a time": (Unknown(reason="service_unavailable", wait_s=30, answer=Answer(http_status=503)), LOOK_LATER),
    "504": (Unknown(reason="gateway_timeout", answer=Answer(http_status=504)), LOOK_LATER),
    "refused": (AWAY, AWAY),
}


def settle(room: Room, job: Job, outcome: Outcome, finding: LookupResult) -> None:
    if job.to_look_up:
        move = after_lookup(finding, job, POLICY, OnUnknown.RESEND, lambda: 0.5)
        room.ledger.settle(job, move, finding, 7, now=room.now)
        return
    if not (isinstance(outcome, Deferred) or room.mark(job) == "marked"):
        return
    room.ledger.settle(job, decide(outcome, job.attempts, POLICY, lambda: 0.5), outcome, 7, now=room.now)


def run(room: Room, seconds: int, outcome: Outcome, finding: LookupResult) -> Counter[str]:
    """Every lane is worked as long as it gives claims, each few seconds; how many claims sent, and how many looked."""
    made = Counter[str]()
    for _ in range(seconds // STEP):
        for lane in LANES:
            while job := room.claim(lane):
                made["looked" if job.to_look_up else "sent"] += 1
                settle(room, job, outcome, finding)
        room.redis.delete("postroom", "postroom.high")
        room.jump(STEP)
        room.tick()
    return made


@pytest.mark.parametrize(
    "kind", ["503", "refused", *(pytest.param(one, marks=pytest.mark.world) for one in ("504", "503 with a time"))]
)
def test_an_hours_outage_burns_no_backlog_and_all_flows_after_it(room: Room, kind: str) -> None:
    jobs = [room.take(mail(sender=lane)) for lane in LANES for _ in range(50)]

    made = run(room, HOUR, *OUTAGES[kind])

    assert made["sent"] < 150, "probes, not the backlog"
    assert {room.read(job).status for job in jobs} <= {"queued", "deferred"}
    run(room, 600, ACCEPTED, NotPermitted(answer=Answer(http_status=403)))
    assert {room.read(job).status for job in jobs} == {"accepted"}
    assert max(sum(attempt.number > 0 for attempt in room.read(job).attempts) for job in jobs) <= 3


def test_faults_of_our_own_say_nothing_of_the_mailbox(room: Room) -> None:
    bug = Deferred(reason="internal_error", answer=Answer(detail="RuntimeError"))
    for _ in range(5):
        room.take()
        job = room.held()
        room.settle(job, bug)

    waiting = room.take()

    assert room.read(waiting).paused_until is None
    assert room.claim() is not None


@pytest.mark.parametrize("reason", ["attachment_unclear", "session_lost", "draft_gone", "not_201"])
def test_drafts_that_begin_anew_again_and_again_pause_nobody_and_end_as_dead_letters(room: Room, reason: str) -> None:
    anew = Deferred(reason=reason, answer=Answer(http_status=200))
    jobs = [room.take(mail(sender=lane)) for lane in LANES]
    for _ in range(3):  # all attempts that a room gives
        for lane in LANES:
            room.settle(room.held(lane), anew)
            other = room.take(mail(sender=lane))
            assert room.read(other).paused_until is None
            assert room.send(lane=lane) == other
        room.tick(60)

    assert {(room.read(job).status, room.read(job).reason) for job in jobs} == {("dead", reason)}


NO_ANSWER = Unknown(reason="no_answer", answer=Answer())


@pytest.mark.parametrize(("others_accepted", "paused"), [(True, False), (False, True)])
def test_mailboxes_that_hang_together_are_the_apps_trouble_only_where_nobody_was_accepted_meanwhile(
    room: Room, *, others_accepted: bool, paused: bool
) -> None:
    quick, *hanging = LANES
    for lane in LANES:
        room.take(mail(sender=lane))
    room.take(mail(sender=quick))
    room.send(lane=quick)
    asked = [room.sending(lane) for lane in hanging]
    room.jump(15)
    if others_accepted:
        room.send(lane=quick)
    room.jump(15)

    for job in asked:
        room.settle(job, NO_ANSWER)

    behind = room.take(mail(sender="new@contoso.com"))
    found = room.ledger.records.read(behind, now=room.now)
    assert (found.pause_reason == "failing") is paused
