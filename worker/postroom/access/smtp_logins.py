"""Who may send mail by SMTP, and as which senders: clients with a name and a password, or in certain networks."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from postroom.access.failures import address_of
from postroom.access.rights import Caller, Door, Scope
from postroom.mail.address import normal_form

Network = IPv4Network | IPv6Network

# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html: each check takes 16 MB
_N, _R, _P = 2**14, 8, 1
_FORM = "scrypt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A client, or all clients in certain networks.

    `name` is empty for the networks of POSTROOM_SMTP_ALLOW, which may send from any address. `senders` are addresses,
    `*@domain` for all of a domain, or `*`.
    """

    name: str
    senders: tuple[str, ...]
    password_hash: str | None = None
    networks: tuple[Network, ...] = ()

    @property
    def words(self) -> str:
        return f"login {self.name}" if self.name else "this network"

    @property
    def caller(self) -> Caller:
        """What this client may do."""
        senders = tuple(map(normal_form, self.senders))
        return Caller(door=Door.SMTP, id=self.name, scopes=(Scope.SEND,), senders=senders)


class Logins:
    """All logins of a server."""

    def __init__(self, logins: Iterable[Login]) -> None:
        self._logins = tuple(logins)
        self._known: set[bytes] = set()
        self._own = secrets.token_bytes(32)

    @property
    def by_password(self) -> bool:
        return any(login.password_hash for login in self._logins)

    def of_network(self, host: str) -> Login | None:
        """The login of clients at this IP address that need no password, or None. The smallest network counts."""
        address = address_of(host)
        if address is None:
            return None
        fits = [(n.prefixlen, login) for login in self._logins for n in login.networks if address in n]
        return max(fits, key=lambda fit: fit[0])[1] if fits else None

    def known(self, name: str, password: str) -> Login | None:
        """The login, if this password was right before, else None. Much faster than `check`."""
        return self._named(name) if self._print(name, password) in self._known else None

    def check(self, name: str, password: str) -> Login | None:
        """The login with this name, if this is its password, else None. Takes some 50 ms, for unknown names too."""
        login = self._named(name)
        if not matches(password, login.password_hash if login and login.password_hash else _NOBODY) or login is None:
            return None
        self._known.add(self._print(name, password))
        return login

    def _named(self, name: str) -> Login | None:
        return next((login for login in self._logins if login.password_hash and login.name == name), None)

    def _print(self, name: str, password: str) -> bytes:
        return hmac.digest(self._own, f"{name}\0{password}".encode(errors="replace"), "sha256")


def hashed(password: str) -> str:
    """The hash of a password, as it is written into the settings."""
    salt = secrets.token_bytes(16)
    return "$".join((_FORM, str(_N), str(_R), str(_P), _text(salt), _text(_scrypt(password, salt, _N, _R, _P))))


def matches(password: str, password_hash: str) -> bool:
    """Whether this password has this hash."""
    n, r, p, salt, digest = _parts(password_hash)
    return hmac.compare_digest(_scrypt(password, salt, n, r, p), digest)


def is_hash(text: str) -> bool:
    """Whether this text is a hash that `hashed` makes."""
    try:
        n, r, p, salt, digest = _parts(text)
    except ValueError:
        return False
    return n <= 2**17 and r <= 16 and p <= 4 and len(salt) >= 16 and len(digest) == 32 and n & (n - 1) == 0


def _parts(text: str) -> tuple[int, int, int, bytes, bytes]:
    form, n, r, p, salt, digest = text.split("$")
    if form != _FORM:
        raise ValueError(form)
    return int(n), int(r), int(p), base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    given = password.encode(errors="replace")
    return hashlib.scrypt(given, salt=salt, n=n, r=r, p=p, dklen=32, maxmem=256 * n * r)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Compared where there is no login of that name, so that the time of the answer does not reveal this.
_NOBODY = "$".join((_FORM, str(_N), str(_R), str(_P), _text(bytes(16)), _text(bytes(32))))
