"""Who may do what: keys, scopes, senders and pace. No key is stored or logged."""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from postroom.access.api_keys import KEYS, ApiKeys, KeyFault
from postroom.access.failures import Failures
from postroom.access.rights import Scope
from postroom.api import create_app, wrong_keys
from postroom.api.server import config
from postroom.store.functions import PREFIX
from postroom.store.ledger import Ledger

from .conftest import OTHER, SENDER, Door, a_mail, code, served_by

ROUTES = {
    Scope.SEND: [
        ("POST", "/v1/emails"),
        ("POST", "/v1/emails/batch"),
        ("POST", "/v1/events"),
        ("POST", f"/v1/compat/outlook/users/{SENDER}/sendmail"),
        ("POST", "/v1/compat/outlook/me/sendmail"),
    ],
    Scope.READ: [
        ("GET", "/v1/emails"),
        ("GET", "/v1/emails/1"),
        ("GET", "/v1/batches/b"),
        ("GET", "/v1/dead-letters"),
        ("GET", "/v1/dead-letters/reasons"),
        ("GET", "/v1/dead-letters/1"),
        ("GET", "/v1/lanes"),
        ("GET", "/v1/holds"),
        ("GET", "/v1/events/unmatched"),
    ],
    Scope.OPERATE: [
        ("POST", "/v1/emails/1/cancel"),
        ("POST", "/v1/batches/b/cancel"),
        ("POST", "/v1/batches/b/hold"),
        ("POST", "/v1/batches/b/release"),
        ("POST", "/v1/dead-letters/requeue"),
        ("POST", "/v1/dead-letters/discard"),
        ("POST", "/v1/dead-letters/1/change"),
        ("POST", "/v1/lanes/a@contoso.com/hold"),
        ("POST", "/v1/lanes/a@contoso.com/release"),
    ],
}
EVERY = [(scope, method, path) for scope, routes in ROUTES.items() for method, path in routes]


@pytest.mark.parametrize(("scope", "method", "path"), EVERY)
def test_a_route_asks_for_a_key_and_for_its_scope_before_it_reads_a_body(
    door: Door, scope: Scope, method: str, path: str
) -> None:
    without = door.http.request(method, path, content=b"{no json")
    unknown = door.ask(method, path, key="pr_guessed", content=b"{no json")
    lacking = door.ask(method, path, key=door.key(*(other for other in Scope if other is not scope)), content=b"{")

    assert code(without) == code(unknown) == (401, "unauthorized")
    assert without.headers["www-authenticate"].startswith("Bearer")
    assert code(lacking) == (403, "forbidden")


def test_every_route_of_v1_is_in_the_table_of_scopes(door: Door) -> None:
    told = {
        (method.upper(), path)
        for path, methods in door.http.get("/openapi.json").json()["paths"].items()
        for method in methods
        if path.startswith("/v1/")
    }
    assert len(told) == len(EVERY)


@pytest.mark.parametrize("value", ["", "Bearer", "Basic cHJfOng=", "pr_x", "Bearer pr_x pr_y", "Bearer \xe4"])
def test_an_authorization_that_is_no_bearer_key_is_refused(door: Door, value: str) -> None:
    answer = door.http.get("/v1/emails", headers={"Authorization": value.encode("latin-1")})
    assert code(answer) == (401, "unauthorized")


def test_a_revoked_key_works_no_longer(door: Door) -> None:
    secret = door.key(Scope.READ)
    assert door.get("/v1/emails", key=secret).status_code == 200
    door.services.keys.revoke(door.services.keys.list()[0].name)
    assert code(door.get("/v1/emails", key=secret)) == (401, "unauthorized")


# Senders


@pytest.fixture
def bound(door: Door) -> str:
    """A key for mail of hr@contoso.com only."""
    return door.key(*Scope, senders=(OTHER,))


