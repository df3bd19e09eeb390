"""Where the sign-ins of apps are kept. They are encrypted before they come here (graph/sign_in.py)."""

from contextlib import suppress
from typing import Any

import redis

from postroom.store.functions import PREFIX, or_unavailable

SIGN_INS = f"{PREFIX}sign_ins"


class SignInText:
    """The encrypted sign-in of one app. Each call raises Unavailable if Redis does not answer."""

    def __init__(self, connection: Any, app: str) -> None:
        self._redis, self._app = connection, app

    def load(self) -> str | None:
        """The text, if there is one."""
        with or_unavailable():
            text = self._redis.hget(SIGN_INS, self._app)
        return text.decode(errors="replace") if text else None

    def save(self, text: str) -> None:
        """Keeps it in place of the one before."""
        with or_unavailable():
            self._redis.hset(SIGN_INS, self._app, text)

    def replace(self, before: str, text: str) -> None:
        """Keeps it in place of `before`. If another text is there, or none, that stays so."""
        with or_unavailable(), self._redis.pipeline() as pipe:
            pipe.watch(SIGN_INS)
            if pipe.hget(SIGN_INS, self._app) != before.encode():
                return
            pipe.multi()
            pipe.hset(SIGN_INS, self._app, text)
            with suppress(redis.exceptions.WatchError):  # somebody signs in just now: the next renewal is kept
                pipe.execute()

    def forget(self) -> bool:
        """Removes it. Whether there was one."""
        with or_unavailable():
            return bool(self._redis.hdel(SIGN_INS, self._app))
