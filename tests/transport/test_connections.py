"""Connections are kept, used again only where that is safe, and never by another process."""

import contextlib
import gc
import os
import socket
import struct
import threading
import warnings
from functools import partial

import pytest

from postroom.transport.curl_http import CurlHttp
from postroom.transport.curl_sockets import Sockets
from postroom.transport.http import Http, Lost, NotSent
from postroom.transport.requests_http import RequestsHttp

from ..scripted_servers import OK, Peer, Servers, answering, json_answer
from .transports import Transport, post


def test_a_connection_is_used_again(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, json_answer(b"{}"), OK))

    assert [post(http, server.url).status for _ in range(3)] == [202, 200, 202]
    assert server.connections == 1


def test_a_connection_that_was_idle_too_long_is_not_used_again(serve: Servers, transport: Transport) -> None:
    server = serve(answering(OK, OK))
    http = transport(serve.ca, idle_s=0)

    assert [post(http, server.url).status for _ in range(2)] == [202, 202]
    assert server.connections == 2


def test_a_connection_that_the_server_closed_is_not_used_again(serve: Servers, http: Http) -> None:
    closed = threading.Event()

    def one_answer(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.sock.close()
        closed.set()

    server = serve(one_answer)

    for _ in range(2):
        assert post(http, server.url).status == 202
        assert closed.wait(10)
    assert server.connections == 2


def test_an_answer_too_many_is_never_that_to_the_next_request(serve: Servers, http: Http) -> None:
    """What stands in one TLS record behind an answer is read along with it, and no look at the socket shows it."""

    def answer(ours: bytes, status: bytes) -> bytes:
        return b"HTTP/1.1 " + status + b"\r\nclient-request-id: " + ours + b"\r\nContent-Length: 0\r\n\r\n"

    def twice(peer: Peer) -> None:
        if not said.is_set():
            peer.request()
            peer.send(answer(b"A-1", b"202 Accepted"))
            peer.send(answer(b"A-1", b"202 Accepted"))
            said.set()
        while peer.request():
            peer.send(answer(b"a-2", b"400 Bad Request"))

    said = threading.Event()
    server = serve(twice)
    exchange = partial(http.exchange, "POST", server.url, body=b"mail", deadline_s=10)
    assert exchange(headers={"client-request-id": "a-1"}).status == 202
    assert said.wait(10)

    try:
        assert exchange(headers={"client-request-id": "a-2"}).status == 400
    except Lost as error:
        assert "one more answer to the request before" in str(error)


def test_two_sockets_at_one_place_are_not_taken_for_each_other() -> None:
    closed: list[int] = []
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((host, 0))) for host in ("127.0.0.2",)]
        port = listeners[0].getsockname()[1]
        listeners.append(stack.enter_context(socket.create_server(("127.0.0.3", port))))
        sockets = Sockets(closed.append)
        first, second = (stack.enter_context(socket.socket()) for _ in range(2))
        for sock, listener in zip((first, second), listeners, strict=True):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", first.getsockname()[1] if sock is second else 0))
            sock.connect(listener.getsockname())
        place = ("127.0.0.1", port, first.getsockname()[1])

        sockets.note(first, first.fileno())
        assert not sockets.is_over(place)
        sockets.note(second, second.fileno())

        assert sockets.is_over(place)


def test_a_connection_that_is_reset_at_once_is_not_sent_and_harms_no_other(serve: Servers, http: Http) -> None:
    """The reset comes before or after the new connection has been looked at, as chance has it."""
    linger = struct.pack("ii", 1, 0)
    server = serve(answering(OK))
    with socket.create_server(("127.0.0.1", 0)) as resetting:

        def reset() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = resetting.accept()
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    sock.close()

        threading.Thread(target=reset, daemon=True).start()
        for _ in range(30):
            with pytest.raises((NotSent, Lost)):
                post(http, f"http://127.0.0.1:{resetting.getsockname()[1]}")
        resetting.shutdown(socket.SHUT_RDWR)

    assert post(http, server.url).status == 202


