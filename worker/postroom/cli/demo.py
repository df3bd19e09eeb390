"""`postroom demo` and `postroom dev`: a Redis, the sandbox, a worker and the API as processes on free ports."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import requests
from rich.console import Console
from rich.markup import escape

from postroom.cli.job_output import job_summary
from postroom.cli.local_stack import (
    SENDER,
    LocalStack,
    NotStarted,
    everything,
    starter_rules,
    starter_templates,
    write_variables,
)
from postroom.cli.output import open_console, printed
from postroom.client import Client
from postroom.jobs.job import Status
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.store import embedded
from postroom.store.celery_urls import celery_urls
from postroom.store.connection import connect
from postroom.store.ledger import Ledger

REFUSED = "nobody@fabrikam.com"


@click.command()
def demo() -> None:
    """Send a few mails through Postroom and show their way.

    Starts a Redis, the sandbox, a worker and the doors on free ports, and stops them again.
    """
    sys.exit(run_demo())


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".postroom"),
    show_default=True,
    help="Where jobs and the sandbox's CA are kept.",
)
def dev(folder: Path) -> None:
    """Run all of Postroom on this machine, until Ctrl-C.

    Starts a Redis, the sandbox, a worker and the API, and prints how to use them. Their settings are written to
    FOLDER/env, the API's address and a key for it to FOLDER/api. Templates are taken from ./templates and rules for
    events from ./events.toml. If these do not exist, Postroom's own examples are used.
    """
    sys.exit(run_dev(folder))


def run_demo() -> int:
    """Sends a mail from each kind of producer and shows how it ended. Returns the exit code."""
    console, code = open_console(markup=True), 1
    with tempfile.TemporaryDirectory(prefix="postroom-demo-") as name, _stoppable(console):
        folder = Path(name)
        console.print("[bold]Starting[/] a Redis, the sandbox, a worker and the doors on free ports …\n")
        with (folder / "log").open("wb") as log:
            try:
                with everything(folder, starter_templates(), log) as place:
                    code = _show_mails(place, console)
            except (NotStarted, TimeoutError) as error:
                console.print(f"[red]{escape(str(error))}.[/] What its parts said:")
                console.print(printed((folder / "log").read_text(encoding="utf-8", errors="replace")))
    if code == 0:
        console.print("Everything is stopped again. [bold]postroom dev[/] keeps such a place up, with an inbox page.")
    return code


def run_dev(folder: Path) -> int:
    """Runs until Ctrl-C. Returns the exit code."""
    os.umask(0o077)  # mail and secrets lie in the folder; this is for all processes that start here
    console, here = open_console(markup=True), Path("templates").resolve()
    templates = here if here.is_dir() else starter_templates()
    rules = Path("events.toml").resolve()
    rules = rules if rules.is_file() else starter_rules()
    with _stoppable(console), _alone_in(folder), everything(folder.resolve(), templates, None, rules) as place:
        write_variables(folder / "env", place.environment)
        write_variables(folder / "api", place.api)
        _tell(console, folder, templates, place)
        place.watch()
    return 0


@contextmanager
def _stoppable(console: Console) -> Iterator[None]:
    """Ctrl-C, SIGTERM or a closed terminal end the block cleanly; further signals are ignored then."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotStarted(f"another `postroom dev` uses {folder}; stop that, or give this one a --folder") from None
        except OSError as error:
            raise NotStarted(f"cannot keep anything in {folder}: {error.strerror}; choose another --folder") from None
        yield


def _tell(console: Console, folder: Path, templates: Path, place: LocalStack) -> None:
    content = "--template welcome --var name=Ann" if (templates / "welcome").is_dir() else "--subject Hello --text Hi"
    commands = [f". {shlex.quote(str(folder / 'env'))}", f"postroom send --to you@contoso.com {content} --wait"]
    if sys.prefix != sys.base_prefix:
        commands.insert(0, f". {shlex.quote(min(os.path.relpath(sys.prefix), sys.prefix, key=len))}/bin/activate")
    console.print(f"[bold]Inbox[/]      {place.sandbox['inbox_url']}  [dim](it signs its certificate itself)[/]")
    console.print(
        f"[bold]API[/]        {place.api['API']}  [dim](a key for it: {escape(str(folder / 'api'))})[/]", soft_wrap=True
    )
    console.print(
        f"[bold]SMTP[/]       {place.environment['SMTP_HOST']}:{place.environment['SMTP_PORT']}", highlight=False
    )
    console.print(f"[bold]Templates[/]  {escape(str(templates))}", soft_wrap=True)
    console.print(f"[bold]Kept in[/]    {escape(str(folder.resolve()))}\n", soft_wrap=True)
    console.print("In another terminal:\n")
    for command in commands:
        console.print(printed(f"  {command}"), soft_wrap=True)
    console.print("\nTo try there how Microsoft 365 is set up (the sandbox's page /device takes the code):\n")
    console.print("  postroom setup app --senders mail-senders@contoso.com --settings setup.env", soft_wrap=True)
    console.print("\nCtrl-C stops all of it. [dim]What follows are the logs of the worker and the doors.[/]")
    sys.stdout.flush()


