"""A Redis URL in the forms in which Celery wants it: as its broker's and as its result backend's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from postroom.store.connection import place_of


class CeleryUrls(NamedTuple):
    """The URLs of Celery's broker and result backend, and what both need for this place: transport options, and TLS."""

    broker: str
    backend: str
    options: Mapping[str, Any] = MappingProxyType({})
    tls: Mapping[str, Any] = MappingProxyType({})  # where it is not in the URLs


def celery_urls(url: str) -> CeleryUrls:
    """What leads Celery to the place that `url` names. Raises ValueError where that cannot be read.

    The forms: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
    """
    place = place_of(url)
    if place.scheme == "unix":
        at = f"redis+socket://{place.login}{quote(place.socket)}?virtual_host={place.db}"
        return CeleryUrls(at, at)
    if place.is_sentinel:
        hosts = ";".join(f"sentinel://{place.login}{host}:{port}/{place.db}" for host, port in place.hosts)
        tls = {"ssl": True, **place.tls_options} if place.tls else {}
        options = {"master_name": place.service, "sentinel_kwargs": {**place.sentinel_login, **tls}}
        return CeleryUrls(hosts, hosts, options, place.tls_options)
    return CeleryUrls(place.tcp, place.tcp)


def result_backend(given: str | None, urls: CeleryUrls) -> str:
    """The URL of Celery's result backend: the broker's own where `given` names the same place in another spelling."""
    if not given:
        return urls.backend
    try:
        others = celery_urls(given)
    except ValueError:
        return given  # not Redis, or with parameters that only Celery's backend knows
    return others.backend if others.options == urls.options or not others.options else given
