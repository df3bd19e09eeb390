"""The Celery app: `celery -A postroom.tasks worker`, or `postroom worker`, which supervises several of them.

Two tasks. `postroom.round(sender)` works a lane; its messages are hints that may be lost or doubled. `postroom.send`
takes a mail in, for producers that only know Celery. Why each setting is as it is: docs/design/rounds.md.
"""

import json
import mmap
import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, NamedTuple

from celery import Celery, Task
from celery.exceptions import CPendingDeprecationWarning, Ignore, Reject, SecurityWarning
from celery.signals import worker_init, worker_process_init, worker_ready, worker_shutdown, worker_shutting_down
from kombu import Queue

from postroom import consumers, wiring
from postroom.access.rights import own_key
from postroom.delivery.maintenance import (
    introduce_for_ever,
    probe_apps_for_ever,
    remove_files_for_ever,
    store_results_for_ever,
    tick_for_ever,
)
from postroom.delivery.round import RoundContext, work
from postroom.errors import ConfigError, InvalidMail, KeyConflict, Unavailable
from postroom.jobs.callbacks import NO_CALLBACKS, Callbacks
from postroom.jobs.queues import HIGH_QUEUE, NORMAL_QUEUE, ROUND_TASK
from postroom.jobs.ticks import TokenProbe
from postroom.mail.model import Mail
from postroom.runtime.celery_channel import drop_unreadable_messages
from postroom.runtime.failpoints import Failpoint, hit
from postroom.runtime.file_limit import raise_file_limit
from postroom.runtime.parent_watch import end_with_parent
from postroom.runtime.supervisor import SLOTS
from postroom.settings.lanes import Lanes
from postroom.settings.loading import load_settings
from postroom.setup.renewing import renew_for_ever
from postroom.store.ledger import Ledger
from postroom.store.server_check import redis_faults
from postroom.telemetry.redaction import mask_address

_OTHER_MAILS = uuid.UUID("5b4c7c3e-6f0e-4b9e-9a49-0d2f1a6f6c11")


# It warns root of unpickling strangers' messages; we accept JSON only.
warnings.filterwarnings("ignore", category=SecurityWarning)
# Whenever Redis was away it proposes `worker_cancel_long_running_tasks_on_connection_loss`, which would cut rounds off.
warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)

settings = load_settings()
name = wiring.worker_name()  # also that of the processes that prefork makes of this one
_urls, _results = wiring.celery_place(settings)

app = Celery("postroom")
app.conf.update(
    broker_url=_urls.broker,
    broker_transport_options={
        **_urls.options,
        "socket_timeout": 15,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": 120,  # for postroom.send, whose repetition is the same job
        "queue_order_strategy": "postroom.runtime.celery_channel:HighFirst",
        "client_name": "postroom-worker",
    },
    broker_connection_retry_on_startup=True,
    # What Redis answers when a failover makes it a replica (UNBLOCKED, READONLY) must not end the worker process.
    broker_channel_error_retry=True,
    broker_connection_max_retries=None,
    broker_use_ssl=dict(_urls.tls) or None,
    redis_backend_use_ssl=dict(_urls.tls) or None,
    result_backend=_results,
    result_backend_transport_options={**_urls.options, "visibility_timeout": 120},
    result_backend_thread_safe=True,
    result_expires=settings.retention_dead,
    redis_socket_timeout=5,
    redis_socket_connect_timeout=3,
    redis_backend_health_check_interval=10,
    task_queues=[Queue(HIGH_QUEUE), Queue(NORMAL_QUEUE)],
    task_default_queue=NORMAL_QUEUE,
    task_create_missing_queues=False,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=False,
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
    worker_pool="postroom.runtime.celery_pool:FiberPool",
    worker_concurrency=SLOTS,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=False,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=True,
)


@app.on_after_finalize.connect
def _remove_tasks_of_celery(**_: object) -> None:
    """Those that call another task inside their own: `postroom.send` ends when its mail does, not when it returns."""
    for name in ("celery.map", "celery.starmap", "celery.chunks"):
        app.tasks.pop(name, None)