def test_a_connection_is_used_again_only_within_its_time(serve: Servers, transport: Transport) -> None:
    server = serve(answering(OK, OK, OK))
    http = transport(serve.ca, idle_s=1)

    for _ in range(2):
        post(http, server.url)
    assert server.connections == 1
    threading.Event().wait(1.1)  # what is tested is the time itself
    post(http, server.url)
    assert server.connections == 2


def test_exchanges_at_the_same_time_have_a_connection_each(serve: Servers, http: Http) -> None:
    all_there = threading.Barrier(3)

    def answer_when_all_are_there(peer: Peer) -> None:
        while peer.request():
            all_there.wait(10)
            peer.send(OK)

    server = serve(answer_when_all_are_there)

    for _ in range(2):
        threads = [threading.Thread(target=post, args=(http, server.url)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    assert len(server.requests) == 6
    # What a thread kept goes with it; what belongs to all is used again.
    assert server.connections == (3 if isinstance(http, CurlHttp) else 6)


def test_a_forked_child_does_not_speak_on_its_parents_connection(
    serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answering(OK, OK))
    post(http, server.url)

    monkeypatch.setattr(os, "getpid", lambda: -1)
    post(http, server.url)

    assert server.connections == 2


def test_a_forked_child_leaves_its_parents_connections_alone(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK, OK, OK))
    standing, ending = threading.Event(), threading.Event()

    def hold_one() -> None:
        post(http, server.url)
        standing.set()
        ending.wait(10)
        post(http, server.url)

    another = threading.Thread(target=hold_one)
    another.start()
    assert standing.wait(10)
    post(http, server.url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from 3.12 on
        child = os.fork()
    if not child:
        post(http, server.url)
        del http
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    ending.set()
    another.join(10)
    post(http, server.url)

    assert (server.connections, len(server.requests)) == (2 if isinstance(http, CurlHttp) else 3, 5)


def test_an_http_that_is_gone_leaves_no_connection(serve: Servers, transport: Transport) -> None:
    ended = threading.Semaphore(0)

    def until_the_end(peer: Peer) -> None:
        while peer.request():
            peer.send(OK)
        ended.release()

    server = serve(until_the_end)
    http = transport(serve.ca)
    thread = threading.Thread(target=post, args=(http, server.url))
    thread.start()
    thread.join(10)
    if transport is RequestsHttp:  # each thread has its own
        assert ended.acquire(timeout=10)

    post(http, server.url)
    del http
    assert ended.acquire(timeout=10)


def test_a_request_that_is_under_way_when_its_http_goes_is_lost(serve: Servers) -> None:
    there, over = threading.Event(), threading.Event()

    def never_answer(peer: Peer) -> None:
        peer.request()
        there.set()
        over.wait(10)

    http = CurlHttp(serve.ca)
    server = serve(never_answer)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            post(http, server.url)
        except Lost as lost:
            raised.append(lost)

    asking = threading.Thread(target=ask)
    asking.start()
    assert there.wait(10)
    http._multi().close()
    asking.join(10)
    over.set()

    assert "closed" in str(raised[0])


def test_a_connection_over_ipv6_is_used_again(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK), encrypted=False, host="::1")

    assert [post(http, server.url).status for _ in range(2)] == [202, 202]
    assert server.connections == 1


def test_after_a_fault_of_our_own_no_exchange_waits_and_the_next_ones_work(
    serve: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    there, over = threading.Event(), threading.Event()

    def never_answer(peer: Peer) -> None:
        peer.request()
        there.set()
        over.wait(10)

    def fail(secret: str) -> None:
        raise LookupError

    http, server, raised = CurlHttp(serve.ca), serve(never_answer), list[BaseException]()

    def ask() -> None:
        try:
            post(http, server.url)
        except Lost as lost:
            raised.append(lost)

    asking = threading.Thread(target=ask)
    asking.start()
    assert there.wait(10)
    http._multi()._schedule(fail, "a token")
    asking.join(10)
    over.set()

    assert [type(error) for error in raised] == [Lost]
    assert post(http, serve(answering(OK)).url).status == 202
    said = capsys.readouterr().err
    assert "LookupError" in said
    assert "a token" not in said
