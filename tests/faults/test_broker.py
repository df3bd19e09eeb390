"""What a Redis says to a worker that waits for rounds, when it becomes a replica: the worker goes on."""

from ..acceptance.conftest import Room, a_mail, room, until

__all__ = ["room"]


def waiting(room: Room) -> list[str]:
    """The connections in which workers wait for messages."""
    return [one["id"] for one in room.redis.client_list() if one["cmd"] == "brpop" and "b" in one["flags"]]


def test_a_worker_whose_wait_is_ended_by_redis_waits_again(room: Room) -> None:
    worker = room.start_worker_process()
    for _ in range(3):
        (wait,) = until(lambda: waiting(room), "the worker to wait for rounds")
        # "UNBLOCKED": what a primary says to those who wait when a failover makes it a replica
        assert room.redis.client_unblock(int(wait), error=True)
        until(lambda wait=wait: [one for one in waiting(room) if one != wait] or worker.poll(), "it to wait again")
        assert worker.poll() is None, room.raw_log()[-3000:]

    room.settled(room.client().send(a_mail()).id)
