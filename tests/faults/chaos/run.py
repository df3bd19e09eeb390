"""One run: mails, faults, the wait until all has ended, and the balance."""

import heapq
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from typing import Any

from postroom import Client, Delivery, Unavailable
from postroom.store.ledger import Ledger

from ...acceptance.conftest import rooms, start_redis
from ..balance import Balance, Record, balance
from ..proxy import proxied
from .faults import ALWAYS, LEASE_S, Scene, Undo
from .plan import Trouble, plan
from .producers import BATCH, LIMITED_BATCH, LIMITED_MAILBOXES, LIMITED_RATE, SLICES, Intake

ROLES = {"plain": ("Mail.Send",), "look-up": ("Mail.Send", "Mail.Read"), "draft": ("Mail.Send", "Mail.ReadWrite")}
DRAIN_S = 300.0
SUPERVISORS = 2


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
        start_redis(scene.room.folder)

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
