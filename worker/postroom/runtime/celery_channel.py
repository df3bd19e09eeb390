"""How Celery reads its queues in Redis: what is no message is dropped, and `postroom.high` comes first."""

from collections.abc import Callable
from typing import Any

from kombu.transport import redis
from kombu.utils.scheduling import sorted_cycle

from postroom.telemetry.redaction import place_of


class HighFirst(sorted_cycle):
    """The order in which kombu reads our queues: `postroom.high` first (its own orders follow a set's, or a name's)."""

    def consume(self, n: int) -> list[str]:
        return sorted(self.items[:n], reverse=True)


def drop_unreadable_messages(report: Callable[[str], None]) -> None:
    """Has Celery in this process drop what is no Celery message, and calls `report` with the place of each error.

    In kombu's own channel such a message ends the worker process.
    """

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
