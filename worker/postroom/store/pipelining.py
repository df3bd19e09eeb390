"""One call ahead: the next call is sent before the reply to the one before it is read."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis

from postroom.store.functions import LIBRARY, Connection, or_unavailable, run

_Call = tuple[str, int | None, Sequence[object]]


class Pipelined:
    """Calls of our functions over one connection, in order; Redis works on one while the next is made and sent.

    redis-py's own pipeline collects all calls before it sends any. The connection is taken from the pool at the first
    call, and given back at the end of the `with` block, when Redis has replied to all calls.
    """

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._connection: Any = None
        self._process = os.getpid()
        self._unread = deque[_Call]()  # calls whose replies will come over this connection

    def __enter__(self) -> "Pipelined":
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_what_is_dead()
        if self._connection is None:
            return
        try:
            while self._unread:
                with suppress(redis.exceptions.RedisError, OSError):
                    self._read()
        finally:
            self._client.connection_pool.release(self._connection)

    def send(self, script: str, now: int | None, *arguments: object) -> Callable[[], Any]:
        """Sends a call and does not wait. What it returns gives the reply, or raises Unavailable, as `run` does.

        Ask for the replies in the order of the calls. A call that got no good reply is made again, by `run`. Raises
        Unavailable if there is no connection to be had.
        """
        call: _Call = (script, now, arguments)
        self._drop_what_is_dead()
        if self._connection is None:
            with or_unavailable():
                self._connection = self._client.connection_pool.get_connection()
        with suppress(redis.exceptions.RedisError, OSError):
            self._write(call)

        def reply() -> Any:
            self._drop_what_is_dead()
            if self._unread and self._unread[0] is call:
                with suppress(redis.exceptions.RedisError, OSError):
                    return self._read()
            return run(self._client, script, now, *arguments)

        return reply

    def _drop_what_is_dead(self) -> None:
        """Replies to what was sent come neither over a connection that somebody else closed, nor in a forked child.

        redis-py would connect again by itself, and the next reply would be taken for the one that never came. A child
        that read from its parent's connection would take a reply away from it.
        """
        if os.getpid() != self._process:
            self._connection, self._process = None, os.getpid()
            self._unread.clear()
        elif self._connection is not None and not self._connection.is_connected:
            self._unread.clear()

    def _write(self, call: _Call) -> None:
        script, now, arguments = call
        packed = self._connection.pack_command("FCALL", LIBRARY + script, 0, "" if now is None else now, *arguments)
        try:
            self._connection.send_packed_command(packed)
            self._unread.append(call)
        except BaseException:
            self._give_up()
            raise

    def _read(self) -> Any:
        self._unread.popleft()
        try:
            return self._connection.read_response()
        except redis.exceptions.ResponseError:
            raise  # a reply too: the connection is still good
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """After an interrupted request or reply, nothing that comes over this connection can be assigned to a call."""
        self._unread.clear()
        self._connection.disconnect()
