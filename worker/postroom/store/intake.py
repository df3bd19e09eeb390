"""Takes mail in: once Redis has answered, the mail is kept.

Each call may be repeated with the same job ids: it is the same jobs then. `now` (milliseconds) is passed only by tests;
Redis' clock is the clock.
"""

import json
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from postroom.errors import InvalidMail, KeyConflict, PostroomError
from postroom.jobs.callbacks import NO_CALLBACKS, Callbacks
from postroom.jobs.job import Receipt
from postroom.mail.model import Mail
from postroom.runtime.failpoints import Failpoint, hit
from postroom.store.attachments import Attachments
from postroom.store.functions import Connection, run, run_each
from postroom.store.intake_codec import (
    check_names,
    decode_receipt,
    decode_receipts,
    encode_mail,
    encode_mails,
    entries_with_own_files,
    large_contents,
    split_valid,
)
from postroom.store.pipelining import Pipelined
from postroom.store.shared_content import Common, Entry

# Jobs that one script may be given: it holds up Redis for some milliseconds. As many usual mails fit into a socket's
# buffer, so nobody waits until Redis reads them.
PORTION = 64


NOT_DEAD = ("", "")


One = TypeVar("One")


class Staged(NamedTuple):
    """Content that was stored before the mail: its name in Redis, and how many parts it has."""

    files: str
    parts: int


NOTHING_STAGED = Staged("", 0)


