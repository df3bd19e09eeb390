"""A process is killed, or frozen for longer than its lease, at each step of a mail.

The cases of one test share a room and wait for the same leases side by side.
"""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from postroom import Delivery, Status
from postroom.steps import Step

from ..acceptance.conftest import PATIENCE_S, Room, a_mail, until

OpenRoom = Callable[..., Room]
MAIL_STEPS = (Step.CLAIMED, Step.PREPARED, Step.MARKED, Step.WRITING, Step.ANSWERED, Step.SETTLED)
TICK_STEPS = (Step.TICKING, Step.TICKED)
SETTINGS = {"POSTROOM_LEASE": "10s"}  # the shortest there is, and longer than it takes to halt them all


@pytest.mark.timeout(150)
def test_a_mail_whose_worker_is_killed_is_sent_once_or_twice_where_nobody_could_know(open_room: OpenRoom) -> None:
    room = open_room(SETTINGS)
    jobs = {step: job for step, (job, _) in halted(room, "KILL").items()}
    finisher(room)

    ends = {step: room.settled(job) for step, job in jobs.items()}

    assert {step: story(room, end) for step, end in ends.items()} == {
        Step.CLAIMED: (Status.ACCEPTED, 1, ["accepted"]),
        Step.PREPARED: (Status.ACCEPTED, 1, ["accepted"]),
        Step.MARKED: (Status.ACCEPTED, 1, ["unknown", "accepted"]),
        Step.WRITING: (Status.ACCEPTED, 1, ["unknown", "accepted"]),
        Step.ANSWERED: (Status.ACCEPTED, 2, ["unknown", "accepted"]),
        Step.SETTLED: (Status.ACCEPTED, 1, ["accepted"]),
    }
    assert nothing_is_left_behind(room)


@pytest.mark.timeout(150)
def test_a_worker_that_was_frozen_longer_than_its_lease_posts_nothing_when_it_wakes(open_room: OpenRoom) -> None:
    room = open_room(SETTINGS)
    frozen = halted(room, "STOP")
    finisher(room)
    client = room.client()
    jobs = {step: job for step, (job, _) in frozen.items()}
    over = (Status.DEFERRED, Status.ACCEPTED)
    until(lambda: all(client.status(job).status in over for job in jobs.values()), "each lease to be taken back")
    thaw(room)

    ends = {step: room.settled(job) for step, job in jobs.items()}

    assert {step: story(room, end) for step, end in ends.items()} == {
        Step.CLAIMED: (Status.ACCEPTED, 1, ["accepted"]),
        Step.PREPARED: (Status.ACCEPTED, 1, ["accepted"]),
        Step.MARKED: (Status.ACCEPTED, 1, ["unknown", "accepted"]),
        # The deadline of the request is looked at once more with each write to the socket.
        Step.WRITING: (Status.ACCEPTED, 1, ["unknown", "accepted"]),
        Step.ANSWERED: (Status.ACCEPTED, 1, ["unknown", "accepted"]),
        Step.SETTLED: (Status.ACCEPTED, 1, ["accepted"]),
    }
    void = {jobs[step] for step in (Step.CLAIMED, Step.PREPARED, Step.MARKED, Step.WRITING)}
    until(lambda: {line["job"] for line in room.log() if line["event"] == "claim.lost"} == void, "the void writes")
    assert nothing_is_left_behind(room)


def halted(room: Room, how: str) -> dict[Step, tuple[str, "subprocess.Popen[bytes]"]]:
    """For each step of a mail a job, and the worker that had it in hand when it was halted there."""
    victims = {step: victim(room, step, how) for step in (*MAIL_STEPS, *TICK_STEPS)}
    ticking = [victims.pop(step) for step in TICK_STEPS]
    until(lambda: all(map(has_halted, ticking)), "the workers to halt at their tick")
    until(lambda: len(room.redis.hkeys("{postroom}:workers")) >= len(victims), "the workers to be ready")
    found = {}
    for n in range(len(victims)):
        job = room.client().send(a_mail(**{"from": f"m{n}@contoso.com"})).id
        step = until(
            lambda: next((step for step, worker in victims.items() if has_halted(worker)), None), "a worker to halt"
        )
        found[step] = job, victims.pop(step)
    return found


