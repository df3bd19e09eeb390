"""Rounds keep their promises while workers, messages and mailboxes fail."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from celery import Celery

from postroom import Client, Status
from postroom.store import embedded

from .conftest import PATIENCE_S, Room, a_mail, start_redis, until
from .forks import run_command

OpenRoom = Callable[..., Room]


def test_the_scripts_ask_for_rounds_as_celery_itself_would(room: Room) -> None:
    """The message that our script pushes and the one that kombu writes for the same task say the same."""
    room.client().send(a_mail())
    producer: Celery = room.celery()
    ours = json.loads(room.redis.rpop("postroom"))
    producer.send_task("postroom.round", args=["noreply@contoso.com"], queue="postroom", ignore_result=True)
    theirs = json.loads(room.redis.rpop("postroom"))

    assert ours.keys() == theirs.keys()
    assert {name: ours[name] for name in ("content-type", "content-encoding")} == {
        name: theirs[name] for name in ("content-type", "content-encoding")
    }
    needed = {"lang", "task", "parent_id", "group", "ignore_result", "retries", "eta", "expires", "timelimit"}
    assert {name: ours["headers"][name] for name in needed} == {name: theirs["headers"][name] for name in needed}
    for name in ("delivery_mode", "delivery_info", "priority"):
        assert ours["properties"][name] == theirs["properties"][name]


def test_lost_and_doubled_round_messages_change_nothing(room: Room) -> None:
    client = room.client()
    jobs = [client.send(a_mail(to=[f"u{n}@contoso.com"])).id for n in range(8)]
    room.redis.delete("postroom")  # all lost
    room.start_worker_process()
    producer = room.celery()
    for _ in range(20):
        producer.send_task("postroom.round", args=["noreply@contoso.com"], queue="postroom", ignore_result=True)

    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}
    assert len(room.sandbox.messages()) == 8
    assert room.sandbox.stats()["doubled"] == {}


def test_a_hanging_mailbox_leaves_hands_for_the_others(open_room: OpenRoom) -> None:
    room = open_room(settings={"POSTROOM_LEASE": "20s"})
    room.sandbox.add_fault(mailbox="hanging@contoso.com", effect="hang")
    room.sandbox.add_fault(mailbox="hanging-too@contoso.com", effect="hang")
    room.start_worker_process()
    client = room.client()
    for n in range(12):
        client.send(a_mail(**{"from": f"hanging{'-too' * (n % 2)}@contoso.com"}))
    until(lambda: in_flight(room) >= 2, "requests that hang")

    quiet = [client.send(a_mail(**{"from": f"quiet{n % 3}@contoso.com"})).id for n in range(12)]

    assert {room.settled(job).status for job in quiet} == {Status.ACCEPTED}
    assert in_flight(room) == 2  # one for each of the two, for nobody knew them yet


def test_a_worker_killed_while_it_posts_leaves_an_unknown_outcome_and_no_lost_mail(open_room: OpenRoom) -> None:
    room = open_room(settings={"POSTROOM_UNKNOWN_LOOKUPS": "100ms"})
    hang = room.sandbox.add_fault(effect="hang", accepted=True)
    client = room.client()
    room.start_worker("--processes", "1", "--concurrency", "2")
    in_hand = client.send(a_mail()).id
    until(lambda: in_flight(room), "the request to arrive")
    room.kill()
    room.end_leases()
    room.sandbox.remove_fault(hang)

    room.start_worker_process()
    room.end_wait_for_cut_off_workers(in_hand)

    delivery = room.settled(in_hand)
    assert delivery.status is Status.ACCEPTED
    assert [(attempt.outcome, attempt.reason) for attempt in delivery.attempts] == [
        ("unknown", "worker_lost"),
        ("notpermitted", None),
        ("accepted", None),
    ]
    assert len({attempt.worker for attempt in delivery.attempts} - {None}) == 2
    assert delivery.attempts[0].worker not in {None, delivery.attempts[-1].worker}


def test_a_worker_that_dies_is_started_again(room: Room) -> None:
    supervisor = room.start_worker("--processes", "1", "--concurrency", "2")
    child = psutil.Process(supervisor.pid).children()[0]
    child.kill()

    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the worker to die")

    assert room.settled(room.client().send(a_mail()).id).status is Status.ACCEPTED
    assert [line["event"] for line in room.log() if line["event"] == "worker.died"] == ["worker.died"]
    assert room.end(supervisor) == 0


def test_a_supervisor_killed_hard_leaves_no_worker_behind(room: Room) -> None:
    supervisor = room.start_worker("--processes", "2", "--concurrency", "2")
    children = psutil.Process(supervisor.pid).children()

    supervisor.kill()

    until(lambda: not any(child.is_running() for child in children), "the workers to end")


def test_sigterm_lets_the_mail_in_hand_finish(open_room: OpenRoom) -> None:
    room = open_room(latency=1.0)
    worker = room.start_worker("--processes", "1", "--concurrency", "4")
    client = room.client()
    jobs = [client.send(a_mail(**{"from": f"m{n}@contoso.com"})).id for n in range(2)]
    until(lambda: in_flight(room), "a request in flight")

    assert room.end(worker, signal.SIGTERM) == 0

    assert Counter(client.status(job).status for job in jobs) <= Counter({"accepted": 2, "queued": 2})
    assert any(client.status(job).status is Status.ACCEPTED for job in jobs)
    assert not any(client.status(job).status is Status.SENDING for job in jobs)


@pytest.mark.timeout(180)
def test_a_worker_s_memory_does_not_grow_with_the_backlog(open_room: OpenRoom) -> None:
    room = open_room(settings={"POSTROOM_RATE": "60/min"})
    client = room.client()
    backlog(client, room, 30_000)
    supervisor = room.start_worker("--processes", "1", "--concurrency", "4")
    until(lambda: len(room.sandbox.messages()) >= 8, "some mails to be sent")
    child = psutil.Process(supervisor.pid).children()[0]
    with_backlog = child.memory_info().rss
    room.end(supervisor)
    room.redis.flushall()
    for _ in range(8):
        client.send(a_mail())

    supervisor = room.start_worker("--processes", "1", "--concurrency", "4")
    until(lambda: len(room.sandbox.messages()) >= 16, "the same work without a backlog")

    without = psutil.Process(supervisor.pid).children()[0].memory_info().rss
    assert with_backlog < without * 1.10


def backlog(client: Client, room: Room, count: int, at_once: int = 5000) -> None:
    """Fills one lane the quick way: records as `take_in` writes them, copied by a script of the test's own."""
    model = client.send(a_mail(priority="low")).id
    copy = room.redis.register_script(
        """
        local P = '{postroom}:'
        local fields = redis.call('HGETALL', P .. 'job:' .. ARGV[1])
        local mail = redis.call('GET', P .. 'mail:' .. ARGV[1])
        for n = ARGV[2], ARGV[3] do
          local id, seq = 'copy-' .. n, redis.call('INCR', P .. 'seq')
          redis.call('HSET', P .. 'job:' .. id, unpack(fields))
          redis.call('HSET', P .. 'job:' .. id, 'seq', seq)
          redis.call('SET', P .. 'mail:' .. id, mail)
          redis.call('ZADD', P .. 'ready:low:noreply@contoso.com', seq, id)
          redis.call('ZADD', P .. 'status:queued', seq, id)
        end
        """
    )
    for first in range(0, count, at_once):
        copy(args=[model, first, min(first + at_once, count) - 1])


