"""A loop waits for sockets, times and other threads at once, and does all that has come."""

import selectors
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from postroom.runtime.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_what_another_thread_puts_in_ends_the_wait(loop: Loop) -> None:
    done: list[str] = []
    threading.Timer(0.05, lambda: loop.soon(lambda: done.append("put in"))).start()

    while not done:
        loop.turn(wait=True)

    assert done == ["put in"]


def test_what_is_put_in_meanwhile_is_done_in_the_same_turn(loop: Loop) -> None:
    done: list[int] = []
    loop.soon(lambda: loop.soon(lambda: done.append(2)))

    loop.turn(wait=True)

    assert done == [2]


def test_a_socket_is_watched_until_it_is_forgotten(loop: Loop) -> None:
    here, there = socket.socketpair()
    heard: list[int] = []
    with here, there:
        loop.watch(there.fileno(), selectors.EVENT_READ, heard.append)
        here.send(b"!")
        loop.turn(wait=True)
        loop.forget(there.fileno())
        loop.forget(there.fileno())
        loop.turn(wait=False)

    assert heard == [selectors.EVENT_READ]


def test_another_socket_with_the_number_of_one_that_was_closed_is_watched(loop: Loop) -> None:
    first, there = socket.socketpair()
    number = there.fileno()
    loop.watch(number, selectors.EVENT_READ, lambda _: pytest.fail("this one is closed"))
    first.close()
    there.close()
    here, another = socket.socketpair()
    heard: list[int] = []
    with here, another:
        assert number in (here.fileno(), another.fileno())
        mine, other = (another, here) if another.fileno() == number else (here, another)
        loop.watch(mine.fileno(), selectors.EVENT_READ, heard.append)
        other.send(b"!")
        loop.turn(wait=True)
        loop.forget(mine.fileno())

    assert heard == [selectors.EVENT_READ]


def test_who_has_a_time_has_one_and_may_give_it_up(loop: Loop) -> None:
    done: list[str] = []
    soon = time.monotonic()
    loop.at("a", soon, lambda: done.append("earlier"))
    loop.at("a", soon + 0.02, lambda: done.append("later"))
    loop.at("b", soon, lambda: done.append("given up"))
    loop.never("b")

    while not done:
        loop.turn(wait=True)

    assert done == ["later"]


def test_a_time_that_another_one_has_given_up_does_not_come(loop: Loop) -> None:
    done: list[str] = []
    now = time.monotonic()
    loop.at("a", now, lambda: loop.never("b"))
    loop.at("b", now, lambda: done.append("b"))

    loop.turn(wait=True)

    assert done == []


def test_its_end_is_told() -> None:
    loop = Loop()
    over: list[bool] = []
    loop.at_end(lambda: over.append(True))

    loop.close()

    assert over == [True]


def test_what_is_put_in_too_late_is_done_at_the_end() -> None:
    loop, done = Loop(), list[str]()
    loop.at_end(lambda: loop.soon(lambda: done.append("told")))
    loop.soon(lambda: done.append("put in"))

    loop.close()

    assert done == ["put in", "told"]
