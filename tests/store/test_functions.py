"""The library of Redis functions is loaded where it is missing, and its faults are not taken for Redis' own."""

import pytest

from postroom.errors import PostroomError, Unavailable
from postroom.store import functions

from .room import ACCEPTED, Room


def test_scripts_that_a_restarted_server_does_not_know_are_loaded_again(room: Room) -> None:
    room.redis.function_flush()

    assert room.read(room.take()).status == "queued"


def test_a_worker_that_starts_removes_what_other_versions_loaded(room: Room) -> None:
    text, _ = functions.library(functions.CODE.replace(" FORMAT = 2,", " FORMAT = 1,"))
    room.redis.function_load(text)
    room.redis.function_load("#!lua name=somebody\nredis.register_function('somebody_s', function() return 1 end)")

    room.publish()

    left = {dict(zip(found[::2], found[1::2], strict=True))[b"library_name"] for found in room.redis.function_list()}
    assert left == {functions.LIBRARY.encode(), b"somebody"}


def test_a_full_redis_that_takes_no_library_still_runs_what_makes_room(room: Room) -> None:
    room.take()
    job = room.sending()
    try:
        room.redis.config_set("maxmemory", "1")
        room.redis.function_flush()

        assert room.settle(job, ACCEPTED)
        with pytest.raises(Unavailable, match="Redis is full"):
            room.take()
    finally:
        room.redis.config_set("maxmemory", "0")


def test_a_fault_in_a_script_differs_from_a_redis_that_is_down(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = functions.CODE.replace(
        "  local lane, batch, sender = ", "  do local missing = nothing.here end local lane, batch, sender = "
    )
    assert broken != functions.CODE
    text, prefix = functions.library(broken)
    monkeypatch.setattr(functions, "_TEXT", text)
    monkeypatch.setattr(functions, "LIBRARY", prefix)
    job_id = room.take()

    with pytest.raises(PostroomError, match="a fault of Postroom itself") as caught:
        room.read(job_id)
    assert not isinstance(caught.value, Unavailable)
