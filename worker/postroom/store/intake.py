"""Where jobs and attempts are recorded: the one truth about status. Every move of a job is one Lua script.

The scripts in `lua/` hold the rules; this file gives them their arguments and reads their answers. Each may be run
again with the same arguments, so a reply that was lost on the way is asked for again. Redis' clock is the clock:
`now` (milliseconds) is passed only by tests.
"""

import getpass
import json
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from postroom.errors import InvalidMail, KeyConflict, PostroomError, TooLate, UnknownJob
from postroom.jobs.callbacks import NO_CALLS, Calls
from postroom.jobs.job import Claimant, Job, Receipt, Status, milliseconds, milliseconds_of, moment
from postroom.mail.model import Mail
from postroom.runtime.failpoints import Step, reached
from postroom.store import functions as scripts
from postroom.store.attachments import Attachments
from postroom.store.claim_codec import job_claimed, wait_of
from postroom.store.intake_codec import (
    check_names,
    each_in_words,
    in_words,
    places_apart,
    receipt_of,
    receipts_of,
    sound_ones,
    those_alone,
)
from postroom.store.shared_content import Common, Entry
from postroom.telemetry.events import signed

if TYPE_CHECKING:  # a producer's import stays cheap
    from postroom.jobs.lane_limits import Rules
    from postroom.jobs.outcome import Deferred, Finding, Held, Outcome, Throttled, Tidied
    from postroom.jobs.retry import Move
    from postroom.store.queries import Records

One = TypeVar("One")

# Jobs that one script may be given: it holds up Redis for some milliseconds. As many usual mails fit into a socket's
# buffer, so nobody waits until Redis reads them.
PORTION = 64
NOBODY = Claimant("", 0.0)
NOT_DEAD = ("", "")


class Staged(NamedTuple):
    """What take-in is told of content that was stored before: under which name, and how many parts."""

    files: str
    parts: int


NOTHING_STAGED = Staged("", 0)


class TokenProbe(NamedTuple):
    """A request for a token that this worker is to make for a held app; `lease` names it."""

    app: str
    lease: str


