"""A mail room on one machine: a Redis, the sandbox, a worker and doors as processes of their own, on free ports."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom import embedded
from postroom.errors import PostroomError
from postroom.parent import PARENT

SENDER = "noreply@contoso.com"
STARTUP_S = 20.0


class NotStarted(PostroomError):
    """A part of the mail room did not come up, or went down by itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """A running set of everything: its settings as environment variables, and the sandbox's address."""

    environment: Mapping[str, str]
    sandbox: Mapping[str, str]
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
    packaged = Path(__file__).parent / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "templates"


@contextmanager
def everything(folder: Path, templates: Path, log: Any) -> Iterator[Place]:
    """Redis, sandbox, worker, doors: all stopped when the block ends, in reverse order. `log` gets what they say."""
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
            "POSTROOM_LOG_FORMAT": "console",
        }
        worker = started("worker", "--processes", "1", "--concurrency", "4", **environment)
        smtp = started("smtp", "--port", "0", "--json", POSTROOM_SMTP_ALLOW="127.0.0.1", **environment)
        environment |= _smtp_server(json.loads(_first_line(smtp, "SMTP door")))
        yield Place(environment, address, {"sandbox": sandbox, "worker": worker, "SMTP door": smtp})


def _smtp_server(found: Mapping[str, Any]) -> dict[str, str]:
    """As many applications call it in their own settings."""
    return {"SMTP_HOST": str(found["host"]), "SMTP_PORT": str(found["port"])}


def _environment(address: Mapping[str, str]) -> dict[str, str]:
    return {
        "POSTROOM_TENANT_ID": address["tenant_id"],
        "POSTROOM_CLIENT_ID": address["client_id"],
        "POSTROOM_CLIENT_SECRET": address["client_secret"],
        "POSTROOM_AUTHORITY_URL": address["authority_url"],
        "POSTROOM_GRAPH_URL": address["graph_url"],
        "POSTROOM_CA_BUNDLE": address["ca_file"],
    }


def write_settings(file: Path, environment: Mapping[str, str]) -> None:
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    file.write_text("".join(lines), encoding="utf-8")


@contextmanager
def _process(
    arguments: tuple[str, ...], settings: Mapping[str, str], folder: Path, log: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    # Neither this shell's settings nor a .env beside it may lead a demo to a real mailbox, hence also the folder.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "AZURE_"))}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "postroom.cli", *arguments],
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
