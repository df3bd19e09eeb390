"""The command line: `postroom COMMAND`. Exit codes: 0 ok, 1 failed, 2 wrong usage or settings."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from postroom.access.smtp_logins import hashed
from postroom.cli import api as api_commands
from postroom.cli import operate
from postroom.cli import output as show
from postroom.cli.bulk import bulk
from postroom.cli.local_stack import addresses
from postroom.cli.options import JSON, duration_option, fail, json_option, pairs, time_option
from postroom.client import Client
from postroom.errors import ConfigError, InvalidMail, PostroomError
from postroom.jobs.job import Delivery, Receipt, Status
from postroom.mail.address import Address
from postroom.mail.model import Attachment, Mail, Priority
from postroom.runtime.parent_watch import end_with_parent
from postroom.runtime.supervisor import CHILDREN, HANDS, MOST_HANDS, supervise
from postroom.settings.loading import load_settings
from postroom.settings.model import Settings
from postroom.store.connection import connect, weaknesses
from postroom.store.operator import Order
from postroom.store.queries import Records

# One that starts or dies never stops all mail; and four send more than one Redis takes.
PROCESSES = min(4, max(2, os.cpu_count() or 1))


class _Group(click.Group):
    """Our errors are answers, not tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            fail(2, "The settings are wrong:", *(f"  {fault}" for fault in error.faults))
        except InvalidMail as error:
            fail(2, "This cannot be sent:", *(f"  {fault}" for fault in error.faults))
        except PostroomError as error:
            fail(1, str(error))
        except OSError as error:
            if error.filename is None:  # a closed pipe, for instance, which click sees to
                raise
            fail(1, f"{error.filename}: {error.strerror}")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="postroom", message="%(version)s")
def main() -> None:
    """Postroom sends mail through Microsoft 365: it keeps each mail on Redis until Graph has accepted it.

    Settings come from the environment (POSTROOM_…), from .env in the folder it is started in, and from the file that
    POSTROOM_CONFIG names. Try `postroom demo` first.
    """
    end_with_parent()


@main.command()
def demo() -> None:
    """Show the way of a few mails through it all.

    Starts a Redis, the sandbox, a worker and the doors on free ports, and stops them again.
    """
    from postroom.cli import demo as demonstration  # noqa: PLC0415 - requests takes longer to import than most commands

    sys.exit(demonstration.demo())


@main.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".postroom"),
    show_default=True,
    help="Where jobs and the sandbox's CA are kept.",
)
def dev(folder: Path) -> None:
    """Keep a whole mail room up on this machine, until Ctrl-C.

    Starts a Redis, the sandbox, a worker and the API, and tells how to use them. Their settings are written to
    FOLDER/env, the API's address and a key for it to FOLDER/api. Templates are taken from ./templates and rules for
    events from ./events.toml, or else those that Postroom comes with.
    """
    from postroom.cli import demo as demonstration  # noqa: PLC0415 - as above

    sys.exit(demonstration.dev(folder))


@main.command()
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=PROCESSES,
    show_default="one a core, 2 at least and 4 at most",
    help="How many.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_HANDS),
    show_default=f"{HANDS}, or {CHILDREN} processes",
    help="Hands in each process.",
)
@click.option(
    "--pool",
    type=click.Choice(["threads", "prefork"]),
    default="threads",
    show_default=True,
    help="Whether the hands of a process share its threads, or are processes each.",
)
def worker(processes: int, concurrency: int | None, pool: str) -> None:
    """Deliver mail: several Celery workers, restarted when they die.

    A hand waits for Graph most of its time, so there are many. Stop with SIGTERM or Ctrl-C: each worker finishes the
    mail in hand. A second signal stops at once.
    """
    from postroom.telemetry import logs  # noqa: PLC0415 - takes longer than most commands

    found = _settings()
    if faults := found.worker_faults():
        raise ConfigError(faults)
    emit = logs.start(found.log_format)
    sys.exit(supervise(processes, concurrency or (HANDS if pool == "threads" else CHILDREN), pool, emit))


