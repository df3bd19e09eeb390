"""What people do to jobs and lanes: cancel, requeue, change, discard; hold and release."""

import getpass
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from postroom.errors import InvalidMail, TooLate, UnknownJob
from postroom.jobs.job import Status, milliseconds, milliseconds_of
from postroom.mail.address import normal_form
from postroom.mail.model import Mail
from postroom.store.functions import Connection, run
from postroom.store.intake_codec import (
    encode_mail,
)


class Actor(NamedTuple):
    """What a person wants done, for the audit. The same `id` once more is the same order, whose reply was lost."""

    id: str
    by: str
    why: str | None = None

    @classmethod
    def here(cls, by: str | None = None, why: str | None = None) -> "Actor":
        """A new order, given by this process's user unless `by` says who."""
        return cls(str(uuid.uuid4()), by or _login(), why)

    def to_json(self) -> str:
        return json.dumps({"id": self.id, "by": self.by} | ({"why": self.why} if self.why else {}))


class Reply(NamedTuple):
    """What came of an order for one job. `status` is the job's after it, empty where there is no such job."""

    id: str
    said: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldResult:
    """What a hold found: `name` is the lane or the batch. `sending` leaves still; the last two are a batch's only."""

    name: str
    waiting: int
    sending: int
    accepted: int
    ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseResult:
    """Whether a person held it, and what is held by a fault still and probed at once: "lane", "app" or None."""

    name: str
    was_held: bool
    probed: str | None


class OperatorActions:
    """The moves that people make, each with who and why. Raises Unavailable when Redis does not answer in time.

    Those that take several jobs take `PORTION` of them at most, and say what came of each.
    """

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def cancel(self, job_id: str, now: int | None = None, actor: Actor | None = None) -> None:
        """Ends a job that has not been sent. UnknownJob if there is none, TooLate if it is being sent or has ended."""
        reply = self.cancel_many([job_id], actor or Actor.here(), now)[0]
        if reply.said == "unknown":
            raise UnknownJob(job_id)
        if reply.said == "late" and reply.status != Status.CANCELLED:
            raise TooLate(job_id, reply.status)

    def cancel_many(self, job_ids: Sequence[str], actor: Actor, now: int | None = None) -> list[Reply]:
        """Ends jobs that have not been sent: `cancelled`, `in_doubt` (as well, but it may have left), or `late`."""
        return _replies(run(self._redis, "cancel", now, actor.to_json(), *job_ids))

    def requeue(
        self,
        job_ids: Sequence[str],
        actor: Actor,
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
        return _replies(run(self._redis, "requeue", now, actor.to_json(), json.dumps(how), *job_ids))

    def replace(
        self,
        job_id: str,
        new_id: str,
        mail: Mail,
        fields: Sequence[str],
        actor: Actor,
        *,
        twice: bool = False,
        dry_run: bool = False,
        now: int | None = None,
    ) -> str:
        """Ends a dead letter and takes `mail` in instead of it, in one step: `replaced`, or why not (replace.lua).

        `fields` names what is new. The mail must have its sender.
        """
        given = encode_mail(new_id, mail, mail.to_json(), None, "")
        _, sender, priority, recipients, tokens, _, _, due, expires, needs, _, tags, _, payload = given
        flags = (json.dumps(list(fields)), int(twice), int(dry_run))
        arguments = (sender, priority, due, expires, recipients, tokens, payload, needs, tags)
        answer, more = (
            part.decode()
            for part in run(self._redis, "replace", now, actor.to_json(), new_id, job_id, *flags, *arguments)
        )
        if answer == "refused":
            raise InvalidMail(f"to: more recipients than this sender may reach in a day ({more})")
        return str(answer)

    def discard(
        self, job_ids: Sequence[str], actor: Actor, *, dry_run: bool = False, now: int | None = None
    ) -> list[Reply]:
        """Ends dead letters and expired jobs for good: `discarded`, or why not."""
        return _replies(run(self._redis, "discard", now, actor.to_json(), int(dry_run), *job_ids))

    def hold(
        self,
        *,
        sender: str | None = None,
        batch: str | None = None,
        by: str,
        reason: str = "",
        length_s: float | None = None,
        now: int | None = None,
        senders: Sequence[str] = (),
    ) -> HoldResult:
        """Keeps a sender's lane, or a batch, from leaving until it is released or `length_s` are over.

        With `senders` only their parts of the batch are held.
        """
        if batch is not None and senders:
            parts = [
                self.hold(batch=_part(batch, one), by=by, reason=reason, length_s=length_s, now=now) for one in senders
            ]
            waiting, sending, accepted, ended = map(
                sum, zip(*[(one.waiting, one.sending, one.accepted, one.ended) for one in parts], strict=True)
            )
            return HoldResult(name=batch, waiting=waiting, sending=sending, accepted=accepted, ended=ended)
        scope, name = ("batch", batch) if sender is None else ("lane", normal_form(sender))
        counts, walked = [0, 0, 0, 0], "0"
        while walked:
            answer = run(
                self._redis,
                "hold",
                now,
                scope,
                name,
                by,
                reason,
                "" if length_s is None else milliseconds(length_s),
                walked,
            )
            counts = [before + more for before, more in zip(counts, answer[1:5], strict=True)]
            walked = answer[5].decode()
        waiting, sending, accepted, ended = counts
        return HoldResult(name=answer[0].decode(), waiting=waiting, sending=sending, accepted=accepted, ended=ended)

    def release(
        self,
        *,
        sender: str | None = None,
        batch: str | None = None,
        now: int | None = None,
        senders: Sequence[str] = (),
    ) -> ReleaseResult:
        """Ends a person's hold. A fault's is probed at once, and ends when that succeeds.

        A batch is released with all its parts; with `senders` only their parts are.
        """
        if batch is None:
            return self._release("lane", normal_form(sender or ""), now)
        names = [_part(batch, one) for one in senders] or [batch, *self._held_parts(batch, now)]
        was_held = [self._release("batch", name, now).was_held for name in names]
        return ReleaseResult(name=batch, was_held=any(was_held), probed=None)

    def _held_parts(self, batch: str, now: int | None) -> list[str]:
        held = map(json.loads, run(self._redis, "list_holds", now))
        parts = [one for one in held if (one["scope"], one["name"]) == ("batch", batch) and "sender" in one]
        return [_part(batch, one["sender"]) for one in parts]

    def _release(self, scope: str, name: str, now: int | None) -> ReleaseResult:
        held_name, was, probed, left = run(self._redis, "release", now, scope, name, "")
        while left:
            *_, left = run(self._redis, "release", now, scope, name, 1)
        return ReleaseResult(name=held_name.decode(), was_held=bool(was), probed=probed.decode() or None)


def _part(batch: str, sender: str) -> str:
    """What the part of a batch that is one sender's is called (person_holds.lua). No batch has a line break."""
    return f"{batch}\n{normal_form(sender)}"


def _login() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = f"uid{os.getuid()}"
    return f"{user}@{os.uname().nodename.partition('.')[0]}"


def _replies(rows: Sequence[Sequence[bytes]]) -> list[Reply]:
    return [Reply(*(part.decode() for part in one)) for one in rows]