class Ticked(NamedTuple):
    """`sleep_s` is how long nothing is due; `busy`: more was due than one tick does.

    `events` are what the log should say of moves that no worker made: each an event's name and facts.
    """

    sleep_s: float
    busy: bool
    probes: tuple[TokenProbe, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a hold found: `name` is the lane or the batch. `sending` leaves still; the last two are a batch's only."""

    name: str
    waiting: int
    sending: int
    accepted: int
    ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Whether a person held it, and what is held by a fault still and probed at once: "lane", "app" or None."""

    name: str
    was_held: bool
    probed: str | None


class ResultDue(NamedTuple):
    """A job's result in Celery's words. `state` is None for PENDING; `ids` are the task ids that show it."""

    changed: str
    state: str | None
    result: Any
    ids: tuple[str, ...]


class Order(NamedTuple):
    """What a person wants done, for the audit. The same `id` once more is the same order, whose reply was lost."""

    id: str
    by: str
    why: str | None = None

    @classmethod
    def here(cls, by: str | None = None, why: str | None = None) -> "Order":
        """A new order, given by this process's user unless `by` says who."""
        return cls(str(uuid.uuid4()), by or _login(), why)

    def to_json(self) -> str:
        return json.dumps({"id": self.id, "by": self.by} | ({"why": self.why} if self.why else {}))


class Reply(NamedTuple):
    """What came of an order for one job. `status` is the job's after it, empty where there is no such job."""

    id: str
    said: str
    status: str


class Ledger:
    """The moves of jobs. Raises Unavailable when Redis does not answer in time or refuses the write.

    Large content of new mails goes into `folder`, if there is one, else to Redis in pieces.
    """

    def __init__(self, connection: scripts.Connection, folder: Path | None = None) -> None:
        self._redis = connection
        self.attachments = Attachments(connection, folder)

    @cached_property
    def records(self) -> "Records":
        """What is recorded, to be read."""
        from postroom.store.queries import Records  # noqa: PLC0415 - a producer may never read

        return Records(self._redis)

    def take_in(
        self,
        job_id: str,
        mail: Mail,
        key: str | None,
        batch: str | None,
        now: int | None = None,
        calls: Calls = NO_CALLS,
    ) -> Receipt:
        """The receipt of a mail that is now kept. KeyConflict if `key` is another mail's.

        The mail must have its sender. Calling again with the same `job_id` is the same job.
        """
        check_names(mail, key, batch)
        payload = None if mail.enclosed else mail.to_json()
        fingerprint, apart = mail.digest(payload)[:32], places_apart(mail.enclosed)
        staged = NOTHING_STAGED
        if apart:
            asked = self._run("stage", now, key or "", fingerprint, mail.size, "", "", b"")
            if asked[0] != b"staged":
                return receipt_of(asked, job_id, key)
            mail, staged = self._put_apart(mail, apart, key, fingerprint, now)
        given = in_words(job_id, mail, payload or mail.to_json(), key, fingerprint)
        reached(Step.TAKING_IN)
        answer = self._run("take_in", now, batch or "", calls.accepted, calls.dead, *staged, *NOT_DEAD, *given)
        reached(Step.TAKEN_IN)
        return receipt_of(answer, job_id, key)

    def take_in_many(
        self, entries: Sequence[Entry], batch: str | None, common: Common | None, now: int | None = None
    ) -> list[Receipt | PostroomError]:
        """The same for many mails in one round trip; for each, in this order, its receipt or why it is refused.

        `common` is what all of them share (`Sharing.common`). Calling again with the same job ids is the same jobs.
        """
        together, said = sound_ones(entries, batch)
        for entry in those_alone(together, common):
            together.remove(entry)
            try:
                said[entry.job_id] = self.take_in(entry.job_id, entry.mail, entry.key, batch, now)
            except (InvalidMail, KeyConflict) as error:
                said[entry.job_id] = error
        if together:
            said |= self._take_in_together(together, batch, common, now)
        return [said[entry.job_id] for entry in entries]

    def take_in_portions(
        self, given: Iterable[tuple[Sequence[Entry], Common | None]], batch: str | None, now: int | None = None
    ) -> Generator[list[Receipt | PostroomError], None, None]:
        """`take_in_many` of one portion after the other, each of `PORTION` at most, without waiting in between.

        The answers to one come when the next was fetched and sent. Where an error ends it, that may be taken in too.
        """
        under_way: list[Callable[[], list[Receipt | PostroomError]]] = []
        known: Common | None = None
        with scripts.Line(self._redis) as line:
            for entries, common in given:
                answers, under_way = under_way, []
                # What has to be brought first takes several steps, which must find those before it taken in.
                if common is known and not those_alone(entries, common):
                    under_way = [self._asked(line, entries, batch, common, now)]
                yield from (answer() for answer in answers)
                if not under_way:
                    yield self.take_in_many(entries, batch, common, now)
                known = common
            yield from (answer() for answer in under_way)

    def _asked(
        self, line: scripts.Line, entries: Sequence[Entry], batch: str | None, common: Common | None, now: int | None
    ) -> Callable[[], list[Receipt | PostroomError]]:
        """Sends these to be taken in, where Redis has what they share. What it returns gives the answers."""
        together, said = sound_ones(entries, batch)
        reached(Step.TAKING_IN)
        head = (batch or "", common.digest if common else "", "", *NOTHING_STAGED)
        answer = line.ask("take_in_many", now, *head, *chain.from_iterable(each_in_words(together, common)))

        def answers() -> list[Receipt | PostroomError]:
            found = answer()
            if [b"bring"] in found:
                return self.take_in_many(entries, batch, common, now)  # all who shared it have left meanwhile
            reached(Step.TAKEN_IN)
            told = said | receipts_of(together, found)
            return [told[entry.job_id] for entry in entries]

        return answers

    def _take_in_together(
        self, entries: Sequence[Entry], batch: str | None, common: Common | None, now: int | None
    ) -> dict[str, Receipt | PostroomError]:
        given = each_in_words(entries, common)

        def ask(shared: str, staged: Staged) -> list[Any]:
            head = (batch or "", common.digest if common else "", shared, *staged)
            each = [(*head, *chain.from_iterable(some)) for some in portions(given)]
            return [answer for said in scripts.run_each(self._redis, "take_in_many", now, each) for answer in said]

        reached(Step.TAKING_IN)
        answers = ask("", NOTHING_STAGED)
        if common and [b"bring"] in answers:
            one, staged = common.one, NOTHING_STAGED
            if apart := places_apart([one.content for one in common.attachments]):
                one, staged = self._put_apart(common.one, apart, None, "", now)
            answers = ask(common.to_json(one), staged)
        reached(Step.TAKEN_IN)
        return receipts_of(entries, answers)

    def _put_apart(
        self, mail: Mail, apart: Sequence[int], key: str | None, fingerprint: str, now: int | None
    ) -> tuple[Mail, Staged]:
        """The mail with its content at these places stored, and what was staged for it."""
        files, parts = str(uuid.uuid4()), 0

        def keep(part: str, value: bytes) -> None:
            nonlocal parts
            parts += 1
            self._run("stage", now, key or "", fingerprint, mail.size, files, part, value)

        contents = [mail.enclosed[place] for place in apart]
        stored = dict(zip(apart, self.attachments.store(contents, files, keep), strict=True))
        return mail.with_contents(stored), Staged(files, parts)

    def take_in_dead(
        self,
        job_id: str,
        sender: str,
        payload: str,
        reason: str,
        detail: str,
        now: int | None = None,
        calls: Calls = NO_CALLS,
    ) -> None:
        """Records a mail that cannot exist as a dead letter; what is no text in it is replaced."""
        sender, payload, detail = (text.encode(errors="replace").decode() for text in (sender, payload, detail))
        attempt = json.dumps({"outcome": "refused", "reason": reason, "detail": detail})
        given = (job_id, sender, "normal", 0, "", "", "", "", "", "", "", 0, payload)
        self._run("take_in", now, "", "", calls.dead, *NOTHING_STAGED, reason, attempt, *given)

    def claim(self, lane: str, claimant: Claimant, *, elsewhere: bool = False, now: int | None = None) -> Job | None:
        """The lane's best job, leased to the `claimant`; None if it has none now. Called once at the start of a round.

        With `elsewhere` that of the round which is next in the queue, where this one has none; or the `lane` is empty.
        """
        token, lease_s, apps, _ = claimant
        return job_claimed(self._run("claim", now, lane, token, milliseconds(lease_s), int(elsewhere), *apps), claimant)

    def mark(self, job: Job, client_request_id: str, size: int, lease_s: float, now: int | None = None) -> float | None:
        """Directly before a request of `size` bytes that sends: 0 if it may be made, or in how many seconds.

        None if the claim is lost: post nothing. Renews the lease. A further request of the same attempt is marked again
        with its own id.
        """
        return wait_of(self._run("mark", now, job.id, job.token, milliseconds(lease_s), client_request_id, size))

    def note(
        self, job: Job, fields: Mapping[str, str], size: int, lease_s: float, now: int | None = None
    ) -> float | None:
        """The same before a request that sends nothing; these fields are kept with the job. An empty one is dropped."""
        return wait_of(self._run("note", now, job.id, job.token, milliseconds(lease_s), json.dumps(dict(fields)), size))

    def settle(
        self,
        job: Job,
        move: "Move",
        outcome: "Outcome | Finding | Tidied",
        duration_ms: int,
        *,
        claimant: Claimant | None = None,
        slice_over: bool = False,
        elsewhere: bool = False,
        now: int | None = None,
    ) -> tuple[bool, Job | None]:
        """Whether the move was recorded (False: the claim had been taken back), and the next job.

        That is the lane's; or, where it has none or the slice is over and other lanes wait, with `elsewhere` that of
        the round which is next in the queue. Without a `claimant` no job is claimed.
        """
        from postroom.store import settle_codec as decided  # noqa: PLC0415 - only workers need it

        said = decided.move(move, outcome, duration_ms)
        token, lease_s, apps, _ = claimant or NOBODY
        args = (job.lane, job.id, job.token, said, token, milliseconds(lease_s), int(slice_over), int(elsewhere), *apps)
        done, following = self._run("settle", now, *args)
        return bool(done == b"settled"), job_claimed(following, claimant or NOBODY)

    def tick(self, worker: str, hands: int, lease_s: float, now: int | None = None) -> Ticked:
        """Does what is due: lost leases, expiry, sweeping, waking of lanes; counts this worker as alive."""
        at, first, done, probes, events = self._run("tick", now, worker, hands, milliseconds(lease_s))
        sleep = (float(first) - float(at)) / 1000 if first else 60.0
        return Ticked(
            sleep_s=max(sleep, 0.0),
            busy=int(done) > 0,
            probes=tuple(TokenProbe(app=app.decode(), lease=lease.decode()) for app, lease in probes),
            events=tuple(map(_event, events)),
        )

    def probed(self, probe: TokenProbe, instead: "Held | Deferred | Throttled | None", now: int | None = None) -> None:
        """Records what came of a token probe: a token ends the app's hold; what stands `instead` makes it go on."""
        from postroom.store import settle_codec as decided  # noqa: PLC0415 - only workers need it

        self._run("probed", now, probe.app, probe.lease, *decided.probe(instead))

    def hold(
        self,
        *,
        sender: str | None = None,
        batch: str | None = None,
        by: str,
        reason: str = "",
        length_s: float | None = None,
        now: int | None = None,
    ) -> Kept:
        """Keeps a sender's lane, or a batch, from leaving until it is released or `length_s` are over."""
        scope, name = ("batch", batch) if sender is None else ("lane", sender.casefold())
        counts, walked = [0, 0, 0, 0], "0"
        while walked:
            answer = self._run(
                "hold", now, scope, name, by, reason, "" if length_s is None else milliseconds(length_s), walked
            )
            counts = [before + more for before, more in zip(counts, answer[1:5], strict=True)]
            walked = answer[5].decode()
        waiting, sending, accepted, ended = counts
        return Kept(name=answer[0].decode(), waiting=waiting, sending=sending, accepted=accepted, ended=ended)

    def release(self, *, sender: str | None = None, batch: str | None = None, now: int | None = None) -> Released:
        """Ends a person's hold. A fault's is probed at once, and ends when that succeeds."""
        scope, name = ("batch", batch) if sender is None else ("lane", sender.casefold())
        found, was, probed, left = self._run("release", now, scope, name, "")
        while left:
            *_, left = self._run("release", now, scope, name, 1)
        return Released(name=found.decode(), was_held=bool(was), probed=probed.decode() or None)

    def pause(self, scope: str, name: str, wait_s: float, reason: str, now: int | None = None) -> datetime:
        """Pauses a "lane" or an "app" for `wait_s` from now at least; 0 ends its pause. Returns when it ends."""
        return moment(int(self._run("pause", now, scope, name, milliseconds(wait_s), reason)[0]))

    def publish(self, rules: "Rules", now: int | None = None) -> None:
        """Makes these rules the ones that every script goes by from now on. Held apps are probed at once."""
        self._run("publish", now, rules.to_json())
        scripts.drop_other_libraries(self._redis)

    def mirror(self, job_id: str, shown_as: str, now: int | None = None) -> None:
        """Makes the result of `job_id` appear under `shown_as` too (a Celery task id whose key was known already)."""
        self._run("mirror", now, job_id, shown_as)

    def results_due(self, now: int | None = None) -> list[str]:
        """Jobs whose results a backend elsewhere should show; lent to the caller for half a minute."""
        return [job_id.decode() for job_id in self._run("results_due", now)]

    def result_due(self, job_id: str) -> ResultDue | None:
        """What a result backend elsewhere should show for this job; None if its record is gone."""
        answer = self._run("result_due", None, job_id)
        if not answer:
            return None
        changed, state, result = (part.decode() for part in answer[:3])
        ids = tuple(shown.decode() for shown in answer[3])
        return ResultDue(changed=changed, state=state or None, result=json.loads(result or "null"), ids=ids)

    def result_stored(self, job_id: str, changed: str) -> bool:
        """Takes a job off the list of results due, unless it has changed since; True when it is off the list."""
        return bool(self._run("result_stored", None, job_id, changed)[0] == b"stored")

    # What people do. Each takes a portion of jobs at the most, and says what came of each.

    def cancel(self, job_id: str, now: int | None = None, order: Order | None = None) -> None:
        """Ends a job that has not been sent. UnknownJob if there is none, TooLate if it is being sent or has ended."""
        reply = self.cancel_many([job_id], order or Order.here(), now)[0]
        if reply.said == "unknown":
            raise UnknownJob(job_id)
        if reply.said == "late" and reply.status != Status.CANCELLED:
            raise TooLate(job_id, reply.status)

    def cancel_many(self, job_ids: Sequence[str], order: Order, now: int | None = None) -> list[Reply]:
        """Ends jobs that have not been sent: `cancelled`, `in_doubt` (as well, but it may have left), or `late`."""
        return _replies(self._run("cancel", now, order.to_json(), *job_ids))

    def requeue(
        self,
        job_ids: Sequence[str],
        order: Order,
        *,
        expires: datetime | Literal["never"] | None = None,
        twice: bool = False,
        dry_run: bool = False,
        now: int | None = None,
    ) -> list[Reply]:
        """Puts dead letters and expired jobs back into their lanes: `requeued`, `look_up`, or why not (requeue.lua).

        `expires` is their new expiry; without one, a job whose expiry has passed stays (`past_expiry`). What may have
        been sent is looked up first; with `twice` it is sent at once.
        """
        how: dict[str, object] = {"twice": twice, "dry": dry_run}
        if expires is not None:
            how["expires"] = "" if expires == "never" else str(milliseconds_of(expires))
        return _replies(self._run("requeue", now, order.to_json(), json.dumps(how), *job_ids))

    def replace(
        self,
        job_id: str,
        new_id: str,
        mail: Mail,
        fields: Sequence[str],
        order: Order,
        *,
        twice: bool = False,
        dry_run: bool = False,
        now: int | None = None,
    ) -> str:
        """Ends a dead letter and takes `mail` in instead of it, in one step: `replaced`, or why not (replace.lua).

        `fields` names what is new. The mail must have its sender.
        """
        given = in_words(new_id, mail, mail.to_json(), None, "")
        _, sender, priority, recipients, tokens, _, _, due, expires, needs, _, _, payload = given
        flags = (json.dumps(list(fields)), int(twice), int(dry_run))
        told = (sender, priority, due, expires, recipients, tokens, payload, needs)
        answer, more = (
            part.decode() for part in self._run("replace", now, order.to_json(), new_id, job_id, *flags, *told)
        )
        if answer == "refused":
            raise InvalidMail(f"to: more recipients than this sender may reach in a day ({more})")
        return str(answer)

    def discard(
        self, job_ids: Sequence[str], order: Order, *, dry_run: bool = False, now: int | None = None
    ) -> list[Reply]:
        """Ends dead letters and expired jobs for good: `discarded`, or why not."""
        return _replies(self._run("discard", now, order.to_json(), int(dry_run), *job_ids))

    def _run(self, script: str, now: int | None, *arguments: object) -> Any:
        return scripts.run(self._redis, script, now, *arguments)


def _login() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = f"uid{os.getuid()}"
    return f"{user}@{os.uname().nodename.partition('.')[0]}"


def _event(text: bytes) -> Mapping[str, Any]:
    said: dict[str, Any] = json.loads(text)
    return said | ({"by": signed(said["by"])} if "by" in said else {})


def _replies(said: Sequence[Sequence[bytes]]) -> list[Reply]:
    return [Reply(*(part.decode() for part in one)) for one in said]


def portions(jobs: Sequence[One], most: int = PORTION) -> Iterator[Sequence[One]]:
    """These jobs, as many at a time as one script may be given."""
    return (jobs[start : start + most] for start in range(0, len(jobs), most))
