"""Settings that surprise, where values came from, and files that others may read."""

from pathlib import Path

import pytest

from postroom.doctor.files import of_mode, secret_files
from postroom.doctor.finding import Level
from postroom.doctor.settings import is_local, of_faults, surprises, told_origins
from postroom.doctor.surroundings import Surroundings, Wanted
from postroom.settings.loading import load_settings
from postroom.settings.origins import config_file, origins

APP = {
    "POSTROOM_REDIS_URL": "redis://127.0.0.1:1",
    "POSTROOM_TENANT_ID": "contoso.com",
    "POSTROOM_CLIENT_ID": "client",
    "POSTROOM_CLIENT_SECRET": "secret",
}


def test_usual_settings_surprise_nobody(tmp_path: Path) -> None:
    assert list(surprises(load_settings(APP, tmp_path))) == []


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"REDIRECT_ALL_TO": "me@contoso.com"}, Level.YELLOW),
        ({"RATE": "off"}, Level.YELLOW),
        ({"GRAPH_URL": "https://graph.evil.example"}, Level.YELLOW),
        ({"GRAPH_URL": "https://localhost:8443"}, Level.GREEN),
        ({"GRAPH_URL": "https://graph.microsoft.us"}, Level.RED),
        ({"GRAPH_URL": "https://dod-graph.microsoft.us", "AUTHORITY_URL": "https://login.microsoftonline.us"}, None),
        ({"CLOUD": "china"}, None),
    ],
)
def test_what_is_seldom_meant_is_told(tmp_path: Path, changes: dict[str, str], level: Level | None) -> None:
    given = APP | {f"POSTROOM_{name}": value for name, value in changes.items()}
    assert [one.level for one in surprises(load_settings(given, tmp_path))] == ([level] if level else [])


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("https://127.0.0.1:1", True),
        ("https://sandbox:8443", True),
        ("https://10.1.2.3", True),
        ("https://8.8.8.8", False),
        ("https://graph.example", False),
    ],
)
def test_a_stand_in_is_known_by_its_host(url: str, *, local: bool) -> None:
    assert is_local(url) is local


def test_each_value_is_told_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTROOM_SENDER=a@contoso.com\nPOSTROOM_RATE=1/min\nAZURE_TENANT_ID=contoso.com\n")
    (tmp_path / "secret").write_text("s")
    environ = {"POSTROOM_RATE": "2/min", "POSTROOM_CLIENT_SECRET_FILE": str(tmp_path / "secret"), "POSTROOM_LEASE": ""}

    found = origins(environ, tmp_path)

    assert found == {
        "POSTROOM_SENDER": f"{tmp_path}/.env",
        "POSTROOM_RATE": "environment",
        "POSTROOM_TENANT_ID": f"{tmp_path}/.env (AZURE_TENANT_ID)",
        "POSTROOM_CLIENT_SECRET_FILE": "environment",
    }
    told = told_origins(found, None)
    assert "CLIENT_SECRET_FILE, RATE from the environment" in told
    (fault,) = of_faults(["POSTROOM_RATE: a rate is a count"], found)
    assert "(from environment)" in fault.seen


def test_the_file_of_tables_is_the_one_that_is_read(tmp_path: Path) -> None:
    assert config_file({}, tmp_path) is None
    (tmp_path / "postroom.toml").touch()
    assert config_file({}, tmp_path) == tmp_path / "postroom.toml"
    assert config_file({"POSTROOM_CONFIG": "other.toml"}, tmp_path) == tmp_path / "other.toml"


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        (0o600, None),
        (0o640, None),
        (0o644, Level.YELLOW),
        (0o604, Level.YELLOW),
        (0o666, Level.RED),
        (0o622, Level.RED),
    ],
)
def test_a_mode_that_opens_a_secret_is_told(tmp_path: Path, mode: int, level: Level | None) -> None:
    found = of_mode(tmp_path / "key.pem", mode)
    assert (found and found.level) == level
    assert found is None or f"chmod 600 {tmp_path}/key.pem" in found.next


def test_what_an_orchestrator_mounts_is_not_judged_by_its_mode(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    assert of_mode(tmp_path / "key.pem", 0o644) is None
    assert of_mode(Path("/run/secrets/postroom"), 0o444) is None


def test_the_files_with_secrets_are_those_that_exist(tmp_path: Path) -> None:
    for name in (".env", "secret", "key.pem", "postroom.toml"):
        (tmp_path / name).write_text("")
    (tmp_path / "postroom.toml").write_text('[apps.hr]\nclient_secret = "s"\ntenant_id = "t"\nclient_id = "c"\n')
    (tmp_path / "secret").write_text("secret")
    given = {name: value for name, value in APP.items() if "SECRET" not in name}
    environ = given | {
        "POSTROOM_CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        "POSTROOM_SMTP_KEY": str(tmp_path / "key.pem"),
        "POSTROOM_SMTP_CERTIFICATE": str(tmp_path / "no.pem"),
    }
    around = Surroundings(load_settings(environ, tmp_path), Wanted(), environ, tmp_path)

    assert {path.name for path in secret_files(around)} == {".env", "secret", "key.pem", "postroom.toml"}
