"""What a `Client` promises, both with Redis and with the Outbox that producers use in their tests."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from postroom import (
    Attachment,
    Client,
    InvalidMail,
    KeyConflict,
    Mail,
    PostroomError,
    Receipt,
    Status,
    TooLate,
    Unavailable,
    UnknownJob,
)
from postroom.mail.address import Address
from postroom.store.ledger import Ledger
from postroom.testing import Outbox

SENDER = "noreply@contoso.com"
ANN, BOB = "ann@contoso.com", "bob@contoso.com"


@pytest.fixture(params=["redis", "outbox"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    sender = Address.parse(SENDER)
    if request.param == "redis":
        yield Client(Ledger(request.getfixturevalue("connection")), sender)
    else:
        with Outbox(sender=SENDER):
            yield Client.from_env()


def mail(**fields: Any) -> Mail:
    return Mail.model_validate({"to": [ANN], "subject": "Hello", "text": "Hi"} | fields)


def in_an_hour(hours: int = 1) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)


def test_a_mail_has_an_id_and_a_status_from_then_on(client: Client) -> None:
    receipt = client.send(mail(priority="low"), batch="b", key="k")

    delivery = client.status(receipt.id)
    assert (receipt.known, delivery.status, delivery.sender, delivery.recipients) == (False, Status.QUEUED, SENDER, 1)
    assert (delivery.batch, delivery.key, delivery.priority, delivery.attempts) == ("b", "k", "low", [])
    with pytest.raises(TimeoutError, match="it is queued"):
        client.wait(receipt.id, timeout=0)


def test_the_same_key_is_the_same_job_and_another_mail_is_a_conflict(client: Client) -> None:
    first = client.send(mail(), key="k")

    assert client.send(mail(), key="k") == Receipt(id=first.id, known=True)
    assert client.send(mail(), key="l").known is False
    assert client.send(mail()).id != client.send(mail()).id
    with pytest.raises(KeyConflict) as conflict:
        client.send(mail(text="Bye"), key="k")
    assert conflict.value.job_id == first.id


@pytest.mark.parametrize(
    ("send", "fault"),
    [
        (lambda client: client.send(mail(), key=""), "key: a string of 1 to 500 printable characters"),
        (lambda client: client.send(mail(), batch="a\n"), "batch: a string of 1 to 500 printable characters"),
        (lambda client: client.send(mail(), on_dead="shop.failed"), "on_dead: a Celery signature"),
        (lambda client: client.send({"to": "ann@contoso.com"}), "template: no content"),
        (lambda client: client.send("ann@contoso.com"), "a mail is an object with fields, not str"),
        (
            lambda client: client.send(mail(attachments=[Attachment("a", bytes(30 * 1024 * 1024))])),
            "attachments: the mail takes 40.0 MB",
        ),
    ],
)
def test_what_cannot_be_taken_in_says_why(client: Client, send: Callable[[Client], object], fault: str) -> None:
    with pytest.raises(InvalidMail) as error:
        send(client)
    assert str(error.value).startswith(fault)


def test_a_scheduled_mail_is_deferred_until_then(client: Client) -> None:
    at, end = in_an_hour(), in_an_hour(2)
    delivery = client.status(client.send(mail(scheduled_at=at, expires_at=end)).id)

    assert (delivery.status, delivery.reason, delivery.next_at) == (Status.DEFERRED, "scheduled", at)
    assert (delivery.scheduled_at, delivery.expires_at) == (at, end)


def test_many_are_taken_in_with_receipts_in_order_and_faults_by_row(client: Client) -> None:
    first = client.send(mail(subject="known"), key="3")
    told: list[tuple[int, Receipt]] = []
    mails: list[Any] = [mail(subject=str(n)) for n in range(5)]
    mails[1] = {"to": "ann@@contoso.com", "text": "Hi"}
    mails[3] = mail(subject="known")
    mails[4] = mail(subject="other than 0")
    names = iter(["0", "2", "3", "0"])

    result = client.send_many(mails, "b", key=lambda _: next(names), on_receipt=lambda *one: told.append(one))

    assert (result.taken, result.known, [row for row, _ in result.refused]) == (2, 1, [1, 4])
    assert [type(error) for _, error in result.refused] == [InvalidMail, KeyConflict]
    assert [(row, receipt.known) for row, receipt in told] == [(0, False), (2, False), (3, True)]
    assert told[2][1].id == first.id
    assert client.batch("b").queued == 2


def test_running_many_again_sends_nobody_twice(client: Client) -> None:
    mails = [mail(to=[f"u{n}@contoso.com"], text="Hello " * 100) for n in range(850)]
    assert client.send_many(iter(mails[:420]), "news").taken == 420

    result = client.send_many(iter(mails), "news")

    assert (result.taken, result.known, result.refused) == (430, 420, [])
    assert client.batch("news").total == 850
    assert client.send_many(mails[:1], "other").taken == 1


def test_what_a_batch_shares_makes_no_other_mail_of_one(client: Client) -> None:
    mails = [mail(to=[f"u{n}@contoso.com"], html="<p>" + "x" * 900, headers={"X-A": "1"}) for n in range(3)]
    client.send_many(mails, "news", key=lambda one: one.to[0])

    assert [client.send(one, key=one.to[0]).known for one in mails] == [True] * 3


def test_a_job_is_cancelled_once_and_what_has_ended_is_too_late(client: Client) -> None:
    job_id = client.send(mail()).id

    cancelled = client.cancel(job_id, by="ann", why="the meeting is off")

    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, "cancelled")
    assert [(act.did, act.by, act.why) for act in cancelled.audit] == [("cancelled", "ann", "the meeting is off")]
    assert client.cancel(job_id).status is Status.CANCELLED
    assert client.wait(job_id, timeout=0).ended_at is not None
    for ask in (client.status, client.cancel):
        with pytest.raises(UnknownJob):
            ask("nobody")


def test_a_batch_is_counted_and_cancelled(client: Client) -> None:
    client.send_many([mail(subject=str(n)) for n in range(3)], "b")
    client.send(mail(), batch="b")
    client.cancel(client.send(mail(), batch="b").id)

    counts = client.batch("b")
    assert (counts.total, counts.queued, counts.cancelled) == (5, 4, 1)
    told = client.cancel_batch("b")
    assert (told.cancelled, told.ended_before) == (4, 1)
    assert client.batch("nothing").total == 0


def test_jobs_are_found_by_what_is_known_of_them_the_newest_first(client: Client) -> None:
    one = client.send(mail(), key="k").id
    two = client.send(mail(to=[BOB], cc=[ANN], sender="news@contoso.com"), batch="b").id
    client.cancel(one)

    def found(**filters: Any) -> list[str]:
        return [delivery.id for delivery in client.find(**filters)]

    assert set(found(to="Ann@contoso.com")) == {one, two}
    assert [found(to=BOB), found(batch="b"), found(sender="News@contoso.com")] == [[two]] * 3
    assert [found(status=Status.CANCELLED), found(key="k")] == [[one]] * 2
    assert len(found(limit=1)) == 1
    assert client.holds() == []


def test_a_default_sender_is_needed_where_the_mail_names_none(connection: "redis.Redis[bytes]") -> None:
    for ledger_client in (Client(Ledger(connection)),):
        with pytest.raises(InvalidMail, match="sender: missing"):
            ledger_client.send(mail())
    with Outbox(sender=None), pytest.raises(InvalidMail, match="sender: missing"):
        Client.from_env().send(mail())


# What only the Outbox has.


def test_an_outbox_takes_what_clients_send_that_were_made_before_it(connection: "redis.Redis[bytes]") -> None:
    made_before = Client(Ledger(connection), Address.parse("shop@contoso.com"))

    with Outbox() as outbox:
        made_before.send(mail(), key="k", on_dead={"task": "shop.failed", "args": [7]})
        with Outbox() as inner:
            made_before.send(mail())
        assert len(inner.mails) == 1

    assert [(one.key, one.mail.sender) for one in outbox.sent] == [("k", "shop@contoso.com")]
    assert outbox.sent[0].on_dead == {"task": "shop.failed", "queue": "celery", "args": [7], "kwargs": {}}
    assert made_before.find() == []
    assert list(connection.scan_iter()) == []


def test_an_outbox_ends_a_job_as_a_test_says() -> None:
    with Outbox() as outbox:
        client = Client.from_env()
        receipt = client.send(mail())
        outbox.end(receipt.id, Status.DEAD, "invalid_recipients")

        assert (client.wait(receipt.id, timeout=0).status, client.status(receipt.id).reason) == (
            Status.DEAD,
            "invalid_recipients",
        )
        with pytest.raises(TooLate):
            client.cancel(receipt.id)
        with pytest.raises(UnknownJob):
            outbox.end("nobody")


def test_an_outbox_can_be_unavailable_as_redis_can() -> None:
    with Outbox() as outbox:
        client = Client.from_env()
        with outbox.unavailable():
            for ask in (lambda: client.send(mail()), lambda: client.send_many([mail()], "b"), client.find):
                with pytest.raises(Unavailable):
                    ask()
        assert issubclass(Unavailable, PostroomError)
        client.send(mail())
    assert len(outbox.mails) == 1