def victim(room: Room, step: Step, how: str) -> "subprocess.Popen[bytes]":
    # One hand each, and no queue for those that freeze beside their hands: what a frozen worker with a free hand
    # swallows of the queue comes again, but only after half a minute.
    queues = "postroom.high" if step in TICK_STEPS else "postroom,postroom.high"
    worker = room.start_worker(
        *("--concurrency", "1", "--queues", queues, "--hostname", f"{step}@%h"),
        celery="tests.faults.halting",
        ready=False,
        HALT_AT=step,
        HALT_WITH=how,
    )
    room.stack.callback(worker.kill)  # as it stands: it may be frozen
    return worker


def finisher(room: Room) -> None:
    room.start_worker("--concurrency", "4", celery="tests.faults.halting")


def has_halted(worker: "subprocess.Popen[bytes]") -> bool:
    return worker.poll() is not None or psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


def thaw(room: Room) -> None:
    for worker in room.workers:
        wake(worker)


def wake(worker: "subprocess.Popen[bytes]") -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGCONT)


def story(room: Room, end: Delivery) -> tuple[Status, int, list[str]]:
    """How it ended, how often Graph accepted it, and what was recorded of each attempt."""
    sent = Counter(request.job for request in room.sandbox.requests(accepted=True))
    return end.status, sent[end.id], [attempt.outcome for attempt in end.attempts]


def nothing_is_left_behind(room: Room) -> bool:
    return until(
        lambda: not room.redis.exists("{postroom}:leases", "{postroom}:hands:slow", "{postroom}:hands:unknown"),
        "every claim to be given back",
    )


@pytest.mark.parametrize(("step", "kept"), [(Step.TAKING_IN, 2), (Step.TAKEN_IN, 3)])
def test_a_batch_killed_halfway_is_complete_after_a_second_run_and_nobody_has_it_twice(
    room: Room, step: Step, kept: int
) -> None:
    first = produce(room, HALT_AT=step, HALT_WITH="KILL", HALT_AFTER="2")

    assert (first.returncode, len(first.stdout.split())) == (-signal.SIGKILL, 2)
    assert len(room.client().find(batch="news")) == kept
    second = produce(room)

    assert second.returncode == 0, second.stderr
    jobs = second.stdout.split()
    assert jobs[:2] == first.stdout.split()
    assert len(set(jobs)) == len(room.client().find(batch="news")) == 6
    room.start_worker("--processes", "1")
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
    for step in (Step.TAKING_IN, Step.TAKEN_IN):
        worker = victim(room, step, "KILL")
        mail = {"from": "noreply@contoso.com", "to": [f"{step}@contoso.com"], "text": "Hi"}
        sent[step] = producer.send_task("postroom.send", args=[mail], queue="postroom").id
        until(lambda worker=worker: has_halted(worker), f"the worker to halt at {step}")
    finisher(room)

    ends = {step: room.settled_task(job) for step, job in sent.items()}

    assert {step: story(room, end) for step, end in ends.items()} == dict.fromkeys(
        sent, (Status.ACCEPTED, 1, ["accepted"])
    )
    until(lambda: not room.redis.hlen("unacked"), "the tasks to be acknowledged")


def test_a_result_that_was_stored_by_a_worker_that_died_then_is_stored_again(room: Room) -> None:
    from celery.result import AsyncResult

    backend = f"db+sqlite:///{room.folder}/results.db"
    job = room.client().send(a_mail()).id
    worker = room.start_worker(
        *("--concurrency", "1"),
        celery="tests.faults.halting",
        ready=False,
        POSTROOM_RESULT_BACKEND=backend,
        HALT_AT=Step.RESULT_STORED,
        HALT_WITH="KILL",
    )
    until(lambda: has_halted(worker), "the worker to die")

    assert AsyncResult(job, app=room.celery(backend)).state == "SUCCESS"
    assert room.redis.zrange("{postroom}:results", 0, -1) == [job.encode()]
    room.redis.zadd("{postroom}:results", {job: 0})  # half a minute later, its loan is over
    room.start_worker(POSTROOM_RESULT_BACKEND=backend)
    until(lambda: not room.redis.exists("{postroom}:results"), "the result to be stored again")
