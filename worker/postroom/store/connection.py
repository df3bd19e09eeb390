"""From a Redis URL to a client of redis-py whose waits have a limit, and which follows a failover."""

import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from postroom.store import embedded
from postroom.store import url as redis_url

# Half-open connections behind a NAT or firewall are noticed after a minute.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}
# A failover has made the server a replica: a new connection may lead to the primary.
_OF_A_REPLICA = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)


class _AsksAgain:
    """Asks the Sentinels for the master each time it connects.

    redis-py asks them only when its pool lends a connection. A call that is repeated on a connection which broke
    would go to the address that this had before: after a failover, that of the old master.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """See redis.Connection."""
        # This does nothing where it is connected.
        self.connect()  # type: ignore[attr-defined]
        super().send_packed_command(command, check_health=check_health)  # type: ignore[misc]


class MasterConnection(_AsksAgain, SentinelManagedConnection):
    """A connection to the master that the Sentinels name."""


class MasterTlsConnection(_AsksAgain, SentinelManagedSSLConnection):
    """The same with TLS."""


def connect(url: str, *, timeout_s: float, name: str, max_connections: int = 64) -> redis.Redis:
    """A client for `url`, as thread-safe as redis-py's. Connects when it is first used.

    A call that gets no reply within about twice `timeout_s` raises a redis error: it is tried twice, as each function
    of ours may be. `name` is what Redis lists the connections by. `embedded:DIR` starts the server in DIR if nobody
    has. Raises ValueError where `url` cannot be read.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 3.0),
        # No `health_check_interval`: that look at a connection would be tried twice in each of these two tries.
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        "retry_on_error": [*_OF_A_REPLICA],  # on a new connection
        "client_name": name,
        "max_connections": max_connections,
    }
    place = place_of(url)
    if place.scheme == "unix":
        return _pooled(f"unix://{place.login}{quote(place.socket)}?db={place.db}", timeout_s, options)
    options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if place.is_sentinel:
        return _master(place, timeout_s, options)
    return _pooled(place.tcp, timeout_s, options)


def place_of(url: str) -> redis_url.RedisUrl:
    """The place that `url` names; starts the server of `embedded:DIR`. Raises ValueError where it cannot be read."""
    if url.startswith(embedded.SCHEME):
        url = embedded.ensure(Path(url.removeprefix(embedded.SCHEME)))
    return redis_url.parse(url)


def _pooled(url: str, timeout_s: float, options: dict[str, Any]) -> redis.Redis:
    """Where there are more threads than connections, they wait for one."""
    pool: Any = redis.BlockingConnectionPool.from_url(url, timeout=timeout_s, **options)
    client: redis.Redis = redis.Redis.from_pool(pool)
    return client


def _master(place: redis_url.RedisUrl, timeout_s: float, options: dict[str, Any]) -> redis.Redis:
    tls = {"ssl": True, **place.tls_options} if place.tls else {}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        list(place.hosts),
        # A Sentinel that does not answer is not asked again: the next one is.
        sentinel_kwargs={
            **place.sentinel_login,
            **tls,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": options["socket_connect_timeout"],
            "retry": Retry(NoBackoff(), 0),
        },
        username=place.username or None,
        password=place.password or None,
        db=place.db,
        **options,
        **place.tls_options,
    )
    connection_class = MasterTlsConnection if place.tls else MasterConnection
    client: redis.Redis = sentinel.master_for(place.service, connection_class=connection_class)
    return client
