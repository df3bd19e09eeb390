"""Makes text fit to be printed: what comes from mails, files and other people must not command the terminal."""

import re

import click

# Control characters except line break and tab (C0, DEL, C1), line separators, marks that turn the direction of text,
# and halves of surrogate pairs, which cannot be encoded.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with escapes such as `\\x1b` in place of characters that a terminal would obey."""
    return text if text.isascii() and text.isprintable() else _COMMANDS.sub(_escape, text)


def in_json(text: str) -> str:
    """A JSON text in which these characters are JSON's escapes. Its values stay the same."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str, *, err: bool = False, colour: str | None = None) -> None:
    """Prints a line that may contain data."""
    click.secho(printable(text), err=err, fg=colour)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()
