"""The commands that serve until they are stopped: `worker`, `smtp`, `sandbox`."""

import json
import os
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from postroom.access.smtp_logins import hashed
from postroom.cli.local_stack import addresses
from postroom.cli.options import JSON, fail, json_option
from postroom.cli.output import to_json_text
from postroom.cli.printable import say
from postroom.errors import ConfigError, Unavailable
from postroom.runtime.supervisor import MOST_SLOTS, PREFORK_SLOTS, SLOTS, supervise, worker_command
from postroom.settings.loading import load_settings
from postroom.settings.model import Settings
from postroom.store.connection import connect
from postroom.store.server_check import redis_faults
from postroom.telemetry.events import Emit

# At least two, so that mail continues while one starts or dies. At most four: more than that one Redis cannot handle.
PROCESSES = min(4, max(2, os.cpu_count() or 1))


DOOR_PROCESSES = click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many share the port."
)
# Sockets that a process of a door inherits, see `_share`.
FDS = click.option("--fd", "fds", type=int, multiple=True, hidden=True)


@click.command()
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=PROCESSES,
    show_default="one a core, 2 at least and 4 at most",
    help="How many.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_SLOTS),
    show_default=f"{SLOTS}, or {PREFORK_SLOTS} processes",
    help="Mails that each process sends at once.",
)
@click.option(
    "--pool",
    type=click.Choice(["threads", "prefork"]),
    default="threads",
    show_default=True,
    help="threads: all mails of a process in its threads; prefork: one process for each mail at a time.",
)
def worker(processes: int, concurrency: int | None, pool: str) -> None:
    """Deliver mail: several Celery workers, restarted when they die.

    Each worker sends many mails at once, because most of the time a mail only waits for Graph. Stop with SIGTERM or
    Ctrl-C: each worker finishes the mails that it is sending. A second signal stops at once.
    """
    from postroom.telemetry import logs  # noqa: PLC0415 - takes longer than most commands
    from postroom.wiring import worker_faults  # noqa: PLC0415 - the same

    settings = load_settings()
    if faults := worker_faults(settings, datetime.now(UTC)) or _redis_faults(settings):
        raise ConfigError(faults)
    emit = logs.start(settings.log_format)
    slots = concurrency or (SLOTS if pool == "threads" else PREFORK_SLOTS)
    sys.exit(supervise(processes, lambda number: worker_command(number, slots, pool), emit))


