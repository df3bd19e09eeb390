"""Celery's channel to Redis, except that it drops a message which is none: in kombu's own, that ends the worker."""

from collections.abc import Callable
from typing import Any

from kombu.transport import redis

from postroom.telemetry.redaction import place_of


def drop_unreadable_messages(report: Callable[[str], None]) -> None:
    """Has Celery in this process drop what is no Celery message, and calls `report` with the place of each error."""

    class Drops:
        def _brpop_read(self, **options: Any) -> Any:
            try:
                return super()._brpop_read(**options)  # type: ignore[misc]
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                report(place_of(error))
                return True  # it was taken from the queue

    class Channel(Drops, redis.Channel):
        pass

    class SentinelChannel(Drops, redis.SentinelChannel):
        pass

    redis.Transport.Channel = Channel
    redis.SentinelTransport.Channel = SentinelChannel
