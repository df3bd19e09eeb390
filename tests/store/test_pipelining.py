"""Calls one ahead of their replies: each reply is of its call."""

import os

import redis

from postroom.store.functions import run
from postroom.store.pipelining import Pipelined


def test_a_forked_child_takes_no_reply_away_from_its_parent(server: str, connection: "redis.Redis[bytes]") -> None:
    with redis.Redis.from_url(server, socket_timeout=5) as client:
        asked = (("paused", None, "ann@contoso.com", "", ""), ("backlog", None, 0, 10))
        answers = [run(client, *one) for one in asked]  # which loads the functions, too
        with Pipelined(client) as pipelined:
            first = pipelined.send(*asked[0])
            child = os.fork()
            if not child:
                pipelined.__exit__()
                os._exit(0)
            os.waitpid(child, 0)
            second = pipelined.send(*asked[1])
            assert [first(), second()] == answers
    assert connection.ping()
