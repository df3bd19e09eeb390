"""Random calls in random order: the ledger is compared with a plain model of what must hold, on a real server.

`make test-world` looks longer, and `HYPOTHESIS_PROFILE=long pytest tests/store/test_lanes_model.py` much longer.
"""

import json
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from postroom.jobs.outcome import NotPermitted

from .lanes_model.people import People
from .lanes_model.possible import AFTER_THE_MARK, BEFORE_THE_MARK, ENDED, LEASE_S, TIDYING
from .lanes_model.promises import Promises
from .lanes_model.rounds import Rounds
from .lanes_model.state import P

KEPT_FOR_EVER = (
    "config",
    "seq",
    "rounds",
    "workers",
    "hands",
    "passed",
    "lane:",
    "app:",
    "marks:",
    "minutes:",
    "uploaded:",
    "chained:",  # for as long as a lease
    "patience",  # both name lanes that are held still, as their next mail will find
    "faults",
)


class Lanes(People, Rounds, Promises):
    """All that may happen, all that must hold, and an end at which every mail has left and every record is swept."""

    def __init__(self) -> None:
        super().__init__()
        self.publish()
        self.tick()

    def teardown(self) -> None:
        self.everything_drains()
        self.everything_is_swept()
        self.redis.close()

    def everything_drains(self) -> None:
        """With every round message lost, and from here on every mail accepted."""
        self.holders.clear()
        for what in ({"sender": "a@x.de"}, {"sender": "c@y.de"}, {"batch": "news"}):
            self.ledger.release(**what, now=self.now)
        for step in range(600):
            if step % 2:
                self.redis.delete("postroom", "postroom.high")
            ticked = self.ledger.tick("worker", 8, LEASE_S, now=self.now)
            for probe in ticked.probes:
                self.ledger.probed(probe, None, now=self.now)
            while message := self.redis.rpop("postroom.high") or self.redis.rpop("postroom"):
                self.claim(json.loads(json.loads(message)["body"])[0][0], again=False)
                self.finish_all()
            if not self.redis.zcard(P + "lanes") and not self.redis.zcard(P + "leases"):
                break
            leased = self.redis.exists(P + "leases")
            self.now += max(1, round(min(ticked.sleep_s, 5.0 if leased else 1e9) * 1000))
        self.every_job_is_in_exactly_one_place()
        self.limits_hold()
        assert {self.status(i) for i in self.jobs} <= {None, *ENDED}

    def finish_all(self) -> None:
        while self.holders:
            holder = self.holders[0]
            if holder.job.clean_up:
                self.settles(holder, TIDYING[0])
            elif holder.job.to_look_up:
                self.settles(holder, NotPermitted())
            elif holder.marks:
                self.settles(holder, AFTER_THE_MARK[0])
            elif self.ledger.mark(holder.job, f"request-{next(self.names)}", 1000, LEASE_S, now=self.now) == 0:
                self.spent[holder.job.lane].append((self.now, holder.job.token, self.jobs[holder.job.id].recipients))
                self.marked[holder.job.lane].append(self.now)
                self.settles(holder, AFTER_THE_MARK[0])
            else:
                self.settles(holder, BEFORE_THE_MARK[1])

    def everything_is_swept(self) -> None:
        for taken_id, taken in self.jobs.items():
            assert not taken.left or self.status(taken_id) in {"accepted", None}
        for _ in range(4):
            self.now += 4_000_000
            self.tick()
        self.redis.delete("postroom", "postroom.high")
        left = [name for name in self.snapshot() if not name.startswith(KEPT_FOR_EVER)]
        assert [name for name in left if not name.startswith("recipients:")] == []
        assert not any(name.endswith(":waiting") for name in self.snapshot())


LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.mark.timeout(0 if LONG else 600)  # many calls, and other tests may run beside it
@pytest.mark.parametrize("examples", [8, pytest.param(3000 if LONG else 60, marks=pytest.mark.world)])
def test_whatever_happens_the_lanes_keep_their_promises(server: str, examples: int) -> None:
    run_state_machine_as_test(
        type("LanesHere", (Lanes,), {"url": server}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=120 if LONG else 50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            database=None,
        ),
    )
