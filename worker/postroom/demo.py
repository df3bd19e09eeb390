"""`postroom demo` and `postroom dev`: a Redis, the sandbox and a worker as processes of their own, on free ports."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from postroom import embedded, show
from postroom.client import Client
from postroom.connections import celery_urls, connect
from postroom.job import Status
from postroom.ledger import Ledger
from postroom.mail import Address, Mail

SENDER = "noreply@contoso.com"
REFUSED = "nobody@fabrikam.com"
STARTUP_S = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """A running set of everything: its settings as environment variables, and the sandbox's address."""

    environment: Mapping[str, str]
    sandbox: Mapping[str, str]

    @property
    def redis_url(self) -> str:
        return self.environment["POSTROOM_REDIS_URL"]


def demo() -> int:
    """Sends a mail from each kind of producer and shows each one's way; the exit code."""
    console = show.console()
    with tempfile.TemporaryDirectory(prefix="postroom-demo-") as folder:
        console.print("[bold]Starting[/] a Redis, the sandbox and a worker on free ports …")
        with everything(Path(folder), processes=1, quiet=True) as place:
            try:
                return _show_mails(place, console)
            except TimeoutError as error:
                console.print(f"[red]{error}[/] What the sandbox and the worker said:")
                console.print((Path(folder) / "log").read_text(encoding="utf-8"), markup=False)
                return 1


def dev(folder: Path) -> int:
    """Stays up until Ctrl-C; the exit code."""
    console = show.console()
    with everything(folder, processes=1, quiet=False) as place:
        console.print(f"[bold]Inbox[/]     {place.sandbox['inbox_url']}")
        console.print(f"[bold]Redis[/]     {place.redis_url}")
        console.print("[bold]Settings[/]  for your shell, or as they stand for a .env file:\n")
        for name, value in place.environment.items():
            console.print(f"export {name}={value}", soft_wrap=True)
        console.print(
            f"\nTry: postroom send --to you@contoso.com --template welcome --vars {_sample('welcome')} --wait"
        )
        console.print("[dim]Ctrl-C stops all of it.[/]")
        sys.stdout.flush()
        _until_interrupted()
    return 0


def addresses(address: Any) -> str:
    """The sandbox's address as settings of a worker."""
    return "\n".join(f"{name}={value}" for name, value in _environment(address.to_json()).items())


@contextmanager
def everything(folder: Path, *, processes: int, quiet: bool) -> Iterator[Place]:
    """Redis, sandbox and worker, all stopped when the block ends, in the reverse order."""
    with ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        redis_url = f"embedded:{folder / 'redis'}"
        embedded.ensure(folder / "redis")
        stack.callback(embedded.stop, folder / "redis")
        log = None if not quiet else stack.enter_context((folder / "log").open("wb"))
        start = [sys.executable, "-m", "postroom.cli"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "AZURE_"))}
        sandbox = _process([*start, "sandbox", "--json", "--state", str(folder / "sandbox")], clean, stack, stderr=log)
        address = json.loads(_first_line(sandbox, "sandbox"))
        environment = {"POSTROOM_REDIS_URL": redis_url, "POSTROOM_SENDER": SENDER, **_environment(address)}
        if not quiet:
            environment["POSTROOM_LOG_FORMAT"] = "console"
        workers = [*start, "worker", "--processes", str(processes), "--concurrency", "4"]
        _process(workers, {**clean, **environment}, stack, stderr=log)
        yield Place(environment, address)


def _environment(address: Mapping[str, str]) -> dict[str, str]:
    return {
        "POSTROOM_TENANT_ID": address["tenant_id"],
        "POSTROOM_CLIENT_ID": address["client_id"],
        "POSTROOM_CLIENT_SECRET": address["client_secret"],
        "POSTROOM_AUTHORITY_URL": address["authority_url"],
        "POSTROOM_GRAPH_URL": address["graph_url"],
        "POSTROOM_CA_BUNDLE": address["ca_file"],
    }


@contextmanager
def _stopped(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _process(
    command: list[str], environment: Mapping[str, str], stack: ExitStack, *, stderr: Any
) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    )
    stack.enter_context(_stopped(process))
    return process


def _first_line(process: "subprocess.Popen[bytes]", what: str) -> bytes:
    """What a server says once it listens; kills it if it says nothing in time."""
    timer = threading.Timer(STARTUP_S, process.kill)
    timer.start()
    try:
        line: bytes = process.stdout.readline() if process.stdout else b""
    finally:
        timer.cancel()
    if not line:
        raise SystemExit(f"The {what} did not start (exit {process.wait()}).")
    return line


def _until_interrupted() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


# The demo's mails: one from each kind of producer, and one that Graph refuses.


def _show_mails(place: Place, console: Console) -> int:
    client = Client(Ledger(connect(place.redis_url, timeout_s=3.0, name="postroom-demo")), Address.parse(SENDER))
    _refuse_one(place)
    sent = [
        ("Python client: from postroom import Client", _by_client(client)),
        ("plain Celery: send_task('postroom.send')", _by_celery(place)),
        ("command line: postroom send", _by_command_line(place)),
        ("a mail that Graph refuses", _refused(client)),
    ]
    console.print(f"[bold]Inbox[/] {place.sandbox['inbox_url']} [dim](while the demo runs)[/]\n")
    ended = []
    for producer, job_id in sent:
        delivery = client.wait(job_id, timeout=20)
        ended.append(delivery)
        console.print(f"[bold]{producer}[/]")
        console.print(show.job(delivery))
    right = [Status.ACCEPTED, Status.ACCEPTED, Status.ACCEPTED, Status.DEAD]
    if [delivery.status for delivery in ended] != right:
        console.print("[red]Not every mail ended as it should have.[/]")
        return 1
    console.print("[green]Three mails accepted by Graph (202), one dead letter with Graph's reason. All stopped.[/]")
    return 0


def _by_client(client: Client) -> str:
    mail = Mail(
        to=["Ann Lee <ann@contoso.com>"],
        template="provisioning_completed",
        variables=json.loads(_sample("provisioning_completed").read_text(encoding="utf-8")),
    )
    return client.send(mail, key="site-ready/42").id


def _by_celery(place: Place) -> str:
    from celery import Celery  # noqa: PLC0415 - as a producer would that knows nothing else

    producer = Celery(broker=celery_urls(place.redis_url).broker)
    mail = {"from": SENDER, "to": ["bob@contoso.com"], "subject": "Nightly report", "text": "All is well."}
    job_id = str(producer.send_task("postroom.send", args=[mail], queue="postroom", ignore_result=True).id)
    producer.close()
    return job_id


def _by_command_line(place: Place) -> str:
    welcome = ["--to", "cora@contoso.com", "--template", "welcome", "--vars", str(_sample("welcome"))]
    command = [sys.executable, "-m", "postroom.cli", "send", *welcome, "--key", "welcome/cora"]
    run = subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **place.environment}, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def _refused(client: Client) -> str:
    return client.send(Mail(to=[REFUSED], subject="To somebody who is not there", text="Hello?")).id


def _refuse_one(place: Place) -> None:
    from postroom.sandbox.control import Sandbox  # noqa: PLC0415 - needs the sandbox extra

    with Sandbox(place.sandbox["url"], place.sandbox["ca_file"]) as sandbox:
        sandbox.add_fault(recipient=REFUSED, status=400, code="ErrorInvalidRecipients")


def _sample(template: str) -> Path:
    return Path("templates") / template / "sample.json"
