"""Where Redis is: the URLs that people write, read once and in one way for our client and for both of Celery's.

The three libraries behind them differ in what they make of a database, a parameter or a slip, and some say nothing.
Whatever they would not all read as the same place is refused here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_OF_SENTINEL = ("sentinel_username", "sentinel_password")
_PARAMETERS = {
    "redis": ("db",),
    "rediss": ("db", *_TLS),
    "unix": ("db",),
    "redis+socket": ("virtual_host",),  # a unix socket, as Celery writes it
    "redis+sentinel": ("db", *_OF_SENTINEL),
    "rediss+sentinel": ("db", *_OF_SENTINEL, *_TLS),
}
_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "rediss+sentinel": 26379}
_WORDS = {
    "ssl_cert_reqs": {"required": "required", "optional": "optional", "none": "none"},
    "ssl_check_hostname": {"true": "true", "false": "false", "1": "true", "0": "false"},
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::(\d{1,5}))?")
# It must not quote the URL, which may hold a password.
_UNREADABLE = "cannot be read; in a name or password, write / as %2F, ? as %3F, # as %23, @ as %40 and [ as %5B"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """One place. Two spellings of it are equal."""

    scheme: str
    db: int
    username: str = field(repr=False)
    password: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    tls: str = ""
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)

    @property
    def is_sentinel(self) -> bool:
        """Whether the hosts are Sentinels, which name the server."""
        return self.scheme.endswith("+sentinel")

    @property
    def tls_options(self) -> dict[str, str | bool]:
        """How TLS is checked, as arguments of redis-py's connections; empty without TLS."""
        given = dict(parse_qsl(self.tls))
        return {name: value == "true" if name == "ssl_check_hostname" else value for name, value in given.items()}

    @property
    def sentinel_login(self) -> dict[str, str]:
        """User and password of the Sentinels, as arguments of redis-py's connections: else the server's password."""
        if self.sentinel_username or self.sentinel_password:
            given = {"username": self.sentinel_username, "password": self.sentinel_password}
        else:
            given = {"password": self.password}
        return {name: value for name, value in given.items() if value}

    @property
    def login(self) -> str:
        """As it stands in a URL, with its @."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        return f"{quote(self.username, safe='')}{password}@" if self.username or self.password else ""

    @property
    def tcp(self) -> str:
        """The URL of a server on a port: redis-py, kombu and Celery's backend all read this form alike."""
        host, port = self.hosts[0]
        return f"{self.scheme}://{self.login}{host}:{port}/{self.db}{self.tls and '?' + self.tls}"


def parse(url: str) -> RedisUrl:
    """The place that `url` names; ValueError says what is wrong with it, and repeats no secret."""
    scheme, _, rest = url.partition("://")
    if scheme not in _PARAMETERS or not rest:
        raise ValueError(
            "give redis://, rediss://, redis+sentinel://, rediss+sentinel:// or embedded:DIR, as in redis://localhost:6379/0"
        )
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    if parts.fragment or "@" in parts.query or (parts.netloc and "@" in parts.path):
        raise ValueError(_UNREADABLE)
    given = _parameters(scheme, parts.query)
    login, _, hosts = parts.netloc.rpartition("@")
    username, password = (unquote(part) for part in login.partition(":")[::2])
    if scheme in {"unix", "redis+socket"}:
        if hosts or not parts.path.strip("/"):
            raise ValueError("give the whole path of the socket, as in unix:///run/redis/redis.sock")
        db = _db(given.get("db") or given.get("virtual_host") or "")
        return RedisUrl("unix", db, username, password, socket=unquote(parts.path))
    is_sentinel = scheme.endswith("+sentinel")
    service, _, path_db = parts.path.strip("/").partition("/") if is_sentinel else ("", "", parts.path)
    return RedisUrl(
        scheme,
        _db(path_db.strip("/"), given.pop("db", "")),
        username,
        password,
        hosts=tuple(_host(one, scheme) for one in (hosts.split(",") if is_sentinel else [hosts])),
        service=service or ("mymaster" if is_sentinel else ""),
        sentinel_username=given.pop("sentinel_username", ""),
        sentinel_password=given.pop("sentinel_password", ""),
        tls=_tls(given) if scheme.startswith("rediss") else "",
    )


def _parameters(scheme: str, query: str) -> dict[str, str]:
    known = _PARAMETERS[scheme]
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in known:
            raise ValueError(f"the parameter {name} is not understood; {scheme}:// takes {', '.join(known)}")
    return given


def _db(*given: str) -> int:
    numbers = {int(db) for db in given if db.isdecimal()}
    if len(numbers) > 1 or any(db and not db.isdecimal() for db in given):
        raise ValueError("the database is one number, as in redis://localhost:6379/0")
    return numbers.pop() if numbers else 0


def _host(text: str, scheme: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if not match:
        raise ValueError(_UNREADABLE)
    return (match[1].lower() or "localhost", int(match[2] or _PORTS[scheme]))


def _tls(given: Mapping[str, str]) -> str:
    """Never without `ssl_cert_reqs`: Celery's backend refuses to start then, and kombu trusts anybody."""
    chosen = {"ssl_cert_reqs": "required", **given}
    for name, words in _WORDS.items():
        if name in chosen:
            word = chosen[name].lower().removeprefix("cert_")
            if word not in words:
                raise ValueError(f"{name} is one of {', '.join(words)}")
            chosen[name] = words[word]
    return urlencode(sorted(chosen.items()), quote_via=quote, safe="/")
