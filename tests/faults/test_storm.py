"""Many mails, many mailboxes, and a Graph that fails in every way at random."""

from collections import Counter
from collections.abc import Callable

import pytest

from postroom import Status

from ..acceptance.conftest import Room, a_mail, until

STORM: list[dict[str, object]] = [
    {"status": 503, "retry_after": 1},
    {"status": 429, "code": "ApplicationThrottled", "retry_after": 1},
    {"status": 500, "code": "ErrorInternalServerError"},
    {"status": 502, "body": "<html>Bad gateway</html>"},
    {"status": 504},
    {"status": 504, "accepted": True},
    {"effect": "reset"},
    {"effect": "reset", "accepted": True},
    {"effect": "close"},
    {"effect": "pass", "retry_after": 5},
    {"effect": "pass", "drip": 0.001},
    {"status": 400, "code": "ErrorInvalidRecipients"},
    {"stage": "token", "status": 503, "times": 2, "probability": 0.5},
]


@pytest.mark.timeout(180)
def test_nothing_is_lost_and_nothing_doubled_but_where_the_outcome_was_unknown(open_room: Callable[..., Room]) -> None:
    room = open_room(
        settings={
            "POSTROOM_LEASE": "10s",
            "POSTROOM_BACKOFF": "200ms",
            "POSTROOM_RATE": "100/min",
            "POSTROOM_UNKNOWN_LOOKUPS": "1s",
        },
        seed=7,
        latency=0.02,
        faults=tuple({"probability": 0.03} | rule for rule in STORM),
    )
    client = room.client()
    jobs = [
        client.send(a_mail(**{"from": f"m{n % 8}@contoso.com"}, to=[f"u{n}@contoso.com"]), key=f"{n}").id
        for n in range(160)
    ]
    room.start_worker("--processes", "2", "--concurrency", "6")

    # a mail that is sent again stands back for a minute while its mailbox fails
    until(lambda: all(client.status(job).status.ended for job in jobs), "every mail to end", patience_s=150)

    sent = Counter(request.job for request in room.sandbox.requests(accepted=True))
    for delivery in map(client.status, jobs):
        outcomes = [attempt.outcome for attempt in delivery.attempts]
        copies = sent[delivery.id]
        if delivery.status is Status.ACCEPTED:
            assert 1 <= copies <= 1 + min(outcomes.count("unknown"), 1)
        else:
            assert (delivery.status, delivery.reason) in {(Status.DEAD, "invalid_recipients"), (Status.DEAD, "unknown")}
            assert copies <= outcomes.count("unknown")
    stats = room.sandbox.stats()
    assert max(mailbox["highest_in_flight"] for mailbox in stats["mailboxes"].values()) <= 4
    assert {request.code for request in room.sandbox.requests(stage="graph", status=400)} <= {"ErrorInvalidRecipients"}
