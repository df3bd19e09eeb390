"""From a Redis URL to a client with bounded waits, and to the forms in which Celery wants the same place."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from postroom import embedded

# Half-open connections behind a NAT or firewall are noticed after a minute.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}


@dataclass(frozen=True, slots=True)
class CeleryUrls:
    """What Celery calls broker and result backend, with the transport options that this place needs."""

    broker: str
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)


def connect(url: str, *, timeout_s: float, name: str, max_connections: int = 64) -> "redis.Redis":
    """A client for `url`; a call that gets no answer within about twice `timeout_s` raises a redis error.

    `embedded:DIR` starts the server in DIR if nobody has. Every script of ours may be repeated, so one retry is safe.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 3.0),
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        "health_check_interval": 10,
        "client_name": name,
        "max_connections": max_connections,
    }
    if url.startswith(embedded.SCHEME):
        return redis.Redis.from_url(embedded.ensure(_folder(url)), **options)
    if url.startswith("unix://"):
        return redis.Redis.from_url(url, **options)
    options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if url.startswith("redis+sentinel://"):
        place = _sentinel(url)
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            place.hosts,
            # A Sentinel that does not answer is not asked again: the next one is.
            sentinel_kwargs={
                "password": place.password,
                "socket_timeout": timeout_s,
                "socket_connect_timeout": options["socket_connect_timeout"],
                "retry": Retry(NoBackoff(), 0),
            },
            username=place.username,
            password=place.password,
            db=place.db,
            **options,
        )
        master: redis.Redis = sentinel.master_for(place.service)
        return master
    return redis.Redis.from_url(url, **options)


def celery_urls(url: str) -> CeleryUrls:
    """The same place in Celery's words (docs.celeryq.dev: getting-started/backends-and-brokers/redis)."""
    if url.startswith(embedded.SCHEME):
        return celery_urls(embedded.ensure(_folder(url)))
    if url.startswith("unix://"):
        at = f"redis+socket://{urlsplit(url).path}"
        return CeleryUrls(at, at)
    if url.startswith("redis+sentinel://"):
        place = _sentinel(url)
        login = f"{_quoted(place.username)}:{_quoted(place.password)}@" if place.password else ""
        hosts = ";".join(f"sentinel://{login}{host}:{port}/{place.db}" for host, port in place.hosts)
        options = {"master_name": place.service, "sentinel_kwargs": {"password": place.password}}
        return CeleryUrls(hosts, hosts, options)
    return CeleryUrls(url, url)


@dataclass(frozen=True, slots=True)
class _SentinelPlace:
    hosts: list[tuple[str, int]]
    service: str
    db: int
    username: str | None
    password: str | None


def _sentinel(url: str) -> _SentinelPlace:
    """`redis+sentinel://[user:password@]host:port[,host:port…]/service[/db]`, or `?db=N`."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    db = db or parse_qs(parts.query).get("db", ["0"])[0]
    pairs = [host.partition(":") for host in hosts.split(",")]
    return _SentinelPlace(
        [(host, int(port or 26379)) for host, _, port in pairs],
        service or "mymaster",
        int(db),
        unquote(username) or None,
        unquote(password) or None,
    )


def _quoted(part: str | None) -> str:
    return quote(part or "", safe="")


def _folder(url: str) -> Path:
    return Path(url.removeprefix(embedded.SCHEME))