def in_flight(room: Room) -> int:
    """Requests that the sandbox has and has not answered."""
    return sum(mailbox["in_flight"] for mailbox in room.sandbox.stats()["mailboxes"].values())


def test_a_second_signal_ends_everything_at_once_and_safely(open_room: OpenRoom) -> None:
    room = open_room(settings={"POSTROOM_UNKNOWN_LOOKUPS": "100ms"})
    hang = room.sandbox.add_fault(effect="hang")
    worker = room.start_worker("--processes", "1", "--concurrency", "2")
    job_id = room.client().send(a_mail()).id
    until(lambda: in_flight(room), "a request that hangs")
    children = psutil.Process(worker.pid).children()

    worker.send_signal(signal.SIGTERM)
    until(lambda: "worker.stopping" in room.raw_log(), "the first signal to be heard")
    room.end(worker)

    until(lambda: not any(child.is_running() for child in children), "the workers to end")
    room.sandbox.remove_fault(hang)
    assert room.client().status(job_id).status is Status.SENDING
    room.end_leases()
    room.start_worker_process()
    room.end_wait_for_cut_off_workers(job_id)
    assert room.settled(job_id).status is Status.ACCEPTED


def test_redis_restarted_under_load_loses_and_doubles_nothing(open_room: OpenRoom) -> None:
    room = open_room(settings={"POSTROOM_RATE": "off", "POSTROOM_LEASE": "10s"}, latency=0.05)
    client = room.client()
    jobs = [client.send(a_mail(**{"from": f"m{n % 5}@contoso.com"}), key=f"{n}").id for n in range(60)]
    room.start_worker_process()
    room.start_worker_process()
    until(lambda: len(room.sandbox.messages()) >= 5, "some mails to be sent")

    embedded.stop(room.folder)
    start_redis(room.folder)

    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}
    sent = Counter(request.job for request in room.sandbox.requests(accepted=True))
    for job in jobs:
        unknown = [attempt for attempt in client.status(job).attempts if attempt.outcome == "unknown"]
        assert 1 <= sent[job] <= 1 + min(len(unknown), 1)


