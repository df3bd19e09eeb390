"""A producer of Postroom's: `python -m bench.producer`, with POSTROOM_REDIS_URL."""

import json
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from itertools import takewhile
from typing import Any

import psutil

from bench import mails
from bench.orders import obey
from postroom import Attachment, Client, Mail

client = Client.from_env()


def mail(number: int, sender: str, size: int = 2048, **fields: Any) -> Mail:
    return Mail(
        sender=sender, to=[mails.recipient(number)], subject=mails.SUBJECT, html=mails.html(number, size), **fields
    )


def many(first: int, count: int, lanes: int = mails.MAILBOXES, batch: str = "bench", **fields: Any) -> None:
    """Takes so many mails in with `send_many`, from an iterator, over so many mailboxes."""
    given = (mail(number, mails.mailbox(number, lanes), **fields) for number in range(first, first + count))
    result = client.send_many(given, batch=f"{batch}-{first}")
    if result.taken != count:
        raise SystemExit(f"only {result.taken} of {count} mails were taken in: {result.refused[:1]}")


def mailing(count: int, lanes: int, size: int = 2048, within_s: float = 300.0) -> dict[str, Any]:
    """The same where the mails share all but their recipients; as many as there is time for."""
    body, until = mails.html(0, size), time.monotonic() + within_s
    given = (
        Mail(sender=mails.mailbox(n, lanes), to=[mails.recipient(n)], subject=mails.SUBJECT, html=body)
        for n in takewhile(lambda _: time.monotonic() < until, range(count))
    )
    return {"taken": client.send_many(given, batch="mailing").taken}


def formed(first: int, count: int, form: str, size: int) -> None:
    """Mails of about this size in one of the forms that Graph is given: what is more than 2 KB is a file."""
    for number in range(first, first + count):
        client.send(_formed(number, form, size))


def _formed(number: int, form: str, size: int) -> Mail:
    sender, file = mails.mailbox(number), os.urandom(max(0, size - 2048))
    if form == "source":
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = sender, mails.recipient(number), mails.SUBJECT
        message.set_content(mails.html(number), subtype="html")
        if file:
            message.add_attachment(file, maintype="application", subtype="pdf", filename="order.pdf")
        return Mail(sender=sender, to=[mails.recipient(number)], mime=message.as_bytes(policy=SMTP))
    text = "Your order has left our house." if form == "mime" else None
    files = [Attachment("order.pdf", file)] if file else []
    return mail(number, sender, attachments=files, text=text)


def to_each(senders: list[str]) -> None:
    """One mail to each of these mailboxes, at once."""
    client.send_many((mail(number, sender) for number, sender in enumerate(senders)), batch="to each")


def hang(count: int, lanes: int) -> None:
    """Mails to mailboxes that never answer."""
    client.send_many((mail(number, f"hang{number % lanes}@contoso.com") for number in range(count)), batch="hang")


def payload(first: int, count: int, lanes: int = mails.MAILBOXES) -> dict[str, Any]:
    """How many bytes these mails are themselves, as JSON, and how many of them are not the same in all."""
    whole = [json.loads(mail(n, mails.mailbox(n, lanes)).to_json()) for n in range(first, first + count)]
    shared = {name for name, value in whole[0].items() if all(one.get(name) == value for one in whole)}
    own = [{name: value for name, value in one.items() if name not in shared} for one in whole]
    return {"bytes": sum(map(_size, whole)), "own": sum(map(_size, own))}


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def fill(count: int, sender: str, priority: str) -> dict[str, Any]:
    """So many mails for one mailbox; tells by how much this process grew after the first tenth."""
    own, sizes = psutil.Process(), []

    def given() -> Iterator[Mail]:
        for number in range(count):
            if number % 1000 == 0:
                sizes.append(own.memory_info().rss)
            yield mail(number, sender, priority=priority)

    client.send_many(given(), batch="fill")
    return {"rss_tenth": max(sizes[: len(sizes) // 10 + 1]), "rss_most": max(sizes)}


def each(first: int, count: int, sender: str | None = None) -> dict[str, Any]:
    """The same with `send`, one after the other, or all for one mailbox; tells the milliseconds that each took."""
    took = []
    for number in range(first, first + count):
        given = mail(number, sender or mails.mailbox(number))
        began = time.perf_counter()
        client.send(given, key=f"bench/{number}")
        took.append((time.perf_counter() - began) * 1000)
    return {"took_ms": took}


def handed(first: int, count: int, sender: str) -> dict[str, Any]:
    """Mails that are made already, all with `send_many`; tells how long that took."""
    given = [mail(number, sender) for number in range(first, first + count)]
    began = time.perf_counter()
    client.send_many(given, batch=f"handed-{first}")
    return {"took_ms": (time.perf_counter() - began) * 1000}


def trickle(senders: list[str], pause_s: list[float], priority: str = "normal") -> dict[str, Any]:
    """One mail to each of these mailboxes in turn, with random pauses; tells when each `send` began and returned."""
    chance = random.Random(814)
    times = []
    for number, sender in enumerate(senders):
        given = mail(number, sender, priority=priority)
        time.sleep(chance.uniform(*pause_s))
        began = time.monotonic()
        client.send(given)
        times.append((began, time.monotonic()))
    return {"times": times}


def one(sender: str, priority: str, subject: str) -> dict[str, Any]:
    """One mail, marked by its subject; tells when it was kept."""
    given = mail(0, sender, priority=priority).model_copy(update={"subject": subject})
    client.send(given)
    return {"kept": time.monotonic()}


def scheduled(count: int) -> None:
    """One mail to each of so many mailboxes, for tomorrow."""
    at = datetime.now(UTC) + timedelta(days=1)
    given = (mail(number, f"lane{number}@contoso.com", scheduled_at=at) for number in range(count))
    client.send_many(given, batch="scheduled")


if __name__ == "__main__":
    obey(
        many=many,
        mailing=mailing,
        formed=formed,
        to_each=to_each,
        hang=hang,
        payload=payload,
        fill=fill,
        each=each,
        handed=handed,
        trickle=trickle,
        one=one,
        scheduled=scheduled,
    )
