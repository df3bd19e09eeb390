"""The total deadline, and the difference between "nothing was written" and "nobody knows"."""

import contextlib
import gc
import gzip
import os
import shutil
import socket
import struct
import subprocess
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest

from postroom.runtime.fibers import Hub
from postroom.transport.curl_http import CurlHttp
from postroom.transport.curl_sockets import Sockets
from postroom.transport.http import MAX_ANSWER, Http, Lost, NotSent, Response
from postroom.transport.requests_http import RequestsHttp

from ..scripted_servers import OK, Peer, Script, Server, Servers, all_servers, answering, json_answer, serve

__all__ = ["all_servers", "serve"]
ENDLESS = b"x" * 10_000
Transport = type[CurlHttp] | type[RequestsHttp]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    yield
    gc.collect()  # so that a socket left open shows in the test that left it


@pytest.fixture(params=[CurlHttp, RequestsHttp], ids=["curl", "requests"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def http(serve: Servers, transport: Transport) -> Http:
    return transport(serve.ca)


def post(http: Http, url: str, *, body: bytes = b"mail", deadline_s: float = 10, **more: object) -> Response:
    return http.exchange("POST", url, headers={}, body=body, deadline_s=deadline_s, **more)  # type: ignore[arg-type]


def test_hands_make_their_exchanges_side_by_side_in_their_own_thread(serve: Servers) -> None:
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


# --- an answer


def test_an_answer_comes_with_status_headers_and_body(serve: Servers, http: Http) -> None:
    server = serve(answering(json_answer(b'{"a": 1}', "429 Too Many", b"Retry-After: 2.5")))

    answer = http.exchange("PUT", server.url + "/v1.0/x?y=z", headers={"X-Mine": "1"}, body=b"mail", deadline_s=10)

    assert (answer.status, answer.body) == (429, b'{"a": 1}')
    assert answer.headers["retry-after"] == "2.5"
    assert server.requests[0].startswith(b"PUT /v1.0/x?y=z HTTP/1.1\r\n")
    assert b"X-Mine: 1\r\n" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\nmail")


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


def test_a_redirect_is_an_answer_however_large_its_body(serve: Servers, http: Http) -> None:
    def endless(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"2710\r\n" + ENDLESS + b"\r\n")

    server = serve(answering(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"))
    assert post(http, server.url).status == 302
    assert len(server.requests) == 1

    with pytest.raises(Lost, match="more than") as lost:
        post(http, serve(endless).url)
    assert lost.value.status == 302


def test_nothing_is_tried_twice(serve: Servers, http: Http) -> None:
    server = serve(answering(json_answer(b"", "503 Unavailable", b"Retry-After: 0"), OK))

    assert post(http, server.url).status == 503
    assert len(server.requests) == 1


def test_cookies_are_dropped(serve: Servers, http: Http) -> None:
    server = serve(answering(json_answer(b"{}", "200 OK", b"Set-Cookie: a=b; Path=/"), OK))

    post(http, server.url)
    post(http, server.url)

    assert b"Cookie" not in server.requests[1]


def test_a_netrc_does_not_replace_our_authorization(
    serve: Servers, http: Http, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(answering(OK))

    http.exchange("GET", server.url, headers={"Authorization": "Bearer t"}, body=None, deadline_s=10)

    assert b"Authorization: Bearer t\r\n" in server.requests[0]


def test_interim_answers_and_trailers_are_none_of_the_answer(serve: Servers, http: Http) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" if isinstance(http, CurlHttp) else b""
    interim += b"HTTP/1.1 100 Continue\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Retry-After\r\n\r\n"
    server = serve(answering(interim + head + b"2\r\nok\r\n0\r\nRetry-After: 9\r\n\r\n"))

    answer = post(http, server.url)

    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers.get("link") is None
    assert answer.headers.get("retry-after") is None


def test_headers_of_one_name_are_one(serve: Servers, http: Http) -> None:
    answer = post(http, serve(answering(json_answer(b"{}", "200 OK", b"Via: a", b"via:  b"))).url)
    assert answer.headers["VIA"] == "a, b"
    assert dict(answer.headers)


def test_an_encoded_answer_is_decoded(serve: Servers, http: Http) -> None:
    body = gzip.compress(b"words")
    server = serve(answering(json_answer(body, "200 OK", b"Content-Encoding: gzip"), json_answer(b"plain")))

    assert [post(http, server.url).body for _ in range(2)] == [b"words", b"plain"]
    assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("POST", b"", b"0"),
        ("POST", None, b"0"),
        ("POST", b"x", b"1"),
        ("PUT", bytes(4_000_000), b"4000000"),
        ("DELETE", None, b"0"),
        ("GET", None, None),
    ],
)
def test_the_body_s_length_is_told(
    serve: Servers, http: Http, method: str, body: bytes | None, length: bytes | None
) -> None:
    server = serve(answering(OK, OK))
    http.exchange("POST", server.url, headers={"Content-Type": "text/plain"}, body=b"another", deadline_s=10)
    http.exchange(method, server.url + "/x", headers={}, body=body, deadline_s=10)

    head, _, sent = server.requests[1].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    told = {name.lower(): value for name, value in (line.split(b": ") for line in lines)}
    assert first == method.encode() + b" /x HTTP/1.1"
    assert sent == (body or b"")
    assert told.get(b"content-length") == length
    assert not told.keys() & {b"content-type", b"expect", b"transfer-encoding"}


@pytest.mark.parametrize(
    "headers",
    [
        *({"X": value} for value in ("a\r\nY: b", "a\nY: b", "a\rY: b", "a\0b", "ä", "")),
        *({name: "b"} for name in ("X\r\nY", "X: y\r\nZ", "X Y", "")),
    ],
)
def test_a_header_adds_no_other(serve: Servers, http: Http, headers: dict[str, str]) -> None:
    server = serve(answering(OK))
    with pytest.raises(NotSent) as refused:
        http.exchange("POST", server.url, headers={"Authorization": "secret"} | headers, body=b"", deadline_s=10)
    assert server.requests == []
    assert str(refused.value) == "127.0.0.1: the request has a method or a header that cannot be"


def test_a_method_and_a_url_add_nothing_to_the_request(serve: Servers, http: Http) -> None:
    server = serve(answering(OK))
    with pytest.raises(NotSent):
        http.exchange("GET / HTTP/1.1\r\nX: y\r\n", server.url, headers={}, body=None, deadline_s=10)
    with contextlib.suppress(NotSent):
        http.exchange("GET", server.url + "/a b\r\nX: y", headers={}, body=None, deadline_s=10)
    assert all(b"\nX:" not in request for request in server.requests)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "127.0.0.1/x", "", "https:///secret"])
def test_what_is_no_url_for_http_is_not_sent(http: Http, url: str) -> None:
    with pytest.raises(NotSent) as refused:
        post(http, url)
    assert "secret" not in str(refused.value)


def test_a_url_that_must_be_quoted_is(serve: Servers, http: Http) -> None:
    server = serve(answering(OK))
    post(http, server.url + "/ä b?c=|%41")
    assert server.requests[0].startswith(b"POST /%C3%A4%20b?c=%7CA HTTP/1.1\r\n")


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


# --- nothing was written


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


def test_a_ca_bundle_that_is_not_there_is_not_sent_and_named(tmp_path: Path, transport: Transport) -> None:
    with pytest.raises(NotSent, match=r"nothing\.pem cannot be used: No such file"):
        post(transport(str(tmp_path / "nothing.pem")), "https://127.0.0.1:1/")


def test_a_ca_bundle_that_is_none_is_not_sent_and_named(serve: Servers, transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "nothing.pem").write_text("nothing")
    with pytest.raises(NotSent, match=r"the CA bundle .*nothing\.pem cannot be used"):
        post(transport(str(tmp_path / "nothing.pem")), serve(answering(OK)).url)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl rehash")
def test_a_folder_of_cas_is_trusted_and_nothing_else(serve: Servers, transport: Transport, tmp_path: Path) -> None:
    server = serve(answering(OK))
    with pytest.raises(NotSent, match="certificate verify failed"):
        post(transport(str(tmp_path)), server.url)

    shutil.copy(serve.ca, tmp_path)
    subprocess.run(["openssl", "rehash", tmp_path], check=True)
    assert post(transport(str(tmp_path)), server.url).status == 202


def test_our_ca_bundle_wins_over_the_environments(
    serve: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    assert post(transport(serve.ca), serve(answering(OK)).url).status == 202


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environments_ca_bundle_counts_without_ours(
    serve: Servers, monkeypatch: pytest.MonkeyPatch, name: str, transport: Transport
) -> None:
    monkeypatch.setenv(name, serve.ca)
    assert post(transport(), serve(answering(OK)).url).status == 202


# --- the last check before the first byte


def test_the_last_check_runs_after_the_connection_stands_and_before_the_first_byte(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK))
    seen = []
    for _ in range(2):
        post(
            http,
            server.url,
            before_write=lambda: seen.append((server.connections, len(server.requests))),
        )
    assert seen == [(1, 0), (1, 1)]


def test_a_last_check_that_takes_all_the_time_is_not_sent(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK))
    post(http, server.url)
    with pytest.raises(NotSent, match="deadline"):
        post(http, server.url, deadline_s=0.1, before_write=lambda: threading.Event().wait(0.2) and None)
    server.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", [TimeoutError, LookupError, KeyboardInterrupt, SystemExit, ConnectionResetError])