def test_a_worker_that_starts_before_redis_waits_for_it(room: Room) -> None:
    job_id = room.client().send(a_mail()).id
    embedded.stop(room.folder)
    address = f"unix://{room.folder}/redis.sock"

    room.start_worker_process(ready=False, POSTROOM_REDIS_URL=address)
    until(lambda: "worker.waiting" in room.raw_log(), "the worker to say that it waits")
    start_redis(room.folder)

    assert room.settled(job_id).status is Status.ACCEPTED


def test_a_prefork_child_killed_while_it_posts_leaves_an_unknown_outcome(open_room: OpenRoom) -> None:
    room = open_room(settings={"POSTROOM_UNKNOWN_LOOKUPS": "100ms"})
    hang = room.sandbox.add_fault(effect="hang", times=1)
    worker = room.start_worker("--pool", "prefork", "--processes", "1", "--concurrency", "1")
    job_id = room.client().send(a_mail()).id
    until(lambda: in_flight(room), "the request to arrive")
    room.sandbox.remove_fault(hang)

    children = [one for child in psutil.Process(worker.pid).children() for one in child.children()]
    assert children
    for child in children:
        child.kill()
    room.end_leases()
    room.end_wait_for_cut_off_workers(job_id)

    delivery = room.settled(job_id)
    assert delivery.status is Status.ACCEPTED
    assert delivery.attempts[0].outcome == "unknown"


def test_celery_s_own_commands_see_the_workers(room: Room) -> None:
    room.start_worker("--processes", "2", "--concurrency", "4")

    def ask(*command: str) -> dict[str, Any]:
        asked = ("-A", "postroom.tasks", *command, "--json")
        done = run_command("celery", asked, room.environment, "", PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return {name.partition("@")[0]: reply for name, reply in json.loads(done.stdout.splitlines()[0]).items()}

    until(lambda: len(room._ticking()) == 2, "both workers")
    assert set(ask("inspect", "ping")) == {"postroom1", "postroom2"}
    assert {reply["pool"]["max-concurrency"] for reply in ask("inspect", "stats").values()} == {4}
    assert set(ask("inspect", "registered")["postroom1"]) == {"postroom.round", "postroom.send"}
