"""The commands around the API: keys, and rules for events tried on samples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroom.cli.main import main

from .conftest import EXAMPLES, SENDER

Run = Callable[..., Result]
COMPLETED: dict[str, Any] = json.loads((EXAMPLES / "events/completed.json").read_text())


@pytest.fixture
def run(server: str, connection: object) -> Run:
    """Runs a command on an empty Redis."""
    settings = {"POSTROOM_REDIS_URL": server, "POSTROOM_SENDER": SENDER}
    settings["POSTROOM_TEMPLATES"] = str(EXAMPLES.parent / "templates")
    return lambda *arguments, **more: CliRunner().invoke(main, arguments, env=settings | more)


def test_a_key_is_printed_once_alone_and_never_again(run: Run) -> None:
    made = run("keys", "create", "shop", "--scope", "send", "--sender", "Shop <shop@contoso.com>", "--rate", "5/s")
    listed = run("keys", "list")

    secret = made.stdout.strip()
    assert secret.startswith("pr_")
    assert len(secret.splitlines()) == 1
    assert secret not in listed.output
    for part in ("shop", "send", "shop@contoso.com", "5/s", "never"):
        assert part in listed.output
    (told,) = json.loads(run("keys", "list", "--json").output)
    assert (told["scopes"], told["senders"], told["used_on"]) == (["send"], ["shop@contoso.com"], None)

    assert run("keys", "revoke", "shop").exit_code == 0
    assert json.loads(run("keys", "list", "--json").output) == []
    assert run("keys", "revoke", "shop").exit_code == 1


@pytest.mark.parametrize(
    "wrong",
    [(), ("--scope", "all"), ("--scope", "send", "--sender", "nobody"), ("--scope", "send", "--rate", "off")],
)
def test_a_key_that_cannot_be_is_refused(run: Run, wrong: tuple[str, ...]) -> None:
    assert run("keys", "create", "shop", *wrong).exit_code == 2


def test_samples_show_what_they_would_send(run: Run) -> None:
    done = run("events", "check", str(EXAMPLES / "events"), POSTROOM_EVENTS=str(EXAMPLES / "events.toml"))

    assert done.exit_code == 0, done.output
    assert "rule site-ready sends provisioning_completed: Project Northwind is ready" in done.output
    assert "to operators@contoso.com" in done.output


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (COMPLETED | {"type": "unheard.of"}, "no rule fits this event"),
        (COMPLETED | {"data": {"requester": {}}}, "to: data.requester.mail finds no address in this event"),
        (COMPLETED | {"data": {"requester": {"mail": "a@contoso.com"}}}, "provisioning_completed/subject.txt line 1"),
        ({"id": "1"}, "specversion must be 1.0"),
    ],
)
def test_a_sample_that_would_send_nothing_is_a_fault(run: Run, tmp_path: Path, event: Any, fault: str) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps(event))
    rules = str(EXAMPLES / "events.toml")

    plain, as_json = (run("events", "check", "--rules", rules, str(sample), *more) for more in ((), ("--json",)))

    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert f"FAULT {'' if event.get('type') else 'the event: '}" in plain.output
    assert fault in plain.output
    assert any(fault in one for told in json.loads(as_json.output) for one in told["faults"])


def test_without_rules_there_is_nothing_to_try(run: Run) -> None:
    assert run("events", "check", str(EXAMPLES / "events")).exit_code == 2
