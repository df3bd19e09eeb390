"""The HTTP door as a separate process: events to the inbox, Redis away, killed, stopped."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from .conftest import Room, until

EXAMPLES = Path(__file__).parents[2] / "examples"
MAIL = {"to": "ann@contoso.com", "subject": "Hello", "text": "Hi"}


@dataclass
class Api:
    """A running `postroom api`, and a key for all of it."""

    url: str
    key: str
    process: "subprocess.Popen[bytes]"

    def ask(self, method: str, path: str, idempotency_key: str | None = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        return requests.request(method, self.url + path, headers=headers, timeout=30, **options)


@pytest.fixture
def start_api(open_room: Callable[..., Room]) -> Callable[..., tuple[Room, Callable[[], Api]]]:
    """Opens a room, and gives what starts an API in it."""

    def opened(*options: str) -> tuple[Room, Callable[[], Api]]:
        room = open_room(settings={"POSTROOM_EVENTS": str(EXAMPLES / "events.toml")})
        made = room.postroom("keys", "create", "test", "--scope", "send", "--scope", "read", "--json")
        assert made.returncode == 0, made.stderr

        def start() -> Api:
            log = room.stack.enter_context((room.folder / "api.log").open("ab"))
            process = subprocess.Popen(
                [sys.executable, "-m", "postroom", "api", "--port", "0", "--json", *options],
                env=room.environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            room.stack.callback(room.end, process)
            assert process.stdout
            room.stack.callback(process.stdout.close)
            return Api(json.loads(process.stdout.readline())["url"], json.loads(made.stdout)["key"], process)

        return room, start

    return opened


@contextmanager
def frozen(room: Room) -> Iterator[None]:
    """Redis answers nothing, and refuses nothing."""
    server = psutil.Process(room.redis.info("server")["process_id"])
    server.suspend()
    try:
        yield
    finally:
        server.resume()


def test_requester_and_owner_get_a_mail_for_a_ready_site_and_operators_for_a_failure(
    start_api: Callable[[], tuple[Room, Callable[[], Api]]],
) -> None:
    room, start = start_api()
    api = start()
    room.start_worker_process()

    happened = datetime.now(UTC)  # an event that is delivered again is the same one
    for sample in ("completed.json", "failed.json", "completed.json"):
        event = json.loads((EXAMPLES / "events" / sample).read_text())
        data = event.pop("data")
        sent = to_structured_event(CloudEvent(event | {"time": happened}, data))
        answer = api.ask("POST", "/v1/events", headers=dict(sent.headers), data=sent.body)
        assert answer.status_code == 202, answer.text

    assert [mail["known"] for mail in answer.json()["results"][0]["mails"]] == [True, True]
    arrived = {address: mail for mail in room.sandbox.wait_for_messages(3) for address in mail.to}
    assert {address: mail.subject for address, mail in arrived.items()} == {
        "ben@contoso.com": "Project Northwind is ready",
        "ann@contoso.com": "Project Northwind is ready",
        "operators@contoso.com": "Project Southwind could not be provisioned",
    }
    until(lambda: api.ask("GET", "/v1/emails?status=accepted").json()["items"][2:], "three accepted mails")
    assert api.ask("GET", "/readyz").json()["ready"]
    log = (room.folder / "api.log").read_text()
    assert "api.answered" in log
    assert not [word for word in ("@contoso.com", "Northwind", api.key) if word in log]


def test_while_redis_hangs_it_says_so_and_lives_and_afterwards_takes_the_same_mail_in_once(
    start_api: Callable[[], tuple[Room, Callable[[], Api]]],
) -> None:
    room, start = start_api()
    api = start()
    assert api.ask("POST", "/v1/emails", "warm", json=MAIL).status_code == 202

    with ThreadPoolExecutor() as pool, frozen(room):
        waits = pool.submit(api.ask, "POST", "/v1/emails", "hung", json=MAIL)
        assert api.ask("GET", "/healthz").status_code == 200
        assert not waits.done()  # the one waits for Redis, the other did not
        assert api.ask("GET", "/readyz").status_code == 503
        told = waits.result()
    assert (told.status_code, told.json()["error"]["code"]) == (503, "unavailable")
    assert int(told.headers["Retry-After"]) > 0

    answer = until(
        lambda: (found := api.ask("POST", "/v1/emails", "hung", json=MAIL)).status_code == 202 and found, "Redis"
    )
    listed = api.ask("GET", "/v1/emails").json()["items"]
    assert answer.json()["id"] in {job["id"] for job in listed}
    assert len(listed) == 2


def test_a_mail_is_kept_though_the_api_is_killed_and_asked_again_elsewhere_it_is_the_same(
    start_api: Callable[[], tuple[Room, Callable[[], Api]]],
) -> None:
    _, start = start_api()
    first, second = start(), start()
    taken = first.ask("POST", "/v1/emails", "once", json=MAIL)
    first.process.kill()
    first.process.wait()

    again = second.ask("POST", "/v1/emails", "once", json=MAIL)
    assert (again.json(), again.headers["Idempotent-Replay"]) == (taken.json(), "true")


def test_on_sigterm_it_answers_what_it_has_begun_and_takes_nothing_new(
    start_api: Callable[[], tuple[Room, Callable[[], Api]]],
) -> None:
    room, start = start_api()
    api = start()
    body = json.dumps(MAIL).encode()
    where = urlsplit(api.url)
    address = (where.hostname or "", where.port or 0)
    with socket.create_connection(address, timeout=30) as begun:
        head = f"POST /v1/emails HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.key}\r\nExpect: 100-continue\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        begun.sendall(head.encode())
        assert begun.recv(1000).startswith(b"HTTP/1.1 100")  # the key was looked at, and the body is waited for
        api.process.send_signal(signal.SIGTERM)
        until(lambda: "api.stopping" in (room.folder / "api.log").read_text(), "the signal")
        until(lambda: not listens(address), "a closed door")
        begun.sendall(body)
        answer = begun.recv(10_000)

    assert answer.startswith(b"HTTP/1.1 202")
    assert api.process.wait(timeout=30) == 0
    assert len(room.client().find()) == 1


def listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True


def test_several_processes_share_a_port_and_one_that_dies_is_started_again(
    start_api: Callable[..., tuple[Room, Callable[[], Api]]],
) -> None:
    room, start = start_api("--processes", "2")
    api = start()
    until(lambda: len(psutil.Process(api.process.pid).children()) == 2, "both processes")
    children = psutil.Process(api.process.pid).children()

    children[0].kill()
    until(lambda: children[0].pid not in [one.pid for one in psutil.Process(api.process.pid).children()], "its end")
    answers = [api.ask("POST", "/v1/emails", json=MAIL) for _ in range(10)]

    assert {answer.status_code for answer in answers} == {202}
    until(lambda: len(psutil.Process(api.process.pid).children()) == 2, "another process")
    assert room.end(api.process) == 0
    assert not any(child.is_running() for child in children)
