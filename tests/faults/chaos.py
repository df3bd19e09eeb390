"""Sends thousands of mails while everything fails, and balances the books: `make chaos`.

Worker processes are killed, frozen for longer than their lease and ended; so are their supervisors. Redis is killed
and comes back over its append-only file; the network between it and the workers is cut, held up and robbed of answers.
Entra and Graph fail in every way they know, a 504 that hides an accepted mail among them. Producers die halfway and run
again. Then the faults end, what waits is sent, and what the sandbox saw is compared with the ledger, job by job.

Exit code 1 means that a promise is broken:

- a mail is lost: taken in and not sent, though nobody calls it dead; or it has not ended when the time is over
- a mail is doubled in look-up or draft mode, unless its process was frozen between its last look at the deadline and
  the write, which nothing can prevent
- in plain mode, a mail is doubled whose outcome nobody called unknown, or is sent more than twice
- more than 4 requests of one mailbox are in flight, as far as a worker still waits for them (see balance.py)
- more than 30 mails of a mailbox with a limited rate are posted within any 60 s
"""

import argparse
import heapq
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from typing import Any

import psutil
import redis
from rich.console import Console
from rich.table import Table

from postroom import Client, Delivery, Unavailable
from postroom.runtime.failpoints import Failpoint
from postroom.store import embedded
from postroom.store.intake import PORTION
from postroom.store.ledger import Ledger

from ..acceptance.conftest import Room, rooms
from .balance import Balance, Record, balance
from .proxy import Proxy, proxied

ROLES = {"plain": ("Mail.Send",), "look-up": ("Mail.Send", "Mail.Read"), "draft": ("Mail.Send", "Mail.ReadWrite")}
BATCH, LIMITED_BATCH = "chaos", "chaos-limited"
LEASE_S = 10.0
LIMITED_MAILBOXES, LIMITED_RATE = 2, 30
SLICES = 8  # producer processes; they start one after the other, and each outlives the next one's start
LAST_START = 0.8  # of the time of the faults
DRAIN_S = 300.0
SUPERVISORS = 2
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
    embedded.ensure(scene.room.folder)


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


@dataclass(frozen=True, slots=True)
class Trouble:
    """One line of the plan: what strikes when, for how long, and the seed of its own choices."""

    at_s: float
    what: str
    strike: Strike
    length_s: float
    seed: int


def plan(mode: str, seconds: float, chance: random.Random) -> list[Trouble]:
    """All that is to happen. The same seed makes the same plan; whom it meets is up to the moment."""
    return sorted(
        [
            *series(PROCESSES, 5, (LEASE_S + 1, LEASE_S + 5), seconds, chance),
            *series(REDIS, 20, (0, 0), seconds, chance),
            *series(NETWORK, 8, (0.5, 4), seconds, chance),
            *series(GRAPH[mode], 2, (1, 6), seconds, chance),
        ],
        key=lambda trouble: trouble.at_s,
    )


def series(
    strikes: dict[str, Strike], every_s: float, length_s: tuple[float, float], seconds: float, chance: random.Random
) -> Iterator[Trouble]:
    """One after the other at random times, each as often as any other."""
    at, names = 0.0, list[str]()
    while (at := at + chance.uniform(0.5, 1.5) * every_s) < seconds:
        names = names or chance.sample(sorted(strikes), len(strikes))
        name = names.pop()
        yield Trouble(at, name, strikes[name], chance.uniform(*length_s), chance.getrandbits(32))


