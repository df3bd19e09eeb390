"""Many mails, many mailboxes, and a Graph that fails in every way at random."""

from collections import Counter
from collections.abc import Callable

from postroom import Status
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

from ..acceptance.conftest import Room, a_mail, until

MAILBOXES = [f"m{n}@contoso.com" for n in range(8)]
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


def test_nothing_is_lost_and_nothing_doubled_but_where_the_outcome_was_unknown(open_room: Callable[..., Room]) -> None:
    room = open_room(
        settings={
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
        client.send(a_mail(**{"from": MAILBOXES[n % 8]}, to=[f"u{n}@contoso.com"]), key=f"{n}").id for n in range(160)
    ]
    for _ in range(2):
        room.start_worker_process(slots=6)

    def ended() -> int:
        return sum(client.status(job).status.ended for job in jobs)

    until(lambda: ended() > 120, "the storm to meet most mails")
    room.sandbox.clear_faults()
    until(lambda: let_time_pass(room) or ended() == 160, "every mail to end")

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


def let_time_pass(room: Room) -> None:
    """What waits for a mailbox that failed, stands back there or was slowed down waits no longer."""
    ledger = Ledger(room.redis)
    ledger.pause("app", "default", 0, "")
    room.redis.hdel(f"{PREFIX}app:default", "spared_until")
    for lane in MAILBOXES:
        room.redis.hdel(f"{PREFIX}lane:{lane}", "spared_until", "slowed", "slowed_at", "full_at")
        ledger.pause("lane", lane, 0, "")
        room.redis.zadd(f"{PREFIX}lanes", {lane: 0}, xx=True)
