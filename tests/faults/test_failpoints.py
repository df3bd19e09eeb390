"""A process is killed, or frozen for longer than its lease, at each failpoint of a mail.

The cases of one test share a room and wait for the same leases side by side.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import psutil
import pytest

from postroom import Status
from postroom.runtime.failpoints import Failpoint

from ..acceptance.conftest import PATIENCE_S, Room, a_mail, until
from ..acceptance.forks import WorkerProcess

OpenRoom = Callable[..., Room]


class Halt(NamedTuple):
    """How a worker is halted: by a signal, at a failpoint, after it has passed it so many times."""

    how: str
    failpoint: Failpoint
    after: int = 0


ONE_REQUEST: tuple[tuple[Failpoint, int], ...] = (
    *((Failpoint.CLAIMED, 0), (Failpoint.PREPARED, 0), (Failpoint.MARKED, 0), (Failpoint.WRITING, 0)),
    *((Failpoint.ANSWERED, 0), (Failpoint.SETTLED, 0)),
)
TWO_REQUESTS = (
    *(
        (Failpoint.CLAIMED, 0),
        (Failpoint.WRITING, 0),
        (Failpoint.DRAFTED, 0),
        (Failpoint.NOTED, 0),
        (Failpoint.PREPARED, 0),
    ),
    *((Failpoint.MARKED, 0), (Failpoint.WRITING, 1), (Failpoint.ANSWERED, 0), (Failpoint.SETTLED, 0)),
)
# Two of these beside the halts of each mode: all four are tried.
TICKS = {
    "plain": (("KILL", Failpoint.TICKING), ("STOP", Failpoint.TICKED)),
    "at once": (("KILL", Failpoint.TICKED), ("STOP", Failpoint.TICKING)),
    "look-up": (("KILL", Failpoint.TICKING), ("STOP", Failpoint.TICKED)),
    "draft": (("KILL", Failpoint.TICKED), ("STOP", Failpoint.TICKING)),
}
ROLES = {
    "plain": ("Mail.Send",),
    "at once": ("Mail.Send",),  # marked with its claim
    "look-up": ("Mail.Send", "Mail.Read"),
    "draft": ("Mail.Send", "Mail.ReadWrite"),
}

Story = tuple[Status, int, bool]


@pytest.mark.parametrize("mode", ROLES)
def test_a_mail_whose_worker_dies_or_freezes_is_sent_once_or_twice_where_nobody_could_know(
    open_room: OpenRoom, mode: str
) -> None:
    delivery = "draft" if mode == "draft" else "send"
    room = open_room(
        # A lease longer than it takes to halt them all, a look-up later than the last one thaws.
        {"SHORT_LEASE": "6", "POSTROOM_UNKNOWN_LOOKUPS": "3s", "POSTROOM_DELIVERY": delivery}
        | ({"TOKEN_FIRST": "1"} if mode == "at once" else {}),
        roles=ROLES[mode],
    )
    found = halted(room, mode)
    finisher(room)
    thaw_each_whose_lease_is_over(room, found)

    stories = {halt: story(room, job) for halt, (job, _) in found.items()}

    assert stories == {halt: as_promised(mode, halt) for halt in found}
    # Not even one frozen after its last look at the lease: each write to the socket looks at the deadline again.
    void = {job for halt, (job, _) in found.items() if halt.how == "STOP" and halt.failpoint not in AFTER_THE_REQUEST}
    until(lambda: lost_claims(room) == void, "the void writes")
    assert nothing_is_left_behind(room)


AFTER_THE_REQUEST = (Failpoint.ANSWERED, Failpoint.SETTLED)


def failpoints_of(mode: str) -> tuple[tuple[Failpoint, int], ...]:
    return TWO_REQUESTS if mode == "draft" else ONE_REQUEST


def as_promised(mode: str, halt: Halt) -> Story:
    """Sent once, and in doubt only where the request that sends may have been written."""
    may_have_left = halt[1:] in {
        (Failpoint.MARKED, 0),
        (Failpoint.WRITING, 1 if mode == "draft" else 0),
        (Failpoint.ANSWERED, 0),
    }
    if mode == "at once":
        may_have_left = halt.failpoint is not Failpoint.SETTLED
    doubled = mode in {"plain", "at once"} and halt == Halt("KILL", Failpoint.ANSWERED)
    return Status.ACCEPTED, 2 if doubled else 1, may_have_left


def halted(room: Room, mode: str) -> dict[Halt, tuple[str, WorkerProcess]]:
    """For each halt a job, and the worker that was halted there while it worked on that job. They start together."""
    ticking = [victim(room, Halt(*where)) for where in TICKS[mode]]
    halts = [Halt(how, *where) for how in ("KILL", "STOP") for where in failpoints_of(mode)]
    victims = {halt: victim(room, halt) for halt in halts}
    until(lambda: all(map(has_halted, ticking)), "the workers to halt at their tick")
    until(lambda: all(has_ticked(room, worker) for worker in victims.values()), "the workers to be ready")
    found: dict[Halt, tuple[str, WorkerProcess]] = {}
    for n in range(len(victims)):
        job = room.client().send(a_mail(**{"from": f"m{n}@contoso.com"})).id
        halt = until(lambda: next(filter(lambda h: has_halted(victims[h]), victims), None), "a worker to halt")
        found[halt] = job, victims.pop(halt)
    return found


def has_ticked(room: Room, worker: WorkerProcess) -> bool:
    return bool(room.redis.hexists("{postroom}:workers", f"{os.uname().nodename}:{worker.pid}"))


def victim(room: Room, halt: Halt) -> WorkerProcess:
    # One slot each, and no rounds for workers that freeze in their tick: what a frozen worker with a free slot takes
    # from the queue comes again only after half a minute.
    queues = "postroom.high" if halt.failpoint in (Failpoint.TICKING, Failpoint.TICKED) else "postroom,postroom.high"
    worker = room.start_worker_process(
        *("--queues", queues, "--hostname", f"{'-'.join(map(str, halt))}@%h"),
        slots=1,
        app="tests.faults.halting",
        ready=False,
        HALT_WITH=halt.how,
        HALT_AT=halt.failpoint,
        HALT_AFTER=str(halt.after),
    )
    room.stack.callback(worker.kill)  # as it stands: it may be frozen
    return worker


def finisher(room: Room) -> None:
    room.start_worker_process(app="tests.faults.halting")


def has_halted(worker: WorkerProcess) -> bool:
    try:
        return worker.poll() is not None or psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:  # it died between the two questions
        return True


def thaw_each_whose_lease_is_over(room: Room, found: dict[Halt, tuple[str, WorkerProcess]]) -> None:
    client = room.client()
    over = (Status.DEFERRED, Status.ACCEPTED)
    for halt, (job, worker) in found.items():
        if halt.how == "STOP":
            until(lambda job=job: client.status(job).status in over, "the lease to be taken back")
            worker.send_signal(signal.SIGCONT)


def lost_claims(room: Room) -> set[str]:
    return {line["job"] for line in room.log() if line["event"] == "claim.lost"}


def story(room: Room, job: str) -> Story:
    """How it ended, how often Graph accepted it, and whether doubt was recorded."""
    end = room.settled(job)
    sent = Counter(message.job for message in room.sandbox.messages())
    return end.status, sent[job], any(attempt.outcome == "unknown" for attempt in end.attempts)


def nothing_is_left_behind(room: Room) -> bool:
    return until(
        lambda: not room.redis.exists("{postroom}:leases", "{postroom}:hands:slow", "{postroom}:hands:unknown"),
        "every claim to be given back",
    )


@pytest.mark.parametrize(("failpoint", "kept"), [(Failpoint.TAKING_IN, 0), (Failpoint.TAKEN_IN, 6)])
def test_a_portion_of_a_batch_whose_producer_is_killed_is_complete_after_a_second_run_and_nobody_has_it_twice(
    room: Room, failpoint: Failpoint, kept: int
) -> None:
    first = produce(room, HALT_AT=failpoint, HALT_WITH="KILL")

    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "")
    assert len(room.client().find(batch="news")) == kept
    second = produce(room)

    assert second.returncode == 0, second.stderr
    jobs = second.stdout.split()
    assert len(set(jobs)) == len(room.client().find(batch="news")) == 6
    room.start_worker_process()
    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}
    assert sorted(mail.to for mail in room.sandbox.messages()) == [(f"u{n}@contoso.com",) for n in range(6)]


def produce(room: Room, **halt: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.producer", "news", "0", "6", "3"],
        env=room.environment | halt,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_task_whose_worker_is_killed_on_either_side_of_the_take_in_is_one_mail(room: Room) -> None:
    producer = room.celery()
    sent = {}
    for failpoint in (Failpoint.TAKING_IN, Failpoint.TAKEN_IN):
        worker = victim(room, Halt("KILL", failpoint))
        mail = {"from": "noreply@contoso.com", "to": [f"{failpoint}@contoso.com"], "text": "Hi"}
        sent[failpoint] = producer.send_task("postroom.send", args=[mail], queue="postroom").id
        until(lambda worker=worker: has_halted(worker), f"the worker to halt at {failpoint}")
    finisher(room)

    for job in sent.values():
        assert room.settled_task(job)
        assert story(room, job) == (Status.ACCEPTED, 1, False)
    until(lambda: not room.redis.hlen("unacked"), "the tasks to be acknowledged")


def test_a_result_that_was_stored_by_a_worker_that_died_then_is_stored_again(room: Room) -> None:
    from celery.result import AsyncResult

    backend = f"db+sqlite:///{room.folder}/results.db"
    job = room.client().send(a_mail()).id
    worker = room.start_worker_process(
        slots=1,
        app="tests.faults.halting",
        ready=False,
        POSTROOM_RESULT_BACKEND=backend,
        HALT_AT=Failpoint.RESULT_STORED,
        HALT_WITH="KILL",
    )
    until(lambda: has_halted(worker), "the worker to die")

    assert AsyncResult(job, app=room.celery(backend)).state == "SUCCESS"
    assert room.redis.zrange("{postroom}:results", 0, -1) == [job.encode()]
    room.redis.zadd("{postroom}:results", {job: 0})  # half a minute later, its loan is over
    room.start_worker_process(POSTROOM_RESULT_BACKEND=backend)
    until(lambda: not room.redis.exists("{postroom}:results"), "the result to be stored again")