@main.command()
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

    It has an inbox page to look at. Prints the settings that lead a worker to it.
    """
    try:
        from postroom.sandbox import SandboxAddress, SandboxOptions, serve  # noqa: PLC0415 - an extra
    except ImportError as error:
        fail(1, f"The sandbox needs {error.name}: pip install 'postroom[sandbox]'")

    def tell(address: SandboxAddress) -> None:
        text = json.dumps(address.to_json()) if as_json else addresses(address)
        click.echo(text)
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


@main.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=2525, show_default=True, help="0 takes a free one.")
@click.option("--tls-port", type=click.IntRange(0, 65535), help="Another port, with TLS from the first byte.")
@JSON
@click.pass_context
def smtp(ctx: click.Context, host: str, port: int, tls_port: int | None, as_json: bool) -> None:
    """Take mail in by SMTP, until SIGTERM or Ctrl-C.

    For applications that expect an SMTP server. Transactions that are under way then are finished. Prints where it
    listens, once it does.
    """
    if ctx.invoked_subcommand:
        return
    from postroom.telemetry import logs  # noqa: PLC0415 - takes longer than most commands

    try:
        from postroom.smtp.server import serve  # noqa: PLC0415 - an extra
    except ImportError as error:
        fail(1, f"The SMTP door needs {error.name}: pip install 'postroom[smtp]'")
    found = _settings()
    if faults := found.smtp_faults(over_tls=tls_port is not None):
        raise ConfigError(faults)

    def tell(scheme: str, at: str, number: int) -> None:
        click.echo(
            json.dumps({"scheme": scheme, "host": at, "port": number}) if as_json else f"{scheme}://{at}:{number}"
        )
        sys.stdout.flush()

    serve(found, host, port, tls_port, logs.start(found.log_format), tell)


@smtp.command()
def password() -> None:
    """Print what stands in postroom.toml in a password's place.

    Asks for the password, or reads it from a pipe.
    """
    if sys.stdin.isatty():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        fail(2, "No password was given.")
    click.echo(f'password_hash = "{hashed(given)}"')


@main.command()
@click.option("--from", "sender", help="The mailbox it leaves from; POSTROOM_SENDER if not given.")
@click.option("--to", multiple=True, help="A recipient; may be given several times, as the next three may.")
@click.option("--cc", multiple=True, help="A recipient of a copy.")
@click.option("--bcc", multiple=True, help="A recipient of a copy whom the others do not see.")
@click.option("--reply-to", multiple=True, help="Where answers go.")
@click.option("--subject", help="The subject; beside a template it wins over the template's.")
@click.option("--text", help="The text body; - reads it from stdin.")
@click.option("--html", help="The HTML body; - reads it from stdin.")
@click.option("--template", help="The name of a template, instead of a body.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the template.")
@click.option("--vars", "variables_file", type=click.File("rb"), help="A JSON file of variables.")
@click.option("--locale", help="The language of the template, such as de or de-AT.")
@click.option(
    "--attach",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A file to attach; may be given several times.",
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the mail.")
@click.option("--key", help="Idempotency key: the same key is the same mail.")
@click.option("--batch", help="A name to find this mail by, together with others.")
@click.option("--priority", type=click.Choice([p.value for p in Priority]), help="normal if not given.")
@click.option("--at", "scheduled_at", help="When: an ISO time with its zone, or a time from now such as 10min.")
@click.option("--expires", "expires_at", help="Do not send after this: as --at.")
@click.option("--wait", is_flag=True, help="Wait for the end; exit 1 if it is not accepted.")
@click.option("--timeout", default="60s", show_default=True, help="How long --wait waits.")
@JSON
def send(
    variables: tuple[str, ...],
    variables_file: Any,
    headers: tuple[str, ...],
    attach: tuple[Path, ...],
    key: str | None,
    batch: str | None,
    wait: bool,
    timeout: str,
    as_json: bool,
    **fields: Any,
) -> None:
    """Send one mail.

    postroom send --to ann@contoso.com --template welcome --var name=Ann --key welcome/ann --wait
    """
    values = {name: value for name, value in fields.items() if value}
    for body in ("text", "html"):
        if values.get(body) == "-":
            values[body] = sys.stdin.read()
    for name in ("scheduled_at", "expires_at"):
        if name in values:
            values[name] = time_option(f"--{name.removesuffix('_at').replace('scheduled', 'at')}", values[name])
    if variables or variables_file:
        given = json_option("--vars", variables_file.read()) if variables_file else {}
        values["variables"] = {**given, **pairs("--var", variables)}
    if headers:
        values["headers"] = pairs("--header", headers)
    if attach:
        values["attachments"] = [Attachment(path.name, path) for path in attach]
    mail = Mail.model_validate(values)
    patience_s = duration_option("--timeout", timeout)
    client = Client.from_env()
    receipt = client.send(mail, key, batch=batch)
    if wait:
        _wait(client, receipt, patience_s, as_json=as_json)
    else:
        click.echo(show.as_json(receipt) if as_json else f"{receipt.id}{' (known already)' if receipt.known else ''}")


def _wait(client: Client, receipt: Receipt, patience_s: float, *, as_json: bool) -> NoReturn:
    try:
        delivery = client.wait(receipt.id, patience_s)
    except TimeoutError:
        delivery = client.status(receipt.id)
        _print(delivery, as_json=as_json)
        queued = delivery.status is Status.QUEUED
        hint = "`postroom stats` tells workers and what waits before it." if queued else "above is what it waits for."
        fail(1, f"Not ended within {patience_s:g} s. It is kept and goes on; {hint}")
    except KeyboardInterrupt:
        fail(1, "", f"Job {receipt.id} is kept and goes on: postroom status {receipt.id}")
    _print(delivery, as_json=as_json)
    sys.exit(0 if delivery.status is Status.ACCEPTED else 1)


@main.command()
@click.argument("job_id")
@JSON
def status(job_id: str, as_json: bool) -> None:
    """Show what became of a job, with every attempt."""
    _print(Client.from_env().status(job_id), as_json=as_json)


@main.command()
@click.option("--status", "wanted", type=click.Choice([s.value for s in Status]), help="Only those in this state.")
@click.option("--to", help="Only those to this address.")
@click.option("--batch", help="Only those of this batch.")
@click.option("--sender", help="Only those from this address.")
@click.option("--key", help="Only the one with this idempotency key.")
@click.option("--limit", type=click.IntRange(1, 10000), default=25, show_default=True, help="At most so many.")
@JSON
def jobs(wanted: str | None, as_json: bool, **filters: Any) -> None:
    """List the newest jobs that fit."""
    found = Client.from_env().find(status=Status(wanted) if wanted else None, **filters)
    if as_json:
        click.echo(show.as_json(found))
    elif found:
        _print_list(found)
    else:
        click.echo("No such jobs.", err=True)


for command in (bulk, *operate.COMMANDS, *api_commands.COMMANDS):
    main.add_command(command)


@main.command()
@click.argument("sender", required=False)
@click.option("--batch", help="Hold this batch, instead of a sender.")
@click.option("--reason", default="", help="What others shall read.")
@click.option(
    "--for", "length", metavar="TIME", help="Release it after this time, such as 2h; without it, somebody must."
)
@JSON
def hold(sender: str | None, batch: str | None, reason: str, length: str | None, as_json: bool) -> None:
    """Keep the mail of a sender, or of a batch, from leaving.

    It is still taken in. What is being sent just now leaves; `postroom release` lets the rest go.
    """
    _one_of(sender, batch)
    length_s = duration_option("--for", length) if length else None
    client = Client.from_env()
    kept = client.hold(
        sender=sender and _address(sender), batch=batch, by=Order.here().by, reason=reason, length_s=length_s
    )
    click.echo(show.as_json(kept) if as_json else show.kept(kept, of_batch=batch is not None))


@main.command()
@click.argument("sender", required=False)
@click.option("--batch", help="Release this batch, instead of a sender.")
@JSON
def release(sender: str | None, batch: str | None, as_json: bool) -> None:
    """Let held mail go.

    Where a fault holds a mailbox or its app, it is tried at once, and goes on when that succeeds.
    """
    _one_of(sender, batch)
    released = Client.from_env().release(sender=sender, batch=batch)
    click.echo(show.as_json(released) if as_json else show.released(released))


@main.command()
@JSON
def holds(as_json: bool) -> None:
    """List what is held: by a fault until that is repaired, or by a person."""
    found = Client.from_env().holds()
    if as_json:
        click.echo(show.as_json(found))
    elif found:
        console = show.console()
        console.print(show.holds(found, console.width))
    else:
        click.echo("Nothing is held.", err=True)


def _one_of(sender: str | None, batch: str | None) -> None:
    if bool(sender) == bool(batch):
        raise click.UsageError("give a sender, or --batch with the name of one")
    if sender and "@" not in sender:
        raise click.UsageError(f"{sender!r} is no address; is it a batch (--batch {sender})?")


def _address(text: str) -> str:
    try:
        return Address.parse(text).address
    except ValueError as error:
        raise click.UsageError(f"{text!r} is {error}") from None


@main.command()
@click.option("--redis", "with_redis", is_flag=True, help="Also ask whether Redis answers.")
@click.option("--producer", is_flag=True, help="Leave out what only a worker needs.")
def check(with_redis: bool, producer: bool) -> None:
    """Check the settings, and name every fault at once."""
    found = _settings()
    facts: list[str] = []
    if not producer:
        from postroom import wiring  # noqa: PLC0415 - msal and the like are slow to import

        faults, facts = wiring.check(found, datetime.now(UTC))
        if faults:
            raise ConfigError(faults)
    if with_redis:
        connection = connect(found.redis_url, timeout_s=3.0, name="postroom-check")
        Records(connection).find(limit=1)
        facts += ["Redis answers.", *(f"WARNING: {weakness}" for weakness in weaknesses(connection))]
    for fact in facts:
        click.echo(fact)
    click.secho("The settings are right.", fg="green")


def _settings() -> Settings:
    return load_settings()


def _print(delivery: Delivery, *, as_json: bool) -> None:
    if as_json:
        click.echo(show.as_json(delivery))
    else:
        show.console().print(show.job(delivery))


def _print_list(deliveries: list[Delivery]) -> None:
    console = show.console()
    console.print(show.jobs(deliveries, console.width))
