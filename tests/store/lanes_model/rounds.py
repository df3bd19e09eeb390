"""What rounds do with their claims, and what happens to them: lost messages, crashes, time."""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from postroom.jobs.job import Claimant, Job
from postroom.jobs.outcome import Accepted, Found, Held, Outcome

from .possible import AFTER_THE_MARK, BEFORE_THE_MARK, ENDED, LANES, LEASE_S, Holder
from .state import P, State


class Rounds(State):
    """Jobs are claimed, marked and settled. A claim may be lost, and a call may be made twice."""

    @rule(again=st.booleans())
    def start_round(self, again: bool) -> None:
        if message := self.redis.rpop("postroom.high") or self.redis.rpop("postroom"):
            self.claim(json.loads(json.loads(message)["body"])[0][0], again)

    @rule(lane=st.sampled_from(sorted(LANES)), again=st.booleans())
    def claim(self, lane: str, again: bool) -> None:
        claimant, before = self.claimant(), self.ready(lane)
        job = self.ledger.claim(lane, claimant, now=self.now)
        if job:
            self.claimed(job, before)
            if again:
                self.changes_nothing(lambda: self.ledger.claim(lane, claimant, now=self.now) == job)

    @rule(apps=st.sampled_from([(), ("one",), ("one", "two")]))
    def have_tokens(self, apps: tuple[str, ...]) -> None:
        self.apps = apps

    def claimant(self) -> Claimant:
        return Claimant(f"token-{next(self.names)}", LEASE_S, self.apps)

    @precondition(lambda self: any(holder.sends for holder in self.holders))
    @rule(data=st.data(), again=st.booleans())
    def mark(self, data: st.DataObject, again: bool) -> None:
        self.marks(data.draw(st.sampled_from([holder for holder in self.holders if holder.sends])), again)

    @precondition(lambda self: any(holder.sends and not holder.marks for holder in self.holders))
    @rule(data=st.data(), again=st.booleans())
    def make_a_draft(self, data: st.DataObject, again: bool) -> None:
        holder = data.draw(st.sampled_from([holder for holder in self.holders if holder.sends and not holder.marks]))
        held = self.holds(holder)
        fields = {"drafting": "1"} if not holder.job.drafting else {"draft": f"draft-{next(self.names)}"}
        assert (self.ledger.note(holder.job, fields, 0, LEASE_S, now=self.now) is not None) == held
        if not held:
            self.holders.remove(holder)
            return
        holder.job = holder.job._replace(drafting=True, draft=fields.get("draft", holder.job.draft))
        if again:
            self.changes_nothing(lambda: self.ledger.note(holder.job, fields, 0, LEASE_S, now=self.now) is not None)

    def marks(self, holder: Holder, again: bool = False) -> None:
        request_id, held = f"request-{next(self.names)}", self.holds(holder)
        wait_s = self.ledger.mark(holder.job, request_id, 1000, LEASE_S, now=self.now)
        assert (wait_s is None) == (not held)
        if wait_s is None:
            self.holders.remove(holder)
        if wait_s != 0:
            return
        self.noted(holder, request_id)
        if again:
            self.changes_nothing(
                lambda: self.ledger.mark(holder.job, request_id, 1000, LEASE_S, now=self.now) == 0,
            )

    def noted(self, holder: Holder, request_id: str) -> None:
        assert not self.jobs[holder.job.id].left, "accepted once, and marked again"
        if not holder.marks:
            self.spent[holder.job.lane].append((self.now, holder.job.token, self.jobs[holder.job.id].recipients))
        holder.marks.append(request_id)
        self.marked[holder.job.lane].append(self.now)

    @precondition(lambda self: self.holders)
    @rule(
        data=st.data(),
        chance=st.floats(0, 0.99),
        goes_on=st.booleans(),
        slice_expired=st.booleans(),
        again=st.booleans(),
    )
    def settle(self, data: st.DataObject, chance: float, goes_on: bool, slice_expired: bool, again: bool) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        outcome = data.draw(st.sampled_from(holder.may_meet()))
        self.settles(holder, outcome, chance, goes_on, slice_expired, again)

    @rule(
        lane=st.sampled_from(sorted(LANES)),
        outcomes=st.lists(st.sampled_from(AFTER_THE_MARK), min_size=1, max_size=4),
        took=st.integers(0, 3000),
        chance=st.floats(0, 0.99),
    )
    def work_a_while(self, lane: str, outcomes: list[Outcome], took: int, chance: float) -> None:
        self.claim(lane, again=False)
        for outcome in outcomes:
            if not self.holders or self.holders[-1].job.lane != lane or self.holders[-1].has_asked:
                return
            if not self.holders[-1].sends:
                self.settles(self.holders[-1], self.holders[-1].may_meet()[len(outcomes) - 1], chance)
                continue
            if not self.holders[-1].marks:
                self.marks(self.holders[-1])
            if not self.holders or not self.holders[-1].marks:
                return
            self.now += took
            self.settles(self.holders[-1], outcome, chance)

    def settles(
        self, holder: Holder, outcome: Any, chance: float = 0.5, goes_on: bool = True, slice_expired: bool = False,
        again: bool = False,
    ) -> None:  # fmt: skip
        self.holders.remove(holder)
        job, taken = holder.job, self.jobs[holder.job.id]
        held, in_doubt, record = self.holds(holder), self.doubted(holder), self.record(job.id)
        move, status = holder.move(outcome, chance), self.status(job.id)
        before = self.ready(job.lane)
        said = {
            "claimant": self.claimant() if goes_on else None,
            "slice_expired": slice_expired,
            "now": self.now,
        }
        recorded, following = self.ledger.settle(job, move, outcome, 5, **said)
        believed = in_doubt and isinstance(outcome, Accepted)
        assert recorded == (held or believed)
        if isinstance(outcome, Accepted | Found) and recorded:
            taken.left = True
        if held:
            taken.attempts += move.spends_attempt
            out_of_patience = {"dead"} if isinstance(outcome, Held) else set()
            # it may be due at once, and be the next one
            once_more = {"sending"} if following and following.marked and following.id == job.id else set()
            assert self.status(job.id) in {move.status or status, "expired", "accepted", *out_of_patience, *once_more}
            if move.sent_nothing:
                self.spent[job.lane] = [spent for spent in self.spent[job.lane] if spent[1] != job.token]
        elif not believed and (following is None or following.id != job.id):
            assert self.record(job.id) == record
        if following:
            waits = () if self.record(job.id).get("place") == "ended" else (job.id,)
            self.claimed(following, before, came_back=waits)
        if again:
            self.changes_nothing(lambda: self.ledger.settle(job, move, outcome, 5, **said) == (recorded, following))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.holders.remove(data.draw(st.sampled_from(self.holders)))

    @rule(queue=st.sampled_from(["postroom", "postroom.high"]))
    def lose_a_round(self, queue: str) -> None:
        self.redis.lpop(queue)

    @rule(queue=st.sampled_from(["postroom", "postroom.high"]))
    def double_a_round(self, queue: str) -> None:
        if message := self.redis.lindex(queue, 0):
            self.redis.lpush(queue, message)
            self.doubled += 1

    @rule(ms=st.one_of(st.integers(1, 3000), st.sampled_from([10_000, 31_000, 61_000, 3_600_000, 90_000_000])))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule()
    def tick(self) -> None:
        self.lent += self.ledger.tick("worker", 8, LEASE_S, now=self.now).probes

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), instead=st.sampled_from([None, *BEFORE_THE_MARK[:4]]), again=st.booleans())
    def probe_for_a_token(self, data: st.DataObject, instead: Any, again: bool) -> None:
        probe = data.draw(st.sampled_from(self.lent))
        self.lent.remove(probe)
        self.ledger.probed(probe, instead, now=self.now)
        if again:
            self.changes_nothing(lambda: self.ledger.probed(probe, instead, now=self.now) is None)

    @rule(seconds=st.sampled_from([3, 12, 70]))
    def the_clock_runs(self, seconds: int) -> None:
        for _ in range(min(seconds, 12)):
            self.now += seconds * 1000 // min(seconds, 12)
            self.tick()
            self.rounds_are_few()  # sees which are young

    def claimed(self, job: Job, before: dict[str, set[str]], came_back: tuple[str, ...] = ()) -> None:
        """A new claim is the right one, and not one too many."""
        taken, record = self.jobs[job.id], self.record(job.id)
        assert not taken.left or job.clean_up, "accepted once, and claimed again"
        assert job.attempts == taken.attempts
        assert job.lane == taken.lane
        assert int(record.get("next_at", 0)) <= self.now or self.ended_early, "only a person lets it go before its time"
        assert job.in_doubt or job.clean_up or int(record.get("expires", self.now + 1)) > self.now
        assert self.redis.zcard(f"{P}claims:{job.lane}") <= self.parallel[job.lane]
        for state in (f"lane:{job.lane}", f"app:{LANES[job.lane].app}"):
            assert int(self.redis.hget(P + state, "pause_until") or 0) <= self.now
            assert self.redis.hget(P + state, "held_for") is None, "only a token ends this hold"
        for state in (f"lane:{job.lane}", *([] if job.to_look_up or job.clean_up else [f"held:{record.get('batch')}"])):
            since, until = self.redis.hmget(P + state, "stopped_since", "stopped_until")
            assert since is None or int(until or self.now + 1) <= self.now, "a person holds it"
        self.in_turn(job, {c: ids - set(came_back) for c, ids in before.items()})
        holder = Holder(job)
        self.holders.append(holder)
        if job.marked:
            assert LANES[job.lane].app in self.apps
            self.noted(holder, job.token)

    def in_turn(self, job: Job, ready: dict[str, set[str]]) -> None:
        own, turns = self.class_of(self.record(job.id)), self.turns[job.lane]
        same = [i for i in ready[own] if self.record(i).get("place") == "ready"]
        assert all(int(self.record(job.id)["seq"]) < int(self.record(i)["seq"]) for i in same if i != job.id)
        if own == "check":
            return
        assert not [i for i in ready["check"] if self.record(i).get("place") == "ready"], "doubts are looked up first"
        better = {
            "high": set(),
            "again": ready["high"],
            "normal": ready["high"],
            "low": ready["high"] | ready["normal"],
        }[own]
        passed_over = {i for i in better if self.status(i) not in ENDED and self.status(i) is not None}
        assert not passed_over or own == "low", "only a low one may go before a better one"
        turns.append("early" if passed_over else "low" if own == "low" or not ready["low"] else "low waits")
        assert turns[-10:].count("early") <= 1, "low has one claim in ten, no more"
        assert turns[-10:] != ["low waits"] * 10, "low has one claim in ten, no less"
