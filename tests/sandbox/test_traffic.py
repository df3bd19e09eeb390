"""Limits and counters of one mailbox. Time is an argument."""

from __future__ import annotations

from postroom.sandbox.exchange.traffic import BusiestMinute, Limits, Meter, SlidingSum


def test_the_fifth_request_in_flight_is_throttled() -> None:
    meter = Meter(Limits(retry_after=3))
    for _ in range(4):
        assert meter.enter(0, now=0) is None

    refusal = meter.enter(0, now=0)

    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.headers) == (429, "ApplicationThrottled", {"retry-after": "3"})
    assert meter.highest_in_flight == 5


def test_a_request_that_ended_makes_room() -> None:
    meter = Meter(Limits())
    for _ in range(4):
        meter.enter(0, now=0)
    meter.leave()

    assert meter.enter(0, now=0) is None


def test_without_limits_nothing_is_refused_and_everything_counted() -> None:
    meter = Meter(Limits(on=False))

    assert [meter.enter(0, now=0) for _ in range(9)] == [None] * 9
    assert meter.highest_in_flight == 9


def test_more_than_ten_thousand_requests_in_ten_minutes_are_throttled_and_count_on() -> None:
    meter = Meter(Limits())

    def request(now: float) -> bool:
        refused = meter.enter(0, now) is not None
        meter.leave()
        return refused

    assert not any(request(now / 100) for now in range(10_000))
    assert request(100)
    assert request(599)
    assert not request(720)


def test_more_than_150_mb_of_upload_in_five_minutes_are_throttled() -> None:
    meter = Meter(Limits())
    four_mb = 4 * 1024 * 1024
    refused = []
    for now in range(38):
        refused.append(meter.enter(four_mb, now) is not None)
        meter.leave()

    assert refused == [False] * 37 + [True]


def test_a_rate_that_is_to_be_refused_is_refused() -> None:
    meter = Meter(Limits(refuse_above=2))
    refused = []
    for now in (0, 1, 2, 61.5):
        refused.append(meter.enter(0, now) is not None)
        meter.leave()

    assert refused == [False, False, True, False]


def test_above_thirty_a_minute_exchange_accepts_and_delivers_later() -> None:
    meter = Meter(Limits())

    delays = [meter.accept(1, now=0) for _ in range(61)]

    assert delays == [0.0] * 30 + [60.0] * 30 + [120.0]
    assert meter.accepted == 61


def test_the_busiest_minute_is_found_wherever_it_begins() -> None:
    minute = BusiestMinute()
    for now in (0, 30, 59, 61, 62, 118, 500):
        minute.add(now)

    assert minute.most == 4  # 30, 59, 61, 62


def test_events_a_whole_minute_apart_are_not_in_the_same_minute() -> None:
    minute = BusiestMinute()
    minute.add(0)
    minute.add(60)

    assert minute.most == 1


def test_a_sliding_sum_forgets_what_left_its_window() -> None:
    total = SlidingSum(10)
    total.add(5, now=0)
    total.add(7, now=6)

    assert [total.total(now) for now in (6, 9.9, 10, 16)] == [12, 12, 7, 0]


def test_more_than_ten_thousand_recipients_in_a_day_are_too_many() -> None:
    meter = Meter(Limits())
    for now in range(20):
        meter.accept(500, now)

    assert not meter.over_daily_recipients(20)
    meter.accept(1, now=30)
    assert meter.over_daily_recipients(30)
    assert not meter.over_daily_recipients(86_500)
