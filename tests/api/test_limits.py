"""Requests of attackers or by accident: each has one clear answer, always in the same form, and costs little."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from postroom.api import bringing, connections, create_app, middleware, request_bodies, server
from postroom.api.connections import Connections
from postroom.api.server import config

from .conftest import Door, a_mail, code, served_by

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"to": "a", "to": "b"}', "invalid_json"),
        (b'{"variables": {"a": 1, "a": 2}}', "invalid_json"),
        (b'{"variables": {"a": NaN}}', "invalid_json"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "invalid_json"),
        (b"[" * 1_000_000, "invalid_json"),
        (b'{"a":' * 100_000, "invalid_json"),
        (b'{"a": "\xff"}', "invalid_json"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "invalid_json"),
        (b"[]", "invalid_request"),
        (b"null", "invalid_request"),
        (b'{"to": "a@b.example", "text": "\\ud800"}', "invalid_mail"),
        (b'{"to": "a@b.example", "template": "a", "variables": {"a": 1e999}}', "invalid_mail"),
        (b'{"to": "a@b.example", "text": "a", "scheduled_at": "9999-99-99T00:00:00Z"}', "invalid_mail"),
        (b'{"to": "a@b.example", "text": "a", "scheduled_at": 1e300}', "invalid_mail"),
        (b'{"to": {"a": 1}, "text": ["a"], "headers": 3, "attachments": {"a": 1}}', "invalid_mail"),
    ],
)
def test_a_body_that_is_no_mail_is_refused_with_a_reason(door: Door, body: bytes, what: str) -> None:
    answer = door.ask("POST", "/v1/emails", content=body, headers=JSON)
    assert code(answer) in {(400, what), (422, what)}
    assert len(answer.text) < 2000


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
def test_a_body_of_another_kind_is_refused(door: Door, headers: dict[str, str]) -> None:
    answer = door.ask("POST", "/v1/emails", content=json.dumps(a_mail()).encode(), headers=headers)
    assert code(answer) == (415, "unsupported_media_type")


def test_a_body_that_says_it_is_too_large_is_not_read(open_door: Callable[..., Door]) -> None:
    door = open_door(max_message="1MB")
    with raw(door) as connection:
        connection.send(head(door, {"Content-Length": str(10**15), "Expect": "100-continue"}))
        status, body = answered(connection)
    assert (status, body["error"]["code"]) == (413, "too_large")


def test_a_body_that_grows_too_large_is_cut_off(open_door: Callable[..., Door]) -> None:
    door = open_door(max_message="1MB")

    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65536

    try:
        assert code(door.ask("POST", "/v1/emails", content=endless(), headers=JSON)) == (413, "too_large")
    except (httpx.WriteError, httpx.RemoteProtocolError):
        assert not door.services.client.find()  # it was cut off before it had read the answer
    assert door.services.bodies._free == request_bodies.AT_ONCE * door.services.bodies.largest


def test_a_body_that_comes_too_slowly_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.services.bodies, "deadline_s", 0.2)
    with raw(door) as connection:
        connection.send(head(door, {"Content-Length": "100"}) + b"{")
        status, body = answered(connection)
    assert (status, body["error"]["code"]) == (408, "too_slow")


def test_a_body_that_stays_silent_is_given_up_long_before_its_deadline(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.services.bodies, "silent_s", 0.2)
    with raw(door) as connection:
        connection.send(head(door, {"Content-Length": "10000000"}) + b"{" * 1_000_000)
        status, body = answered(connection)
    assert (status, body["error"]["code"]) == (408, "too_slow")


def test_a_body_that_keeps_coming_is_read_however_long_it_takes_within_the_deadline(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bodies, "LEAST_BYTES", 1)
    rescheduled: list[float] = []
    plain = asyncio.Timeout.reschedule
    monkeypatch.setattr(
        asyncio.Timeout, "reschedule", lambda self, when: (rescheduled.append(when), plain(self, when))[1]
    )
    parts = (json.dumps(a_mail()).encode()[place : place + 20] for place in range(0, 200, 20))
    assert door.ask("POST", "/v1/emails", content=parts, headers=JSON).status_code == 202
    assert len(rescheduled) >= 1
    assert rescheduled == sorted(rescheduled)


@pytest.mark.parametrize("owner", ["key", "address"])
def test_one_key_and_one_address_get_half_of_the_memory(door: Door, owner: str) -> None:
    bodies, half = door.services.bodies, request_bodies.OF_ONE * door.services.bodies.largest
    door.key()
    mine = door.services.keys.list()[0].id if owner == "key" else "127.0.0.1"
    bodies.give_back(-half, [mine])
    try:
        answer = door.post("/v1/emails", a_mail(text="a" * bringing.SMALL))
    finally:
        bodies.give_back(half, [mine])
    assert code(answer) == (503, "busy")
    assert door.post("/v1/emails", a_mail()).status_code == 202
    assert not bodies._taken


def test_large_bodies_beyond_the_memory_limit_are_to_be_sent_again_later(door: Door) -> None:
    taken = door.services.bodies._free
    door.services.bodies.give_back(-taken + 10)
    try:
        answer = door.post("/v1/emails", a_mail())
    finally:
        door.services.bodies.give_back(taken - 10)
    assert code(answer) == (503, "busy")
    assert int(answer.headers["retry-after"]) > 0
    assert door.post("/v1/emails", a_mail()).status_code == 202


def test_requests_beyond_those_that_may_wait_are_to_be_sent_again(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MOST_WAITING", 0)
    answer = door.get("/v1/emails")
    assert code(answer) == (503, "busy")
    assert int(answer.headers["retry-after"]) > 0
    assert door.http.get("/healthz").status_code == 200


@pytest.mark.parametrize("size", [middleware.MOST_HEADER_BYTES, 200_000])
def test_headers_that_are_too_large_are_refused(door: Door, size: int) -> None:
    with raw(door) as connection:
        connection.send(head(door, {"X-Large": "x" * size}))
        status, body = answered(connection)
    assert (status, body["error"]["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /v1/emails HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/emails HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/emails HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/emails HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
        b"GET /v1/emails HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n",
    ],
)
def test_bytes_that_are_no_http_are_refused_in_the_same_form(door: Door, request_: bytes) -> None:
    with raw(door) as connection:
        connection.send(request_)
        status, body = answered(connection)
    assert (status, body["error"]["code"]) in {(400, "bad_request"), (404, "not_found")}


def test_a_request_head_that_never_ends_is_disconnected(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_DEADLINE_S", 0.1)
    with raw(door) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        assert connection.recv(100) == b""
    with raw(door) as connection:  # nor one that follows a whole request on the same connection
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        connection.send(b"GET /healthz HT")
        while connection.recv(10_000):
            pass


# Connections


class Somebody:
    """A connection, as far as `Connections` sees it; `unread` is what its client has not read."""

    def __init__(self) -> None:
        self.transport, self.unread, self.is_aborted = self, 0, False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def log() -> list[str]:
    return []


def test_a_new_connection_takes_the_place_of_the_one_that_is_silent_for_longest(log: list[str]) -> None:
    async def scenario() -> None:
        some = Connections(lambda event, **_: log.append(event), most=3)
        busy, silent, answered, fresh = (Somebody() for _ in range(4))
        for one in (busy, silent, answered):
            some.add(one)
        some.note_request(busy)
        some.note_request(answered)
        some.note_answer(answered)
        for one in (fresh, *(Somebody() for _ in range(100))):
            some.add(one)
        assert (busy.is_aborted, silent.is_aborted, answered.is_aborted, fresh.is_aborted) == (False, True, True, True)

    asyncio.run(scenario())
    assert log == ["api.crowded"]


def test_where_all_others_are_busy_the_new_connection_is_closed(log: list[str]) -> None:
    async def scenario() -> None:
        some = Connections(lambda event, **_: log.append(event), most=1)
        busy, late = Somebody(), Somebody()
        some.add(busy)
        some.note_request(busy)
        some.add(late)
        assert (busy.is_aborted, late.is_aborted) == (False, True)

    asyncio.run(scenario())


def test_a_client_that_reads_nothing_of_its_answer_is_disconnected_and_one_that_does_is_not(log: list[str]) -> None:
    async def scenario() -> None:
        some = Connections(lambda event, **_: log.append(event), no_progress_s=3600.0)
        deaf, slow, steady = Somebody(), Somebody(), Somebody()
        for one in (deaf, slow, steady):
            one.unread = 100_000
            some.add(one)
        for _ in range(connections.LOOKS + 1):
            slow.unread -= 1
            some.note_reading(steady)
            some._look()
            assert some._looking
            some._looking.cancel()
        assert (deaf.is_aborted, slow.is_aborted, steady.is_aborted) == (True, False, False)

    asyncio.run(scenario())
    assert log == ["api.abandoned"]


def test_files_that_a_process_may_not_open_are_not_promised_to_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (1024, 1024))
    assert Connections(lambda *_, **__: None)._most == 1024 - connections.RESERVED


def test_health_is_told_beside_more_silent_connections_than_there_may_be(door: Door) -> None:
    app = create_app(door.services)
    log: list[str] = []
    few = config(app, lambda event, **_: log.append(event))
    few.http.others._most = 20  # type: ignore[union-attr]
    with served_by(few) as url, ExitStack() as stack:
        address = (httpx.URL(url).host, httpx.URL(url).port)
        for _ in range(60):
            stack.enter_context(socket.create_connection(address, timeout=20))
        assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
    assert log == ["api.crowded"]


def test_the_description_is_made_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    first = door.http.get("/openapi.json").content
    monkeypatch.setattr(FastAPI, "openapi", lambda _: pytest.fail("made again"))
    assert door.http.get("/openapi.json").content == first
    assert door.ask("DELETE", "/v1/emails").status_code == 405


def test_an_unknown_path_or_method_is_answered_in_the_same_form(door: Door) -> None:
    for path in ("/", "/v1", "/docs", "/v1/emails/", "/v1/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"):
        assert code(door.get(path)) == (404, "not_found"), path
    answer = door.ask("DELETE", "/v1/emails")
    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"]


def test_an_error_of_ours_is_answered_without_any_content(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("ann@contoso.com")

    monkeypatch.setattr(type(door.services.records), "read", broken)
    answer = door.get("/v1/emails/1")

    assert code(answer) == (500, "internal")
    failed = [facts for event, facts in door.log if event == "api.failed"]
    assert "RuntimeError at" in str(failed)
    assert "ann@" not in answer.text + str(failed)


def test_answers_may_not_be_cached(door: Door) -> None:
    for answer in (door.get("/v1/emails"), door.get("/none"), door.http.get("/healthz")):
        assert answer.headers["cache-control"] == "no-store"


def raw(door: Door) -> socket.socket:
    url = door.http.base_url
    return socket.create_connection((url.host, url.port), timeout=20)


def head(door: Door, headers: dict[str, str]) -> bytes:
    lines = {"Host": "a", "Authorization": f"Bearer {door.key()}", **JSON, **headers}
    return "\r\n".join(["POST /v1/emails HTTP/1.1", *(f"{n}: {v}" for n, v in lines.items()), "", ""]).encode()


def answered(connection: socket.socket) -> tuple[int, Any]:
    """The first answer on a connection, which the server then closes."""
    text = b""
    end = time.monotonic() + 20
    while time.monotonic() < end and (part := connection.recv(65536)):
        text += part
        before, empty, body = text.partition(b"\r\n\r\n")
        if empty and body.endswith(b"}"):
            return int(before.split()[1]), json.loads(body)
    pytest.fail(f"no whole answer: {text!r}")
