"""What operators do over HTTP: batches, dead letters, lanes and holds."""

import json
from collections.abc import Callable
from typing import Any

from postroom.jobs.job import Claimant
from postroom.store.ledger import Ledger

from .conftest import OTHER, SENDER, Door, a_mail, code


def dead(ledger: Ledger, job_id: str, reason: str = "invalid", **mail: Any) -> str:
    ledger.take_in_dead(job_id, SENDER, json.dumps({"from": SENDER, **a_mail(**mail)}), reason, "no mail")
    return job_id


# Batches


def test_a_batch_is_counted_cancelled_held_and_released(door: Door) -> None:
    ids = [door.send(batch="news/2026-11") for _ in range(3)]
    door.post(f"/v1/emails/{ids[0]}/cancel")

    counts = door.get("/v1/batches/news/2026-11").json()
    assert (counts["counts"]["total"], counts["counts"]["queued"], counts["counts"]["cancelled"]) == (3, 2, 1)
    assert counts["hold"] is None

    kept = door.post("/v1/batches/news/2026-11/hold", {"reason": "wrong prices", "for_s": 3600}).json()
    hold = door.get("/v1/batches/news/2026-11").json()["hold"]
    assert (kept["waiting"], hold["reason"], hold["by"]) == (2, "wrong prices", door.by())
    assert hold["until"] is not None

    assert door.post("/v1/batches/news/2026-11/release").json()["was_held"]
    told = door.post("/v1/batches/news/2026-11/cancel", {"why": "wrong prices"}).json()
    assert (told["cancelled"], told["ended_before"]) == (2, 1)


def test_a_batch_that_is_not_there_is_not_found(door: Door) -> None:
    assert code(door.get("/v1/batches/none")) == (404, "not_found")
    for act in ("cancel", "hold", "release"):
        assert code(door.post(f"/v1/batches/none/{act}")) == (404, "not_found")


# Dead letters


def test_dead_letters_are_listed_by_reason_sender_and_batch_and_counted(door: Door, ledger: Ledger) -> None:
    ids = [dead(ledger, f"d{place}", "invalid" if place < 3 else "key_conflict") for place in range(5)]

    def listed(query: str) -> list[str]:
        return [job["id"] for job in door.get(f"/v1/dead-letters?{query}").json()["items"]]

    assert listed("") == ids[::-1]
    assert listed("reason=key_conflict") == ["d4", "d3"]
    assert listed(f"sender={SENDER.upper()}&reason=invalid&limit=2") == ["d2", "d1"]
    assert listed(f"sender={OTHER}") == listed("batch=b") == listed("reason=expired") == []
    assert listed("since=2100-01-01T00:00:00Z") == []
    assert door.get("/v1/dead-letters/reasons").json() == {
        "total": 5,
        "reasons": [
            {"reason": "invalid", "count": 3, "in_doubt": 0},
            {"reason": "key_conflict", "count": 2, "in_doubt": 0},
        ],
    }


def test_a_letter_is_shown_without_its_content_unless_that_is_asked_for(door: Door, ledger: Ledger) -> None:
    dead(ledger, "d", text="BODY")

    plain, whole = door.get("/v1/dead-letters/d").json(), door.get("/v1/dead-letters/d?content=true").json()

    assert (plain["job"]["status"], plain["mail"]["text"], plain["mail"]["subject"]) == (
        "dead",
        "(4 characters)",
        "Hello",
    )
    assert whole["mail"]["text"] == "BODY"


def test_letters_are_requeued_or_discarded_in_the_order_asked_for(door: Door, ledger: Ledger) -> None:
    job_id = door.send()
    job = ledger.claim(SENDER, Claimant("t", 60.0))
    assert job is not None
    assert job.id == job_id
    dead(ledger, "d1")
    dead(ledger, "d2")

    gone = door.post("/v1/dead-letters/discard", {"ids": ["d2", "none", job_id], "why": "old"}).json()
    assert [(one["id"], one["said"]) for one in gone["results"]] == [
        ("d2", "discarded"),
        ("none", "unknown"),
        (job_id, "not_dead"),
    ]
    again = door.post("/v1/dead-letters/requeue", {"ids": ["d1"], "why": "mended"}).json()
    assert again["results"] == [{"id": "d1", "said": "no_mail", "status": "dead"}]
    assert code(door.post("/v1/dead-letters/discard", {"ids": ["d1"]})) == (422, "invalid_request")
    assert code(door.post("/v1/dead-letters/requeue", {"ids": ["d"] * 501})) == (422, "invalid_request")


def test_a_letter_is_sent_again_with_changes_as_a_new_job(door: Door, ledger: Ledger) -> None:
    dead(ledger, "d", to=["nobody"])

    wrong = door.post("/v1/dead-letters/d/change", {"changes": {"too": "ann@contoso.com"}})
    assert code(wrong) == (422, "invalid_mail")
    answer = door.post("/v1/dead-letters/d/change", {"changes": {"to": "ann@contoso.com"}, "why": "typo"})

    assert answer.json()["requeued_from"] == "d"
    assert door.get(f"/v1/emails/{answer.json()['id']}").json()["status"] == "queued"
    assert door.get("/v1/emails/d").json()["replaced_by"] == answer.json()["id"]
    again = door.post("/v1/dead-letters/d/change", {"changes": {"to": "ann@contoso.com"}})
    assert again.status_code == 409


# Lanes and holds


def test_a_sender_is_held_and_released_and_its_lane_shows_it(door: Door, ledger: Ledger) -> None:
    door.send()
    kept = door.post(f"/v1/lanes/{SENDER}/hold", {"reason": "migration"}).json()
    (lane,) = door.get("/v1/lanes").json()["items"]
    (hold,) = door.get("/v1/holds").json()["items"]

    assert (kept["name"], kept["waiting"]) == (SENDER, 1)
    assert (lane["lane"]["lane"], lane["lane"]["ready"], lane["hold"]["reason"]) == (SENDER, 1, "migration")
    assert (hold["scope"], hold["name"], hold["by"]) == ("lane", SENDER, door.by())
    assert ledger.claim(SENDER, Claimant("t", 60.0)) is None
    assert door.get("/v1/emails").json()["items"][0]["status"] == "queued"

    assert door.post(f"/v1/lanes/{SENDER}/release").json()["was_held"]
    assert door.get("/v1/holds").json()["items"] == []
    assert ledger.claim(SENDER, Claimant("t", 60.0)) is not None


# Health


def test_the_api_is_ready_while_a_worker_ticks(door: Door, ledger: Ledger) -> None:
    assert door.http.get("/healthz").json() == {"status": "ok"}
    assert code(door.http.get("/readyz")) == (503, "no_worker")
    ledger.tick("host:1", 8, 60.0)
    assert door.http.get("/readyz").json() == {"ready": True, "workers": 1}


def test_metrics_are_in_the_form_of_prometheus_and_name_no_person(
    open_door: Callable[..., Door], ledger: Ledger
) -> None:
    door = open_door()
    door.send(batch="b")
    dead(ledger, "d")
    ledger.tick("host:1", 8, 60.0)

    text = door.http.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    assert figures['postroom_jobs{status="queued"}'] == figures['postroom_jobs{status="dead"}'] == "1"
    assert figures["postroom_workers_alive"] == "1"
    assert figures["postroom_lanes_waiting"] == "1"
    assert float(figures["postroom_oldest_due_seconds"]) < 60
    assert int(figures["postroom_redis_used_bytes"]) > 100_000  # a whole number, and no 1e+06
    assert SENDER not in text
    for name in figures:
        assert f"# TYPE {name.partition('{')[0]} " in text