def test_a_key_with_senders_sends_from_these_alone(door: Door, bound: str) -> None:
    assert door.post("/v1/emails", a_mail(**{"from": "HR <HR@contoso.com>"}), key=bound).status_code == 202
    refused = door.post("/v1/emails", a_mail(**{"from": SENDER}), key=bound)
    batch = door.post("/v1/emails/batch", {"emails": [a_mail(**{"from": SENDER}), a_mail()]}, key=bound)

    assert code(refused) == (403, "sender_not_allowed")
    assert [row["error"] and row["error"]["code"] for row in batch.json()["results"]] == ["sender_not_allowed", None]


def test_a_key_with_one_sender_need_not_name_it(door: Door, bound: str) -> None:
    assert door.services.records.read(door.send(key=bound)).sender == OTHER


def test_a_key_with_senders_sees_no_mail_of_others(door: Door, bound: str) -> None:
    mine, other = door.send(key=bound, batch="b"), door.send(batch="b")

    def ids(query: str) -> list[str]:
        return [job["id"] for job in door.get(f"/v1/emails?{query}", key=bound).json()["items"]]

    assert ids("") == ids("batch=b") == ids("to=ann@contoso.com") == ids(f"sender={OTHER}") == [mine]
    assert ids(f"sender={SENDER}") == []
    assert code(door.get(f"/v1/emails/{other}", key=bound)) == (404, "not_found")
    assert code(door.get(f"/v1/dead-letters/{other}", key=bound)) == (404, "not_found")
    assert door.get("/v1/batches/b", key=bound).json()["counts"]["total"] == 1


def test_a_key_with_senders_operates_no_mail_of_others(door: Door, bound: str, ledger: Ledger) -> None:
    other, theirs = door.send(batch="theirs"), door.send(batch="both")
    mine = door.send(key=bound, batch="both")
    ledger.take_in_dead("dead", SENDER, "{}", "invalid", "no mail")

    assert code(door.post(f"/v1/emails/{other}/cancel", key=bound)) == (404, "not_found")
    assert code(door.post("/v1/batches/theirs/cancel", key=bound)) == (404, "not_found")
    assert code(door.post("/v1/batches/theirs/hold", key=bound)) == (404, "not_found")
    assert code(door.post("/v1/batches/theirs/release", key=bound)) == (404, "not_found")
    assert code(door.post(f"/v1/lanes/{SENDER}/hold", key=bound)) == (403, "forbidden")
    assert code(door.post(f"/v1/lanes/{SENDER}/release", key=bound)) == (403, "forbidden")
    for act, how in (("requeue", {}), ("discard", {"why": "x"})):
        answer = door.post(f"/v1/dead-letters/{act}", {"ids": ["dead"], **how}, key=bound)
        assert answer.json()["results"] == [{"id": "dead", "said": "unknown", "status": ""}]
    changed = door.post("/v1/dead-letters/dead/change", {"changes": {"subject": "a"}}, key=bound)
    assert code(changed) == (404, "not_found")
    assert door.get("/v1/dead-letters/reasons", key=bound).json()["total"] == 0

    told = door.post("/v1/batches/both/cancel", key=bound).json()
    assert (told["cancelled"], told["ended_before"]) == (1, 0)
    assert [door.services.records.read(one).status for one in (mine, theirs, other)] == [
        "cancelled",
        "queued",
        "queued",
    ]


AS_SOMEBODY = {
    "mime": base64.b64encode(b"From: noreply@contoso.com\r\nSubject: a\r\n\r\nHi\r\n").decode(),
    "text": None,
}


@pytest.mark.parametrize("changes", [{"from": SENDER}, {"sender": SENDER}, {"from": None}, AS_SOMEBODY])
def test_a_key_with_senders_changes_no_letter_into_one_of_others(
    door: Door, bound: str, ledger: Ledger, changes: dict[str, Any]
) -> None:
    ledger.take_in_dead("dead", OTHER, '{"from": "hr@contoso.com", "to": ["a@contoso.com"]}', "invalid", "no mail")
    answer = door.post("/v1/dead-letters/dead/change", {"changes": {"text": "a", **changes}}, key=bound)
    assert code(answer) == (403, "sender_not_allowed")


