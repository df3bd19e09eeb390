"""What can happen to processes, to the network, to Entra and to Graph."""

import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from ...acceptance.conftest import Room, start_redis
from ..proxy import Proxy

LEASE_S = 10.0
WORKERS = ("--processes", "2", "--concurrency", "6")

Undo = Callable[[], object]
Strike = Callable[["Scene", random.Random, float], Undo | None]


@dataclass(slots=True)
class Scene:
    """What can be broken."""

    room: Room
    proxy: Proxy
    mailboxes: Sequence[str]
    supervisors: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def hire(self) -> None:
        """Starts workers, supervised."""
        worker = self.room.start_worker(*WORKERS, ready=False, POSTROOM_REDIS_URL=self.proxy.url)
        self.supervisors.append(worker)

    def replace(self, supervisor: "subprocess.Popen[bytes]") -> None:
        """Others do its work from now on."""
        self.supervisors.remove(supervisor)
        self.hire()

    def children(self) -> list[psutil.Process]:
        """The worker processes that live, below supervisors that do."""
        found = []
        for supervisor in self.supervisors:
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(supervisor.pid).children()
        return found


# What can happen to processes. Each function strikes once, and gives what is to be called when its time is over.


def signal_child(number: signal.Signals) -> Strike:
    def strike(scene: Scene, chance: random.Random, _length_s: float) -> None:
        if children := scene.children():
            with suppress(psutil.NoSuchProcess):
                chance.choice(children).send_signal(number)

    return strike


def signal_supervisor(number: signal.Signals) -> Strike:
    def strike(scene: Scene, chance: random.Random, _length_s: float) -> None:
        supervisor = chance.choice(scene.supervisors)
        supervisor.send_signal(number)
        scene.replace(supervisor)

    return strike


def freeze_child(scene: Scene, chance: random.Random, _length_s: float) -> Undo | None:
    children = scene.children()
    return frozen(chance.choice(children)) if children else None


def freeze_supervisor(scene: Scene, chance: random.Random, _length_s: float) -> Undo | None:
    return frozen(psutil.Process(chance.choice(scene.supervisors).pid))


def frozen(process: psutil.Process) -> Undo | None:
    def thaw() -> None:
        with suppress(psutil.NoSuchProcess):
            process.resume()

    with suppress(psutil.NoSuchProcess):
        process.suspend()
    return thaw


def kill_redis(scene: Scene, _chance: random.Random, _length_s: float) -> None:
    with redis.Redis.from_url(scene.room.redis_url) as connection, suppress(redis.RedisError):
        psutil.Process(connection.info("server")["process_id"]).kill()
    start_redis(scene.room.folder)


# What can happen to the network between workers and Redis.


def on_the_wire(break_it: Callable[[Proxy], object]) -> Strike:
    def strike(scene: Scene, _chance: random.Random, _length_s: float) -> Undo:
        break_it(scene.proxy)
        return scene.proxy.resume

    return strike


def slow_wire(scene: Scene, chance: random.Random, _length_s: float) -> Undo:
    def quick() -> None:
        scene.proxy.delay_s = 0.0

    scene.proxy.delay_s = chance.uniform(0.005, 0.05)
    return quick


# What can happen at Entra and Graph.


