"""A request is sent as it is, and its whole answer comes back."""

import contextlib
import gzip
from pathlib import Path

import pytest

from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Http, Lost, NotSent

from ..scripted_servers import OK, Peer, Servers, answering, json_answer
from .transports import ENDLESS, post


def test_an_answer_comes_with_status_headers_and_body(serve: Servers, http: Http) -> None:
    server = serve(answering(json_answer(b'{"a": 1}', "429 Too Many", b"Retry-After: 2.5")))

    answer = http.exchange("PUT", server.url + "/v1.0/x?y=z", headers={"X-Mine": "1"}, body=b"mail", deadline_s=10)

    assert (answer.status, answer.body) == (429, b'{"a": 1}')
    assert answer.headers["retry-after"] == "2.5"
    assert server.requests[0].startswith(b"PUT /v1.0/x?y=z HTTP/1.1\r\n")
    assert b"X-Mine: 1\r\n" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\nmail")


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
def test_the_body_s_length_is_sent(
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
