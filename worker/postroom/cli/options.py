"""Shared by commands: common options, types that read option values, and `fail`."""

import sys
from codecs import BOM_UTF8
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import click

from postroom.cli.printable import say
from postroom.cloudevents import strict_json
from postroom.mail.fields import in_reach
from postroom.settings.values import duration

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
BY = click.option("--by", help="Who does this, for the audit; the user of this machine, if not given.")
WHY = click.option("--why", help="Why, for the audit.")


def fail(code: int, *lines: str) -> NoReturn:
    """Prints the message on stderr, and ends the program."""
    for line in lines:
        say(line, err=True, colour="red" if sys.stderr.isatty() else None)
    sys.exit(code)


def pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    """A dict of several NAME=VALUE options."""
    for text in given:
        if "=" not in text:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return dict(text.split("=", 1) for text in given)


def json_option(option: str, text: str | bytes) -> dict[str, Any]:
    """A JSON object. A name that is in it twice is a fault: of two lists of recipients, one would get nothing."""
    try:
        value = strict_json.read((text.encode() if isinstance(text, str) else text).removeprefix(BOM_UTF8))
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter("a JSON object is needed", param_hint=option)
    return value


def duration_option(option: str, text: str) -> float:
    """Seconds."""
    try:
        return duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def time_option(option: str, text: str) -> datetime:
    """A time in the future: an ISO time, or a duration from now."""
    try:
        return datetime.now(UTC) + timedelta(seconds=duration(text))
    except ValueError:
        pass
    try:
        time = in_reach(datetime.fromisoformat(text))
    except ValueError:
        hint = "neither an ISO time (2026-12-24T18:00+01:00) nor a time from now (10min)"
        raise click.BadParameter(f"{text!r} is {hint}", param_hint=option) from None
    return time if time.tzinfo else time.astimezone()


def since_option(option: str, text: str | None) -> datetime | None:
    """A time in the past: an ISO time, or a duration before now."""
    if text is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    except ValueError:
        return time_option(option, text)