# The demo's mails: one from each kind of producer, and one that Graph refuses.


def _show_mails(place: LocalStack, console: Console) -> int:
    client = Client(Ledger(connect(place.redis_url, timeout_s=3.0, name="postroom-demo")), Address.parse(SENDER))
    with _sandbox(place) as sandbox:
        sandbox.add_fault(recipient=REFUSED, status=400, code="ErrorInvalidRecipients")
        sent = [
            ("Python client: from postroom import Client", _by_client(client)),
            ("plain Celery: send_task('postroom.send')", _by_celery(place)),
            ("command line: postroom send", _by_command_line(place)),
            ("HTTP: POST /v1/events, an event that a rule makes a mail of", _by_event(place)),
            ("a mail that Graph refuses", _refused(client)),
        ]
        ended = []
        for producer, job_id in sent:
            delivery = client.wait(job_id, timeout=20)
            ended.append(delivery.status)
            console.print(f"[bold]{producer}[/]")
            console.print(job_summary(delivery))
            console.print()
        console.print("[bold]The sandbox's inbox[/]")
        for mail in sandbox.messages():
            console.print(printed(f"  to {', '.join(mail.to)}: {mail.subject}"))
    if ended != [*[Status.ACCEPTED] * 4, Status.DEAD]:
        console.print("\n[red]Not every mail ended as it should have.[/]")
        return 1
    console.print("\n[green]Four mails accepted by Graph, and one dead letter with Graph's reason.[/]")
    return 0


def _by_client(client: Client) -> str:
    mail = Mail(
        to=["Ann Lee <ann@contoso.com>"],
        template="provisioning_completed",
        variables=json.loads(_sample("provisioning_completed").read_text(encoding="utf-8")),
    )
    return client.send(mail, key="site-ready/42").id


def _by_celery(place: LocalStack) -> str:
    from celery import Celery  # noqa: PLC0415 - like a producer that knows only Celery

    producer = Celery(broker=celery_urls(place.redis_url).broker)
    mail = {"from": SENDER, "to": ["bob@contoso.com"], "subject": "Nightly report", "text": "All is well."}
    job_id = str(producer.send_task("postroom.send", args=[mail], queue="postroom", ignore_result=True).id)
    producer.close()
    return job_id


def _by_command_line(place: LocalStack) -> str:
    welcome = ["--to", "cora@contoso.com", "--template", "welcome", "--vars", str(_sample("welcome"))]
    command = [sys.executable, "-m", "postroom", "send", *welcome, "--key", "welcome/cora"]
    folder = Path(place.redis_url.removeprefix(embedded.SCHEME))
    run = subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **place.environment}, cwd=folder, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise NotStarted(f"postroom send failed: {run.stderr.strip()}")
    return run.stdout.strip()


def _by_event(place: LocalStack) -> str:
    event = (starter_rules().parent / "events/failed.json").read_bytes()
    headers = {"Authorization": f"Bearer {place.api['API_KEY']}", "Content-Type": "application/cloudevents+json"}
    answer = requests.post(f"{place.api['API']}/v1/events", data=event, headers=headers, timeout=10)
    if answer.status_code != 202:
        raise NotStarted(f"the API did not take the event: {answer.text}")
    return str(answer.json()["results"][0]["mails"][0]["id"])


def _refused(client: Client) -> str:
    return client.send(Mail(to=[REFUSED], subject="To somebody who is not there", text="Hello?")).id


def _sandbox(place: LocalStack) -> Any:
    from postroom.sandbox.control import Sandbox  # noqa: PLC0415 - needs the sandbox extra

    return Sandbox(place.sandbox["url"], place.sandbox["ca_file"])


def _sample(template: str) -> Path:
    return starter_templates() / template / "sample.json"
