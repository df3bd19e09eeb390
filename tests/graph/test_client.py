"""One request to Graph: what goes out, and which outcome comes back."""

import json
import threading
import traceback
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from postroom.graph.client import Graph
from postroom.graph.requests import Call, GraphRequest
from postroom.graph.searches import JOB_PROPERTY, SENT_ITEMS, searches
from postroom.jobs.outcome import (
    Accepted,
    Answer,
    CleanedUp,
    Deferred,
    Drafted,
    Found,
    Held,
    Outcome,
    Refused,
    Scope,
    Throttled,
    Unknown,
)
from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Http

from ..scripted_servers import OK, Peer, Servers, all_servers, answering, json_answer, serve

__all__ = ["all_servers", "serve"]
REQUEST = GraphRequest(mode="json", content_type="application/json", body=b'{"message":{}}')
TOKEN = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.secret"


@pytest.fixture
def http(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> Http:
    monkeypatch.setenv("NO_PROXY", "*")
    return CurlHttp(serve.ca)


def send(http: Http, url: str, *, mailbox: str = "noreply@contoso.com", token: str = TOKEN) -> Outcome:
    graph = Graph(url, http, clock=lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    return graph.send_mail(mailbox, REQUEST, Call(token=token, client_request_id="c-1", deadline_s=10))


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
        call = Call(token=TOKEN, client_request_id="c", deadline_s=10, before_write=too_late)
        Graph(server.url, http).send_mail("a@contoso.com", REQUEST, call)
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


CALL = Call(token=TOKEN, client_request_id="c-1", deadline_s=10)


def test_a_search_names_the_job_in_the_query_and_asks_for_lasting_ids(serve: Servers, http: Http) -> None:
    server = serve(answering(json_answer(b'{"value": [{"id": "m-1"}]}')))
    by_property, by_message_id = searches("it's-1", "noreply@contoso.com", SENT_ITEMS)

    found = Graph(server.url, http).search("noreply@contoso.com", by_property, CALL)

    assert found == Found(ids=("m-1",), answer=Answer(http_status=200))
    head = server.requests[0].decode()
    line, query = head.splitlines()[0], parse_qs(urlsplit(head.split()[1]).query)
    assert line.startswith("GET /v1.0/users/noreply@contoso.com/mailFolders/sentitems/messages?")
    assert query["$filter"] == [
        f"singleValueExtendedProperties/Any(ep: ep/id eq '{JOB_PROPERTY}' and ep/value eq 'it''s-1')"
    ]
    assert 'Prefer: IdType="ImmutableId"' in head
    assert by_message_id.filter == "internetMessageId eq '<it''s-1@contoso.com>'"


def test_a_draft_is_made_sent_asked_and_removed_by_its_id(serve: Servers, http: Http) -> None:
    server = serve(
        answering(
            json_answer(b'{"id": "d/1="}', "201 Created"),
            json_answer(b"", "202 Accepted"),
            json_answer(b'{"isDraft": false}'),
            json_answer(b"", "204 No Content"),
        )
    )
    graph = Graph(server.url, http)

    drafted = graph.create_draft("a@contoso.com", REQUEST, CALL)
    assert isinstance(drafted, Drafted)
    assert isinstance(graph.send_draft("a@contoso.com", drafted.id, CALL), Accepted)
    assert isinstance(graph.draft_status("a@contoso.com", drafted.id, CALL), Found)
    assert isinstance(graph.delete_draft("a@contoso.com", drafted.id, CALL), CleanedUp)

    heads = [request.decode() for request in server.requests]
    assert [head.splitlines()[0] for head in heads] == [
        "POST /v1.0/users/a@contoso.com/messages HTTP/1.1",
        "POST /v1.0/users/a@contoso.com/messages/d%2F1%3D/send HTTP/1.1",
        "GET /v1.0/users/a@contoso.com/messages/d%2F1%3D?$select=id,isDraft HTTP/1.1",
        "DELETE /v1.0/users/a@contoso.com/messages/d%2F1%3D HTTP/1.1",
    ]
    assert all('Prefer: IdType="ImmutableId"' in head for head in heads)
    assert "Content-Length: 0" in heads[1]


def test_what_sends_nothing_is_never_unknown(serve: Servers, http: Http) -> None:
    def hang_up(peer: Peer) -> None:
        while peer.request():
            return

    graph = Graph(serve(hang_up).url, http)
    search = next(searches("j", "a@contoso.com", SENT_ITEMS))

    assert isinstance(graph.create_draft("a@contoso.com", REQUEST, CALL), Deferred)
    assert isinstance(graph.delete_draft("a@contoso.com", "d", CALL), Deferred)
    assert isinstance(graph.search("a@contoso.com", search, CALL), Deferred)
    assert isinstance(graph.send_draft("a@contoso.com", "d", CALL), Unknown)