def at_graph(
    *, likely: tuple[float, float] = (0.3, 1.0), everywhere: bool = False, revoke: bool = False, **rule: Any
) -> Strike:
    """A fault that strikes requests with a probability between these, of one mailbox, a few, or all of them."""

    def strike(scene: Scene, chance: random.Random, _length_s: float) -> Undo:
        probability = chance.uniform(*likely)
        width = 0 if everywhere else chance.choice((0, 1, max(1, len(scene.mailboxes) // 4)))
        struck = chance.sample(scene.mailboxes, width) or [""]
        if not struck[0]:
            probability /= 3
        sandbox = scene.room.sandbox
        faults = [sandbox.add_fault(mailbox=mailbox, probability=probability, **rule) for mailbox in struck]
        if revoke:
            sandbox.revoke_tokens()

        def clear() -> None:
            for fault in faults:
                sandbox.remove_fault(fault)

        return clear

    return strike


def hiding_faults(stage: str) -> dict[str, Strike]:
    """Those after which nobody knows whether the request did its work."""
    return {
        f"{stage}: 504 after accepting": at_graph(stage=stage, status=504, accepted=True),
        f"{stage}: 504 without": at_graph(stage=stage, status=504),
        f"{stage}: reset after accepting": at_graph(stage=stage, effect="reset", accepted=True),
        f"{stage}: reset without": at_graph(stage=stage, effect="reset"),
        f"{stage}: closed after accepting": at_graph(stage=stage, effect="close", accepted=True),
        f"{stage}: 502 as HTML": at_graph(stage=stage, status=502, body="<html>Bad gateway</html>"),
        f"{stage}: 500": at_graph(stage=stage, status=500, code="ErrorInternalServerError"),
        f"{stage}: hangs": at_graph(stage=stage, effect="hang", likely=(0.1, 0.3)),
        f"{stage}: hangs after accepting": at_graph(stage=stage, effect="hang", accepted=True, likely=(0.1, 0.3)),
    }


def refusing_faults(stage: str) -> dict[str, Strike]:
    """Those that say: not now."""
    return {
        f"{stage}: 503": at_graph(stage=stage, status=503),
        f"{stage}: 503 with Retry-After": at_graph(stage=stage, status=503, retry_after=1),
        f"{stage}: 429 storm": at_graph(stage=stage, status=429, code="ApplicationThrottled", retry_after=1),
        f"{stage}: 429 storm, 2.5 s": at_graph(stage=stage, status=429, code="ApplicationThrottled", retry_after=2.5),
    }


PROCESSES: dict[str, Strike] = {
    "worker killed": signal_child(signal.SIGKILL),
    "worker frozen": freeze_child,
    "worker ended": signal_child(signal.SIGTERM),
    "supervisor killed": signal_supervisor(signal.SIGKILL),
    "supervisor frozen": freeze_supervisor,
    "supervisor ended": signal_supervisor(signal.SIGTERM),
}
REDIS: dict[str, Strike] = {"Redis killed": kill_redis}
NETWORK: dict[str, Strike] = {
    "connections cut": on_the_wire(Proxy.cut),
    "connections refused": on_the_wire(Proxy.refuse),
    "network stands still": on_the_wire(Proxy.hold),
    "answers lost": on_the_wire(Proxy.lose_answers),
    "connections forgotten": on_the_wire(Proxy.forget),
    "network slow": slow_wire,
}
TOKENS: dict[str, Strike] = {
    "token: 503": at_graph(stage="token", status=503, everywhere=True, revoke=True),
    "token: 429": at_graph(stage="token", status=429, retry_after=1, everywhere=True, revoke=True),
    "token: secret expired": at_graph(stage="token", code="7000222", everywhere=True, revoke=True),
    "token: reset": at_graph(stage="token", effect="reset", everywhere=True, revoke=True),
    "token: all revoked": at_graph(stage="graph", effect="pass", likely=(0, 0.1), everywhere=True, revoke=True),
}
# A look-up cannot see a mail that Graph accepts later. With look-ups minutes apart it would; with these it cannot.
LATE: dict[str, Strike] = {
    "graph: accepted after the deadline": at_graph(delay=LEASE_S / 2 + 2, effect="pass", likely=(0.05, 0.15)),
}
LOOK_UPS = refusing_faults("lookup") | {
    "lookup: 504": at_graph(stage="lookup", status=504),
    "lookup: hangs": at_graph(stage="lookup", effect="hang", likely=(0.1, 0.3)),
}
SENDING = hiding_faults("graph") | refusing_faults("graph")
GRAPH: dict[str, dict[str, Strike]] = {
    "plain": SENDING | TOKENS | LATE,
    "look-up": SENDING | TOKENS | LOOK_UPS,
    "draft": SENDING | TOKENS | LATE | LOOK_UPS | hiding_faults("draft") | refusing_faults("draft")
    | refusing_faults("delete"),
}  # fmt: skip


# All the time, now and then.
ALWAYS: tuple[dict[str, Any], ...] = (
    {"status": 504, "accepted": True},
    {"status": 504},
    {"effect": "reset", "accepted": True},
    {"effect": "close"},
)
