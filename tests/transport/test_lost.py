"""The request was written, and no complete answer came: nobody knows its outcome."""

import socket

import pytest

from postroom.transport.http import MAX_ANSWER, Http, Lost

from ..scripted_servers import OK, Peer, Script, Server, Servers, answering, json_answer
from .transports import ENDLESS, post


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 202 " + ENDLESS,
        b"HTTP/1.1 202 Accepted\r\nDate: " + ENDLESS,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + ENDLESS,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\n\r\n" + ENDLESS,
    ],
    ids=["status line", "headers", "body", "chunks", "continues", "body without length"],
)
@pytest.mark.parametrize("encrypted", [True, False])
def test_an_answer_that_drips_is_lost_at_the_deadline(
    serve: Servers, http: Http, answer: bytes, encrypted: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(answer)

    with pytest.raises(Lost):
        post_to_a_standing_connection(http, serve(after_one_answer(script), encrypted=encrypted))


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_server_that_stops_reading_is_lost_at_the_deadline(serve: Servers, http: Http, encrypted: bool) -> None:
    def deaf(peer: Peer) -> None:
        peer.server.over.wait(30)

    server = serve(after_one_answer(deaf), encrypted=encrypted)
    with pytest.raises(Lost):
        post_to_a_standing_connection(http, server, body=bytes(16_000_000))


def test_a_server_that_reads_a_little_at_a_time_is_lost_at_the_deadline(serve: Servers, http: Http) -> None:
    def slow_reader(peer: Peer) -> None:
        while not peer.server.over.wait(0.02):
            peer.sock.recv(16_384)

    with pytest.raises(Lost):
        post_to_a_standing_connection(http, serve(after_one_answer(slow_reader)), body=bytes(16_000_000))


def after_one_answer(script: Script) -> Script:
    def both(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        script(peer)

    return both


def post_to_a_standing_connection(http: Http, server: Server, body: bytes = b"mail") -> None:
    """So that a slow machine cannot spend the short deadline before the request is written."""
    post(http, server.url)
    post(http, server.url, body=body, deadline_s=0.3)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", None),
        (b"HTTP/1.1 20", None),
        (b"nonsense of ann@contoso.com\r\n\r\n", None),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nab", 202),
        (b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 202),
        (b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", 202),
        (b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", 202),
    ],
)
def test_an_answer_that_breaks_off_is_lost_and_keeps_its_status(
    serve: Servers, http: Http, answer: bytes, status: int | None
) -> None:
    with pytest.raises(Lost) as lost:
        post(http, serve(answering(answer)).url)
    assert lost.value.status == status
    assert "ann@" not in str(lost.value)


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_request_that_a_kept_connection_swallowed_is_lost_and_not_written_again(
    serve: Servers, http: Http, encrypted: bool
) -> None:
    checks = []

    def one_answer(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()

    server = serve(one_answer, encrypted=encrypted)
    post(http, server.url)
    with pytest.raises(Lost):
        post(http, server.url, before_write=lambda: checks.append(1))

    assert len(checks) == 1
    server.close()
    assert len(server.requests) == 2


def test_a_reset_after_the_request_is_lost(serve: Servers, http: Http) -> None:
    def reset(peer: Peer) -> None:
        peer.request()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with pytest.raises(Lost):
        post(http, serve(reset).url)


def test_an_answer_beyond_all_measure_is_lost(serve: Servers, http: Http) -> None:
    server = serve(answering(json_answer(bytes(MAX_ANSWER + 1)), OK))
    with pytest.raises(Lost, match="more than 8000000 bytes"):
        post(http, server.url)

    assert len(post(http, serve(answering(json_answer(bytes(MAX_ANSWER)))).url).body) == MAX_ANSWER
