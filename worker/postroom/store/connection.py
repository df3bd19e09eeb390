"""From a Redis URL to a client with bounded waits, and to the forms in which Celery wants the same place."""

import os
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from postroom.store import embedded, functions
from postroom.store import url as redis_url

# Half-open connections behind a NAT or firewall are noticed after a minute.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}


class CeleryUrls(NamedTuple):
    """What Celery calls broker and result backend, with the transport options that this place needs."""

    broker: str
    backend: str
    options: Mapping[str, Any] = MappingProxyType({})


class _Asked(NamedTuple):
    """A call that was sent; somebody else may wait for its answer meanwhile. Read it, or give it up, once."""

    client: "Redis"
    connection: Any
    spare: deque[Any]
    fd: int  # where something can be read when the answer begins to come
    timeout_s: float

    def read(self) -> Any:
        """The answer; raises a redis error, also for one that broke off; BlockingIOError while there is more to come.

        What has come so far stays with the connection.
        """
        sock = self.connection._sock  # noqa: SLF001 - redis-py shows it nowhere
        sock.settimeout(0)
        try:
            answer = functions.read_answer(self.connection, disconnect_on_error=False)
        except redis.exceptions.ResponseError:  # an answer too
            self._give_back(sock)
            raise
        except BaseException as error:
            if isinstance(error.__context__, BlockingIOError | ssl.SSLWantReadError):
                raise BlockingIOError from None
            self.give_up()
            raise
        self._give_back(sock)
        return answer

    def give_up(self) -> None:
        self.connection.disconnect()
        self.client.give_back(self.connection, self.spare)

    def _give_back(self, sock: socket.socket) -> None:
        sock.settimeout(self.timeout_s)
        self.client.give_back(self.connection, self.spare)


class Redis(redis.Redis):
    """A client whose `fcall` takes a connection that another call has given back, as it is.

    redis-py looks at each connection before it lends it and counts and reports each command: more than half of the
    65 µs that a call takes this process. A connection that has died meanwhile shows that in use, and the call is made
    again on a new one, as each of our functions may be.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._spare: dict[int, deque[Any]] = {}
        self._waiting: deque[None] = deque()  # one for each call that has found none to spare

    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any:
        """See redis.Redis."""
        # By process: a forked child must not speak on its parent's connections.
        spare = self._spare.setdefault(os.getpid(), deque())
        connection = self._taken(spare)
        try:
            return connection.retry.call_with_retry(
                lambda: _answer(connection, "FCALL", function, numkeys, *arguments), lambda _: connection.disconnect()
            )
        finally:
            self.give_back(connection, spare)

    def send_fcall(self, function: str, numkeys: int, *arguments: Any) -> _Asked | None:
        """The same sent, without waiting; None where a connection must be made for that."""
        spare = self._spare.setdefault(os.getpid(), deque())
        try:
            connection = spare.pop()
        except IndexError:
            return None
        sock: socket.socket | None = connection._sock  # noqa: SLF001 - as above
        if sock:
            try:
                command = connection.pack_command("FCALL", function, numkeys, *arguments)
            except BaseException:
                self.give_back(connection, spare)
                raise
            with suppress(redis.exceptions.RedisError, OSError):
                connection.send_packed_command(command)
                return _Asked(self, connection, spare, sock.fileno(), connection.socket_timeout)
            connection.disconnect()
        self.give_back(connection, spare)
        return None

    def _taken(self, spare: deque[Any]) -> Any:
        with suppress(IndexError):
            return spare.pop()
        self._waiting.append(None)
        try:
            with suppress(IndexError):
                return spare.pop()  # one given back before it was known that somebody waits
            return self.connection_pool.get_connection()
        finally:
            self._waiting.pop()

    def give_back(self, connection: Any, spare: deque[Any]) -> None:
        """To the pool where somebody waits for it to have one; and half of all are never kept from other commands."""
        spare.append(connection)
        if self._waiting or len(spare) > self.connection_pool.max_connections // 2:
            with suppress(IndexError):
                self.connection_pool.release(spare.pop())


def _answer(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def connect(url: str, *, timeout_s: float, name: str, max_connections: int = 64) -> Redis:
    """A client for `url`; a call that gets no answer within about twice `timeout_s` raises a redis error.

    `embedded:DIR` starts the server in DIR if nobody has. Every script of ours may be repeated, so one retry is safe.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 3.0),
        # No `health_check_interval`: that look at a connection would be tried twice in each of these two tries.
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        "retry_on_error": [*functions.OF_A_REPLICA],  # on a new connection
        "client_name": name,
        "max_connections": max_connections,
    }
    place = _place(url)
    if place.scheme == "unix":
        return _pooled(f"unix://{place.login}{quote(place.socket)}?db={place.db}", timeout_s, options)
    options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if place.scheme == "redis+sentinel":
        username, password = place.username or None, place.password or None
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            list(place.hosts),
            # A Sentinel that does not answer is not asked again: the next one is.
            sentinel_kwargs={
                "password": password,
                "socket_timeout": timeout_s,
                "socket_connect_timeout": options["socket_connect_timeout"],
                "retry": Retry(NoBackoff(), 0),
            },
            username=username,
            password=password,
            db=place.db,
            **options,
        )
        master: Redis = sentinel.master_for(place.service, redis_class=Redis)
        return master
    return _pooled(place.tcp, timeout_s, options)


