"""`send_many` takes mails in by portions, and what goes wrong in between does no harm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from postroom import Client, Mail, Receipt, Unavailable
from postroom.store.connection import connect
from postroom.store.intake import PORTION
from postroom.store.ledger import Ledger
from tests.faults.proxy import Proxy, proxied

COUNT = 4 * PORTION + 30
MIDWAY = 2 * PORTION + 50  # two portions are taken in, and the third is being made
SHARED = "<p>" + "news " * 200

Fault = Callable[["redis.Redis[bytes]", Proxy], object]


@pytest.fixture
def proxy(server: str, connection: "redis.Redis[bytes]") -> Iterator[Proxy]:
    assert connection.ping()
    with proxied(Path(server.removeprefix("unix://"))) as found:
        yield found


@pytest.fixture
def client(proxy: Proxy) -> Client:
    """A client with so few connections that one which is not given back would be missed."""
    return Client(Ledger(connect(proxy.url, timeout_s=0.5, name="test", max_connections=4)))


def mails(midway: Callable[[], object] = lambda: None, **fields: Any) -> Iterator[Mail]:
    given = {"from": "noreply@contoso.com", "subject": "News", "text": "Hi"} | fields
    for n in range(COUNT):
        if n == MIDWAY:
            midway()
        yield Mail.model_validate(given | {"to": [f"u{n}@contoso.com"]})


def test_receipts_are_given_in_order_one_portion_behind_what_is_made(client: Client) -> None:
    told: list[int] = []
    told_midway: list[int] = []

    result = client.send_many(
        mails(midway=lambda: told_midway.extend(told)), "news", on_receipt=lambda row, _: told.append(row)
    )

    assert (result.taken, result.known) == (COUNT, 0)
    assert told == list(range(COUNT))
    assert told_midway == list(range(PORTION)), "while the third is made, Redis works on the second"


@pytest.mark.parametrize("shared", [{}, {"text": None, "html": SHARED}], ids=["alone", "shared"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda _, proxy: proxy.cut(),
        lambda _, proxy: proxy.forget(),
        lambda server, _: server.function_flush(),
        lambda server, _: server.client_kill_filter(_type="normal", skipme=True),
    ],
    ids=["cut", "forgotten", "functions lost", "closed by Redis"],
)
def test_a_fault_while_the_next_portion_is_made_is_mended(
    client: Client, connection: "redis.Redis[bytes]", proxy: Proxy, fault: Fault, shared: dict[str, Any]
) -> None:
    told: list[tuple[int, Receipt]] = []

    result = client.send_many(
        mails(midway=lambda: fault(connection, proxy), **shared), "news", on_receipt=lambda *one: told.append(one)
    )

    assert (result.taken, result.known, result.refused) == (COUNT, 0, [])
    assert [row for row, _ in told] == list(range(COUNT))
    assert client.batch("news").queued == COUNT == len({receipt.id for _, receipt in told})


@pytest.mark.parametrize(
    ("fault", "mend", "said"),
    [
        (lambda _, proxy: proxy.refuse(), lambda _, proxy: proxy.resume(), "did not answer"),
        (lambda _, proxy: proxy.hold(), lambda _, proxy: proxy.resume(), "did not answer"),
        (
            lambda server, _: server.config_set("maxmemory", 1),
            lambda server, _: server.config_set("maxmemory", 0),
            "full",
        ),
    ],
    ids=["away", "hangs", "full"],
)
def test_where_redis_stays_away_it_says_so_and_run_again_it_goes_on(
    client: Client,
    connection: "redis.Redis[bytes]",
    proxy: Proxy,
    fault: Fault,
    mend: Fault,
    said: str,
) -> None:
    told: list[int] = []
    with pytest.raises(Unavailable, match=said):
        client.send_many(
            mails(midway=lambda: fault(connection, proxy)), "news", on_receipt=lambda row, _: told.append(row)
        )
    mend(connection, proxy)

    assert told == list(range(len(told)))
    assert len(told) in (PORTION, 2 * PORTION), "the second portion may have come too late"
    again = client.send_many(mails(), "news")
    assert (again.taken + again.known, again.refused) == (COUNT, [])
    assert again.known >= len(told)
    assert client.batch("news").queued == COUNT


def test_an_error_of_the_iterator_comes_after_the_receipts_of_what_was_taken_in(client: Client) -> None:
    def stop() -> None:
        raise Stopped

    told: list[int] = []
    with pytest.raises(Stopped):
        client.send_many(mails(midway=stop), "news", on_receipt=lambda row, _: told.append(row))

    assert told == list(range(2 * PORTION))


class Stopped(Exception):
    """Not ours."""


@pytest.mark.parametrize(("where", "taken_in"), [("iterator", 2), ("on_receipt", 3)])
def test_an_error_of_the_caller_s_ends_it_and_leaves_nothing_behind(client: Client, where: str, taken_in: int) -> None:
    def stop(*given: Any) -> None:
        if not given or given[0] == PORTION + 5:
            raise Stopped

    for _ in range(5):  # more often than there are connections
        with pytest.raises(Stopped):
            if where == "iterator":
                client.send_many(mails(midway=stop), "news")
            else:
                client.send_many(mails(), "news", on_receipt=stop)

    kept = client.batch("news").queued
    assert kept == taken_in * PORTION
    assert client.send_many(mails(), "news").known == kept


def test_each_receipt_is_of_its_row_though_somebody_closes_the_connections_meanwhile(
    client: Client, connection: "redis.Redis[bytes]"
) -> None:
    close = client._ledger._redis.connection_pool.disconnect  # type: ignore[attr-defined]
    told: list[Receipt] = []

    client.send_many(mails(midway=close), "news", on_receipt=lambda _, receipt: told.append(receipt))

    assert_each_of_its_row(told, connection)


def assert_each_of_its_row(told: list[Receipt], connection: "redis.Redis[bytes]") -> None:
    assert len(told) == COUNT
    for row, receipt in enumerate(told):
        assert f'"u{row}@contoso.com"'.encode() in (connection.get(f"{{postroom}}:mail:{receipt.id}") or b"")


def test_what_was_shared_is_brought_again_when_all_that_had_it_left_meanwhile(
    client: Client, connection: "redis.Redis[bytes]"
) -> None:
    result = client.send_many(mails(midway=lambda: client.cancel_batch("news"), text=None, html=SHARED), "news")

    counts = client.batch("news")
    assert (result.taken, counts.queued + counts.cancelled) == (COUNT, COUNT)
    assert counts.cancelled in (PORTION, 2 * PORTION), "the second portion may come just after that"
    (part,) = connection.scan_iter("{postroom}:shared:*", count=1000)
    assert connection.hlen(part) == counts.queued + len(["mail", "files", "digest"])


def test_the_same_mail_twice_is_one_job_within_a_portion_and_across_two(client: Client) -> None:
    one = list(mails())[: PORTION - 1]
    told: list[Receipt] = []

    result = client.send_many([one[0], *one, *one], "news", on_receipt=lambda _, receipt: told.append(receipt))

    assert (result.taken, result.known) == (len(one), len(one) + 1)
    assert [receipt.id for receipt in told[1:]] == [receipt.id for receipt in told[1 : len(one) + 1]] * 2
    assert told[0].id == told[1].id