def test_a_mailbox_that_others_share_is_not_held_by_a_key_for_one_of_them(
    door: Door, bound: str, ledger: Ledger
) -> None:
    both = door.key(*Scope, senders=(OTHER, "people@contoso.com"))
    door.send(key=bound)

    assert code(door.post(f"/v1/lanes/{OTHER}/hold", key=bound)) == (403, "forbidden")
    assert door.post("/v1/lanes/people@contoso.com/hold", key=both).json()["name"] == OTHER
    assert door.get("/v1/lanes", key=bound).json()["items"] == door.get("/v1/holds", key=bound).json()["items"] == []
    assert [row["lane"]["lane"] for row in door.get("/v1/lanes", key=both).json()["items"]] == [OTHER]
    assert [hold["name"] for hold in door.get("/v1/holds", key=both).json()["items"]] == [OTHER]


def test_a_source_that_names_somebody_else_as_its_author_is_not_sent(door: Door, bound: str) -> None:
    for author in ("From: noreply@contoso.com", "From: hr@contoso.com\r\nSender: noreply@contoso.com", "From: <"):
        source = base64.b64encode(f"{author}\r\nSubject: a\r\n\r\nHi\r\n".encode()).decode()
        fields = {"from": OTHER, "to": ["ann@contoso.com"], "mime": source}
        assert code(door.post("/v1/emails", fields, key=bound)) == (403, "sender_not_allowed")


# A batch is many senders'


def test_a_key_with_senders_holds_and_releases_its_own_part_of_a_batch(door: Door, bound: str) -> None:
    mine, theirs = door.send(key=bound, batch="both"), door.send(batch="both")

    assert door.post("/v1/batches/both/hold", key=bound).json()["waiting"] == 1
    held = door.get("/v1/holds").json()["items"]
    assert [(hold["scope"], hold["name"], hold["sender"], hold["waiting"]) for hold in held] == [
        ("batch", "both", OTHER, 1)
    ]
    assert door.get("/v1/batches/both").json()["hold"] is None
    assert door.get("/v1/batches/both", key=bound).json()["hold"]["by"] == door.by(f"{'-'.join(Scope)}-hr-1000000")
    later = door.send(key=bound, batch="both")
    assert [place(door, one) for one in (mine, theirs, later)] == ["aside", "ready", "aside"]

    assert door.post("/v1/batches/both/release", key=bound).json()["was_held"]
    assert [place(door, one) for one in (mine, theirs, later)] == ["ready"] * 3
    assert door.get("/v1/holds").json()["items"] == []


def test_a_key_with_senders_does_not_end_the_hold_of_a_whole_batch(door: Door, bound: str) -> None:
    mine, theirs = door.send(key=bound, batch="both"), door.send(batch="both")
    door.post("/v1/batches/both/hold")
    door.post("/v1/batches/both/hold", key=bound)
    assert door.post("/v1/batches/both/release", key=bound).json()["was_held"]
    assert [place(door, one) for one in (mine, theirs)] == ["aside", "aside"]

    door.post("/v1/batches/both/hold", key=bound)
    assert door.post("/v1/batches/both/release").json()["was_held"]  # with all its parts
    assert [place(door, one) for one in (mine, theirs)] == ["ready", "ready"]


def test_the_hold_of_a_part_outlasts_that_of_the_whole_batch(door: Door, bound: str, ledger: Ledger) -> None:
    mine, theirs = door.send(key=bound, batch="both"), door.send(batch="both")
    door.post("/v1/batches/both/hold", {"for_s": 60})
    door.post("/v1/batches/both/hold", key=bound)
    ledger.tick("host:1", 8, 60.0, now=int(time.time() * 1000) + 61_000)
    assert [place(door, one) for one in (mine, theirs)] == ["aside", "ready"]


def place(door: Door, job_id: str) -> str:
    found = door.services.connection.hget(f"{PREFIX}job:{job_id}", "place")
    return str(found.decode())


# What a right does not include


def a_letter(ledger: Ledger) -> None:
    mail = {"from": SENDER, "to": ["ann@contoso.com"], "subject": "Reset", "text": "https://reset/4711"}
    ledger.take_in_dead("dead", SENDER, json.dumps(mail), "invalid", "no mail")


