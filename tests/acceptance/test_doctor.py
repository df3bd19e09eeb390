"""`postroom doctor` names fault, cause and cure of each wrong set-up, finds nothing in a right one, sends nothing."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroom.cli.doctor import watch_until_green
from postroom.cli.main import main
from postroom.doctor.examination import _guarded, examine
from postroom.doctor.finding import Finding, Group, Level, worst
from postroom.doctor.surroundings import Surroundings, Wanted
from postroom.settings.loading import load_settings

from ..scripted_servers import Servers, all_servers, serve
from .certificates import self_signed
from .conftest import SENDER, Room, until
from .doctor_cases import CASES, Case, Scene

__all__ = ["all_servers", "serve"]

EXIT_CODES = {Level.GREEN: 0, Level.RED: 1, Level.YELLOW: 3}


@pytest.fixture(scope="module")
def room(module_room: Callable[..., Room]) -> Room:
    """A mail room in order, with a worker."""
    opened = module_room()
    opened.start_worker_process()
    return opened


@pytest.fixture
def scene(room: Room, folder: Path, serve: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    with ExitStack() as end:
        yield Scene(room, folder, serve, monkeypatch, end)
    room.sandbox.reset()
    room.redis.delete(f"{{postroom}}:lane:{SENDER}", "{postroom}:app:default")


def run(scene: Scene, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], env=scene.room.environment | scene.settings)


def found_by(scene: Scene, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = run(scene, "--json", *arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)["findings"]


def test_a_mail_room_in_order_is_all_green_and_its_inbox_stays_empty(scene: Scene) -> None:
    done = scene.room.postroom("doctor", "--json")

    told = json.loads(done.stdout)
    assert (done.returncode, told["level"]) == (0, "green"), done.stdout
    assert {one["level"] for one in told["findings"]} <= {"green", "skipped"}
    assert {one["group"] for one in told["findings"]} == {group.value for group in Group}
    assert scene.room.sandbox.messages() == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_doctor_names_fault_cause_and_next_step_and_sends_nothing(scene: Scene, case: Case) -> None:
    case.spoil(scene)
    exit_code, findings = found_by(scene, *case.arguments)

    bad = [one for one in findings if one["level"] in ("red", "yellow")]
    named = [
        one
        for one in bad
        if one["group"] == case.group
        and case.words in one["seen"]
        and case.cause in one["meaning"]
        and case.cure in one["next"]
    ]
    assert {one["level"] for one in named} == {case.level.value}, json.dumps(bad, indent=1)
    assert all(one["meaning"] and one["next"] for one in bad)
    assert exit_code == EXIT_CODES[max((Level(one["level"]) for one in bad), key=[Level.YELLOW, Level.RED].index)]
    assert scene.room.sandbox.messages() == []


@pytest.mark.parametrize("case", [case for case in CASES if case.level is Level.RED][::9], ids=lambda case: case.name)
def test_people_read_the_same_and_where_to_begin(scene: Scene, case: Case) -> None:
    case.spoil(scene)
    done = run(scene, *case.arguments)

    assert done.exit_code == 1
    text = " ".join(done.output.split())
    assert "FAULT" in text
    assert "Begin with" in text
    assert case.cause in text


def test_what_an_earlier_fault_makes_pointless_is_skipped_with_the_reason(scene: Scene) -> None:
    scene.settings["POSTROOM_AUTHORITY_URL"] = "https://login.invalid"
    _, findings = found_by(scene)

    skipped = {one["group"]: one["seen"] for one in findings if one["level"] == "skipped" and "way-out" in one["seen"]}
    assert skipped.keys() == {"entra", "rights", "mailboxes"}


def test_settings_that_cannot_be_read_leave_nothing_else_to_ask(scene: Scene) -> None:
    scene.settings["POSTROOM_LEASE"] = "soon"
    _, findings = found_by(scene)

    assert [one["group"] for one in findings if one["level"] == "red"] == ["settings"]
    assert {one["level"] for one in findings if one["group"] != "settings"} == {"skipped"}


def test_only_one_group_is_looked_at_if_one_is_asked_for(scene: Scene) -> None:
    _, findings = found_by(scene, "--only", "mailboxes")
    assert [(one["group"], one["name"], one["level"]) for one in findings] == [("mailboxes", SENDER, "green")]


def test_senders_are_looked_at_that_were_asked_for_and_an_outsider_is_refused(scene: Scene) -> None:
    scene.room.sandbox.set_roles()
    scene.room.sandbox.set_access(rbac_mailboxes=["news@contoso.com"])
    exit_code, findings = found_by(
        scene, "--only", "mailboxes", "--sender", "news@contoso.com", "--not-sender", "boss@contoso.com"
    )
    assert exit_code == 0
    assert [one["name"] for one in findings] == ["news@contoso.com", "not boss@contoso.com"]


def test_one_mail_from_each_mailbox_is_sent_only_where_it_is_asked_for(scene: Scene) -> None:
    exit_code, findings = found_by(scene, "--only", "mailboxes", "--send-to", "me@contoso.com")

    (mail,) = scene.room.sandbox.messages()
    assert (exit_code, mail.mailbox, mail.to) == (0, SENDER, ("me@contoso.com",))
    assert any(mail.request_id in one["seen"] for one in findings)


def test_a_sender_who_may_draft_is_green(scene: Scene) -> None:
    scene.settings["POSTROOM_DELIVERY"] = "draft"
    scene.room.sandbox.set_roles("Mail.Send", "Mail.ReadWrite")
    exit_code, findings = found_by(scene, "--only", "mailboxes")

    assert (exit_code, len(findings)) == (0, 2)
    assert [*scene.room.sandbox.messages(), *scene.room.sandbox.requests(stage="draft")] == []


def test_watching_ends_when_a_scope_has_reached_exchange(scene: Scene) -> None:
    sandbox = scene.room.sandbox
    sandbox.set_roles()
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            sandbox.set_access(rbac_mailboxes=[SENDER])

    def look() -> list[Any]:
        environment = scene.room.environment
        return list(examine(Wanted(), [Group.MAILBOXES], environment, scene.folder))

    first = look()
    last = watch_until_green(first, look, pause, as_json=False)

    assert (worst(first), worst(last), waits) == (Level.YELLOW, Level.GREEN, [10, 20, 40])


def test_a_graph_that_is_silent_is_not_asked_for_every_mailbox(scene: Scene) -> None:
    senders = "".join(f'[senders."s{number}@contoso.com"]\n' for number in range(9))
    scene.file("postroom.toml", senders)
    scene.room.sandbox.add_fault(effect="reset")
    exit_code, findings = found_by(scene, "--only", "mailboxes")

    assert exit_code == 3
    assert [one["level"] for one in findings] == ["yellow"] * 3 + ["skipped"]
    assert findings[-1]["seen"] == "7 more mailboxes: Graph does not answer"


def test_a_fault_of_a_check_itself_is_told_without_its_text(scene: Scene) -> None:
    def broken(_: object) -> Iterator[Finding]:
        raise RuntimeError("secret")
        yield

    around = Surroundings(load_settings(scene.room.environment, scene.folder), Wanted(), {}, scene.folder)
    (found,) = _guarded(Group.REDIS, broken, around)
    assert (found.level, "RuntimeError at" in found.seen, "secret" in found.seen) == (Level.RED, True, False)


def test_a_worker_logs_that_its_certificate_ends_soon_and_stats_shows_it(scene: Scene) -> None:
    public, both = self_signed(10)
    room = scene.room
    room.sandbox.set_certificates(public)
    settings = {"POSTROOM_CLIENT_SECRET": "", "POSTROOM_CLIENT_CERTIFICATE": scene.file("app.pem", both)}
    worker = room.start_worker_process(**settings)
    event = until(
        lambda: next((one for one in room.log() if one["event"] == "credential.expiring"), None), "the warning"
    )
    told = room.postroom("stats").stdout
    room.end(worker)

    assert (event["app"], event["days"], event["level"]) == ("default", 10, "warning")
    assert "the one of app default EXPIRES in 10 days" in told


def test_the_workers_own_refusals_and_successes_are_what_the_doctor_goes_by(scene: Scene) -> None:
    room = scene.room
    sent = room.client().send({"from": SENDER, "to": ["ann@contoso.com"], "subject": "Hello", "text": "Hi"})
    assert room.settled(sent.id).status == "accepted"
    room.sandbox.set_roles()
    _, findings = found_by(scene, "--only", "mailboxes")

    assert "worked until" in findings[0]["seen"]
