"""Removes private parts of texts that are logged or shown: addresses, ids, URLs, quoted text."""

import re
import traceback

_QUOTED = re.compile(r"""(?<!\w)'[^']*'(?!\w)|"[^"]*\"""")


def redact(text: str) -> str:
    """`text` on one short line, without quoted text and without anything like an address, a link, an id or a token."""
    words = _QUOTED.sub("'…'", text[:2000]).split()
    shown = " ".join("…" if _private(word) else word for word in words)
    return "".join(character for character in shown if character.isprintable())[:200]


def _private(word: str) -> bool:
    if "@" in word or "%40" in word or "/" in word:
        return True
    return len(word) >= 24 and not word.strip(".,:;()[]").isalpha()


def mask_address(address: str) -> str:
    """A shortened address, in which people recognise their own: `n…@contoso.com`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"


def mask_actor(by: str) -> str:
    """Who did something, for a log: a login such as `ops@mailhost` unchanged, a mail address masked."""
    return mask_address(by) if "." in by.rpartition("@")[2] and "@" in by else by


def place_of(error: BaseException) -> str:
    """An error's type and the place where it was raised. Its text is left out: it may quote private text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
