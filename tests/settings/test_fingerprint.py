"""Fingerprints: equal for workers that go by the same, and different for all others."""

from pathlib import Path

import pytest

from postroom.settings import fingerprint
from postroom.settings.loading import load_settings

SET = {
    "POSTROOM_REDIS_URL": "redis://redis",
    "POSTROOM_TENANT_ID": "contoso.com",
    "POSTROOM_CLIENT_ID": "client",
    "POSTROOM_CLIENT_SECRET": "secret",
}


def of(folder: Path, **changes: str) -> str:
    return fingerprint.of_settings(load_settings(SET | changes, folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTROOM_CLIENT_SECRET", "another"),
        ("POSTROOM_RATE", "10/min"),
        ("POSTROOM_REDIRECT_ALL_TO", "test@contoso.com"),
        ("POSTROOM_SENDER", "noreply@contoso.com"),
        ("POSTROOM_UNKNOWN_LOOKUPS", "off"),
    ],
)
def test_what_all_workers_must_share_makes_a_difference(tmp_path: Path, name: str, value: str) -> None:
    assert of(tmp_path) != of(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTROOM_REDIS_URL", "unix:///run/redis.sock"),
        ("POSTROOM_TEMPLATES", "/srv/templates"),
        ("POSTROOM_LOG_FORMAT", "console"),
        ("POSTROOM_SMTP_ALLOW", "127.0.0.1"),
        ("POSTROOM_MAX_ATTEMPTS", "30"),  # the default
        ("POSTROOM_RATE", "30/min"),
    ],
)
def test_what_each_machine_may_have_its_own_makes_none(tmp_path: Path, name: str, value: str) -> None:
    assert of(tmp_path) == of(tmp_path, **{name: value})


def test_a_certificate_counts_by_its_content_and_senders_and_apps_count(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pem", tmp_path / "b.pem"
    first.write_text("one")
    second.write_text("one")
    before = of(tmp_path, POSTROOM_CLIENT_CERTIFICATE=str(first))
    assert before == of(tmp_path, POSTROOM_CLIENT_CERTIFICATE=str(second))

    second.write_text("two")
    assert before != of(tmp_path, POSTROOM_CLIENT_CERTIFICATE=str(second))
    (tmp_path / "postroom.toml").write_text('[senders."hr@contoso.com"]\naliases = ["people@contoso.com"]\n')
    assert before != of(tmp_path, POSTROOM_CLIENT_CERTIFICATE=str(first))


def test_a_folder_is_known_by_the_names_and_the_content_of_its_files(tmp_path: Path) -> None:
    assert fingerprint.of_folder(tmp_path / "none") == fingerprint.of_folder(tmp_path)
    (tmp_path / "welcome").mkdir()
    (tmp_path / "welcome/body.txt").write_text("Hi")
    seen = {fingerprint.of_folder(tmp_path)}
    (tmp_path / "welcome/body.txt").write_text("Hello")
    seen.add(fingerprint.of_folder(tmp_path))
    (tmp_path / "welcome/body.txt").rename(tmp_path / "welcome/body.html")
    seen.add(fingerprint.of_folder(tmp_path))
    assert len(seen) == 3


def test_a_config_map_has_the_same_fingerprint_in_each_pod(tmp_path: Path) -> None:
    pods = tmp_path / "one", tmp_path / "two"
    for number, pod in enumerate(pods):
        made = pod / f"..2026_12_01_0{number}"
        (made / "welcome").mkdir(parents=True)
        (made / "welcome/body.txt").write_text("Hi")
        (pod / "..data").symlink_to(made.name)
        (pod / "welcome").symlink_to("..data/welcome")
        (pod / "welcome/round").symlink_to("..")
    plain = tmp_path / "three"
    (plain / "welcome").mkdir(parents=True)
    (plain / "welcome/body.txt").write_text("Hi")

    assert len({fingerprint.of_folder(folder) for folder in (*pods, plain)}) == 1
    (pods[0] / "welcome/body.txt").write_text("Hello")
    assert fingerprint.of_folder(pods[0]) != fingerprint.of_folder(pods[1])
