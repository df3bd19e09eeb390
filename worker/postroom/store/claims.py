"""What a worker does: claims a job, marks it before it sends, settles it; and the tick that keeps the clock."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from postroom.jobs.job import Claimant, Job, milliseconds, moment
from postroom.jobs.ticks import Ticked, TokenProbe
from postroom.store.claim_codec import decode_claim, decode_wait
from postroom.store.functions import Connection, drop_other_libraries, run
from postroom.telemetry.redaction import mask_actor

if TYPE_CHECKING:  # a producer's import stays cheap
    from postroom.jobs.lane_limits import PublishedSettings
    from postroom.jobs.outcome import CleanedUp, Deferred, Held, LookupResult, Outcome, Throttled
    from postroom.jobs.retry import Transition
    from postroom.jobs.workers import WorkerFacts


NOBODY = Claimant("", 0.0)


class Claims:
    """The moves that workers make. Raises Unavailable when Redis does not answer in time or refuses the write."""

    _signature: Mapping[str, str] = {}

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    @property
    def _worker(self) -> str:
        return self._signature.get("worker", "")

    def claim(
        self, lane: str, claimant: Claimant, *, may_switch_lane: bool = False, now: int | None = None
    ) -> Job | None:
        """The lane's best job, leased to the `claimant`; None if it has none now. Called once at the start of a round.

        With `may_switch_lane`: where this lane has none, or `lane` is empty, the job of the next round in the queue.
        """
        token, lease_s, apps, _ = claimant
        args = (lane, token, milliseconds(lease_s), self._worker, int(may_switch_lane), *apps)
        return decode_claim(run(self._redis, "claim", now, *args), claimant)

    def mark(self, job: Job, client_request_id: str, size: int, lease_s: float, now: int | None = None) -> float | None:
        """Directly before a request of `size` bytes that sends: 0 if it may be made, or in how many seconds.

        None if the claim is lost: post nothing. Renews the lease. A further request of the same attempt is marked again
        with its own id.
        """
        args = (job.id, job.token, milliseconds(lease_s), self._worker, client_request_id, size)
        return decode_wait(run(self._redis, "mark", now, *args))

    def note(
        self, job: Job, fields: Mapping[str, str], size: int, lease_s: float, now: int | None = None
    ) -> float | None:
        """The same before a request that sends nothing; these fields are kept with the job. An empty one is dropped."""
        return decode_wait(
            run(self._redis, "note", now, job.id, job.token, milliseconds(lease_s), json.dumps(dict(fields)), size)
        )

    def settle(
        self,
        job: Job,
        transition: "Transition",
        outcome: "Outcome | LookupResult | CleanedUp",
        duration_ms: int,
        *,
        claimant: Claimant | None = None,
        slice_expired: bool = False,
        may_switch_lane: bool = False,
        now: int | None = None,
    ) -> tuple[bool, Job | None]:
        """Whether the transition was recorded (False: the claim had been taken back), and the next job.

        That is a job of the same lane; with `may_switch_lane` one of the next round in the queue, where the lane has
        none or its slice has expired while other lanes wait. Without a `claimant` no job is claimed.
        """
        from postroom.store import settle_codec  # noqa: PLC0415 - only workers need it

        encoded = settle_codec.encode_transition(transition, outcome, duration_ms, self._signature)
        token, lease_s, apps, _ = claimant or NOBODY
        args = (
            job.lane,
            job.id,
            job.token,
            encoded,
            token,
            milliseconds(lease_s),
            self._worker,
            int(slice_expired),
            int(may_switch_lane),
            *apps,
        )
        done, following = run(self._redis, "settle", now, *args)
        return bool(done == b"settled"), decode_claim(following, claimant or NOBODY)

    def tick(self, worker: str, slots: int, lease_s: float, now: int | None = None) -> Ticked:
        """Does what is due: lost leases, expiry, sweeping, waking of lanes; counts this worker as alive."""
        reply = run(self._redis, "tick", now, worker, slots, milliseconds(lease_s))
        at, first, done, probes, events, has_settings = reply
        sleep = (float(first) - float(at)) / 1000 if first else 60.0
        return Ticked(
            sleep_s=max(sleep, 0.0),
            busy=int(done) > 0,
            has_settings=bool(has_settings),
            probes=tuple(TokenProbe(app=app.decode(), lease=lease.decode()) for app, lease in probes),
            events=tuple(map(_event, events)),
        )

    def introduce(self, worker: str, slots: int, facts: "WorkerFacts", now: int | None = None) -> None:
        """Notes what this worker goes by. If others go by something else, the log says so once."""
        run(self._redis, "introduce", now, worker, slots, facts.to_json())

    def probed(self, probe: TokenProbe, instead: "Held | Deferred | Throttled | None", now: int | None = None) -> None:
        """Records what came of a token probe: a token ends the app's hold; what stands `instead` makes it go on."""
        from postroom.store import settle_codec  # noqa: PLC0415 - only workers need it

        run(self._redis, "probed", now, probe.app, probe.lease, *settle_codec.encode_probe(instead))

    def pause(self, scope: str, name: str, wait_s: float, reason: str, now: int | None = None) -> datetime:
        """Pauses a "lane" or an "app" for `wait_s` from now at least; 0 ends its pause. Returns when it ends."""
        return moment(int(run(self._redis, "pause", now, scope, name, milliseconds(wait_s), reason)[0]))

    def publish(self, rules: "PublishedSettings", now: int | None = None) -> None:
        """Makes these rules the ones that every script goes by from now on. Held apps are probed at once."""
        run(self._redis, "publish", now, rules.to_json())
        drop_other_libraries(self._redis)


def _event(text: bytes) -> Mapping[str, Any]:
    event: dict[str, Any] = json.loads(text)
    return event | ({"by": mask_actor(event["by"])} if "by" in event else {})
