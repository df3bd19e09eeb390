"""A channel that closes because Redis is away ends no worker: what it cannot give back is delivered again later."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from kombu.transport import virtual

from postroom.runtime.celery_channel import QoS


def no_connection() -> Any:
    conninfo: Any = None
    return conninfo.hostname  # as in kombu's own channel, when the connection was closed before


def broken() -> Any:
    raise redis.exceptions.ConnectionError("Connection refused")


class Channel:
    """One whose client cannot be had."""

    do_restore = True

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask

    def conn_or_acquire(self, _client: Any) -> Any:
        return self._ask()


@pytest.mark.parametrize("ask", [no_connection, broken])
def test_messages_that_cannot_be_given_back_raise_nothing(ask: Callable[[], Any]) -> None:
    qos: Any = QoS(Channel(ask))
    virtual.QoS.append(qos, object(), "tag")

    with pytest.raises((AttributeError, redis.exceptions.ConnectionError)):
        qos.restore_unacked()
    qos.restore_unacked_once()
