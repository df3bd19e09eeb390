"""`postroom check`: what it found right, and what it did not ask."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from postroom.cli.main import main

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


WORLD = "Entra and Graph, and whether the mailboxes exist and the apps may use them"


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
