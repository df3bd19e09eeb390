"""What tests of holds share: to hold, to release, to probe, and to read what the log says."""

from typing import Any

from postroom.jobs.ticks import Ticked
from postroom.store.operator import ReleaseResult

from .room import Room

HOUR = 3600


def ticked(room: Room, worker: str = "worker") -> Ticked:
    return room.ledger.tick(worker, 8, 60, now=room.now)


def events(room: Room) -> list[tuple[str, str]]:
    """What the log says of holds since the last look: each event and whom it concerns."""
    return [(event["event"], event["name"]) for event in ticked(room).events]


def probe(room: Room, instead: Any = None) -> None:
    """The one request for a token that is due."""
    due = ticked(room).probes
    assert len(due) == 1
    room.ledger.probed(due[0], instead, now=room.now)


def next_probe(room: Room) -> float:
    held = room.ledger.records.holds(now=room.now)[0]
    assert held.next_probe is not None
    return (held.next_probe - room.at(0)).total_seconds()


def hold(room: Room, **given: Any) -> Any:
    return room.ledger.hold(by="anna", now=room.now, **given)


def release(room: Room, **given: Any) -> ReleaseResult:
    return room.ledger.release(now=room.now, **given)
