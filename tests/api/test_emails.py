"""Mails over HTTP are taken in once, read, listed and cancelled; wrong ones are refused with the reason."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postroom.access.rights import Scope
from postroom.jobs.job import Claimant, Status
from postroom.jobs.outcome import Refused
from postroom.jobs.retry import Policy, decide
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

from .conftest import SENDER, Door, a_mail, code


def test_a_mail_that_was_answered_202_is_kept(door: Door) -> None:
    answer = door.post("/v1/emails", a_mail(tags=["welcome"], metadata={"order": "17"}))

    assert answer.status_code == 202
    assert answer.json() == {"id": answer.json()["id"], "status": "queued"}
    assert answer.headers["location"] == f"/v1/emails/{answer.json()['id']}"
    delivery = door.services.client.status(answer.json()["id"])
    assert (delivery.status, delivery.sender) == (Status.QUEUED, SENDER)


def test_a_job_is_shown_with_all_that_is_known_of_it(door: Door) -> None:
    job_id = door.send(priority="high", batch="november")

    told = door.get(f"/v1/emails/{job_id}").json()

    assert (told["id"], told["status"], told["priority"], told["batch"]) == (job_id, "queued", "high", "november")
    assert (told["attempts"], told["recipients"], told["sender"]) == ([], 1, SENDER)
    assert datetime.fromisoformat(told["created_at"]).tzinfo


def test_an_attempt_names_its_worker_and_where_it_went_instead(door: Door, ledger: Ledger) -> None:
    job_id = door.send()
    signed = Ledger(door.services.connection, signature={"worker": "host:7", "redirected_to": "test@contoso.com"})
    job = ledger.claim(SENDER, Claimant("t", 60.0))
    assert job is not None
    signed.settle(job, decide(Refused(reason="template"), 0, Policy(), lambda: 1.0), Refused(reason="template"), 7)

    (attempt,) = door.get(f"/v1/emails/{job_id}").json()["attempts"]

    assert (attempt["worker"], attempt["redirected_to"]) == ("host:7", "test@contoso.com")


def test_the_same_key_and_mail_is_answered_as_the_first_time(door: Door) -> None:
    given = {"headers": {"Idempotency-Key": "welcome/ann"}}
    first = door.post("/v1/emails", a_mail(), **given)
    again = door.post("/v1/emails", a_mail(), **given)

    assert "idempotent-replay" not in first.headers
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replay"] == "true"


def test_a_scheduled_mail_is_replayed_as_deferred_even_after_it_went(door: Door, ledger: Ledger) -> None:
    mail = a_mail(scheduled_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    first = door.post("/v1/emails", mail, headers={"Idempotency-Key": "later"})
    ledger.cancel(first.json()["id"])
    again = door.post("/v1/emails", mail, headers={"Idempotency-Key": "later"})

    assert first.json()["status"] == "deferred"
    assert again.json() == first.json()


def test_the_same_key_with_another_mail_is_a_conflict_that_names_the_first_job(door: Door) -> None:
    first = door.post("/v1/emails", a_mail(), headers={"Idempotency-Key": "invoice/1"})
    other = door.post("/v1/emails", a_mail(text="Another"), headers={"Idempotency-Key": "invoice/1"})

    assert code(other) == (409, "key_conflict")
    assert other.json()["error"]["details"] == {"job_id": first.json()["id"]}


def test_the_same_idempotency_key_under_two_api_keys_is_two_mails(door: Door) -> None:
    asked = [
        door.post("/v1/emails", a_mail(), key=door.key("send", rate=rate), headers={"Idempotency-Key": "same"})
        for rate in ((1000, 60), (2000, 60))
    ]
    assert len({answer.json()["id"] for answer in asked}) == 2


def test_thirty_requests_at_once_with_one_key_are_one_job(door: Door) -> None:
    door.key()
    with ThreadPoolExecutor(30) as pool:
        answers = list(
            pool.map(lambda _: door.post("/v1/emails", a_mail(), headers={"Idempotency-Key": "once"}), range(30))
        )

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replay" not in answer.headers for answer in answers) == 1
    assert len(door.services.client.find()) == 1


@pytest.mark.parametrize("given", ["", "a\x7f", "k" * 256])
def test_an_idempotency_key_is_one_printable_word_of_bounded_length(door: Door, given: str) -> None:
    answer = door.post("/v1/emails", a_mail(), headers={"Idempotency-Key": given.encode()})
    assert code(answer) == (422, "invalid_request")


def test_every_fault_of_a_mail_is_named_at_once(door: Door) -> None:
    answer = door.post("/v1/emails", {"to": ["ann@@contoso.com"], "subjct": "Hello"})

    assert code(answer) == (422, "invalid_mail")
    faults = answer.json()["error"]["details"]["faults"]
    assert [fault.partition(":")[0] for fault in faults] == ["to.0", "subjct", "template"]
    assert "did you mean subject?" in faults[1]


def test_an_attachment_comes_as_base64_and_can_name_no_file_of_the_server(door: Door) -> None:
    content = base64.b64encode(b"%PDF" * 50_000).decode()
    door.send(attachments=[{"filename": "a.pdf", "content": content}])

    for stolen in ({"stored": "another mail's"}, "/etc/passwd", 17):
        answer = door.post("/v1/emails", a_mail(attachments=[{"filename": "a", "content": stolen}]))
        assert code(answer) == (422, "invalid_mail"), stolen


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "_layout", "welcome/../welcome", "a\x00b", "/etc/passwd"])
def test_a_template_s_name_cannot_climb_out_of_its_folder(door: Door, name: str) -> None:
    answer = door.post("/v1/emails", {"to": "ann@contoso.com", "template": name})
    assert code(answer) == (422, "invalid_mail")


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "Hi\r\nBcc: eve@fabrikam.com"},
        {"to": ["ann@contoso.com\r\nBcc: eve@fabrikam.com"]},
        {"headers": {"X-A\r\nBcc": "eve@fabrikam.com"}},
        {"headers": {"X-A": "b\r\nBcc: eve@fabrikam.com"}},
        {"headers": {"Bcc": "eve@fabrikam.com"}},
        {"batch": "a\nb"},
    ],
)
def test_nothing_in_a_mail_can_become_a_header_of_its_own(door: Door, fields: dict[str, Any]) -> None:
    assert code(door.post("/v1/emails", a_mail(**fields))) == (422, "invalid_mail")


# Batches


def test_a_batch_has_a_result_for_each_mail_in_order(door: Door) -> None:
    mails = [a_mail(to=[f"{place}@contoso.com"]) for place in range(5)]
    mails[2] = a_mail(to=["nobody"])

    answer = door.post("/v1/emails/batch", {"batch": "november", "emails": mails})

    told = answer.json()
    assert (answer.status_code, told["taken"], told["known"], told["refused"]) == (202, 4, 0, 1)
    assert [row["id"] is not None for row in told["results"]] == [True, True, False, True, True]
    assert told["results"][2]["error"]["code"] == "invalid_mail"
    assert [door.services.records.read(row["id"]).batch for row in told["results"] if row["id"]] == ["november"] * 4


def test_a_batch_with_a_key_that_is_sent_again_sends_nobody_twice(door: Door) -> None:
    body = {"emails": [a_mail(), a_mail()]}  # the same mail twice is two mails, each time the same two
    first = door.post("/v1/emails/batch", body, headers={"Idempotency-Key": "b1"})
    again = door.post("/v1/emails/batch", body, headers={"Idempotency-Key": "b1"})
    other = door.post("/v1/emails/batch", {"emails": [a_mail()]}, headers={"Idempotency-Key": "b1"})

    ids = [row["id"] for row in first.json()["results"]]
    assert len(set(ids)) == 2
    assert [row["id"] for row in again.json()["results"]] == ids
    assert (again.json()["known"], again.headers["idempotent-replay"]) == (2, "true")
    assert code(other) == (409, "key_conflict")


@pytest.mark.parametrize("mails", [[], [a_mail()] * 501, "no list", None])
def test_a_batch_has_1_to_500_mails(door: Door, mails: Any) -> None:
    assert code(door.post("/v1/emails/batch", {"emails": mails})) == (422, "invalid_request")


def test_a_batch_of_500_is_taken_in_and_what_its_mails_share_is_kept_once(door: Door, connection: Any) -> None:
    answer = door.post("/v1/emails/batch", {"emails": [a_mail(text="news " * 100)] * 500})

    assert answer.json()["taken"] == 500
    assert len(connection.keys("{postroom}:shared:*")) == 1


# Found again


def all_pages(door: Door, query: str, limit: int, between: Callable[[], None] = lambda: None) -> list[str]:
    ids: list[str] = []
    cursor = ""
    while True:
        told = door.get(f"/v1/emails?limit={limit}&{query}{cursor}").json()
        ids += [job["id"] for job in told["items"]]
        if told["next_cursor"] is None:
            return ids
        cursor = f"&cursor={told['next_cursor']}"
        between()


@pytest.mark.parametrize("query", ["", "status=queued", "to=ann@contoso.com", "batch=b", f"sender={SENDER}"])
def test_pages_hold_each_mail_once_newest_first_while_others_are_taken_in(door: Door, query: str) -> None:
    mine = [door.send(batch="b") for _ in range(23)]

    found = all_pages(door, query, 5, between=lambda: [door.send(batch="b") for _ in range(3)] and None)

    assert found[: len(mine)] == mine[::-1] or sorted(found) == sorted(mine)
    assert len(found) == len(set(found)) == 23


def test_the_last_page_says_that_it_is_the_last(door: Door) -> None:
    for _ in range(4):
        door.send()
    first = door.get("/v1/emails?limit=2").json()
    last = door.get(f"/v1/emails?limit=2&cursor={first['next_cursor']}").json()
    assert (len(first["items"]), len(last["items"]), last["next_cursor"]) == (2, 2, None)


def test_a_mail_that_changes_its_state_between_two_pages_is_not_missed(door: Door, ledger: Ledger) -> None:
    mine = [door.send() for _ in range(12)]
    waiting = iter(mine)

    found = all_pages(door, "", 5, between=lambda: ledger.cancel(next(waiting)))

    assert found == mine[::-1]


def test_lists_of_what_waits_are_in_the_order_of_intake_though_some_of_it_moved(door: Door, connection: Any) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    mine = [door.send(scheduled_at=soon) for _ in range(4)]
    queued = door.send()
    ledger = Ledger(connection)
    ledger.cancel(mine[2])

    assert all_pages(door, "status=deferred", 1) == [mine[3], mine[1], mine[0]]
    assert all_pages(door, "", 2) == [queued, *mine[::-1]]


def test_a_job_that_an_older_worker_moved_is_listed_once(door: Door, connection: Any) -> None:
    first, second = door.send(), door.send()
    # as they wrote it: each job in the index of all, and in that of its state by the time at which it came to it
    connection.zadd("{postroom}:jobs", {first: 1, second: 2})
    connection.zadd("{postroom}:status:queued", {first: 1_700_000_000_000})

    assert sorted(all_pages(door, "", 1)) == sorted([first, second])


def test_a_list_has_the_mails_that_meet_all_conditions(door: Door) -> None:
    door.send(to=["bob@contoso.com"], batch="b")
    wanted = door.send(batch="b")
    door.send()
    began = datetime.now(UTC)

    assert all_pages(door, "to=Ann@contoso.com&batch=b&status=queued", 10) == [wanted]
    assert all_pages(door, "batch=b&status=dead", 10) == []
    for since, until, count in ((0, 1, 3), (1, 2, 0), (-1, 0, 0)):
        times = [(began + timedelta(hours=hours - 0.5 * (hours == 0))) for hours in (since, until)]
        query = "&".join(
            f"{name}={time:%Y-%m-%dT%H:%M:%SZ}" for name, time in zip(("since", "until"), times, strict=True)
        )
        assert len(all_pages(door, query, 10)) == count, query


def test_a_record_that_an_older_worker_swept_leaves_no_trace_in_lists(door: Door, connection: Any) -> None:
    gone, here = door.send(), door.send()
    connection.delete(f"{{postroom}}:job:{gone}")

    assert all_pages(door, "", 1) == [here]
    assert connection.zrange("{postroom}:status:queued", 0, -1) == [here.encode()]


@pytest.mark.parametrize("cursor", ["x", "!!", "AAAA", "LTEgYQ", "MSA", "Li4vLi4gYQ", "%00", "YQ" * 500])
def test_a_cursor_that_was_tampered_with_is_refused_or_harmless(door: Door, cursor: str) -> None:
    door.send()
    assert code(door.get(f"/v1/emails?cursor={cursor}"))[0] in (400, 422)


@pytest.mark.parametrize("query", ["stauts=dead", "status=gone", "limit=0", "limit=201", "since=yesterday", "to="])
def test_an_unknown_or_wrong_filter_is_refused(door: Door, query: str) -> None:
    assert code(door.get(f"/v1/emails?{query}")) == (422, "invalid_request")


def test_an_unknown_job_is_not_found(door: Door) -> None:
    assert code(door.get("/v1/emails/none")) == (404, "not_found")
    assert code(door.post("/v1/emails/none/cancel")) == (404, "not_found")


# Cancelled


def test_a_mail_is_cancelled_once_and_who_did_it_is_kept(door: Door) -> None:
    job_id = door.send()
    answer = door.post(f"/v1/emails/{job_id}/cancel", {"why": "wrong prices"})

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert [(act["by"], act["why"]) for act in answer.json()["audit"]] == [(door.by(), "wrong prices")]
    assert door.post(f"/v1/emails/{job_id}/cancel").json()["status"] == "cancelled"


def test_it_is_too_late_to_cancel_what_is_being_sent(door: Door, ledger: Ledger) -> None:
    job_id = door.send()
    job = ledger.claim(SENDER, Claimant("t", 60.0))
    assert job is not None
    ledger.mark(job, "c", 100, 60.0)

    assert code(door.post(f"/v1/emails/{job_id}/cancel")) == (409, "too_late")


def test_a_mail_larger_than_the_limit_of_the_workers_is_refused(open_door: Callable[..., Door]) -> None:
    door = open_door(max_message="1MB")
    big = base64.b64encode(bytes(3 * 1024 * 1024)).decode()

    answer = door.post("/v1/emails", a_mail(attachments=[{"filename": "a", "content": big}]))

    assert code(answer) == (413, "too_large")


@pytest.mark.parametrize("path", ["emails?since=", "emails?until=", "dead-letters?since="])
def test_a_time_that_no_calendar_reaches_is_a_fault_of_the_request(door: Door, path: str) -> None:
    for time in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00%2B23:59"):
        assert code(door.get(f"/v1/{path}{time}")) == (422, "invalid_request")


CALL = {"task": "shop.done", "options": {"queue": "shop"}}


def test_tasks_at_the_end_are_kept_with_the_mail_for_keys_that_may_call(door: Door) -> None:
    key = door.key(Scope.SEND, Scope.CALL)
    job_id = door.post("/v1/emails", a_mail() | {"on_accepted": CALL}, key=key).json()["id"]
    many = door.post("/v1/emails/batch", {"emails": [a_mail(), a_mail()], "on_dead": CALL}, key=key)

    assert many.status_code == 202
    kept = [door.services.connection.hgetall(f"{PREFIX}job:{row['id']}") for row in many.json()["results"]]
    assert all(b"shop.done" in record[b"on_dead"] and b"on_accepted" not in record for record in kept)
    assert b"shop.done" in door.services.connection.hget(f"{PREFIX}job:{job_id}", "on_accepted")


def test_a_key_without_the_scope_call_has_nothing_called(door: Door) -> None:
    key = door.key(Scope.SEND, Scope.READ, Scope.CONTENT, Scope.OPERATE)

    one = door.post("/v1/emails", a_mail() | {"on_accepted": CALL}, key=key)
    many = door.post("/v1/emails/batch", {"emails": [a_mail()], "on_dead": CALL}, key=key)

    assert [code(answer) for answer in (one, many)] == [(403, "forbidden")] * 2
    assert door.services.client.find() == []


def test_a_task_on_a_queue_of_ours_is_refused(door: Door) -> None:
    wrong = {"task": "postroom.round", "options": {"queue": "postroom"}}

    answer = door.post("/v1/emails", a_mail() | {"on_accepted": wrong}, key=door.key(Scope.SEND, Scope.CALL))

    assert code(answer) == (422, "invalid_mail")
