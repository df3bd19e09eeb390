"""No mail depends on one of Celery's messages: a lane whose mail can go wakes soon, whatever gets lost."""

import random

import pytest

from postroom.jobs.job import Claimant, Job
from postroom.jobs.outcome import Outcome
from postroom.jobs.retry import Policy, decide
from postroom.store.functions import PREFIX
from postroom.store.shared_content import Sharing

from .room import ACCEPTED, BUSY, SENDER, Room, mail

DAY_S = 86400
LOST_AFTER_S = 30  # after this a round that has not started was lost


def goes_on(room: Room, job: Job, outcome: Outcome = ACCEPTED) -> Job | None:
    """Ends this job, and claims the lane's next in the same step."""
    if not job.marked:
        assert room.mark(job) == "marked"
    move = decide(outcome, job.attempts, Policy(), lambda: 0.5)
    claimant = Claimant(room.name("token"), 3600)
    return room.ledger.settle(job, move, outcome, 7, claimant=claimant, now=room.now)[1]


def test_mail_behind_lost_rounds_is_looked_at_soon_where_other_mail_is_due_tomorrow(room: Room) -> None:
    room.take(mail(scheduled_at=room.at(DAY_S)))
    room.take()
    assert room.rounds() == [SENDER]
    job: Job | None = room.held()
    room.take()
    room.take()
    while job is not None:  # this round takes the mails that two rounds were asked for
        job = goes_on(room, job)
    assert room.wakes_in() > DAY_S - 1
    assert room.rounds() == [SENDER, SENDER]  # they go to a worker that dies

    room.take()

    assert room.wakes_in() <= LOST_AFTER_S


@pytest.mark.parametrize("seed", range(24))
def test_a_lane_with_ready_mail_wakes_before_long(room: Room, seed: int) -> None:
    chance, sharing = random.Random(seed), Sharing()
    room.take(mail(scheduled_at=room.at(DAY_S)))
    hands: list[Job | None] = []

    def take_in() -> None:
        later = {"scheduled_at": room.at(chance.choice([3600, DAY_S]))}
        room.take(mail(**chance.choice([{}, {}, {}, {}, later, {"priority": "high"}, {"priority": "low"}])))

    def take_many() -> None:
        some = [mail(subject=room.name("subject")) for _ in range(chance.randrange(1, 9))]
        entries = [sharing.entry(room.name("job"), one, None) for one in some]
        room.ledger.take_in_many(entries, None, None, room.now)

    def begin_round() -> None:
        if room.redis.rpop("postroom.high") or room.redis.rpop("postroom"):
            hands.append(room.claim())

    def end_one() -> None:
        if hands and (job := hands.pop(chance.randrange(len(hands)))):
            hands.append(goes_on(room, job, chance.choices([ACCEPTED, BUSY], [0.99, 0.01])[0]))

    for _ in range(150):
        room.jump(chance.choice([0, 0, 0.001, 0.2, 3]))
        do = [take_in, take_many, begin_round, end_one, room.rounds, room.tick]
        chance.choices(do, [30, 7, 23, 28, 4, 3])[0]()
        ready = sum(room.redis.zcard(f"{PREFIX}ready:{kind}:{SENDER}") for kind in ("high", "normal", "low"))
        paused = room.redis.hexists(f"{PREFIX}lane:{SENDER}", "pause_until")
        assert not ready or paused or room.wakes_in() <= LOST_AFTER_S
