"""The examples run, and their mails arrive."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from postroom import Status

from ..acceptance.conftest import Room, until

Example = Callable[[str], ModuleType]


def arrived(room: Room, address: str) -> Any:
    """The mail to this address, once it is there."""
    return until(
        lambda: next((mail for mail in room.sandbox.messages() if mail.to == (address,)), None), f"mail to {address}"
    )


def test_a_flask_application_sends_its_mail(room: Room, example: Example) -> None:
    visitor = example("flask_app").app.test_client()

    first = visitor.post("/people", json={"email": "ann@contoso.com", "name": "Ann"})
    again = visitor.post("/people", json={"email": "ann@contoso.com", "name": "Ann"})
    wrong = visitor.post("/people", json={"email": "ann@@contoso.com", "name": "Ann"})

    assert (first.status_code, again.json) == (202, {"mail": first.json["mail"], "again": True})
    assert (wrong.status_code, wrong.json["faults"][0][:4]) == (422, "to.0")
    assert arrived(room, "ann@contoso.com").subject == "Welcome to Contoso, Ann"
    room.settled(first.json["mail"])
    assert visitor.get(f"/mails/{first.json['mail']}").json == {"status": "accepted"}


def test_a_fastapi_application_sends_its_mail(room: Room, example: Example) -> None:
    app = example("fastapi_app").app

    async def ask(*questions: tuple[str, str, Any]) -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as visitor:
            return [await visitor.request(method, path, json=json) for method, path, json in questions]

    first, wrong = asyncio.run(
        ask(
            ("POST", "/people", {"email": "bob@contoso.com", "name": "Bob"}),
            ("POST", "/people", {"email": "bob", "name": "Bob"}),
        )
    )

    assert (first.status_code, wrong.status_code) == (202, 422)
    assert arrived(room, "bob@contoso.com").subject == "Welcome to Contoso, Bob"
    room.settled(first.json()["mail"])
    (told,) = asyncio.run(ask(("GET", f"/mails/{first.json()['mail']}", None)))
    assert told.json() == {"status": "accepted"}


def test_a_celery_application_sends_its_mail(room: Room, example: Example) -> None:
    shop = example("celery_app")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "examples.celery_app", "worker", "--pool", "solo"],
        cwd=Path(__file__).parents[2],
        env=room.environment | {"SHOP_BROKER": shop.app.conf.broker_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    room.stack.callback(worker.wait)
    room.stack.callback(worker.terminate)

    job_id = shop.ship.delay(4711, "cora@contoso.com").get(timeout=30)

    assert until(lambda: room.redis.get("shop:4711"), "the shop to be told") == f"told by {job_id}".encode()
    assert arrived(room, "cora@contoso.com").subject == "Order 4711"
    assert room.client().status(job_id).status is Status.ACCEPTED


def test_a_django_application_sends_its_mail(room: Room) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "examples.django_app"],
            cwd=Path(__file__).parents[2],
            env=room.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    mail = arrived(room, "dan@contoso.com")
    assert (mail.subject, mail.attachments[0].filename) == ("Order 4711", "order.txt")
    assert [one.to for one in room.sandbox.messages()].count(("dan@contoso.com",)) == 1
