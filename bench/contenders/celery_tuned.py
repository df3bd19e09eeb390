"""The same with what is known to help: no results, one connection for the producer, requests prepared by hand.

A session for each thread; for greenlets one for all, as each task has a new one.
"""

import json
import os
import threading
from types import SimpleNamespace

import requests
from celery import Celery

from bench import mails
from bench.orders import obey

GRAPH, CA_FILE, TOKEN = os.environ["BENCH_GRAPH"], os.environ["BENCH_CA"], os.environ["BENCH_TOKEN"]

app = Celery("mail", broker=os.environ["BENCH_REDIS"])
app.conf.update(task_ignore_result=True, worker_send_task_events=False, worker_prefetch_multiplier=16)
_local = SimpleNamespace() if "BENCH_GREENLETS" in os.environ else threading.local()
_HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False
        _local.session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=200))
    found: requests.Session = _local.session
    return found


@app.task(name="mail.send")
def send(mailbox: str, body: str) -> None:
    url = f"{GRAPH}/v1.0/users/{mailbox}/sendMail"
    request = requests.Request("POST", url, data=body.encode(), headers=_HEADERS).prepare()
    session().send(request, verify=CA_FILE, timeout=30).raise_for_status()


def many(first: int, count: int) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(first, first + count):
            body = json.dumps(mails.graph_message(number))
            send.apply_async((mails.mailbox(number), body), producer=producer)


if __name__ == "__main__":
    obey(many=many)