class Intake:
    """Where new mail comes in. Raises Unavailable when Redis does not answer in time or refuses the write.

    Large content of new mails goes into `folder`, if there is one, else to Redis in pieces.
    """

    def __init__(self, connection: Connection, folder: Path | None = None) -> None:
        self._redis = connection
        self.attachments = Attachments(connection, folder)

    def take_in(
        self,
        job_id: str,
        mail: Mail,
        key: str | None,
        batch: str | None,
        now: int | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> Receipt:
        """The receipt of a mail that is now kept. KeyConflict if `key` is another mail's.

        The mail must have its sender. Calling again with the same `job_id` is the same job.
        """
        check_names(mail, key, batch)
        payload = None if mail.enclosed else mail.to_json()
        fingerprint, apart = mail.digest(payload)[:32], large_contents(mail.enclosed)
        staged = NOTHING_STAGED
        if apart:
            asked = run(self._redis, "stage", now, key or "", fingerprint, mail.size, "", "", b"")
            if asked[0] != b"staged":
                return decode_receipt(asked, job_id, key)
            mail, staged = self._put_apart(mail, apart, key, fingerprint, now)
        given = encode_mail(job_id, mail, payload or mail.to_json(), key, fingerprint)
        hit(Failpoint.TAKING_IN)
        answer = run(self._redis, "take_in", now, batch or "", calls.accepted, calls.dead, *staged, *NOT_DEAD, *given)
        hit(Failpoint.TAKEN_IN)
        return decode_receipt(answer, job_id, key)

    def take_in_many(
        self,
        entries: Sequence[Entry],
        batch: str | None,
        common: Common | None,
        now: int | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> list[Receipt | PostroomError]:
        """The same for many mails in one round trip; for each, in this order, its receipt or why it is refused.

        `common` is what all of them share (`Sharing.common`), `calls` is what each of them calls. Calling again with
        the same job ids is the same jobs.
        """
        together, results = split_valid(entries, batch)
        for entry in entries_with_own_files(together, common):
            together.remove(entry)
            try:
                results[entry.job_id] = self.take_in(entry.job_id, entry.mail, entry.key, batch, now, calls)
            except (InvalidMail, KeyConflict) as error:
                results[entry.job_id] = error
        if together:
            results |= self._take_in_together(together, batch, common, now, calls)
        return [results[entry.job_id] for entry in entries]

    def take_in_portions(
        self,
        each: Iterable[tuple[Sequence[Entry], Common | None]],
        batch: str | None,
        now: int | None = None,
        calls: Callbacks = NO_CALLBACKS,
    ) -> Generator[list[Receipt | PostroomError], None, None]:
        """`take_in_many` of one portion after the other, of `PORTION` mails at most, without waiting in between.

        The results of a portion come when the next one was made and sent. Where `each` raises an error, the results
        of the portions before it come first.
        """
        waiting: Callable[[], list[Receipt | PostroomError]] | None = None
        known: Common | None = None
        faults = list[Exception]()
        with Pipelined(self._redis) as pipelined:
            for entries, common in _until_fault(each, faults):
                # Redis must get new shared content, or a mail's own files, before the mail.
                ahead = common is known and not entries_with_own_files(entries, common)
                sent = self._send_ahead(pipelined, entries, batch, common, now, calls) if ahead else None
                if waiting:
                    yield waiting()
                if not sent:
                    yield self.take_in_many(entries, batch, common, now, calls)
                waiting, known = sent, common
            if waiting:
                yield waiting()
        for fault in faults:
            raise fault

    def _send_ahead(
        self,
        pipelined: Pipelined,
        entries: Sequence[Entry],
        batch: str | None,
        common: Common | None,
        now: int | None,
        calls: Callbacks,
    ) -> Callable[[], list[Receipt | PostroomError]]:
        """Sends these to Redis, which should have what they share; returns what gives the results."""
        together, results = split_valid(entries, batch)
        if not together:
            return lambda: [results[entry.job_id] for entry in entries]
        head = (batch or "", calls.accepted, calls.dead, common.digest if common else "", "", *NOTHING_STAGED)
        hit(Failpoint.TAKING_IN)
        reply = pipelined.send("take_in_many", now, *head, *chain.from_iterable(encode_mails(together, common)))

        def read() -> list[Receipt | PostroomError]:
            answers = reply()
            if [b"bring"] in answers:  # all jobs that shared it have ended meanwhile
                return self.take_in_many(entries, batch, common, now, calls)
            hit(Failpoint.TAKEN_IN)
            told = results | decode_receipts(together, answers)
            return [told[entry.job_id] for entry in entries]

        return read

    def _take_in_together(
        self, entries: Sequence[Entry], batch: str | None, common: Common | None, now: int | None, calls: Callbacks
    ) -> dict[str, Receipt | PostroomError]:
        given = encode_mails(entries, common)

        def ask(shared: str, staged: Staged) -> list[Any]:
            head = (batch or "", calls.accepted, calls.dead, common.digest if common else "", shared, *staged)
            each = [(*head, *chain.from_iterable(some)) for some in portions(given)]
            return [answer for answers in run_each(self._redis, "take_in_many", now, each) for answer in answers]

        hit(Failpoint.TAKING_IN)
        answers = ask("", NOTHING_STAGED)
        if common and [b"bring"] in answers:
            one, staged = common.one, NOTHING_STAGED
            if apart := large_contents([one.content for one in common.attachments]):
                one, staged = self._put_apart(common.one, apart, None, "", now)
            answers = ask(common.to_json(one), staged)
        hit(Failpoint.TAKEN_IN)
        return decode_receipts(entries, answers)

    def _put_apart(
        self, mail: Mail, apart: Sequence[int], key: str | None, fingerprint: str, now: int | None
    ) -> tuple[Mail, Staged]:
        """The mail with its content at these places stored, and what was staged for it."""
        files, parts = str(uuid.uuid4()), 0

        def keep(part: str, value: bytes) -> None:
            nonlocal parts
            parts += 1
            run(self._redis, "stage", now, key or "", fingerprint, mail.size, files, part, value)

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
        calls: Callbacks = NO_CALLBACKS,
    ) -> None:
        """Records a mail that cannot exist as a dead letter; what is no text in it is replaced."""
        sender, payload, detail = (text.encode(errors="replace").decode() for text in (sender, payload, detail))
        attempt = json.dumps({"outcome": "refused", "reason": reason, "detail": detail})
        given = (job_id, sender, "normal", 0, "", "", "", "", "", "", "", "", 0, payload)
        run(self._redis, "take_in", now, "", "", calls.dead, *NOTHING_STAGED, reason, attempt, *given)


def _until_fault(each: Iterable[One], faults: list[Exception]) -> Iterator[One]:
    """The same, up to where getting the next one raises an error; that goes into `faults`."""
    try:
        yield from each
    except Exception as fault:  # noqa: BLE001 - the caller raises it
        faults.append(fault)


def portions(jobs: Sequence[One], most: int = PORTION) -> Iterator[Sequence[One]]:
    """These jobs, as many at a time as one script may be given."""
    return (jobs[start : start + most] for start in range(0, len(jobs), most))