def _redis_faults(settings: Settings) -> list[str]:
    """What makes this Redis useless. None where it is away: the workers wait for it."""
    try:
        with connect(settings.redis_url, timeout_s=3.0, name="postroom-check") as client:
            return redis_faults(client)
    except Unavailable:
        return []


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--state", type=click.Path(path_type=Path), help="Keep the CA in this folder over restarts.")
@click.option("--public-host", help="The name that clients call it by, where that is not HOST.")
@click.option("--latency", type=click.FloatRange(0, 60), default=0.0, show_default=True, help="Seconds of each answer.")
@click.option("--fault", "faults", multiple=True, help="A fault rule as JSON, as the inbox page's form makes them.")
@JSON
def sandbox(
    host: str,
    port: int,
    state: Path | None,
    public_host: str | None,
    latency: float,
    faults: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve the stand-in for Entra and Graph, until Ctrl-C.

    It has an inbox page. Prints the settings that a worker needs to use it.
    """
    try:
        from postroom.sandbox import SandboxAddress, SandboxOptions, serve  # noqa: PLC0415 - an extra
    except ImportError as error:
        fail(1, f"The sandbox needs {error.name}: pip install 'postroom[sandbox]'")

    def tell(address: SandboxAddress) -> None:
        text = json.dumps(address.to_json()) if as_json else addresses(address)
        say(text)
        sys.stdout.flush()

    options = SandboxOptions(
        host=host,
        port=port,
        folder=state,
        public_host=public_host,
        latency=latency,
        faults=tuple(json_option("--fault", text) for text in faults),
    )
    try:
        serve(options, tell)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
    except OSError as error:
        fail(1, f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=2525, show_default=True, help="0 takes a free one.")
@click.option("--tls-port", type=click.IntRange(0, 65535), help="Another port, with TLS from the first byte.")
@DOOR_PROCESSES
@FDS
@JSON
@click.pass_context
def smtp(
    ctx: click.Context,
    host: str,
    port: int,
    tls_port: int | None,
    processes: int,
    fds: tuple[int, ...],
    as_json: bool,
) -> None:
    """Take mail in by SMTP, until SIGTERM or Ctrl-C.

    For applications that send by SMTP. Prints its address when it listens. After the signal, running transactions are
    finished.
    """
    if ctx.invoked_subcommand:
        return
    from postroom.telemetry import logs  # noqa: PLC0415 - takes longer than most commands

    try:
        from postroom.smtp.server import listeners, serve  # noqa: PLC0415 - an extra
    except ImportError as error:
        fail(1, f"The SMTP door needs {error.name}: pip install 'postroom[smtp]'")
    settings = load_settings()
    if faults := settings.smtp_faults(over_tls=tls_port is not None) or _redis_faults(settings):
        raise ConfigError(faults)

    def tell(scheme: str, at: str, number: int) -> None:
        say(json.dumps({"scheme": scheme, "host": at, "port": number}) if as_json else f"{scheme}://{at}:{number}")
        sys.stdout.flush()

    emit = logs.start(settings.log_format)
    if fds:
        serve(settings, [socket.socket(fileno=fd) for fd in fds], emit, lambda *_: None)
        return
    sockets = listeners(host, port, tls_port)
    if processes == 1:
        serve(settings, sockets, emit, tell)
        return
    for scheme, sock in zip(("smtp", "smtps"), sockets, strict=False):
        tell(scheme, *sock.getsockname()[:2])
    _share("smtp", sockets, processes, emit)


@smtp.command()
def password() -> None:
    """Print the hash of a password, for postroom.toml.

    Asks for the password, or reads it from a pipe.
    """
    if sys.stdin.isatty():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        fail(2, "No password was given.")
    say(f'password_hash = "{hashed(given)}"')


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy in front, or a network of such, whose X-Forwarded-For names the client; may be given several times.",
)
@DOOR_PROCESSES
@FDS
@JSON
def api(host: str, port: int, proxies: tuple[str, ...], processes: int, fds: tuple[int, ...], as_json: bool) -> None:
    """Serve the HTTP API, until SIGTERM or Ctrl-C.

    Prints its address when it listens. After the first signal it finishes the requests that it has begun, within 30 s.
    A second signal stops it at once. `postroom keys create` makes the keys that clients need.
    """
    try:
        from postroom.api import ApiOptions, listen, open_services, serve, url_of  # noqa: PLC0415 - an extra
    except ImportError as error:
        fail(1, f"The API needs {error.name}: pip install 'postroom[api]'")
    from postroom.telemetry import logs  # noqa: PLC0415 - takes longer than most commands

    settings = load_settings()
    if faults := _redis_faults(settings):
        raise ConfigError(faults)
    emit = logs.start(settings.log_format)
    services = open_services(settings, emit)
    options = ApiOptions(host=host, port=port, proxies=proxies, fd=next(iter(fds), None))

    def show(url: str) -> None:
        say(to_json_text({"url": url}, indent=None) if as_json else f"The API listens on {url}")
        sys.stdout.flush()

    def tell(url: str) -> None:
        if not fds:
            show(url)
        services.emit("api.ready", rules=len(services.rules.rules) if services.rules else 0)

    try:
        if processes == 1 or fds:
            serve(options, services, tell)
            return
        sock = listen(options)
    except OSError as error:
        fail(1, str(error.strerror or error))
    show(url_of(options, sock))
    _share("api", [sock], processes, emit, *(f"--proxy={proxy}" for proxy in proxies), f"--host={host}")


def _share(door: str, sockets: Sequence[socket.socket], processes: int, emit: Emit, *options: str) -> NoReturn:
    """Runs so many processes of a door that share these sockets. Ends this process when they have ended."""
    fds = [sock.fileno() for sock in sockets]
    command = [sys.executable, "-m", "postroom", door, *options, *(f"--fd={fd}" for fd in fds)]
    sys.exit(supervise(processes, lambda _: command, emit, fds))