@pytest.mark.parametrize("encrypted", [True, False])
def test_what_the_last_check_raises_comes_out_unchanged_and_nothing_is_written(
    serve: Servers, http: Http, kind: type[BaseException], encrypted: bool
) -> None:
    server = serve(answering(OK), encrypted=encrypted)
    veto = kind("the lease is over")

    def check() -> None:
        raise veto

    with pytest.raises(kind) as raised:
        post(http, server.url, before_write=check)
    assert raised.value is veto
    server.close()
    assert server.requests == []


# --- written, and no answer


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
    with pytest.raises(Lost, match="more than 1000000 bytes"):
        post(http, server.url)

    assert len(post(http, serve(answering(json_answer(bytes(MAX_ANSWER)))).url).body) == MAX_ANSWER


# --- proxies


def proxy(peer: Peer) -> None:
    """Lets through whatever is asked for, then answers itself in the other's place."""
    if not peer.request().startswith(b"CONNECT "):
        return
    peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    peer.start_tls()
    answering(OK, OK)(peer)


def test_the_environments_proxy_is_used(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    way = serve(proxy, encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", way.url.replace("//", "//user:pass@"))

    for _ in range(2):
        assert post(http, "https://127.0.0.1:9/v1.0/x").status == 202

    assert [request.split(b" HTTP/1.")[0] for request in way.requests] == [
        b"CONNECT 127.0.0.1:9",
        b"POST /v1.0/x",
        b"POST /v1.0/x",
    ]
    assert b"Proxy-Authorization: Basic" in way.requests[0]


def test_a_proxy_that_itself_speaks_tls_is_used(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = serve(answering(OK))

    def forward(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", inner.port)) as onward:
            back = threading.Thread(target=pump, args=(onward, peer.sock))
            back.start()
            pump(peer.sock, onward)
            back.join(10)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    monkeypatch.setenv("HTTPS_PROXY", serve(forward).url)

    assert post(http, inner.url).status == 202


def test_no_proxy_goes_past_it(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert post(http, serve(answering(OK)).url).status == 202


def test_a_proxy_that_refuses_is_not_sent(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = serve(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", refusing.url)
    with pytest.raises(NotSent, match="407 Proxy Authentication Required"):
        post(http, "https://127.0.0.1:9/")


def test_the_metadata_service_is_asked_without_a_proxy(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unknown(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise OSError("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example")  # without its port and scheme
    for url in ("http://169.254.169.254/metadata", "http://graph.example/", "https://graph.example/"):
        with pytest.raises(NotSent):
            post(http, url)
    assert asked == [("169.254.169.254", 80), ("proxy.example", 3128), ("proxy.example", 80)]


@pytest.mark.parametrize(
    "proxy", ["socks5://user:secret@127.0.0.1:1", "http://", "nonsense://x", "http://user:secret@"]
)
def test_a_proxy_that_is_none_of_http_is_not_sent(http: Http, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(NotSent, match="the proxy of the environment") as refused:
        post(http, "https://127.0.0.1:9/")
    assert "secret" not in str(refused.value)


def test_a_proxy_that_drips_is_not_sent_at_the_deadline(
    serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(b"HTTP/1.1 200 " + ENDLESS)

    monkeypatch.setenv("HTTPS_PROXY", serve(script, encrypted=False).url)
    with pytest.raises(NotSent):
        post(http, "https://127.0.0.1:9/", deadline_s=0.4)
