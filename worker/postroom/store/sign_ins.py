"""Where the sign-ins of apps are kept. They are encrypted before they come here (graph/sign_in.py)."""

from typing import Any

from postroom.store.functions import PREFIX, or_unavailable

SIGN_INS = f"{PREFIX}sign_ins"


class SignInText:
    """The encrypted sign-in of one app. Each call raises Unavailable if Redis does not answer."""

    def __init__(self, redis: Any, app: str) -> None:
        self._redis, self._app = redis, app

    def load(self) -> str | None:
        """The text, if there is one."""
        with or_unavailable():
            text = self._redis.hget(SIGN_INS, self._app)
        return text.decode() if text else None

    def save(self, text: str) -> None:
        """Keeps it in place of the one before."""
        with or_unavailable():
            self._redis.hset(SIGN_INS, self._app, text)

    def forget(self) -> bool:
        """Removes it. Whether there was one."""
        with or_unavailable():
            return bool(self._redis.hdel(SIGN_INS, self._app))
