"""The real application over real HTTP, served by a thread of this process, on a real Redis."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import uvicorn

from postroom.access.failures import Failures
from postroom.access.rights import Scope
from postroom.api import Services, create_app, open_services
from postroom.api.server import config
from postroom.api.wrong_keys import WrongKeys
from postroom.jobs.lane_limits import LaneLimits, PublishedSettings
from postroom.settings.loading import load_settings
from postroom.store.ledger import Ledger

SENDER, OTHER = "noreply@contoso.com", "hr@contoso.com"
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Door:
    """The HTTP door: `get` and `post` speak to it with a key that may do everything, unless another is given."""

    services: Services
    http: httpx.Client
    log: list[tuple[str, dict[str, object]]]
    secrets: dict[str, str] = field(default_factory=dict)

    def key(self, *scopes: Scope, senders: tuple[str, ...] = (), rate: tuple[int, float] = (10**6, 60.0)) -> str:
        """A key with these scopes (all, if none are given), made once."""
        parts = [*scopes, *(sender.partition("@")[0] for sender in senders)]
        name = "-".join([*parts, str(rate[0])]) if parts else "all"
        if name not in self.secrets:
            self.secrets[name] = self.services.keys.create(name, scopes or Scope, senders, rate)[1]
        return self.secrets[name]

    def by(self, name: str = "all") -> str:
        """How the audit shows a key of this name."""
        return next(key.by for key in self.services.keys.list() if key.name == name)

    def ask(self, method: str, path: str, *, key: str | None = None, headers: Any = None, **options: Any) -> Any:
        authorization = {"Authorization": f"Bearer {key or self.key()}"}
        return self.http.request(method, path, headers={**authorization, **(headers or {})}, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.ask("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> Any:
        return self.ask("POST", path, json=json, **options)

    def send(self, *, key: str | None = None, **fields: Any) -> str:
        """The id of a mail that was taken in."""
        answer = self.post("/v1/emails", a_mail(**fields), key=key)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def logged(self, event: str, count: int) -> list[dict[str, object]]:
        """The facts of these events, once there are so many; a request is logged after it is answered."""
        end = time.monotonic() + 20
        while len(found := [facts for name, facts in self.log if name == event]) < count and time.monotonic() < end:
            time.sleep(0.005)
        return found


def served(app: Any) -> AbstractContextManager[str]:
    """The URL at which this application is served by a thread, as `postroom api` serves it."""
    return served_by(config(app, lambda *_, **__: None))


@contextmanager
def served_by(configuration: uvicorn.Config) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(configuration)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def opened(connection: Any, stack: ExitStack, **given: str) -> Door:
    log: list[tuple[str, dict[str, object]]] = []
    names = {
        "POSTROOM_REDIS_URL": "redis://unused",
        "POSTROOM_SENDER": SENDER,
        "POSTROOM_EVENTS": str(EXAMPLES / "events.toml"),
        **{f"POSTROOM_{name.upper()}": value for name, value in given.items()},
    }
    found = load_settings(names, Path("/nowhere"))

    def emit(event: str, **facts: object) -> None:
        log.append((event, facts))

    services = open_services(found, emit, connection)
    services = replace(services, wrong_keys=WrongKeys(emit, Failures(longest_s=0)))
    url = stack.enter_context(served(create_app(services)))
    return Door(services, stack.enter_context(httpx.Client(base_url=url, timeout=30)), log)


@pytest.fixture
def open_door(connection: "redis.Redis[bytes]") -> Iterator[Callable[..., Door]]:
    """Opens a door with these settings, on an empty Redis."""
    with ExitStack() as stack:
        yield partial(opened, connection, stack)


@pytest.fixture(scope="session")
def shared_door(server: str) -> Iterator[Door]:
    with ExitStack() as stack:
        yield opened(stack.enter_context(redis.Redis.from_url(server)), stack)


@pytest.fixture
def door(shared_door: Door, connection: "redis.Redis[bytes]") -> Door:
    """A door with the defaults, on an empty Redis."""
    shared_door.secrets.clear()
    shared_door.log.clear()
    return shared_door


@pytest.fixture
def ledger(connection: "redis.Redis[bytes]") -> Ledger:
    """The ledger behind it, as a worker has it, with one alias published."""
    book = Ledger(connection)
    limits = LaneLimits(app="default", parallel=4, daily_recipients=10000, rates=())
    book.publish(
        PublishedSettings(
            defaults=limits,
            lanes={},
            aliases={"people@contoso.com": OTHER},
            retention_accepted_s=7 * 86400,
            retention_dead_s=90 * 86400,
            results_here=True,
            hold_probe_s=60,
            hold_patience_s=3600,
            first_look_s=10,
        )
    )
    return book


def a_mail(**fields: Any) -> dict[str, Any]:
    return {"to": ["ann@contoso.com"], "subject": "Hello", "text": "Hi"} | fields


def code(answer: Any) -> tuple[int, str]:
    """An error's status and code; fails if it has not the one form of errors."""
    body = answer.json()
    assert body.keys() == {"error"}, body
    assert body["error"].keys() == {"code", "message", "details"}, body
    return answer.status_code, body["error"]["code"]
