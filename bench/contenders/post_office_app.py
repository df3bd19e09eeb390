"""django-post_office as its README proposes it: a queue in the database, and `send_queued_mail`, which empties it.

SQLite with a write-ahead log; two processes of 16 threads, large batches. The e-mail backend posts to Graph.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import django
import requests
from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import call_command

from bench import mails
from bench.orders import obey

GRAPH, CA_FILE, TOKEN = os.environ["BENCH_GRAPH"], os.environ["BENCH_CA"], os.environ["BENCH_TOKEN"]
FOLDER = Path(os.environ["BENCH_FOLDER"])
PROCESSES = 2


class GraphBackend(BaseEmailBackend):
    """One a thread, opened for a batch and closed after it."""

    def open(self) -> bool:
        self.session = requests.Session()
        self.session.verify = CA_FILE
        self.session.headers["Authorization"] = f"Bearer {TOKEN}"
        return True

    def close(self) -> None:
        self.session.close()

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            body = {
                "message": {
                    "subject": message.subject,
                    "body": {"contentType": "html", "content": message.body},  # it has no other
                    "toRecipients": [{"emailAddress": {"address": address}} for address in message.to],
                }
            }
            url = f"{GRAPH}/v1.0/users/{message.from_email}/sendMail"
            self.session.post(url, json=body, timeout=30).raise_for_status()
        return len(email_messages)


settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "post_office"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": FOLDER / "queue.sqlite3",
            "OPTIONS": {"init_command": "PRAGMA journal_mode=wal", "timeout": 30},
        }
    },
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    EMAIL_BACKEND="post_office.EmailBackend",
    POST_OFFICE={
        "BACKENDS": {"default": "bench.contenders.post_office_app.GraphBackend"},
        "BATCH_SIZE": 1000,
        "THREADS_PER_PROCESS": 16,
        "LOG_LEVEL": 1,
    },
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
    LOGGING={"version": 1, "disable_existing_loggers": False, "loggers": {"post_office": {"level": "WARNING"}}},
)


def migrate() -> None:
    call_command("migrate", verbosity=0)


def many(first: int, count: int) -> None:
    from post_office import mail  # noqa: PLC0415 - Django must be set up before

    for start in range(first, first + count, 500):
        mail.send_many(
            [
                {
                    "sender": mails.mailbox(number),
                    "recipients": [mails.recipient(number)],
                    "subject": mails.SUBJECT,
                    "html_message": mails.html(number),
                }
                for number in range(start, min(start + 500, first + count))
            ]
        )


def send() -> None:
    lock = str(FOLDER / "post_office")
    call_command("send_queued_mail", processes=PROCESSES, lockfile=lock, verbosity=0)


if __name__ == "__main__":
    sys.modules["bench.contenders.post_office_app"] = sys.modules["__main__"]  # which the backend's name leads to
    django.setup()
    obey(migrate=migrate, many=many, send=send)
