"""How Celery reads its queues in Redis: `postroom.high` comes first, and neither what is no message nor a Redis that
refuses writes ends the worker.
"""

from collections.abc import Callable
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.scheduling import sorted_cycle
from redis.exceptions import RedisError, ResponseError

from postroom.telemetry.redaction import place_of


class HighFirst(sorted_cycle):
    """The order in which kombu reads our queues: `postroom.high` first (its own orders follow a set's, or a name's)."""

    def consume(self, n: int) -> list[str]:
        return sorted(self.items[:n], reverse=True)


class QoS(redis.QoS):
    """Notes in Redis which messages are being worked on. While Redis refuses that, they are kept in memory only."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """See kombu. The message was taken from its queue already, so an error here would lose it."""
        try:
            super().append(message, delivery_tag)
        except ResponseError:
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """See kombu. What stays in Redis is delivered again later, as the same job."""
        try:
            super().ack(delivery_tag)
        except ResponseError:
            virtual.QoS.ack(self, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """See kombu. What cannot be given back is delivered again when its visibility timeout is over.

        A channel calls this when it closes, often because Redis is away. An error here would end the worker process.
        """
        try:
            super().restore_unacked_once(stderr)
        except (RedisError, OSError, AttributeError):  # the last one: kombu has no connection any more
            return

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """See kombu."""
        if requeue and delivery_tag in self._delivered:
            self.append(self._delivered[delivery_tag], delivery_tag)  # it may have been refused before
        super().reject(delivery_tag, requeue)


def drop_unreadable_messages(report: Callable[[str], None]) -> None:
    """Has Celery in this process drop what is no Celery message, and calls `report` with the place of each error.

    In kombu's own channel such a message ends the worker process, and so does a Redis that is full.
    """

    class Drops:
        QoS = QoS

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