@app.task(name=ROUND_TASK, ignore_result=True)
def round_(sender: str) -> None:
    """Delivers what waits in this sender's lane."""
    if isinstance(sender, str) and sender.isprintable():  # anybody may write to the broker
        work(sender, _process_state().round_context)
    else:
        _process_state().round_context.emit("round.failed", error="its message names no sender")


@app.task(name="postroom.send", bind=True, acks_late=True, reject_on_worker_lost=True)
def send(
    self: Task,
    mail: object = None,
    key: str | None = None,
    *more: object,
    on_accepted: object = None,
    on_dead: object = None,
    **unknown: object,
) -> None:
    """Takes a mail in under this task's id. Ends with Ignore: the result is written when the mail's fate is known.

    `on_accepted` and `on_dead` are signatures that are called then, as for `Client.send`.
    """
    wait = 0.1
    while True:
        try:
            _take_in(self.request, mail, key, (on_accepted, on_dead), [*map(str, more), *unknown])
        except Unavailable as error:
            _process_state().round_context.emit("send.waiting", job=self.request.id, error=str(error))
            if _stop[0]:
                # It is acknowledged only at the end, so even if this cannot be said the broker keeps the message.
                raise Reject(requeue=True) from None
            time.sleep(wait)
            wait = min(wait * 2, 5.0)
        else:
            raise Ignore


def _take_in(request: Any, values: object, key: str | None, wanted: tuple[object, object], unknown: list[str]) -> None:
    """Takes the mail in, or what it is instead as a dead letter; raises Unavailable and nothing else."""
    job_id, calls = request.id, NO_CALLBACKS
    try:
        calls = Callbacks.of(*wanted)
        _check_arguments(unknown)
        _check_canvas(request)
        book, mail = _process_state().ledger, Mail.model_validate(values).with_sender(settings.sender)
        receipt = book.take_in(job_id, mail, own_key(key), None, calls=calls)
        if receipt.known:
            book.mirror(receipt.id, job_id)
    except Unavailable:
        raise
    except InvalidMail as fault:
        _bury(job_id, values, "invalid", str(fault), calls)
    except KeyConflict as fault:
        if fault.job_id != job_id:
            return _bury(job_id, values, "key_conflict", str(fault), calls)
        # Another mail has this task's id. Both are jobs, and the task shows what became of this one.
        apart = str(uuid.uuid5(_OTHER_MAILS, job_id + json.dumps(values, sort_keys=True, default=str)))
        _bury(apart, values, "key_conflict", "this task_id already belongs to another mail", calls)
        _process_state().ledger.mirror(apart, job_id)
    except Exception as error:  # noqa: BLE001 - a task that ends by exception is a mail that nobody has
        _bury(job_id, values, "internal_error", type(error).__name__, calls)


def _check_arguments(unknown: list[str]) -> None:
    if unknown:
        raise InvalidMail(f"the task takes mail, key, on_accepted and on_dead, and got {len(unknown)} arguments more")


def _check_canvas(request: Any) -> None:
    """Celery would call these when the task returns, and a mail ends later."""
    if parts := [part for part in ("callbacks", "errbacks", "chain", "chord") if getattr(request, part, None)]:
        names = {"callbacks": "link", "errbacks": "link_error"}
        named = ", ".join(names.get(part, part) for part in parts)
        raise InvalidMail(
            f"{named}: the task takes none; on_accepted and on_dead name tasks to call when the mail has ended"
        )


def _bury(job_id: str, values: object, reason: str, detail: str, calls: Callbacks) -> None:
    given = values if isinstance(values, dict) else {}
    sender = str(given.get("from") or given.get("sender") or settings.sender or "").casefold()
    _process_state().ledger.take_in_dead(job_id, sender, json.dumps(values, default=str), reason, detail, calls=calls)


class ProcessState(NamedTuple):
    """What one process works with: made after a fork, for connections and tokens do not survive one."""

    ledger: Ledger
    round_context: RoundContext


