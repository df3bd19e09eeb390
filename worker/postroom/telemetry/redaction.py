"""Removes private parts of texts that are logged or shown: addresses, ids, URLs, quoted text."""

import re
import traceback
from hashlib import sha256

_QUOTED = re.compile(r"""(?<!\w)'([^']*)'(?!\w)|"([^"]*)\"""")
# Names of apps, tenants, certificates and hosts, which are no secrets: a GUID, a thumbprint in hexadecimal, a tenant's
# first domain, and the beginning of a URL.
_NAME = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{40}|[0-9a-f]{64}|[a-z0-9-]+\.onmicrosoft\.(com|us|de)"
    r"|[a-z0-9-]+\.partner\.onmschina\.cn",
    re.IGNORECASE,
)
_URL = re.compile(r"(https://[a-z0-9.-]+(?::\d+)?)([/?#].*)?", re.IGNORECASE)
_MARKS = ".,:;()[]{}'\""


def redact(text: str) -> str:
    """`text` on one short line, without quoted text and without anything like an address, a path or a token.

    Ids of apps and tenants, thumbprints of certificates and hosts stay, because people compare them with their own.
    """
    words = _QUOTED.sub(_quoted, text[:2000]).split()
    shown = " ".join(map(_shown, words))
    return "".join(character for character in shown if character.isprintable())[:200]


def _quoted(found: re.Match[str]) -> str:
    inside = found[1] or found[2] or ""
    return f"'{inside}'" if _NAME.fullmatch(inside) else "'…'"


def _shown(word: str) -> str:
    bare = word.strip(_MARKS)
    if _NAME.fullmatch(bare):
        return word
    if "@" in word or "%40" in word:
        return "…"
    if url := _URL.fullmatch(bare):
        return url[1] + ("/…" if url[2] else "")
    return "…" if "/" in word or (len(word) >= 24 and not bare.isalpha()) else word


def mask_address(address: str) -> str:
    """A shortened address, in which people recognise their own: `n…@contoso.com#3f2a`.

    The end is part of a hash of the address, by which mailboxes that begin alike are told apart. The name of a lane has
    its app behind that: `n…@contoso.com#3f2a#hr`.
    """
    local, _, rest = address.rpartition("@")
    domain, mark, app = rest.partition("#")
    digest = sha256(f"{local}@{domain}".casefold().encode("utf-8", "surrogatepass")).hexdigest()[:4]
    return f"{local[:1]}…@{domain}#{digest}{mark}{app}"


def mask_actor(by: str) -> str:
    """Who did something, for a log: a login such as `ops@mailhost` unchanged, a mail address masked."""
    return mask_address(by) if "." in by.rpartition("@")[2] and "@" in by else by


def place_of(error: BaseException) -> str:
    """An error's type and the place where it was raised. Its text is left out: it may quote private text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
