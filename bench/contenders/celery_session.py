"""A Celery task a mail, with a `requests.Session` for each thread: what most people have.

Stock settings, results in Redis. hiredis is used too, for it is installed.
"""

import os
import threading

import requests
from celery import Celery

from bench import mails
from bench.orders import obey

GRAPH, CA_FILE, TOKEN = os.environ["BENCH_GRAPH"], os.environ["BENCH_CA"], os.environ["BENCH_TOKEN"]

app = Celery("mail", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
_local = threading.local()


def session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.verify = CA_FILE
        _local.session.headers["Authorization"] = f"Bearer {TOKEN}"
    found: requests.Session = _local.session
    return found


@app.task(name="mail.send")
def send(mailbox: str, message: dict[str, object]) -> str:
    answer = session().post(f"{GRAPH}/v1.0/users/{mailbox}/sendMail", json=message, timeout=30)
    answer.raise_for_status()
    return answer.headers["request-id"]


def many(first: int, count: int) -> None:
    for number in range(first, first + count):
        send.delay(mails.mailbox(number), mails.graph_message(number))


if __name__ == "__main__":
    obey(many=many)
