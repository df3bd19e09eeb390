"""The command line: `postroom COMMAND`. Exit codes: 0 ok, 1 failed, 2 wrong usage or settings.

Each command is imported when it is called, because most need libraries that are slow to import, and `--help` must be
fast.
"""

from importlib import import_module
from typing import Any, NamedTuple

import click

from postroom.cli.options import fail
from postroom.errors import ConfigError, InvalidMail, PostroomError
from postroom.runtime.parent_watch import end_with_parent


class Entry(NamedTuple):
    """Where a command is defined, and the first sentence of its help, as the list of commands shows it."""

    place: str
    help: str


COMMANDS = {
    "api": Entry("postroom.cli.serve:api", "Serve the HTTP API, until SIGTERM or Ctrl-C."),
    "batch": Entry("postroom.cli.batches:batch_", "Count the jobs of a batch by state."),
    "bulk": Entry("postroom.cli.bulk:bulk", "Send one mail for each row of a CSV or JSON Lines file."),
    "cancel": Entry("postroom.cli.batches:cancel", "Cancel jobs that have not been sent yet."),
    "check": Entry("postroom.cli.check:check", "Check the settings, and list all faults at once."),
    "dead": Entry("postroom.cli.dead:dead", "List dead letters, send them again, change one, or discard them."),
    "demo": Entry("postroom.cli.demo:demo", "Send a few mails through Postroom and show their way."),
    "dev": Entry("postroom.cli.demo:dev", "Run all of Postroom on this machine, until Ctrl-C."),
    "doctor": Entry("postroom.cli.doctor:doctor", "Find out why mail is not sent, from the settings to each mailbox."),
    "events": Entry("postroom.cli.events:events", "Try the rules that make mails from events."),
    "hold": Entry("postroom.cli.holds:hold", "Hold the mail of a sender, or of a batch."),
    "holds": Entry("postroom.cli.holds:holds", "List all holds: by a fault until it is repaired, or by a person."),
    "jobs": Entry("postroom.cli.jobs:jobs", "List the newest jobs that match."),
    "keys": Entry("postroom.cli.keys:keys", "Make, list and revoke the keys of the HTTP API."),
    "release": Entry("postroom.cli.holds:release", "Release held mail."),
    "sandbox": Entry("postroom.cli.serve:sandbox", "Serve the stand-in for Entra and Graph, until Ctrl-C."),
    "send": Entry("postroom.cli.send:send", "Send one mail."),
    "setup": Entry("postroom.cli.setup:setup", "Set up Microsoft 365: an app that may send from chosen mailboxes."),
    "sign-in": Entry(
        "postroom.cli.sign_in:sign_in_", "Sign in as the person as whom an app sends (POSTROOM_CREDENTIAL=user)."
    ),
    "smtp": Entry("postroom.cli.serve:smtp", "Take mail in by SMTP, until SIGTERM or Ctrl-C."),
    "stats": Entry("postroom.cli.stats:stats_", "Show workers, waiting mail in each lane, and counts of jobs."),
    "status": Entry("postroom.cli.jobs:status", "Show the status of a job, with every attempt."),
    "worker": Entry("postroom.cli.serve:worker", "Deliver mail: several Celery workers, restarted when they die."),
}


class _Group(click.Group):
    """Imports each command when it is called. Prints Postroom's errors as one message, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, COMMANDS))
        rows = [
            (name, click.Command(name, help=entry.help).get_short_help_str(width)) for name, entry in COMMANDS.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

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
            if error.filename is None:  # for example a closed pipe, which click handles
                raise
            fail(1, f"{error.filename}: {error.strerror}")


def _shortened(text: str, width: int) -> str:
    return click.Command(None, help=text).get_short_help_str(width)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="postroom", message="%(version)s")
def main() -> None:
    """Postroom sends mail through Microsoft 365: it keeps each mail on Redis until Graph has accepted it.

    Settings come from the environment (POSTROOM_…), from .env and postroom.toml in the working directory, or from the
    file that POSTROOM_CONFIG names. Try `postroom demo` first.
    """
    end_with_parent()
