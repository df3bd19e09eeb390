"""An Address: who a mail is from or to, in a normal form, so that equal addresses compare equal."""

import re
import unicodedata
from email.header import decode_header, make_header
from typing import Self

# Half a surrogate pair is left if a text was cut inside an emoji. JSON can represent it, UTF-8 cannot.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
# An organisation's own domain may have one of these endings, but email-validator refuses them. So the address is
# checked with another ending in its place.
_PRIVATE = re.compile(r"(@(?:[^@<>]*\.)?(?:arpa|invalid|local|localhost|onion|test))$", re.IGNORECASE)
_STAND_IN = ".stand-in.example.com"
# Most addresses are like this. email-validator would change only the case of their domain, and takes ten times as long.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"(?=.{{3,100}}$)(?=.{{1,64}}@)([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@({_LABEL}(?:\.{_LABEL})*)")
# Except these names, which email-validator writes in lower case (RFC 2142).
_SMALL = {
    "info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet", "news",
    "webmaster", "www", "uucp", "ftp",
}  # fmt: skip


LONGEST = 2000  # characters of an address with its name, and far more than any has
# RFC 5322, 3.2.3: a name with one of these must be quoted. Unquoted, they would be parts of a list of addresses.
_SPECIAL = re.compile(r"[<>,;:@]")
_MARK = re.compile(r'\\.|[",;<>]', re.DOTALL)


def split_list(text: str) -> list[str]:
    """The addresses of a list such as `Ann <ann@contoso.com>, bob@contoso.com`, divided by commas or semicolons.

    They are not checked. Text in quotes or in angle brackets is not divided.
    """
    parts, begin, quoted, bracketed = [], 0, False, False
    for mark in _MARK.finditer(text):
        if mark[0] == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif mark[0] in "<>":
            bracketed = mark[0] == "<"
        elif mark[0] in ",;" and not bracketed:
            parts.append(text[begin : mark.start()])
            begin = mark.end()
    return [part for one in [*parts, text[begin:]] if (part := one.strip())]


class Address(str):
    """An address with an optional display name, as one string: `ann@contoso.com` or `Ann Lee <ann@contoso.com>`."""

    __slots__ = ("address", "name")
    name: str
    address: str

    def __new__(cls, name: str, address: str) -> Self:
        if name:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            self = super().__new__(cls, f'"{quoted}" <{address}>')
        else:
            self = super().__new__(cls, address)
        self.name, self.address = name, address
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.name, self.address)

    @classmethod
    def parse(cls, text: object) -> Self:
        """The address in `text`; ValueError says what is wrong with it.

        The domain may be one that is not public (`ann@corp.local`): Exchange knows such domains.
        """
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise ValueError(f"an address is a string, not {type(text).__name__}")
        if plain := _plain(text):
            return cls("", plain)
        if len(text) > LONGEST:
            raise ValueError(f"an address and its name have at most {LONGEST} characters")
        if CONTROL.search(text):
            raise ValueError("line breaks and control characters have no place in an address")
        name, address = _name_and_address(text.strip())
        name = _decoded(name)
        return cls(name, _checked(address))

    @classmethod
    def stored(cls, text: str) -> Self:
        """The address whose `str` is this text. It is not checked again."""
        return cls(*_name_and_address(text)) if text.endswith(">") else cls("", text)

    @property
    def lane(self) -> str:
        """The address in the form that lanes, indexes and rights compare: with ASCII letters in lower case.

        Other letters stay as they are: `casefold` would make `ſhop@` and `shop@` one mailbox, as `straße@` and
        `strasse@`.
        """
        return normal_form(self.address)


def normal_form(address: str) -> str:
    """An address or a pattern of addresses in the form in which they are compared."""
    return unicodedata.normalize("NFC", address).translate(_ASCII_LOWER)


_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _checked(address: str) -> str:
    """The address in its normal form, with its domain in ASCII, as Graph, MIME and the lanes need it."""
    return _plain(address) or _validated(address)


def _plain(address: str) -> str | None:
    """The same for most addresses; None for all others, and for invalid ones."""
    plain = _PLAIN.fullmatch(address)
    return f"{plain[1]}@{plain[2].lower()}" if plain and plain[1].lower() not in _SMALL else None


def _validated(address: str) -> str:
    """The same for any address, by email-validator. ValueError if it is invalid."""
    # Few addresses need it, and it takes as long to import as half of this module.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    public = _PRIVATE.sub(rf"\1{_STAND_IN}", address)
    try:
        valid = validate_email(public, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise ValueError(f"not an address: {error}") from None
    return f"{valid.local_part}@{valid.ascii_domain.removesuffix(_STAND_IN)}"


def _name_and_address(text: str) -> tuple[str, str]:
    """The two parts of `Name <address>`, the name without its quotes."""
    before, opened, rest = text.rpartition("<")
    if not opened or not rest.endswith(">"):
        return "", text
    name = before.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1]), rest[:-1].strip()
    if special := _SPECIAL.search(name):
        raise ValueError(f'a name with {special[0]} must be quoted, and this takes one address: "Lee, Ann" <ann@b.com>')
    return name, rest[:-1].strip()


def _decoded(name: str) -> str:
    """The name, if it is encoded as in a header (RFC 2047), decoded once."""
    if "=?" in name:
        try:
            name = str(make_header(decode_header(name)))
        except (LookupError, ValueError):  # an unknown charset, or bytes that are invalid in it
            raise ValueError("the name is encoded in a way that cannot be read (RFC 2047)") from None
    if CONTROL.search(name):
        raise ValueError("line breaks and control characters have no place in an address")
    return name
