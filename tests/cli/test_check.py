"""`postroom check`: what it found right, and what it did not ask."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from postroom.cli.main import main
from postroom.settings.loading import load_settings
from postroom.wiring import worker_faults

APP = {
    "POSTROOM_TENANT_ID": "contoso.com",
    "POSTROOM_CLIENT_ID": "client",
    "POSTROOM_CLIENT_SECRET": "secret",
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(*arguments: str, **settings: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments], env={"POSTROOM_REDIS_URL": "redis://127.0.0.1:1"} | settings)


WORLD = "Entra, Graph, mailboxes and the apps' rights (postroom doctor)"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ((), f"Redis (--redis); {WORLD}"),
        (("--redis",), WORLD),
        (("--producer",), "Redis (--redis)"),
        (("--producer", "--redis"), "whether workers run (postroom stats --ready)"),
    ],
)
def test_the_last_line_says_what_was_not_asked(server: str, arguments: tuple[str, ...], asked: str) -> None:
    done = check(*arguments, **APP | {"POSTROOM_REDIS_URL": server})
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"The settings are right. Not asked: {asked}."


def test_a_file_of_the_start_folder_is_read_and_apps_senders_and_redirection_are_shown(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(
        '[apps.hr]\ntenant_id = "hr.example"\nclient_id = "hr"\nclient_secret = "s"\n'
        '[senders."news@contoso.com"]\nmailbox = "letters@contoso.com"\napp = "hr"\n'
    )
    done = check(**APP, POSTROOM_GRAPH_URL="https://graph.example", POSTROOM_REDIRECT_ALL_TO="Test <test@contoso.com>")
    lines = done.output.splitlines()
    assert "app hr: secret of client hr at https://login.microsoftonline.com, https://graph.example" in lines
    assert any(line.startswith("sender news@contoso.com: mailbox letters@contoso.com, app hr") for line in lines)
    assert any(line.startswith("WARNING: all mail goes to") and "test@contoso.com" in line for line in lines)


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        ("rpc://", "a mail ends after its task"),
        ("nowhere://results", "No module named 'nowhere'"),
        ("elasticsearch://localhost/results", "elasticsearch library"),
    ],
)
def test_a_result_backend_that_cannot_be_used_is_a_fault(backend: str, why: str) -> None:
    found = check(**APP, POSTROOM_RESULT_BACKEND=backend)

    assert (found.exit_code, "POSTROOM_RESULT_BACKEND" in found.output, why in found.output) == (2, True, True)


IDS = "client_id = '33333333-3333-3333-3333-333333333333'\ntenant_id = '11111111-1111-1111-1111-111111111111'\n"


@pytest.mark.parametrize(("other", "starts"), [("a secret", True), ("22222222-2222-2222-2222-222222222222", False)])
def test_a_worker_starts_unless_no_app_can_be_used_and_check_names_each_that_cannot(
    tmp_path: Path, other: str, starts: bool
) -> None:
    wrong = "22222222-2222-2222-2222-222222222222"  # looks like a secret's id
    (tmp_path / "postroom.toml").write_text(f"[apps.other]\n{IDS}client_secret = '{other}'\n")

    given = APP | {"POSTROOM_CLIENT_SECRET": wrong}

    found = check(**given)
    settings = load_settings({"POSTROOM_REDIS_URL": "redis://127.0.0.1:1"} | given, tmp_path)

    assert (found.exit_code, "app default: the client secret looks like" in found.output) == (2, True)
    assert (worker_faults(settings, datetime.now(UTC)) == []) is starts