def weaknesses(client: redis.Redis) -> list[str]:
    """What in the server's own settings would lose mail that was confirmed, and what to set instead.

    Raises Unavailable.
    """
    with functions.or_unavailable():
        try:
            found: Any = client.config_get(*_SAFE)
        except redis.exceptions.ResponseError:
            wanted = ", ".join(f"{name} {value}" for name, value in _SAFE.items())
            return [f"Redis does not tell its settings; whoever runs it should see to {wanted}"]
    now = {_text(name): _text(value) for name, value in found.items()}
    return [
        f"Redis has {name} {now[name]}, so {_LOSES[name]}: set {name} {safe}"
        for name, safe in _SAFE.items()
        if now.get(name, safe) != safe and (name != "appendfsync" or now.get("appendonly") == "yes")
    ]


# As in docs/operations.md.
_SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
_LOSES = {
    "appendonly": "all mail since its last snapshot is lost when it ends",
    "appendfsync": "a power cut takes the last confirmed mail, and may send some again",
    "maxmemory-policy": "it forgets mail when it is full",
}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _pooled(url: str, timeout_s: float, options: dict[str, Any]) -> Redis:
    """Where there are more threads than connections, they wait for one."""
    pool: Any = redis.BlockingConnectionPool.from_url(url, timeout=timeout_s, **options)
    client: Any = Redis.from_pool(pool)
    return cast("Redis", client)


def celery_urls(url: str) -> CeleryUrls:
    """The same place in Celery's words (docs.celeryq.dev: getting-started/backends-and-brokers/redis)."""
    place = _place(url)
    if place.scheme == "unix":
        at = f"redis+socket://{place.login}{quote(place.socket)}?virtual_host={place.db}"
        return CeleryUrls(at, at)
    if place.scheme == "redis+sentinel":
        hosts = ";".join(f"sentinel://{place.login}{host}:{port}/{place.db}" for host, port in place.hosts)
        options = {"master_name": place.service, "sentinel_kwargs": {"password": place.password or None}}
        return CeleryUrls(hosts, hosts, options)
    return CeleryUrls(place.tcp, place.tcp)


def result_backend(given: str | None, urls: CeleryUrls) -> str:
    """The URL of Celery's result backend: the broker's own if `given` is that place, however it is spelled."""
    if not given:
        return urls.backend
    try:
        found = celery_urls(given)
    except ValueError:
        return given  # not Redis, or with parameters that only Celery's backend knows
    return found.backend if found.options == urls.options or not found.options else given


def _place(url: str) -> redis_url.RedisUrl:
    if url.startswith(embedded.SCHEME):
        url = embedded.ensure(Path(url.removeprefix(embedded.SCHEME)))
    return redis_url.parse(url)
