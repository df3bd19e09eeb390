"""API keys: what their holders may do over HTTP, for which senders and how fast. Redis has only their hashes."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postroom.access.rights import Caller, Door, Scope
from postroom.errors import PostroomError
from postroom.jobs.job import milliseconds, moment
from postroom.mail.address import normal_form
from postroom.store import functions
from postroom.store.functions import PREFIX

KEYS, USED, SPENT = f"{PREFIX}api:keys", f"{PREFIX}api:used", f"{PREFIX}api:spent:"
FIRST, FIRST_KEPT_S = f"{PREFIX}api:first:", 7 * 86400
RATE = (600, 60.0)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A process that knows no other scopes reads a record still.
_FIRST_SCOPES = (Scope.SEND, Scope.READ, Scope.OPERATE)


class KeyFault(PostroomError):
    """An API key cannot be created as asked, or there is no key with that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The rights of a key. With empty `senders` it is for all senders. `rate` is (requests, seconds)."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    senders: tuple[str, ...]
    rate: tuple[int, float]
    created_at: datetime
    used_on: datetime | None = None  # the day of its last use

    @property
    def caller(self) -> Caller:
        """What its holder may do."""
        return Caller(door=Door.API, id=self.id, scopes=self.scopes, senders=self.senders or ("*",))

    @property
    def by(self) -> str:
        """Who it is for the audit. A name may be given again once its key is revoked, an id never is."""
        return f"{Door.API}:{self.name}/{self.id}"


class ApiKeys:
    """The keys in Redis. Raises Unavailable."""

    def __init__(self, connection: Any) -> None:
        self._redis = connection

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        senders: Iterable[str] = (),
        rate: tuple[int, float] = RATE,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which is stored nowhere. KeyFault if the name is invalid or in use."""
        if not _NAME.fullmatch(name):
            raise KeyFault(f"{name!r} is no name for a key: letters, digits, dots, - and _, at most 64")
        if any(key.name == name for key in self.list()):
            raise KeyFault(f"there is a key {name!r} already; revoke it first, or choose another name")
        wanted = set(scopes)
        secret = f"pr_{secrets.token_urlsafe(32)}"
        with functions.or_unavailable():
            now = self._redis.time()[0] * 1000
            facts = {
                "id": secrets.token_hex(6),
                "name": name,
                "scopes": [scope for scope in _FIRST_SCOPES if scope in wanted],
                "content": Scope.CONTENT in wanted,
                "call": Scope.CALL in wanted,
                "senders": sorted({normal_form(sender) for sender in senders}),
                "most": rate[0],
                "per": milliseconds(rate[1]),
                "created": now,
            }
            self._redis.hset(KEYS, _digest(secret), json.dumps(facts))
        return _key(facts, None), secret

    def list(self) -> list[ApiKey]:
        """All keys, by their names."""
        with functions.or_unavailable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hvals(KEYS)
            pipe.hgetall(USED)
            records, used = pipe.execute()
        keys = [json.loads(fields) for fields in records]
        return sorted((_key(fields, used.get(fields["id"].encode())) for fields in keys), key=lambda key: key.name)

    def revoke(self, name: str) -> ApiKey:
        """Revokes a key, by its name or id, at once and everywhere, and returns it. KeyFault if there is none."""
        with functions.or_unavailable():
            for digest, text in self._redis.hgetall(KEYS).items():
                fields = json.loads(text)
                if name in (fields["name"], fields["id"]):
                    pipe = self._redis.pipeline(transaction=False)  # a full Redis 7.0 refuses a transaction
                    pipe.hdel(KEYS, digest)
                    pipe.hdel(USED, fields["id"])
                    pipe.delete(SPENT + fields["id"])
                    pipe.execute()
                    return _key(fields, None)
        raise KeyFault(f"there is no key {name!r}; postroom keys list shows all of them")

    def use(self, secret: str, now: int | None = None) -> tuple[ApiKey, float] | None:
        """The key with this secret, and the seconds until it may be used; None if there is no such key.

        0 means that it may be used now, and that this use is counted.
        """
        record, wait = functions.run(self._redis, "use_key", now, _digest(secret))
        return (_key(json.loads(record), None), wait / 1000) if record else None

    def first_use(self, key: str, digest: str) -> bool:
        """Whether this idempotency key of a batch is new, or was used with the same content (`digest`) before.

        It is removed after a week. Even then no mail is sent twice, because each mail of a batch has its own key.
        """
        with functions.or_unavailable():
            before = self._redis.set(FIRST + _digest(key), digest, nx=True, get=True, ex=FIRST_KEPT_S)
        return before in (None, digest.encode())


def _digest(secret: str) -> str:
    # A secret of 256 random bits that is looked up by its hash needs neither salt nor a comparison in constant time.
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _key(fields: dict[str, Any], used: bytes | None) -> ApiKey:
    return ApiKey(
        id=fields["id"],
        name=fields["name"],
        scopes=_scopes(fields),
        senders=tuple(fields["senders"]),
        rate=(fields["most"], fields["per"] / 1000),
        created_at=moment(fields["created"]),
        used_on=moment(int(used)) if used else None,
    )


def _scopes(fields: dict[str, Any]) -> tuple[Scope, ...]:
    """The scopes of a key. One that was made before content had a scope has that too if it had all others."""
    scopes = {Scope(scope) for scope in fields["scopes"]}
    if fields.get("content", scopes >= set(_FIRST_SCOPES)):
        scopes.add(Scope.CONTENT)
    if fields.get("call"):
        scopes.add(Scope.CALL)
    return tuple(scope for scope in Scope if scope in scopes)
