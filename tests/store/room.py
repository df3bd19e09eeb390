"""A mail room whose clock stands still until a test moves it, and what its tests send and answer."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from postroom.jobs.job import Claimant, Delivery, Job, Receipt
from postroom.jobs.lane_limits import LaneLimits, PublishedSettings
from postroom.jobs.outcome import Accepted, Answer, Deferred, Held, LookupResult, Outcome, Scope, Throttled, Unknown
from postroom.jobs.retry import OnUnknown, Policy, after_lookup, decide
from postroom.mail.model import Mail
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

SENDER = "post@contoso.com"
OTHER = "news@contoso.com"
FREE = LaneLimits(app="main", parallel=4, daily_recipients=1000, rates=())
RULES = PublishedSettings(
    defaults=FREE,
    lanes={},
    aliases={"alias@contoso.com": SENDER},
    retention_accepted_s=3600,
    retention_dead_s=7200,
    results_here=True,
    hold_probe_s=60,
    hold_patience_s=259200,
    first_look_s=10,
)

ACCEPTED = Accepted(answer=Answer(http_status=202, request_id="r-1"))
BUSY = Deferred(reason="server_error", answer=Answer(http_status=503, graph_code="busy"))
NO_ANSWER = Unknown(reason="timeout")
UNREACHABLE = Deferred(reason="no_connection", free=True, scope=Scope.APP)
NO_TOKEN = Held(reason="invalid_client_secret", scope=Scope.APP, no_token=True)
NOT_ALLOWED = Held(reason="access_policy", scope=Scope.LANE, answer=Answer(http_status=403))


def throttled(wait_s: float | None) -> Throttled:
    return Throttled(answer=Answer(http_status=429), wait_s=wait_s)


def mail(sender: str = SENDER, to: int = 1, **fields: Any) -> Mail:
    return Mail(sender=sender, to=[f"ann{i}@contoso.com" for i in range(to)], text="hello", **fields)


class Room:
    """A ledger with its own clock."""

    def __init__(self, connection: "redis.Redis[bytes]") -> None:
        self.redis, self.ledger, self.now, self.made = connection, Ledger(connection), 1_790_000_000_000, 0
        self.publish()
        self.tick()

    def publish(self, *, lanes: dict[str, LaneLimits] | None = None, **changes: Any) -> None:
        self.ledger.publish(replace(RULES, lanes=lanes or {}, **changes), now=self.now)

    def take(self, a_mail: Mail | None = None, key: str | None = None, batch: str | None = None) -> str:
        return self.receipt(a_mail, key, batch).id

    def receipt(self, a_mail: Mail | None = None, key: str | None = None, batch: str | None = None) -> Receipt:
        return self.ledger.take_in(self.name("job"), a_mail or mail(), key, batch, now=self.now)

    def claim(self, lane: str = SENDER) -> Job | None:
        return self.ledger.claim(lane, Claimant(self.name("token"), 60), now=self.now)

    def held(self, lane: str = SENDER) -> Job:
        job = self.claim(lane)
        assert job is not None
        return job

    def mark(self, job: Job, size: int = 1000) -> str:
        wait_s = self.ledger.mark(job, self.name("request"), size, 60, now=self.now)
        return "void" if wait_s is None else "wait" if wait_s else "marked"

    def sending(self, lane: str = SENDER) -> Job:
        job = self.held(lane)
        assert self.mark(job) == "marked"
        return job

    def settle(self, job: Job, outcome: Outcome, chance: float = 1.0) -> bool:
        move = decide(outcome, job.attempts, Policy(max_attempts=3), lambda: chance)
        return self.ledger.settle(job, move, outcome, 7, now=self.now)[0]

    def send(self, outcome: Outcome = ACCEPTED, lane: str = SENDER) -> str:
        job = self.sending(lane)
        assert self.settle(job, outcome)
        return job.id

    def tick(self, seconds: float = 0, every_s: float = 1.0) -> None:
        """Lets the clock run, with a tick each second as workers make them, or more rarely."""
        end = self.now + round(seconds * 1000)
        while True:
            self.ledger.tick("worker", 8, 60, now=self.now)
            if self.now >= end:
                return
            self.now = min(self.now + round(every_s * 1000), end)

    def jump(self, seconds: float) -> None:
        self.now += round(seconds * 1000)

    def read(self, job_id: str) -> Delivery:
        return self.ledger.records.read(job_id)

    def record(self, job_id: str) -> dict[bytes, bytes]:
        return self.redis.hgetall(f"{PREFIX}job:{job_id}")

    def rounds(self) -> list[str]:
        """The lanes that rounds were asked for since the last look, the ones that are read first coming first."""
        messages = [m for queue in ("postroom.high", "postroom") for m in reversed(self.redis.lrange(queue, 0, -1))]
        self.redis.delete("postroom.high", "postroom")
        return [json.loads(json.loads(message)["body"])[0][0] for message in messages]

    def wakes_in(self, lane: str = SENDER) -> float:
        score = self.redis.zscore(PREFIX + "lanes", lane)
        assert score is not None
        return (score - self.now) / 1000

    def at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.now / 1000, UTC) + timedelta(seconds=seconds)

    def quick(self, *lanes: str) -> None:
        """These lanes' answers are known to come quickly, so they may have all worker slots."""
        for lane in lanes:
            self.redis.hset(f"{PREFIX}lane:{lane}", "slow", "0")

    def slow(self, *lanes: str) -> None:
        """These lanes' answers are known to take long, so they may have half of the worker slots together."""
        for lane in lanes:
            self.redis.hset(f"{PREFIX}lane:{lane}", "slow", "1")

    def name(self, kind: str) -> str:
        self.made += 1
        return f"{kind}-{self.made}"


def looked(room: Room, finding: LookupResult, on_unknown: OnUnknown = OnUnknown.RESEND) -> Job:
    job = room.held()
    assert job.to_look_up
    policy = Policy(max_attempts=3, look_ups_s=(10, 60, 300))
    move = after_lookup(finding, job, policy, on_unknown, lambda: 1.0)
    assert room.ledger.settle(job, move, finding, 7, now=room.now)[0]
    return job