_process_states: dict[int, ProcessState] = {}
_making = threading.Lock()
# Shared with prefork's children, which get no signal of a warm shutdown.
_stop = mmap.mmap(-1, 1)
_ticking = threading.Event()


def _process_state() -> ProcessState:
    pid = os.getpid()
    if pid not in _process_states:
        with _making:
            if pid not in _process_states:
                book = wiring.ledger(settings, name)
                _process_states[pid] = ProcessState(book, wiring.round_context(settings, book, lambda: _stop[0] != 0))
    return _process_states[pid]


@worker_init.connect
def _publish_rules(**_: object) -> None:
    now = datetime.now(UTC)
    if faults := wiring.worker_faults(settings, now):
        raise SystemExit("\n".join(faults))
    end_with_parent()
    raise_file_limit()
    for app_name, wrong in wiring.unusable_apps(settings, now).items():
        _process_state().round_context.emit("app.unusable", app=app_name, error="; ".join(wrong))
    drop_unreadable_messages(lambda error: _process_state().round_context.emit("message.dropped", error=error))
    while True:
        try:
            _check_redis()
            _publish()
        except Unavailable as error:
            _process_state().round_context.emit("worker.waiting", error=str(error))
            time.sleep(1.0)
        else:
            return


def _check_redis() -> None:
    """Ends the worker if this Redis cannot be used: it would take mail and never record what became of it."""
    if faults := redis_faults(wiring.worker_redis(settings)):
        raise SystemExit("\n".join(faults))


def _publish() -> None:
    _process_state().ledger.publish(Lanes(settings=settings).rules(results_here=_results == _urls.backend))


@worker_ready.connect
def _start_ticking(sender: Any, **_: object) -> None:
    book, round_context = _process_state()
    slots = sender.pool.limit

    def introduce() -> None:
        book.introduce(name, slots, wiring.worker_facts(settings))

    def publish() -> None:
        _publish()
        introduce()

    probes: SimpleQueue[TokenProbe] = SimpleQueue()
    _start(introduce_for_ever, introduce, _ticking, round_context.emit)
    _start(tick_for_ever, book, name, slots, settings.lease, _ticking, round_context.emit, probes.put, publish)
    _start(probe_apps_for_ever, book, round_context.delivery.apps, probes, _ticking, round_context.emit)
    _start(store_results_for_ever, book, _store_result, _ticking, round_context.emit)
    context = wiring.consumer_context(settings, round_context.emit)
    for consumer in consumers.names():
        _start(consumers.consume_for_ever, consumer, context, _ticking)
    if settings.attachments:
        _start(remove_files_for_ever, book.attachments.remove_due, _ticking, round_context.emit)
    if renewals := wiring.renewals(settings):
        _start(renew_for_ever, renewals, _ticking, round_context.emit)
    redirected = {"redirect_all_to": mask_address(settings.redirect_all_to.address)} if settings.redirect_all_to else {}
    round_context.emit("worker.ready", worker=name, slots=slots, **redirected)


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name=target.__name__, daemon=True).start()


def _store_result(job_id: str) -> None:
    """Shows a job's state in a result backend that is not the ledger's own Redis."""
    book = _process_state().ledger
    while due := book.result_due(job_id):
        for shown in due.ids:
            if due.state is None:
                app.backend.forget(shown)
            else:
                failed = due.state != "SUCCESS"
                result = app.backend.exception_to_python(due.result) if failed else due.result
                app.backend.store_result(shown, result, due.state)
        hit(Failpoint.RESULT_STORED)
        if book.result_stored(job_id, due.changed):
            return


@worker_shutting_down.connect
def _stop_rounds(**_: object) -> None:
    _stop[0] = 1


@worker_shutdown.connect
def _stop_ticking(**_: object) -> None:
    _ticking.set()


@worker_process_init.connect
def _forget_parent(**_: object) -> None:
    _process_states.clear()


__all__ = ["ConfigError", "app", "round_", "send"]