@dataclass(slots=True)
class Intake:
    """Producers in processes of their own, which are killed and run again until their mails are all taken in."""

    room: Room
    mailboxes: int
    stop: Event
    receipts: set[str] = field(default_factory=set)
    killed: int = 0

    def begin(self, mails: int, limited: int, seconds: float, chance: random.Random) -> Iterator[Callable[[], None]]:
        """The work of each producer."""
        others = mails - limited
        parts = [("m", BATCH, others * n // SLICES, others * (n + 1) // SLICES) for n in range(SLICES)]
        for n, (name, batch, first, last) in enumerate([("limited", LIMITED_BATCH, 0, limited), *parts]):
            start = max(0, n - 1) / (SLICES - 1) * LAST_START * seconds
            deaths = [
                {
                    "HALT_AT": chance.choice((Failpoint.TAKING_IN, Failpoint.TAKEN_IN)),
                    "HALT_AFTER": f"{chance.randrange(half)}",
                }
                for half in [max(1, (last - first) // PORTION // 2)] * chance.randint(1, 2)
            ]
            boxes = LIMITED_MAILBOXES if batch == LIMITED_BATCH else self.mailboxes
            arguments = (batch, str(first), str(last - first), str(boxes), name)
            if last > first:
                yield partial(self._produce, start, arguments, deaths)

    def _produce(self, start: float, arguments: Sequence[str], deaths: Sequence[dict[str, str]]) -> None:
        self.stop.wait(start)
        for death in deaths:
            self.killed += self._run(arguments, death | {"HALT_WITH": "KILL"}) == -signal.SIGKILL
        while self._run(arguments, {}) != 0 and not self.stop.wait(0.2):  # Redis was away: it is run again
            pass

    def _run(self, arguments: Sequence[str], halt: dict[str, str]) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.producer", *arguments],
            cwd=Path(__file__).parents[2],
            env=self.room.environment | halt,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        self.receipts.update(done.stdout.split())
        return done.returncode


@dataclass(slots=True, kw_only=True)
class Run:
    """One run in one mode."""

    mode: str
    mails: int
    mailboxes: int
    minutes: float
    seed: int
    keep: bool
    say: Callable[[str], None]
    diary: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

    def go(self) -> tuple[Balance, Path | None]:
        """The balance, and the folder that keeps what tells more where something is broken."""
        # The plan first: what the producers' deaths take of the dice must not change it.
        chance = random.Random(self.seed)
        troubles = plan(self.mode, self.minutes * 60, chance)
        with self._opened() as scene, ThreadPoolExecutor(SLICES + 1) as pool:
            stop = Event()
            intake = Intake(scene.room, self._ordinary, stop)
            work = [pool.submit(one) for one in intake.begin(self.mails, self._limited, self.minutes * 60, chance)]
            watch = Watch(self, Client(Ledger(scene.room.redis)), time.monotonic())
            try:
                for _ in range(SUPERVISORS):
                    scene.hire()
                self._trouble(scene, troubles, watch)
                self._repair(scene)
                self.note("all faults are over")
                watch.drain(work)
            finally:
                stop.set()
            self.happened["producer killed"] = intake.killed
            found = balance(self._record(scene, intake, watch.jobs()))
            return found, self._keep(scene, found) if found.broken or self.keep else None

    @property
    def _limited(self) -> int:
        """As many mails as the limited mailboxes can send in the time of the faults, and half a minute's more."""
        return min(self.mails // 4, round(LIMITED_MAILBOXES * LIMITED_RATE * (self.minutes + 0.5)))

    @property
    def _ordinary(self) -> int:
        return max(1, self.mailboxes - LIMITED_MAILBOXES)

    @property
    def _most_requests(self) -> int:
        return 100_000 + 20 * self.mails

    @contextmanager
    def _opened(self) -> Iterator[Scene]:
        settings = {
            "POSTROOM_LEASE": f"{LEASE_S:g}s",
            "POSTROOM_UNKNOWN_LOOKUPS": "1s,3s",
            "POSTROOM_RATE": "off",
            "POSTROOM_BACKOFF": "200ms",
            "POSTROOM_HOLD_PROBE": "2s",
            "POSTROOM_DELIVERY": "draft" if self.mode == "draft" else "send",
        }
        options = {
            "roles": ROLES[self.mode],
            "latency": 0.1,
            "seed": self.seed,
            "keep_messages": 3 * self.mails,
            "keep_requests": self._most_requests,
        }
        with rooms() as open_one:
            room = open_one(settings, **options)
            config = room.folder / "postroom.toml"
            config.write_text(
                "".join(f'[senders."{mailbox}"]\nrate = "{LIMITED_RATE}/min"\n' for mailbox in limited_mailboxes())
            )
            room.environment["POSTROOM_CONFIG"] = str(config)
            with proxied(room.folder / "redis.sock") as proxy, ExitStack() as stack:
                stack.callback(lambda: [room.end(worker) for worker in room.workers])
                stack.callback(proxy.resume)
                yield Scene(room, proxy, [*(f"m{n}@contoso.com" for n in range(self._ordinary)), *limited_mailboxes()])

    def _trouble(self, scene: Scene, troubles: Sequence[Trouble], watch: "Watch") -> None:
        """Everything of the plan, each at its time; over when the last is undone."""
        for rule in ALWAYS:
            scene.room.sandbox.add_fault(probability=0.01, **rule)
        numbers = count()
        due: list[tuple[float, int, str, Callable[[], Undo | None]]] = []
        for trouble in troubles:
            heapq.heappush(due, (trouble.at_s, next(numbers), trouble.what, self._strike(scene, trouble, due, numbers)))
        while due:
            at, _, what, act = heapq.heappop(due)
            watch.until(at)
            self.note(what)
            act()

    def _strike(self, scene: Scene, trouble: Trouble, due: list[Any], numbers: Iterator[int]) -> Callable[[], None]:
        def act() -> None:
            self.happened[trouble.what] += 1
            undo = trouble.strike(scene, random.Random(trouble.seed), trouble.length_s)
            if undo:
                heapq.heappush(due, (trouble.at_s + trouble.length_s, next(numbers), f"over: {trouble.what}", undo))

        return act

    def _repair(self, scene: Scene) -> None:
        scene.room.sandbox.clear_faults()
        scene.proxy.delay_s = 0.0
        scene.proxy.resume()
        embedded.ensure(scene.room.folder)

    def _record(self, scene: Scene, intake: Intake, ledger: Sequence[Delivery]) -> Record:
        sandbox = scene.room.sandbox
        stats, requests = sandbox.stats(), sandbox.requests()
        return Record(
            mode=self.mode,
            mails=self.mails,
            receipts=intake.receipts,
            ledger=ledger,
            sent=Counter(message.job for message in sandbox.messages()),
            requests=requests,
            all_requests_kept=len(requests) < self._most_requests and stats["kept"] == stats["accepted"],
            drafts_left=stats["drafts"],
            limited=limited_mailboxes(),
            deadline_s=LEASE_S / 2,
            lease_s=LEASE_S,
        )

    def note(self, what: str) -> None:
        """Keeps this for whoever has to find out what happened."""
        self.diary.append(f"{time.time():.3f} {what}")

    def _keep(self, scene: Scene, found: Balance) -> Path:
        folder = Path(mkdtemp(prefix=f"postroom-chaos-{self.mode}-"))
        for log in scene.room.folder.glob("*.log"):
            shutil.copy(log, folder)
        (folder / "diary.txt").write_text("\n".join(self.diary) + "\n")
        (folder / "broken.txt").write_text("\n".join(found.broken) + "\n")
        requests = [json.dumps(asdict(one)) for one in scene.room.sandbox.requests()]
        (folder / "requests.jsonl").write_text("\n".join(requests) + "\n")
        return folder


@dataclass(slots=True)
class Watch:
    """Looks on while a run goes on, and tells."""

    run: Run
    client: Client
    began: float
    told: float = 0.0

    def until(self, at_s: float) -> None:
        """Waits until this many seconds after the beginning."""
        while (left := at_s - self.passed()) > 0:
            self._tell()
            time.sleep(min(left, 1.0))

    def passed(self) -> float:
        return time.monotonic() - self.began

    def drain(self, work: Sequence["Future[None]"]) -> None:
        """Waits until all is taken in and has ended, but not for ever."""
        end = time.monotonic() + DRAIN_S
        while time.monotonic() < end:
            self._tell()
            if all(one.done() for one in work) and self._ended() == self.run.mails:
                break
            time.sleep(1.0)
        for one in work:
            if one.done():
                one.result()

    def jobs(self) -> list[Delivery]:
        """All jobs; of those that wait, with what keeps them waiting."""
        found = [job for batch in (BATCH, LIMITED_BATCH) for job in self.client.find(batch=batch, limit=sys.maxsize)]
        return [job if job.status.ended else self.client.status(job.id) for job in found]

    def _ended(self) -> int:
        return self._counted()[1]

    def _counted(self) -> tuple[int, int]:
        counts = [self.client.batch(batch) for batch in (BATCH, LIMITED_BATCH)]
        ended = sum(one.accepted + one.dead + one.cancelled + one.expired for one in counts)
        return sum(one.total for one in counts), ended

    def _tell(self) -> None:
        if self.passed() - self.told < 10:
            return
        self.told = self.passed()
        with suppress(Unavailable):
            taken, ended = self._counted()
            self.run.say(f"{self.run.mode:8} {self.told:4.0f} s   taken in {taken:6}   ended {ended:6}")


def limited_mailboxes() -> list[str]:
    return [f"limited{n}@contoso.com" for n in range(LIMITED_MAILBOXES)]


ROWS: tuple[tuple[str, str], ...] = (
    ("taken in", "taken_in"),
    ("accepted", "accepted"),
    ("dead", "dead"),
    ("… of these never sent", "dead_unsent"),
    ("still waiting", "waiting"),
    ("outcome unknown for a while", "unknown"),
    ("doubled", "doubled"),
    ("… of these marked as in doubt", "doubled_in_doubt"),
    ("… of these written by a process that thawed", "doubled_by_a_frozen_write"),
    ("lost", "lost"),
    ("highest in flight of a mailbox (4)", "in_flight"),
    ("… with what only the sandbox still held", "in_flight_at_the_sandbox"),
    ("most in any 60 s, limited mailboxes (30)", "most_in_60_s"),
    ("429: by faults", "throttled_by_faults"),
    ("429: by the mailbox's limits", "throttled_by_limits"),
    ("requests struck by faults", "faults_struck"),
    ("drafts left", "drafts_left"),
)


def table(found: dict[str, Balance], runs: dict[str, Run]) -> Table:
    """The balances side by side."""
    drawn = Table("", *found)
    for title, name in ROWS:
        drawn.add_row(title, *(shown(getattr(one, name)) for one in found.values()))
    drawn.add_section()
    for title, strikes in (("", PROCESSES), ("", REDIS), ("", {"producer killed": None}), ("network faults", NETWORK)):
        for name in [title] if title else strikes:
            sums = [sum(run.happened[what] for what in (strikes if title else [name])) for run in runs.values()]
            drawn.add_row(name, *map(str, sums))
    drawn.add_row(
        "faults of Entra and Graph", *(str(sum(run.happened[w] for w in GRAPH[m])) for m, run in runs.items())
    )
    drawn.add_section()
    drawn.add_row("promises", *("broken" if one.broken else "kept" for one in found.values()))
    return drawn


def shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {reason}" for reason, number in value.items()) or "0"
    return "–" if value is None else str(value)


def options() -> argparse.Namespace:
    what, _, broken = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="make chaos",
        description=f"{what}\n\n{broken}",
        epilog="With make: make chaos ARGS='--mails 1000 --mailboxes 20 --minutes 1 --mode draft'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mails", type=int, default=10_000, help="(10000)")
    parser.add_argument(
        "--mailboxes", type=int, default=50, help=f"(50); {LIMITED_MAILBOXES} of them keep the rate 30/min"
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults, in each mode; then all may drain (2)")
    parser.add_argument("--seed", type=int, help="of the plan of faults (a new one each time)")
    parser.add_argument("--mode", choices=ROLES, help="plain: may not read; look-up; draft (one after the other)")
    parser.add_argument("--json", action="store_true", help="the balances as JSON")
    parser.add_argument("--keep", action="store_true", help="logs and requests, also where all is well")
    given = parser.parse_args()
    if given.mails < 1 or given.mailboxes <= LIMITED_MAILBOXES or given.minutes <= 0:
        parser.error(f"at least 1 mail, {LIMITED_MAILBOXES + 1} mailboxes and some time are needed")
    return given


def main() -> int:
    given, err = options(), Console(stderr=True)
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    err.print(f"seed {seed}", highlight=False)
    found: dict[str, Balance] = {}
    runs: dict[str, Run] = {}
    for mode in [given.mode] if given.mode else ROLES:
        runs[mode] = Run(
            mode=mode,
            mails=given.mails,
            mailboxes=given.mailboxes,
            minutes=given.minutes,
            seed=seed,
            keep=given.keep,
            say=lambda line: err.print(line, highlight=False),
        )
        found[mode], kept = runs[mode].go()
        for what in found[mode].broken[:20]:
            err.print(f"{mode}: {what}", highlight=False, markup=False, soft_wrap=True)
        if kept:
            err.print(f"{mode}: what happened, the workers' logs and every request are in {kept}", soft_wrap=True)
    if given.json:
        said = {mode: asdict(one) | {"happened": dict(runs[mode].happened)} for mode, one in found.items()}
        print(json.dumps({"seed": seed, "balances": said}, indent=1))
    else:
        Console().print(table(found, runs))
    return 1 if any(one.broken for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
