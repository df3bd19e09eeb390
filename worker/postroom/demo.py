"""`postroom demo` and `postroom dev`: a Redis, the sandbox and a worker as processes of their own, on free ports."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from postroom import embedded, show
from postroom.client import Client
from postroom.connections import celery_urls, connect
from postroom.errors import PostroomError
from postroom.job import Status
from postroom.ledger import Ledger
from postroom.mail import Address, Mail

SENDER = "noreply@contoso.com"
REFUSED = "nobody@fabrikam.com"
STARTUP_S = 20.0
PARENT = "_POSTROOM_PARENT"  # tells a process that it was started here, and by whom; without that one it ends


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


def demo() -> int:
    """Sends a mail from each kind of producer and shows each one's way; the exit code."""
    console, code = show.console(), 1
    with tempfile.TemporaryDirectory(prefix="postroom-demo-") as name, _stoppable(console):
        folder = Path(name)
        console.print("[bold]Starting[/] a Redis, the sandbox and a worker on free ports …\n")
        with (folder / "log").open("wb") as log:
            try:
                with everything(folder, starter_templates(), log) as place:
                    code = _show_mails(place, console)
            except (NotStarted, TimeoutError) as error:
                console.print(f"[red]{error}.[/] What the sandbox and the worker said:")
                console.print((folder / "log").read_text(encoding="utf-8"), markup=False)
    if code == 0:
        console.print("Everything is stopped again. [bold]postroom dev[/] keeps such a place up, with an inbox page.")
    return code


def dev(folder: Path) -> int:
    """Stays up until Ctrl-C; the exit code."""
    console, here = show.console(), Path("templates").resolve()
    templates = here if here.is_dir() else starter_templates()
    with _stoppable(console), _alone_in(folder), everything(folder.resolve(), templates, None) as place:
        write_settings(folder / "env", place.environment)
        _tell(console, folder, templates, place)
        place.watch()
    return 0


def addresses(address: Any) -> str:
    """The sandbox's address as settings of a worker."""
    return "\n".join(f"{name}={value}" for name, value in _environment(address.to_json()).items())


def starter_templates() -> Path:
    """The templates that Postroom comes with: in the package, or in the checkout that it is run from."""
    packaged = Path(__file__).parent / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "templates"


@contextmanager
def everything(folder: Path, templates: Path, log: Any) -> Iterator[Place]:
    """Redis, sandbox and worker, all stopped when the block ends, in the reverse order; `log` takes what they say."""
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
        yield Place(environment, address, {"sandbox": sandbox, "worker": worker})


def end_with_parent() -> None:
    """Ends this process in order once the demo that started it is gone, however that went."""
    if not (parent := int(os.environ.pop(PARENT, "0"))):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


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
def _stoppable(console: Console) -> Iterator[None]:
    """Ctrl-C, SIGTERM or a closed terminal end the block in order; a second one does not disturb that."""
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


# What `postroom dev` tells.


def write_settings(file: Path, environment: Mapping[str, str]) -> None:
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    file.write_text("".join(lines), encoding="utf-8")


def _tell(console: Console, folder: Path, templates: Path, place: Place) -> None:
    content = "--template welcome --var name=Ann" if (templates / "welcome").is_dir() else "--subject Hello --text Hi"
    commands = [f". {shlex.quote(str(folder / 'env'))}", f"postroom send --to you@contoso.com {content} --wait"]
    if sys.prefix != sys.base_prefix:
        commands.insert(0, f". {shlex.quote(min(os.path.relpath(sys.prefix), sys.prefix, key=len))}/bin/activate")
    console.print(f"[bold]Inbox[/]      {place.sandbox['inbox_url']}  [dim](it signs its certificate itself)[/]")
    console.print(f"[bold]Templates[/]  {templates}", soft_wrap=True)
    console.print(f"[bold]Kept in[/]    {folder.resolve()}\n", soft_wrap=True)
    console.print("In another terminal:\n")
    for command in commands:
        console.print(f"  {command}", soft_wrap=True)
    console.print("\nCtrl-C stops all of it. [dim]What follows is the worker's log.[/]")
    sys.stdout.flush()


# The demo's mails: one from each kind of producer, and one that Graph refuses.


def _show_mails(place: Place, console: Console) -> int:
    client = Client(Ledger(connect(place.redis_url, timeout_s=3.0, name="postroom-demo")), Address.parse(SENDER))
    with _sandbox(place) as sandbox:
        sandbox.add_fault(recipient=REFUSED, status=400, code="ErrorInvalidRecipients")
        sent = [
            ("Python client: from postroom import Client", _by_client(client)),
            ("plain Celery: send_task('postroom.send')", _by_celery(place)),
            ("command line: postroom send", _by_command_line(place)),
            ("a mail that Graph refuses", _refused(client)),
        ]
        ended = []
        for producer, job_id in sent:
            delivery = client.wait(job_id, timeout=20)
            ended.append(delivery.status)
            console.print(f"[bold]{producer}[/]")
            console.print(show.way(delivery))
            console.print()
        console.print("[bold]The sandbox's inbox[/]")
        for mail in sandbox.messages():
            console.print(f"  to {', '.join(mail.to)}: {mail.subject}", markup=False)
    if ended != [Status.ACCEPTED, Status.ACCEPTED, Status.ACCEPTED, Status.DEAD]:
        console.print("\n[red]Not every mail ended as it should have.[/]")
        return 1
    console.print("\n[green]Three mails accepted by Graph, and one dead letter with Graph's reason.[/]")
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
    folder = Path(place.redis_url.removeprefix(embedded.SCHEME))
    run = subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **place.environment}, cwd=folder, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise NotStarted(f"postroom send failed: {run.stderr.strip()}")
    return run.stdout.strip()


def _refused(client: Client) -> str:
    return client.send(Mail(to=[REFUSED], subject="To somebody who is not there", text="Hello?")).id


def _sandbox(place: Place) -> Any:
    from postroom.sandbox.control import Sandbox  # noqa: PLC0415 - needs the sandbox extra

    return Sandbox(place.sandbox["url"], place.sandbox["ca_file"])


def _sample(template: str) -> Path:
    return starter_templates() / template / "sample.json"
