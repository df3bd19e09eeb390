"""One POST to sendMail: what goes out, and which outcome comes back."""

import json
import threading
import traceback
from datetime import UTC, datetime

import pytest

from postroom.graph import Graph
from postroom.http import Http
from postroom.outcome import Accepted, Deferred, Held, Outcome, Refused, Scope, Throttled, Unknown
from postroom.wire import GraphRequest

from .tls import OK, Peer, Servers, all_servers, answering, json_answer, serve

__all__ = ["all_servers", "serve"]
REQUEST = GraphRequest(mode="json", content_type="application/json", body=b'{"message":{}}')
TOKEN = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.secret"


@pytest.fixture
def http(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> Http:
    monkeypatch.setenv("NO_PROXY", "*")
    return Http(serve.ca)


def send(http: Http, url: str, *, mailbox: str = "noreply@contoso.com", token: str = TOKEN) -> Outcome:
    graph = Graph(url, http, clock=lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    return graph.send_mail(mailbox, REQUEST, token, client_request_id="c-1", deadline_s=10)


def error(status: str, code: str, *headers: bytes) -> bytes:
    return json_answer(json.dumps({"error": {"code": code, "message": "no"}}).encode(), status, *headers)


def test_a_mail_is_posted_to_its_mailbox(serve: Servers, http: Http) -> None:
    server = serve(answering(b"HTTP/1.1 202 Accepted\r\nrequest-id: r-1\r\nContent-Length: 0\r\n\r\n"))

    outcome = send(http, server.url + "/")

    assert isinstance(outcome, Accepted)
    assert (outcome.answer.http_status, outcome.answer.request_id) == (202, "r-1")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "POST /v1.0/users/noreply@contoso.com/sendMail HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert headers["client-request-id"] == "c-1"
    assert headers["User-Agent"].startswith("postroom/")
    assert body == REQUEST.body


@pytest.mark.parametrize(
    ("mailbox", "path"),
    [
        ("o'neil+a=b@contoso.com", "o%27neil%2Ba%3Db@contoso.com"),
        ("a/b?c#d%@contoso.com", "a%2Fb%3Fc%23d%25@contoso.com"),
        ("jörg@bücher.example", "j%C3%B6rg@b%C3%BCcher.example"),
    ],
)
def test_no_mailbox_reaches_another_path(serve: Servers, http: Http, mailbox: str, path: str) -> None:
    server = serve(answering(OK))
    send(http, server.url, mailbox=mailbox)
    assert server.requests[0].split(b" ")[1].decode() == f"/v1.0/users/{path}/sendMail"


def test_a_throttle_waits_as_long_as_graph_asked(serve: Servers, http: Http) -> None:
    answer = error("429 Too Many Requests", "ApplicationThrottled", b"Retry-After: Sun, 22 Nov 2026 12:00:30 GMT")
    outcome = send(http, serve(answering(answer)).url)
    assert isinstance(outcome, Throttled)
    assert outcome.wait_s == 30.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error("400 Bad Request", "ErrorInvalidRecipients"), Refused),
        (error("403 Forbidden", "ErrorAccessDenied"), Held),
        (json_answer(b"<html>", "504 Gateway Timeout"), Unknown),
        (json_answer(b"", "200 OK"), Unknown),
        (b"", Unknown),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\n", Accepted),
    ],
)
def test_an_answer_becomes_an_outcome(serve: Servers, http: Http, answer: bytes, expected: type[Outcome]) -> None:
    assert isinstance(send(http, serve(answering(answer)).url), expected)


def test_no_connection_concerns_the_app_and_costs_nothing(http: Http) -> None:
    outcome = send(http, "https://127.0.0.1:1")
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.scope, outcome.free) == ("no_connection", Scope.APP, True)


def test_what_the_last_check_raises_comes_out_unchanged(serve: Servers, http: Http) -> None:
    server = serve(answering(OK))

    def too_late() -> None:
        raise TimeoutError("the lease is over")

    with pytest.raises(TimeoutError, match="the lease is over"):
        Graph(server.url, http).send_mail(
            "a@contoso.com", REQUEST, TOKEN, client_request_id="c", deadline_s=10, before_write=too_late
        )
    server.close()
    assert server.requests == []


def test_a_token_that_cannot_be_a_header_is_in_no_error(serve: Servers, http: Http) -> None:
    token = "secret\r\nX-Injected: 1"
    try:
        shown = repr(send(http, serve(answering(OK)).url, token=token))
    except ValueError as error:
        shown = "".join(traceback.format_exception(error))
    assert "secret" not in shown


def test_four_threads_send_side_by_side(serve: Servers, http: Http) -> None:
    together = threading.Barrier(4)

    def script(peer: Peer) -> None:
        peer.request()
        together.wait(10)
        peer.send(OK)

    server = serve(script)
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(send(http, server.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [type(outcome) for outcome in outcomes] == [Accepted] * 4