@pytest.mark.parametrize("changes", [{"to": "eve@example.com"}, {"bcc": ["eve@example.com"]}, {"text": "Pay here"}])
def test_who_may_only_operate_changes_neither_recipients_nor_content(
    door: Door, ledger: Ledger, changes: dict[str, Any]
) -> None:
    a_letter(ledger)
    for scopes in ((Scope.OPERATE,), (Scope.OPERATE, Scope.READ), (Scope.OPERATE, Scope.SEND)):
        refused = door.post("/v1/dead-letters/dead/change", {"changes": changes}, key=door.key(*scopes))
        assert code(refused) == (403, "forbidden")
        assert "scope" in refused.json()["error"]["message"]


def test_who_may_not_read_content_sends_it_to_nobody_else(door: Door, ledger: Ledger) -> None:
    a_letter(ledger)
    key = door.key(Scope.OPERATE, Scope.READ, Scope.SEND)
    refused = door.post("/v1/dead-letters/dead/change", {"changes": {"to": "eve@example.com"}}, key=key)
    assert code(refused) == (403, "forbidden")
    assert door.post("/v1/dead-letters/dead/change", {"changes": {"text": "Hi"}}, key=key).status_code == 200


def test_when_a_letter_leaves_may_be_changed_by_who_operates(door: Door, ledger: Ledger) -> None:
    a_letter(ledger)
    answer = door.post("/v1/dead-letters/dead/change", {"changes": {"priority": "high"}}, key=door.key(Scope.OPERATE))
    assert answer.status_code == 200


def test_content_is_shown_to_keys_with_that_scope_alone(door: Door, ledger: Ledger) -> None:
    a_letter(ledger)
    without, with_it = door.key(Scope.READ), door.key(Scope.READ, Scope.CONTENT)
    assert door.get("/v1/dead-letters/dead", key=without).json()["mail"]["text"] == "(18 characters)"
    assert code(door.get("/v1/dead-letters/dead?content=true", key=without)) == (403, "forbidden")
    assert door.get("/v1/dead-letters/dead?content=true", key=with_it).json()["mail"]["text"] == "https://reset/4711"


@pytest.mark.parametrize(("scopes", "has_it"), [(["send", "read", "operate"], True), (["send", "read"], False)])
def test_a_key_from_before_content_was_a_scope_keeps_it_if_it_had_all_others(
    connection: Any, scopes: list[str], has_it: bool
) -> None:
    keys = ApiKeys(connection)
    _, secret = keys.create("old", [Scope(scope) for scope in scopes])
    ((digest, record),) = connection.hgetall(KEYS).items()
    fields = json.loads(record)
    del fields["content"]
    connection.hset(KEYS, digest, json.dumps(fields))

    used = keys.use(secret)
    assert used is not None
    assert used[0].caller.may(Scope.CONTENT) == has_it


# Wrong keys


