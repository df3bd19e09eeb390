"""All of Postroom on one machine: a Redis, the sandbox, a worker and the doors, each as a process, on free ports."""

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

from postroom.access.api_keys import ApiKeys, KeyFault
from postroom.access.rights import Scope
from postroom.errors import PostroomError
from postroom.runtime.parent_watch import PARENT
from postroom.store import embedded
from postroom.store.connection import connect

SENDER = "noreply@contoso.com"
STARTUP_S = 20.0


class NotStarted(PostroomError):
    """A process did not start, or ended unexpectedly."""


@dataclass(frozen=True, slots=True)
class LocalStack:
    """The running processes: their settings as environment variables, and their addresses.

    `api` has the HTTP API's URL and a key for it, as variables for a shell. These are not settings.
    """

    environment: Mapping[str, str]
    sandbox: Mapping[str, str]
    api: Mapping[str, str]
    processes: Mapping[str, "subprocess.Popen[bytes]"]

    @property
    def redis_url(self) -> str:
        return self.environment["POSTROOM_REDIS_URL"]

    def watch(self) -> None:
        """Waits for ever. Raises NotStarted when a process has ended unexpectedly."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise NotStarted(f"the {name} has ended (exit {process.returncode})")
            time.sleep(0.5)


def addresses(address: Any) -> str:
    """The settings with which a worker uses the sandbox."""
    return "\n".join(f"{name}={value}" for name, value in _environment(address.to_json()).items())


def starter_templates() -> Path:
    """The folder of Postroom's own templates: in the package, or in the checkout from which it runs."""
    packaged = Path(__file__).parents[1] / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "templates"


def starter_rules() -> Path:
    """The file of Postroom's own rules for events; its samples are in the folder `events` next to it."""
    packaged = Path(__file__).parents[1] / "examples"
    return (packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples") / "events.toml"


@contextmanager
def everything(folder: Path, templates: Path, log: Any, rules: Path | None = None) -> Iterator[LocalStack]:
    """Runs Redis, sandbox, worker and doors, and stops them in reverse order when the block ends.

    Their output goes to `log`. `rules` is the file of rules for events, by default Postroom's own.
    """
    with ExitStack() as stack:
        for part in ("redis", "sandbox"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part).chmod(0o700)  # another version may have made it for all to read
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
    """The SMTP server's address, under the names that many applications use in their settings."""
    return {"SMTP_HOST": str(address["host"]), "SMTP_PORT": str(address["port"])}


def _fresh_key(environment: Mapping[str, str]) -> str:
    """A new API key with all rights. The next start revokes it."""
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
    """Writes a file that a shell reads with `. FILE`. Other users may not read it."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    file.write_text("".join(lines), encoding="utf-8")


@contextmanager
def _process(
    arguments: tuple[str, ...], settings: Mapping[str, str], folder: Path, log: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    # Neither this shell's settings nor a .env file may lead a demo to a real mailbox. So the folder is changed too.
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
    # After the first signal it finishes its work, after the second it ends at once.
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
    """The line that a server prints when it listens. Kills the server if it prints nothing in time."""
    timer = threading.Timer(STARTUP_S, process.kill)
    timer.start()
    try:
        line: bytes = process.stdout.readline() if process.stdout else b""
    finally:
        timer.cancel()
    if not line:
        raise NotStarted(f"the {what} did not start (exit {process.wait()})")
    return line
