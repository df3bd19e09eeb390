"""`postroom send`: one mail."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from postroom.cli.job_output import print_job
from postroom.cli.options import JSON, duration_option, fail, json_option, pairs, time_option
from postroom.cli.output import to_json_text
from postroom.cli.printable import say
from postroom.client import Client
from postroom.jobs.job import Receipt, Status
from postroom.mail.model import Attachment, Mail
from postroom.mail.priority import Priority


@click.command()
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
@click.option(
    "--outlook-rest",
    type=click.File("rb"),
    help="A JSON file with a sendMail request of the Outlook REST API v2.0 or of Graph, instead of the options above; "
    "- reads stdin. --from is the mailbox that its path had.",
)
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
    outlook_rest: Any,
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
    mail = _of_request(outlook_rest, values) if outlook_rest else Mail.model_validate(values)
    patience_s = duration_option("--timeout", timeout)
    client = Client.from_env()
    receipt = client.send(mail, key, batch=batch)
    if wait:
        _wait(client, receipt, patience_s, as_json=as_json)
    else:
        say(to_json_text(receipt) if as_json else f"{receipt.id}{' (known already)' if receipt.known else ''}")


def _of_request(outlook_rest: Any, values: dict[str, Any]) -> Mail:
    """The mail of a sendMail request, with when and how it is to be sent."""
    if given := sorted(values.keys() - {"sender", "priority", "scheduled_at", "expires_at"}):
        raise click.UsageError(f"--outlook-rest says itself what the mail says; leave out {', '.join(given)}")
    mail = Mail.from_outlook_rest(json_option("--outlook-rest", outlook_rest.read()), values.pop("sender", None))
    return Mail.model_validate(mail.to_fields() | values) if values else mail


def _wait(client: Client, receipt: Receipt, patience_s: float, *, as_json: bool) -> NoReturn:
    try:
        delivery = client.wait(receipt.id, patience_s)
    except TimeoutError:
        delivery = client.status(receipt.id)
        print_job(delivery, as_json=as_json)
        queued = delivery.status is Status.QUEUED
        hint = "`postroom stats` tells workers and what waits before it." if queued else "above is what it waits for."
        fail(1, f"Not ended within {patience_s:g} s. It is kept and goes on; {hint}")
    except KeyboardInterrupt:
        fail(1, "", f"Job {receipt.id} is kept and goes on: postroom status {receipt.id}")
    print_job(delivery, as_json=as_json)
    sys.exit(0 if delivery.status is Status.ACCEPTED else 1)
