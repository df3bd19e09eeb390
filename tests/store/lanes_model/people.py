"""What producers and operators do, in any order."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from postroom.errors import InvalidMail, KeyConflict, TooLate
from postroom.jobs.job import Receipt
from postroom.store.operator import Actor
from postroom.store.shared_content import Sharing

from .possible import ENDED, LANES, MAILS, MOST_PARALLEL, Taken
from .state import P, State


class People(State):
    """Mails are taken in, cancelled, requeued, changed and discarded; lanes are paused and held."""

    @rule(lane=st.sampled_from(sorted(LANES)), parallel=st.integers(1, MOST_PARALLEL))
    def publish_rules_anew(self, lane: str, parallel: int) -> None:
        self.parallel[lane] = parallel
        self.publish()

    @rule(what=st.lists(st.sampled_from(sorted(MAILS)), min_size=2, max_size=4))
    def take_in_some(self, what: list[Any]) -> None:
        for one in what:
            self.take_in(one, None, None, None, None, again=False)

    @rule(
        what=st.lists(st.sampled_from(sorted(MAILS)), min_size=2, max_size=4),
        key=st.sampled_from([None, "k1", "k2"]),
        text=st.sampled_from(["a newsletter " * 30, "another one " * 30]),
    )
    def take_in_together(self, what: list[Any], key: str | None, text: str) -> None:
        sharing, keys = Sharing(), [key, *[None] * len(what)]
        mails = [MAILS[one].model_copy(update={"text": text}) for one in what]
        given = [sharing.entry(f"job-{next(self.names)}", mail, key) for mail, key in zip(mails, keys, strict=False)]
        first = self.redis.hget(P + "keys", key) if key else None

        def ask() -> list[Any]:
            said = self.ledger.take_in_many(given, "news", sharing.common(given), now=self.now)
            return [one if isinstance(one, Receipt) else type(one) for one in said]

        told = ask()
        for entry, (lane, recipients, priority), one in zip(given, what, told, strict=True):
            if isinstance(one, Receipt) and not one.known:
                self.jobs[entry.job_id] = Taken(lane, priority.value, recipients)
            elif one is InvalidMail:
                assert recipients > LANES[lane].daily_recipients
            else:
                assert first is not None
        self.changes_nothing(lambda: ask() == told)

    @rule(
        what=st.sampled_from(sorted(MAILS)),
        key=st.sampled_from([None, None, None, "k1", "k2"]),
        batch=st.sampled_from([None, "news"]),
        scheduled=st.sampled_from([None, None, None, 3, 600]),
        expires=st.sampled_from([None, None, None, 20, 700]),
        again=st.booleans(),
    )
    def take_in(
        self, what: Any, key: str | None, batch: str | None, scheduled: int | None, expires: int | None, again: bool
    ) -> None:
        lane, recipients, priority = what
        times = {"scheduled_at": self.at(scheduled), "expires_at": self.at(expires)}
        mail = MAILS[what].model_copy(update={name: time for name, time in times.items() if time})
        job_id = f"job-{next(self.names)}"
        first = self.redis.hget(P + "keys", key) if key else None
        try:
            receipt = self.ledger.take_in(job_id, mail, key, batch, now=self.now)
        except InvalidMail:
            assert recipients > LANES[lane].daily_recipients
            return
        except KeyConflict as conflict:
            assert first is not None
            assert conflict.job_id == first.decode()
            return
        assert receipt.known == (first is not None)
        assert receipt.id == (first.decode() if first else job_id)
        if not receipt.known:
            self.jobs[job_id] = Taken(lane, priority.value, recipients)
        if again:
            self.changes_nothing(lambda: self.ledger.take_in(job_id, mail, key, batch, now=self.now) == receipt)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        status = self.status(job_id)
        if status is None:
            return
        try:
            self.ledger.cancel(job_id, now=self.now)
        except TooLate:
            assert status == "sending" or status in ENDED
        else:
            assert status in {"queued", "deferred", "cancelled"}
            self.changes_nothing(lambda: self.ledger.cancel(job_id, now=self.now) is None)

    @precondition(lambda self: self.dead())
    @rule(data=st.data(), expires=st.sampled_from([None, "never", 30]), twice=st.booleans())
    def requeue(self, data: st.DataObject, expires: Any, twice: bool) -> None:
        job_id = data.draw(st.sampled_from(self.dead()))
        record, order = self.record(job_id), Actor(f"order-{next(self.names)}", "somebody")
        until = self.at(expires) if expires == 30 else expires

        def ask() -> str:
            return self.ledger.requeue([job_id], order, expires=until, twice=twice, now=self.now)[0].said

        said = ask()
        if said in {"busy", "past_expiry"}:
            assert record["place"] == "claim" if said == "busy" else int(record["expires"]) <= self.now
            assert self.record(job_id) == record
            return
        assert said == ("look_up" if "in_doubt" in record and not twice else "requeued")
        self.jobs[job_id].attempts = 0
        self.changes_nothing(lambda: ask() == said)

    @precondition(lambda self: self.dead())
    @rule(data=st.data(), what=st.sampled_from(sorted(MAILS)), twice=st.booleans())
    def replace_letter(self, data: st.DataObject, what: Any, twice: bool) -> None:
        job_id, new_id = data.draw(st.sampled_from(self.dead())), f"job-{next(self.names)}"
        record, order = self.record(job_id), Actor(f"order-{next(self.names)}", "somebody")

        def ask() -> str:
            return self.ledger.replace(job_id, new_id, MAILS[what], ["to"], order, twice=twice, now=self.now)

        try:
            said = ask()
        except InvalidMail:
            assert what[1] > LANES[what[0]].daily_recipients
            return
        if said != "replaced":
            assert said == ("in_doubt" if "in_doubt" in record and not twice else "busy")
            assert self.record(job_id) == record
            return
        self.jobs[new_id] = Taken(what[0], what[2].value, what[1])
        self.changes_nothing(lambda: ask() == "replaced")

    @precondition(lambda self: self.dead())
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        job_id, order = data.draw(st.sampled_from(self.dead())), Actor(f"order-{next(self.names)}", "somebody")
        said = self.ledger.discard([job_id], order, now=self.now)
        assert (said[0].said, self.status(job_id)) == ("discarded", "cancelled")
        self.changes_nothing(lambda: self.ledger.discard([job_id], order, now=self.now) == said)

    @rule(where=st.sampled_from([("lane", "a@x.de"), ("lane", "b@x.de"), ("app", "one")]), wait=st.integers(0, 20))
    def pause(self, where: tuple[str, str], wait: int) -> None:
        self.ended_early |= wait == 0
        till = self.ledger.pause(*where, wait, "operator", now=self.now)
        if wait:
            self.changes_nothing(lambda: self.ledger.pause(*where, wait, "operator", now=self.now) == till)

    @rule(
        what=st.sampled_from([{"sender": "a@x.de"}, {"sender": "c@y.de"}, {"batch": "news"}]),
        length=st.sampled_from([None, 5.0, 400.0]),
        again=st.booleans(),
    )
    def hold(self, what: dict[str, str], length: float | None, again: bool) -> None:
        kept = self.ledger.hold(**what, by="anna", length_s=length, now=self.now)
        if again:
            self.changes_nothing(
                lambda: self.ledger.hold(**what, by="anna", length_s=length, now=self.now).waiting == kept.waiting
            )

    @rule(what=st.sampled_from([{"sender": "a@x.de"}, {"sender": "c@y.de"}, {"batch": "news"}]))
    def release(self, what: dict[str, str]) -> None:
        self.ledger.release(**what, now=self.now)
        assert not self.ledger.release(**what, now=self.now).was_held
