"""A mail room on one machine: a Redis, the sandbox, a worker and doors as processes of their own, on free ports."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom.access.api_keys import ApiKeys, KeyFault, Scope
from postroom.errors import PostroomError
from postroom.runtime.parent_watch import PARENT
from postroom.store import embedded
from postroom.store.connection import connect

SENDER = "noreply@contoso.com"
STARTUP_S = 20.0


class NotStarted(PostroomError):
    """A part of the mail room did not come up, or went down by itself."""


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A running set of everything: its settings as environment variables, and the addresses.

    `api` is the HTTP API's URL and a key for it, as variables for a shell: they are no settings.
    """

    environment: Mapping[str, str]
    sandbox: Mapping[str, str]
    api: Mapping[str, str]
    processes: Mapping[str, "subprocess.Popen[bytes]"]

    @property
    def redis_url(self) -> str:
        return self.environment["POSTROOM_REDIS_URL"]

    def watch(self) -> None:
        """Returns never: NotStarted when a process has ended by itself."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise NotStarted(f"the {name} has ended (exit {process.returncode})")
            time.sleep(0.5)


def addresses(address: Any) -> str:
    """The sandbox's address as settings of a worker."""
    return "\n".join(f"{name}={value}" for name, value in _environment(address.to_json()).items())


def starter_templates() -> Path:
    """The templates that Postroom comes with: in the package, or in the checkout that it is run from."""
    packaged = Path(__file__).parents[1] / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "templates"


def starter_rules() -> Path:
    """The rules for events that Postroom comes with; samples are in the folder `events` beside."""
    packaged = Path(__file__).parents[1] / "examples"
    return (packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples") / "events.toml"


@contextmanager
def everything(folder: Path, templates: Path, log: Any, rules: Path | None = None) -> Iterator[LocalStack]:
    """Redis, sandbox, worker, doors: all stopped when the block ends, in reverse order. `log` gets what they say.

    `rules` are those for events; the starter's, if not given.
    """
    with ExitStack() as stack:
        (folder / "redis").mkdir(parents=True, exist_ok=True)
        stack.callback(embedded.stop, folder / "redis")
        embedded.ensure(folder / "redis")

        def started(*arguments: str, **settings: str) -> "subprocess.Popen[bytes]":
            return stack.enter_context(_process(arguments, settings, folder, log))

        sandbox = started("sandbox", "--json", "--state", str(folder / "sandbox"))
        address = json.loads(_first_line(sandbox, "sandbox"))
        environment = {
            "POSTROOM_REDIS_URL": f"embedded:{folder / 'redis'}",
            "POSTROOM_SENDER": SENDER,
            **_environment(address),
            "POSTROOM_TEMPLATES": str(templates),
            "POSTROOM_EVENTS": str(rules or starter_rules()),
            "POSTROOM_LOG_FORMAT": "console",
        }
        processes = {"sandbox": sandbox}
        processes["worker"] = started("worker", "--processes", "1", "--concurrency", "4", **environment)
        processes["SMTP door"] = started(
            "smtp", "--port", "0", "--json", POSTROOM_SMTP_ALLOW="127.0.0.1", **environment
        )
        processes["API"] = started("api", "--json", "--port", "0", **environment)
        api = {"API": json.loads(_first_line(processes["API"], "API"))["url"], "API_KEY": _fresh_key(environment)}
        environment |= _smtp_server(json.loads(_first_line(processes["SMTP door"], "SMTP door")))
        yield LocalStack(environment, address, api, processes)


def _smtp_server(address: Mapping[str, Any]) -> dict[str, str]:
    """As many applications call it in their own settings."""
    return {"SMTP_HOST": str(address["host"]), "SMTP_PORT": str(address["port"])}


def _fresh_key(environment: Mapping[str, str]) -> str:
    """A key for everything, which the next start revokes."""
    keys = ApiKeys(connect(environment["POSTROOM_REDIS_URL"], timeout_s=5.0, name="postroom-place"))
    with suppress(KeyFault):
        keys.revoke("dev")
    return keys.create("dev", Scope)[1]


def _environment(address: Mapping[str, str]) -> dict[str, str]:
    return {
        "POSTROOM_TENANT_ID": address["tenant_id"],
        "POSTROOM_CLIENT_ID": address["client_id"],
        "POSTROOM_CLIENT_SECRET": address["client_secret"],
        "POSTROOM_AUTHORITY_URL": address["authority_url"],
        "POSTROOM_GRAPH_URL": address["graph_url"],
        "POSTROOM_CA_BUNDLE": address["ca_file"],
    }


def write_variables(file: Path, environment: Mapping[str, str]) -> None:
    """Writes a file that a shell reads with `. FILE`; others may not read it."""
    file.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    file.write_text("".join(lines), encoding="utf-8")


@contextmanager
def _process(
    arguments: tuple[str, ...], settings: Mapping[str, str], folder: Path, log: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    # Neither this shell's settings nor a .env beside it may lead a demo to a real mailbox, hence also the folder.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "AZURE_"))}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "postroom", *arguments],
        env={**clean, **settings, PARENT: str(os.getpid())},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # The first signal lets it finish what it does, the second does not.
    for end, patience_s in ((process.terminate, 10), (process.terminate, 5), (process.kill, None)):
        end()
        try:
            process.wait(timeout=patience_s)
            break
        except subprocess.TimeoutExpired:
            continue
    if process.stdout:
        process.stdout.close()


def _first_line(process: "subprocess.Popen[bytes]", what: str) -> bytes:
    """What a server says once it listens; kills it if it says nothing in time."""
    timer = threading.Timer(STARTUP_S, process.kill)
    timer.start()
    try:
        line: bytes = process.stdout.readline() if process.stdout else b""
    finally:
        timer.cancel()
    if not line:
        raise NotStarted(f"the {what} did not start (exit {process.wait()})")
    return line
