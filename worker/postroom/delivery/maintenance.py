"""What a worker does beside its rounds, in threads that end only with it: ticks, token probes, results, files."""

from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from postroom.delivery.context import App, NoToken
from postroom.delivery.round import Ledger
from postroom.errors import Unavailable
from postroom.jobs.ticks import TokenProbe
from postroom.runtime.failpoints import Failpoint, hit
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import mask_address, place_of

LONGEST_TICK_S = 1.0
INTRODUCED_AGAIN_S = 30.0


def tick_for_ever(
    ledger: Ledger,
    worker: str,
    slots: int,
    lease_s: float,
    stop: Event,
    emit: Emit,
    probe: Callable[[TokenProbe], None],
    publish: Callable[[], None],
    longest_s: float = LONGEST_TICK_S,
) -> None:
    """Runs ticks until `stop` is set: at once when one is due, else each second. No error ends it.

    `probe` must return at once: a late tick would delay leases and schedules. `publish` publishes the settings of this
    worker, and is called where Redis has lost them.
    """
    while not stop.is_set():
        sleep = longest_s
        try:
            hit(Failpoint.TICKING)
            ticked = ledger.tick(worker, slots, lease_s)
            hit(Failpoint.TICKED)
            if not ticked.has_settings:
                publish()
                emit("settings.published")
            for due in ticked.probes:
                probe(due)
            for event in ticked.events:
                emit(**_of_hold(event) if "scope" in event else event)
            sleep = 0.0 if ticked.busy else min(max(ticked.sleep_s, 0.02), longest_s)
        except Unavailable as error:
            emit("tick.failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - a tick that ends would let leases and schedules stand still
            emit("tick.failed", error=place_of(error))
        stop.wait(sleep)


def introduce_for_ever(
    introduce: Callable[[], None], stop: Event, emit: Emit, longest_s: float = INTRODUCED_AGAIN_S
) -> None:
    """Says what this worker goes by until `stop` is set, because templates and certificates change while it runs."""
    while not stop.is_set():
        try:
            introduce()
        except Unavailable:  # as the tick says each second
            pass
        except Exception as error:  # noqa: BLE001 - as for the tick
            emit("tick.failed", error=place_of(error))
        stop.wait(longest_s)


def remove_files_for_ever(
    remove_due: Callable[[], tuple[int, int]], stop: Event, emit: Emit, longest_s: float = LONGEST_TICK_S
) -> None:
    """Removes files of ended jobs until `stop` is set. The folder may be slow or away: the ticks do not wait for it."""
    while not stop.is_set():
        gone = 0
        try:
            gone, kept = remove_due()
            if kept:
                emit("files.failed", error=f"{kept} of POSTROOM_ATTACHMENTS cannot be removed")
        except Exception as error:  # noqa: BLE001 - as for the tick
            emit("files.failed", error=place_of(error))
        stop.wait(0.0 if gone else longest_s)


def _of_hold(event: Mapping[str, Any]) -> dict[str, Any]:
    scope, name = event["scope"], event["name"]
    facts = {fact: value for fact, value in event.items() if fact not in ("scope", "name")}
    return {**facts, scope: mask_address(name) if scope == "lane" else name}


def probe_apps_for_ever(
    ledger: Ledger,
    apps: Mapping[str, App],
    due: "SimpleQueue[TokenProbe]",
    stop: Event,
    emit: Emit,
    longest_s: float = LONGEST_TICK_S,
) -> None:
    """Asks Entra for a token for each held app that is due, until `stop` is set."""
    while not stop.is_set():
        try:
            probe = due.get(timeout=longest_s)
        except Empty:
            continue
        try:
            if probe.app in apps:  # else it falls to another worker, when this one's lease is over
                came = apps[probe.app].tokens.probe()
                ledger.probed(probe, came if isinstance(came, NoToken) else None)
        except Exception as error:  # noqa: BLE001 - as for the tick; another worker asks when the lease is over
            emit("probe.failed", app=probe.app, error=place_of(error))


def store_results_for_ever(
    ledger: Ledger,
    store_result: Callable[[str], None],
    stop: Event,
    emit: Emit,
    longest_s: float = LONGEST_TICK_S,
) -> None:
    """Stores results in another backend until `stop` is set. It may be slow or away: the ticks do not wait for it."""
    while not stop.is_set():
        try:
            due = ledger.results_due()
        except Unavailable:  # as the tick says each second
            due = []
        except Exception as error:  # noqa: BLE001 - as for the tick
            due = []
            emit("results.failed", error=place_of(error))
        for job_id in due:
            try:
                store_result(job_id)
            except Exception as error:  # noqa: BLE001 - it is lent to somebody again, and the next may fare better
                emit("results.failed", job=job_id, error=place_of(error))
        stop.wait(0.0 if due else longest_s)
