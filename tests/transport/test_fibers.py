"""Exchanges of fibers are made side by side in their own thread."""

import threading
from queue import SimpleQueue

from postroom.runtime.fibers import Hub
from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Lost, NotSent

from ..scripted_servers import OK, Peer, Servers
from .transports import post


def test_fibers_make_their_exchanges_side_by_side_in_their_own_thread(serve: Servers) -> None:
    all_there = threading.Barrier(3)

    def answer_together(peer: Peer) -> None:
        peer.request()
        all_there.wait(10)
        peer.send(OK)

    http, server = CurlHttp(serve.ca), serve(answer_together)
    answers: SimpleQueue[int] = SimpleQueue()
    threads: set[str] = set()

    def ask() -> None:
        answer = post(http, server.url, before_write=lambda: threads.add(threading.current_thread().name))
        answers.put(answer.status)

    hub = Hub(3, lambda: None)
    for _ in range(3):
        hub.start(ask)

    assert [answers.get(timeout=10) for _ in range(3)] == [202, 202, 202]
    assert threads == {"postroom-fibers"}
    hub.close()


def test_an_answer_that_came_in_time_is_read_however_late_its_thread_comes_to_that(serve: Servers) -> None:
    answered = threading.Event()

    def answer(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        answered.set()

    http, server = CurlHttp(serve.ca), serve(answer)
    answers: SimpleQueue[object] = SimpleQueue()
    hub = Hub(1, lambda: None)

    def hold_up() -> None:
        assert answered.wait(10)
        threading.Event().wait(0.6)  # until the deadline is over: there is nothing else to wait for

    def ask() -> None:
        try:
            answers.put(post(http, server.url, deadline_s=0.5, before_write=lambda: hub.loop.call_soon(hold_up)).status)
        except (NotSent, Lost) as error:
            answers.put(error)

    hub.start(ask)

    assert answers.get(timeout=20) == 202
    hub.close()