def test_wrong_keys_wait_for_their_answer_and_are_logged_with_the_address(
    open_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    door = open_door()
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(wrong_keys, "_sleep", sleep)
    monkeypatch.setattr(door.services.wrong_keys, "_failures", Failures())
    for _ in range(6):
        assert code(door.get("/v1/emails", key="pr_guessed")) == (401, "unauthorized")
    assert door.get("/v1/emails").status_code == 200

    assert asked == [0, 0, 1, 2, 4, 8]
    assert [facts for event, facts in door.log if event == "api.rejected"] == [{"host": "127.0.0.1"}] * 6


@pytest.mark.parametrize(
    ("proxies", "host"), [((), "127.0.0.1"), (("127.0.0.1",), "192.0.2.7"), (("127.0.0.0/8",), "192.0.2.7")]
)
def test_the_address_is_the_one_that_a_known_proxy_names(door: Door, proxies: tuple[str, ...], host: str) -> None:
    with served_by(config(create_app(door.services), door.services.emit, proxies)) as url:
        headers = {"Authorization": "Bearer pr_guessed", "X-Forwarded-For": "198.51.100.1, 192.0.2.7"}
        assert httpx.get(f"{url}/v1/emails", headers=headers).status_code == 401
    assert [facts for event, facts in door.log if event == "api.rejected"] == [{"host": host}]


def test_only_some_wrong_keys_of_an_address_wait_and_the_others_are_told_to_stay_away(
    open_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    door = open_door()
    monkeypatch.setattr(door.services.wrong_keys, "_failures", Failures(free=0))
    monkeypatch.setattr(door.services.wrong_keys, "_waiting", Counter({"127.0.0.1": wrong_keys.MOST_WAITING}))

    answer = door.get("/v1/emails", key="pr_guessed")
    assert code(answer) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) == 1


# Pace


def test_a_key_that_asks_too_often_is_answered_when_to_come_again_and_no_other_is(door: Door) -> None:
    slow = door.key(Scope.READ, rate=(3, 3600.0))
    answers = [door.get("/v1/emails", key=slow) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert code(answers[3]) == (429, "rate_limited")
    assert 0 < int(answers[3].headers["retry-after"]) <= 1200
    assert door.get("/v1/emails").status_code == 200


def test_the_pace_of_a_key_holds_for_any_stretch_of_time(connection: Any) -> None:
    keys, now = ApiKeys(connection), 1_800_000_000_000
    _, secret = keys.create("k", [Scope.READ], rate=(10, 1.0))

    def allowed(ms: int) -> bool:
        found = keys.use(secret, now + ms)
        assert found is not None
        return found[1] == 0

    assert sum(allowed(0) for _ in range(50)) == 10
    assert [allowed(99), allowed(100), allowed(100)] == [False, True, False]
    assert sum(allowed(10_000) for _ in range(50)) == 10


def test_a_pace_beyond_all_measure_is_one_that_nobody_reaches(connection: Any) -> None:
    keys = ApiKeys(connection)
    _, secret = keys.create("k", [Scope.READ], rate=(10**9, 1.0))
    assert all((used := keys.use(secret)) and used[1] == 0 for _ in range(10))


# What is kept


def test_a_key_is_kept_as_a_hash_and_found_with_the_day_of_its_last_use(connection: Any) -> None:
    keys = ApiKeys(connection)
    key, secret = keys.create("shop", iter([Scope.READ, Scope.SEND]), ["Shop@contoso.com"])
    keys.use(secret)

    (found,) = keys.list()
    assert (found.id, found.name, found.senders) == (key.id, "shop", ("shop@contoso.com",))
    assert found.scopes == ("send", "read")
    assert found.used_on is not None
    for name in connection.scan_iter():
        kind = connection.type(name)
        kept = connection.hgetall(name) if kind == b"hash" else {name: connection.get(name)}
        assert secret not in str(kept)


def test_a_name_belongs_to_one_key_and_can_be_given_again(connection: Any) -> None:
    keys = ApiKeys(connection)
    keys.create("shop", [Scope.SEND])
    with pytest.raises(KeyFault, match="already"):
        keys.create("shop", [Scope.READ])
    keys.revoke("shop")
    with pytest.raises(KeyFault, match="no key"):
        keys.revoke("shop")
    keys.create("shop", [Scope.READ])
    for wrong in ("", "a b", "a@b", "-", "a\n", "x" * 65):
        with pytest.raises(KeyFault, match="no name"):
            keys.create(wrong, [Scope.READ])


def test_no_key_address_or_content_is_in_the_log(door: Door) -> None:
    door.send(to=["secret.person@contoso.com"], subject="SUBJECT", text="BODY")
    door.get("/v1/emails?to=secret.person@contoso.com")
    door.get("/v1/emails/secret.person@contoso.com%0d%0aforged%0aline")
    door.ask("GET", "/v1/emails", key="pr_SECRET")
    door.post("/v1/events", {"to": "secret.person@contoso.com"})

    assert len(door.logged("api.answered", 5)) == 5
    told = str(door.log)
    assert not [word for word in ("secret", "SUBJECT", "BODY", "forged", "pr_") if word in told]
