"""The balance of `make chaos` shows each broken promise, and none where all were kept."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postroom import Delivery, Status
from postroom.jobs.job import Attempt
from postroom.mail.priority import Priority
from postroom.sandbox.control import RequestRecord

from .balance import Record, balance

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def attempt(outcome: str = "accepted", at_s: float = 0.0, request: str = "r") -> Attempt:
    at = BEGAN + timedelta(seconds=at_s)
    nothing = dict.fromkeys(("reason", "detail", "http_status", "graph_code", "request_id"))
    return Attempt(number=1, at=at, outcome=outcome, client_request_id=request, duration_ms=10, **nothing)  # type: ignore[arg-type]


def job(name: str, *attempts: Attempt, status: Status = Status.ACCEPTED, **fields: Any) -> Delivery:
    nothing = dict.fromkeys(
        ("reason", "next_at", "batch", "key", "http_status", "graph_code", "request_id", "scheduled_at", "expires_at")
    )
    given: dict[str, Any] = nothing | {"sender": "m@contoso.com", "lane": "m@contoso.com", "ended_at": None} | fields
    priority, attempted = Priority.NORMAL, list(attempts or (attempt(),))
    return Delivery(
        id=name, status=status, attempts=attempted, priority=priority, recipients=1, created_at=BEGAN, **given
    )


def request(at_s: float, lasted_s: float | None = 0.1, in_flight: int = 1, **fields: Any) -> RequestRecord:
    """One that was answered, or, lasting None, hangs."""
    given: dict[str, Any] = {"stage": "graph", "mailbox": "m@contoso.com", "client_request_id": "r"} | fields
    return RequestRecord(
        number=1,
        method="POST",
        path="",
        in_flight=in_flight,
        request_id="",
        job="",
        message_id="",
        status=None if lasted_s is None else 202,
        code="",
        accepted=True,
        fault="",
        wall=BEGAN.timestamp() + at_s,
        monotonic=at_s,
        ended=at_s if lasted_s is None else at_s + lasted_s,
        **given,
    )


def record(*jobs: Delivery, sent: str = "", mode: str = "plain", **fields: Any) -> Record:
    """These jobs, of which `sent` names each as often as it was sent."""
    whole = Record(
        mode=mode,
        mails=len(jobs),
        receipts=[one.id for one in jobs],
        ledger=jobs,
        sent=Counter(sent),
        requests=(),
        all_requests_kept=True,
        drafts_left=0,
        limited=("m@contoso.com",),
        deadline_s=5.0,
        lease_s=10.0,
    )
    return replace(whole, **fields)


UNKNOWN = (attempt("unknown"), attempt())


@pytest.mark.parametrize(
    "kept",
    [
        record(job("a"), job("b"), sent="ab"),
        record(job("a", *UNKNOWN), sent="aa"),
        record(job("a", *UNKNOWN), sent="aa", mode="look-up", requests=[request(0), request(10.1)]),
        record(job("a", status=Status.DEAD, in_doubt=True), sent="a"),
        record(job("a", status=Status.DEAD), sent=""),
        record(requests=[request(2 * n) for n in range(31)]),
        record(requests=[request(n / 10, 1.0, n + 1) for n in range(4)]),
        record(requests=[*(request(0, None, 1) for _ in range(4)), request(5, 0.1, in_flight=5)]),
    ],
)
def test_nothing_is_broken_where_all_promises_were_kept(kept: Record) -> None:
    assert balance(kept).broken == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (record(job("a")), "lost: a"),
        (record(job("a"), sent="a", receipts=["a", "b"]), "lost: b"),
        (record(job("a"), sent="a", mails=2), "2 mails are 1 jobs"),
        (record(job("a"), sent="ab"), "sent, though nobody took it in: b"),
        (record(job("a", status=Status.QUEUED)), "not ended when its time was over"),
        (record(job("a", status=Status.DEAD), sent="a"), "called dead, and sent"),
        (record(job("a"), sent="aa"), "sent 2 times, and nobody in doubt"),
        (record(job("a", *UNKNOWN), sent="aaa"), "sent 3 times"),
        (record(job("a", *UNKNOWN), sent="aa", mode="draft"), "sent 2 times in draft mode"),
        (
            record(job("a", *UNKNOWN), sent="aa", mode="look-up", requests=[request(0), request(9)]),
            "sent 2 times in look-up mode",
        ),
        (record(requests=[request(n, 9.0, n + 1) for n in range(5)]), "5 requests of one mailbox in flight"),
        (record(requests=[request(n / 2, None, n + 1) for n in range(5)]), "5 requests of one mailbox in flight"),
        (record(requests=[request(1.9 * n) for n in range(31)]), "31 mails of a limited mailbox posted within 60 s"),
        (record(all_requests_kept=False), "the account is incomplete"),
    ],
)
def test_each_broken_promise_is_named(broken: Record, said: str) -> None:
    found = balance(broken).broken

    assert len(found) == 1
    assert said in found[0]
