"""Nothing of the request was written, and the caller knows it."""

import contextlib
import socket
import threading

import pytest

from postroom.transport.http import Http, NotSent

from ..scripted_servers import OK, Peer, Servers, answering
from .transports import Transport, post


def test_a_refused_connection_is_not_sent(http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(NotSent, match=r"^127\.0\.0\.1: Connection refused$"):
        post(http, f"https://127.0.0.1:{port}/users/ann@contoso.com?token=secret", body=b"private")


def test_an_unknown_host_is_not_sent(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NotSent, match="Name or service not known"):
        post(http, "https://graph.nowhere.example/")


def test_a_look_up_for_which_no_thread_can_start_is_not_sent(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(NotSent, match="can't start new thread"):
        post(http, "https://graph.example/")


def test_a_connection_for_which_no_thread_can_start_is_not_sent(
    serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(http, serve(answering(OK)).url)  # what needs one for good has it

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(NotSent, match="can't start new thread"):
        post(http, "https://graph.example/")


@pytest.mark.parametrize("host", ["a" * 70, "x..y", "[::1", "ex ample"])
def test_a_host_that_cannot_be_is_not_sent(http: Http, host: str) -> None:
    with pytest.raises((NotSent, ValueError)):
        post(http, f"https://{host}/")


def test_a_look_up_that_hangs_is_not_sent_at_the_deadline(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60) and [])
    with pytest.raises(NotSent, match="look-up"):
        post(http, "https://graph.slow.example/", deadline_s=0.2)
    over.set()


def test_an_address_that_swallows_packets_is_not_sent_at_the_deadline(http: Http) -> None:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # until its queue is full, and further ones get no answer
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with pytest.raises(NotSent, match="timed out"):
            post(http, f"https://127.0.0.1:{listener.getsockname()[1]}/", deadline_s=0.3)


def test_one_dead_address_leaves_the_next_its_turn(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answering(OK))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        dead = unused.getsockname()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", at) for at in (dead, ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    assert post(http, server.url).status == 202


@pytest.mark.parametrize("first_bytes", [b"", b"\x16\x03\x03\x40\x00" + bytes(16000), b"HTTP/1.1 400\r\n\r\n"])
def test_a_handshake_that_drips_is_not_sent_at_the_deadline(serve: Servers, http: Http, first_bytes: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.drip(first_bytes)
        peer.server.over.wait(30)

    server = serve(script, encrypted=False)
    with pytest.raises(NotSent):
        post(http, server.url.replace("http:", "https:"), deadline_s=0.4)


def test_a_certificate_that_nobody_vouches_for_is_not_sent(serve: Servers, transport: Transport) -> None:
    server = serve(answering(OK))
    with pytest.raises(NotSent, match="certificate verify failed"):
        post(transport(), server.url)
    assert server.requests == []


def test_a_certificate_of_another_name_is_not_sent(serve: Servers, http: Http) -> None:
    with pytest.raises(NotSent, match="certificate verify failed"):
        post(http, serve(answering(OK), another_name=True).url)


def test_no_time_left_is_not_sent(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK))
    post(http, server.url)
    with pytest.raises(NotSent, match="deadline"):
        post(http, server.url, deadline_s=0)
    assert len(server.requests) == 1
