"""The ledger under test beside the model of it, and how both are looked at."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from hypothesis.stateful import RuleBasedStateMachine

from postroom.jobs.lane_limits import LaneLimits, PublishedSettings
from postroom.jobs.ticks import TokenProbe
from postroom.store import functions
from postroom.store.ledger import Ledger

from .possible import LANES, Holder, Taken

P = "{postroom}:"
START = 1_790_000_000_000
CLASSES = ("check", "high", "again", "normal", "low")
LOOKING, OUTLOOK = functions.library(
    functions.CODE
    + """
    functions.register('outlook', {'allow-oom'}, function(arguments)
      local at, can_go = scheduling.outlook(arguments[2], config.limits(arguments[2]))
      return {at and values.integer(at) or '', can_go}
    end)"""
)


class Together:
    """A connection that sends the moves of claims as fibers do, which put several into one call."""

    MOVES = frozenset(functions.LIBRARY + name for name in ("claim", "mark", "note", "settle"))

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def fcall(self, function: str, numkeys: int, *arguments: Any) -> Any:
        if function not in self.MOVES:
            return self._connection.fcall(function, numkeys, *arguments)
        (answer,) = self._connection.fcall(*functions.in_one([(function, numkeys, *arguments)]))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class State(RuleBasedStateMachine):
    """What the model knows, and the database that it is compared with."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.redis = redis.Redis.from_url(self.url)
        self.redis.flushall()
        self.ledger = Ledger(Together(self.redis))
        self.now = START
        self.parallel = {lane: limits.parallel for lane, limits in LANES.items()}
        self.jobs: dict[str, Taken] = {}
        self.holders: list[Holder] = []
        self.marked: dict[str, list[int]] = defaultdict(list)
        self.spent: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        self.turns: dict[str, list[str]] = defaultdict(list)
        self.seen_rounds: dict[str, int] = {}
        self.doubled = 0
        self.ended_early = False  # a person ended a pause
        self.lent: list[TokenProbe] = []
        self.names = iter(range(10**6))
        self.apps: tuple[str, ...] = ()

    def publish(self) -> None:
        self.ledger.publish(
            PublishedSettings(
                defaults=LANES["b@x.de"],
                lanes={
                    lane: LaneLimits(
                        app=limits.app,
                        parallel=self.parallel[lane],
                        daily_recipients=limits.daily_recipients,
                        rates=limits.rates,
                    )
                    for lane, limits in LANES.items()
                },
                aliases={},
                retention_accepted_s=3600,
                retention_dead_s=7200,
                results_here=True,
                hold_probe_s=60,
                hold_patience_s=2000,
                first_look_s=10,
            ),
            now=self.now,
        )
        self.redis.function_load(LOOKING, replace=True)  # after all other libraries were removed

    def at(self, seconds: int | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(self.now / 1000, UTC) + timedelta(seconds=seconds)

    def dead(self) -> list[str]:
        return sorted(i for i in self.jobs if self.status(i) in {"dead", "expired"})

    def record(self, job_id: str) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.redis.hgetall(f"{P}job:{job_id}").items()}

    def status(self, job_id: str) -> str | None:
        found = self.redis.hget(f"{P}job:{job_id}", "status")
        return found.decode() if found else None

    def holds(self, holder: Holder) -> bool:
        record = self.record(holder.job.id)
        return record.get("place") == "claim" and record.get("token") == holder.job.token

    def doubted(self, holder: Holder) -> bool:
        return holder.job.token in self.record(holder.job.id).get("doubted", "").split()

    def ready(self, lane: str) -> dict[str, set[str]]:
        """The ids that wait in the lane, once what is due has joined them."""
        self.redis.fcall(f"{OUTLOOK}outlook", 0, self.now, lane)
        ids = {c: self.redis.zrange(f"{P}ready:{c}:{lane}", 0, -1) for c in CLASSES}
        return {c: {i.decode() for i in found} for c, found in ids.items()}

    def class_of(self, record: dict[str, str]) -> str:
        if "tidy" in record or ("in_doubt" in record and "resend" not in record):
            return "check"
        return "again" if "resend" in record else record["priority"]

    def snapshot(self) -> dict[str, Any]:
        """All that is in Redis but for Celery's queue: name without prefix -> value."""
        names = [name for name in self.redis.scan_iter(count=1000) if not name.startswith(b"postroom")]
        pipe = self.redis.pipeline(transaction=False)
        for name in names:
            pipe.type(name)
        kinds = pipe.execute()
        for name, kind in zip(names, kinds, strict=True):
            match kind:
                case b"hash":
                    pipe.hgetall(name)
                case b"zset":
                    pipe.zrange(name, 0, -1, withscores=True)
                case b"set":
                    pipe.smembers(name)
                case b"list":
                    pipe.lrange(name, 0, -1)
                case _:
                    pipe.get(name)
        return {n.decode().removeprefix(P): _plain(v) for n, v in zip(names, pipe.execute(), strict=True)}

    def changes_nothing(self, repeat: Any) -> None:
        before = self.snapshot()
        assert repeat(), "another answer to the same call"
        assert self.snapshot() == before


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode()
        case dict():
            return {_plain(k): _plain(v) for k, v in value.items()}
        case set():
            return {_plain(v) for v in value}
        case [(bytes(), float()), *_] as pairs:
            return {_plain(k): score for k, score in pairs}
        case [[bytes(), float()], *_] as pairs:
            return {_plain(k): score for k, score in pairs}
        case list():
            return [_plain(v) for v in value]
        case _:
            return value
