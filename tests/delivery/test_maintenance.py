"""A worker's background loops go on whatever fails."""

from threading import Event

from postroom.delivery.maintenance import store_results_for_ever, tick_for_ever
from postroom.errors import Unavailable
from postroom.jobs.ticks import Ticked

from .world import Diary, FakeLedger


def test_no_error_ends_the_tick() -> None:
    stop, diary = Event(), Diary()
    ledger = FakeLedger([], ticks=[Unavailable("away"), ValueError("a bug"), Ticked(sleep_s=0.0, busy=True)])
    ledger.when_ticked_out = stop.set

    tick_for_ever(ledger, "worker", 4, 60.0, stop, diary.emit, lambda _: None, lambda: None, longest_s=0.0)

    assert diary.events == ["tick.failed", "tick.failed"]


def test_settings_that_redis_has_lost_are_published_again() -> None:
    stop, diary, published = Event(), Diary(), list[str]()
    lost, there = (Ticked(sleep_s=0.0, busy=True, has_settings=has) for has in (False, True))
    ledger = FakeLedger([], ticks=[there, lost, there])
    ledger.when_ticked_out = stop.set

    tick_for_ever(
        ledger, "w", 4, 60.0, stop, diary.emit, lambda _: None, lambda: published.append("rules"), longest_s=0.0
    )

    assert (published, diary.events) == (["rules"], ["settings.published"])


def test_a_result_that_cannot_be_stored_keeps_no_other_from_being_stored() -> None:
    stop, diary, stored = Event(), Diary(), list[str]()
    ledger = FakeLedger([], results=[Unavailable("away"), ValueError("odd"), ["too-long", "job-1"]])

    def store(job_id: str) -> None:
        if job_id == "too-long":
            raise ValueError("too long for a column")
        stored.append(job_id)
        stop.set()

    store_results_for_ever(ledger, store, stop, diary.emit, longest_s=0.0)

    assert stored == ["job-1"]
    assert diary.events == ["results.failed", "results.failed"]
