"""Dead letters: people list them, send them again as they are or changed, or discard them.

Many letters are handled newest first, in bounded portions. This may be interrupted at any point and started again.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from postroom.errors import InvalidMail
from postroom.jobs.job import Delivery, Status
from postroom.jobs.job_filter import JobFilter
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.settings.loading import load_settings
from postroom.store.connection import connect
from postroom.store.intake import portions
from postroom.store.ledger import Ledger
from postroom.store.operator import Actor, Reply

TIMEOUT_S = 5.0
# Fields that an operator may not need to see. Variables are private too: templates make bodies of them.
CONTENT = ("text", "html", "variables")


def selection(
    *, reason: str | None = None, senders: Sequence[str] = (), batch: str | None = None, since: datetime | None = None
) -> JobFilter:
    """The filter for dead letters that match all that is given and ended at `since` or later; newest end first.

    The reason `expired` selects the expired jobs.
    """
    return JobFilter(
        status=Status.EXPIRED if reason == "expired" else Status.DEAD,
        reason=reason,
        senders=senders,
        batch=batch,
        ended_since=since,
        by_end=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The dead letters with one reason: how many, how many of these may have been sent, and the newest one."""

    reason: str
    count: int
    in_doubt: int
    newest: Delivery | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How many dead letters match, by reason, the most frequent first; and the newest of them."""

    total: int
    reasons: list[Kind]
    letters: list[Delivery]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A job and its mail. `mail` is None if it is no longer kept."""

    job: Delivery
    mail: Mapping[str, Any] | None


class DeadLetters:
    """What people can do with dead letters. All methods raise Unavailable when Redis does not answer."""

    def __init__(self, ledger: Ledger, sender: Address | None = None) -> None:
        self._ledger = ledger
        self._sender = sender

    @classmethod
    def from_env(cls) -> "DeadLetters":
        """An object with the settings of the environment, as in `Client.from_env`."""

        settings = load_settings()
        return cls(Ledger(connect(settings.redis_url, timeout_s=TIMEOUT_S, name="postroom-operator")), settings.sender)

    def overview(self, wanted: JobFilter, limit: int) -> Overview:
        """Counts of the letters that match, and the newest `limit` of them. Takes time for each letter, not memory."""
        counts: dict[str, list[int]] = {}
        newest: dict[str, str] = {}
        ids: list[str] = []
        for page in self._ledger.records.pages(wanted):
            ids += page.ids[: limit - len(ids)]
            for group in page.groups:
                reason = group.reason or ""
                newest.setdefault(reason, group.newest)
                known = counts.setdefault(reason, [0, 0])
                known[0] += group.count
                known[1] += group.count if group.in_doubt else 0
        samples = {job.id: job for job in self._read(list(newest.values()))}
        kinds = [
            Kind(reason=reason, count=count, in_doubt=in_doubt, newest=samples.get(newest[reason]))
            for reason, (count, in_doubt) in counts.items()
        ]
        return Overview(
            total=sum(kind.count for kind in kinds),
            reasons=sorted(kinds, key=lambda kind: -kind.count),
            letters=list(self._read(ids)),
        )

    def show(self, job_id: str, *, content: bool = False) -> Letter:
        """One job with its mail; without `content` no bodies, variables and files. UnknownJob if there is none."""
        payload = self._ledger.records.payload(job_id)
        job = self._ledger.records.read(job_id)
        if payload is None:
            return Letter(job=job, mail=None)
        mail = json.loads(payload)
        return Letter(
            job=job,
            mail=mail if not isinstance(mail, dict) else without_places(mail) if content else without_content(mail),
        )

    def select(self, wanted: JobFilter) -> Iterator[str]:
        """The ids of the letters that match, newest first."""
        for page in self._ledger.records.pages(wanted):
            yield from page.ids

    def requeue(
        self,
        job_ids: Iterable[str],
        actor: Actor,
        *,
        expires: datetime | Literal["never"] | None = None,
        twice: bool = False,
        dry_run: bool = False,
    ) -> Iterator[Reply]:
        """Puts jobs back into their lanes, see `Ledger.requeue`. Gives each result as soon as it is there."""
        for some in _in_portions(job_ids):
            yield from self._ledger.requeue(some, actor, expires=expires, twice=twice, dry_run=dry_run)

    def discard(self, job_ids: Iterable[str], actor: Actor, *, dry_run: bool = False) -> Iterator[Reply]:
        """Cancels jobs and removes their mail, see `Ledger.discard`. Gives each result as soon as it is there."""
        for some in _in_portions(job_ids):
            yield from self._ledger.discard(some, actor, dry_run=dry_run)

    def change(
        self,
        job_id: str,
        changes: Mapping[str, object],
        actor: Actor,
        *,
        twice: bool = False,
        dry_run: bool = False,
        check: Callable[[Mail], object] = lambda _: None,
    ) -> tuple[str, str]:
        """Sends a dead letter again as a new job, with these fields changed. Returns the result and the new job's id.

        None removes a field. `variables` are added to those of the mail. `check` may refuse the changed mail, by
        raising. Raises InvalidMail if it cannot be sent, UnknownJob if there is no such job.
        """
        payload = self._ledger.records.payload(job_id)
        if payload is None:
            self._ledger.records.read(job_id)
            return "not_dead", ""  # a job that is dead or expired has its mail still
        values = changed(json.loads(payload), changes)
        # A job without recipients never was a valid mail: nobody checked it, and it could name another mail's files.
        was_mail = self._ledger.records.read(job_id).recipients > 0
        mail = (Mail.from_json(json.dumps(values)) if was_mail else Mail.model_validate(values)).with_sender(
            self._sender
        )
        check(mail)
        new_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"postroom:{job_id}:{actor.id}"))  # the same if this is repeated
        outcome = self._ledger.replace(job_id, new_id, mail, sorted(changes), actor, twice=twice, dry_run=dry_run)
        return outcome, new_id

    def _read(self, job_ids: Sequence[str]) -> Iterator[Delivery]:
        for some in portions(job_ids):
            yield from self._ledger.records.read_many(some)


def changed(values: object, changes: Mapping[str, object]) -> dict[str, object]:
    """The fields of a mail with these changes. InvalidMail if there is a field that this version does not know."""
    if isinstance(changes.get("mime"), Mapping) or _names_stored(changes.get("attachments")):
        raise InvalidMail("attachments and mime: new content is needed, in base64; stored content cannot be named")
    if not isinstance(values, dict):
        raise InvalidMail("what came was no mail, so there is nothing to change; send a new one")
    if unknown := {name for name in (*values, *changes) if changes.get(name, "") is not None} - {
        *Mail.model_fields,
        "from",
    }:
        raise InvalidMail([f"{name}: no such field; null leaves it out" for name in sorted(unknown)])
    mail = dict(values)
    if "from" in changes or "sender" in changes:
        mail = {name: value for name, value in mail.items() if name not in {"from", "sender"}}
    for name, value in changes.items():
        mail[name] = (
            {**mail.get("variables", {}), **value} if name == "variables" and isinstance(value, dict) else value
        )
    return {name: value for name, value in mail.items() if value is not None}


def _names_stored(attachments: object) -> bool:
    """Whether one of them stands for stored content, which may be another mail's, or for no file at all."""
    some = attachments if isinstance(attachments, list | tuple) else [attachments] if attachments is not None else []
    return any(not isinstance(one, Mapping) or not isinstance(one.get("content"), str) for one in some)


def without_places(mail: Mapping[str, Any]) -> dict[str, Any]:
    """A mail's fields, without where its stored content lies."""
    shown = dict(mail)
    if isinstance(shown.get("attachments"), list):
        shown["attachments"] = [
            _file(one) if isinstance(one, dict) and isinstance(one.get("content"), dict) else one
            for one in shown["attachments"]
        ]
    if isinstance(shown.get("mime"), dict):
        shown["mime"] = _bytes(shown["mime"])
    return shown


def without_content(mail: Mapping[str, Any]) -> dict[str, Any]:
    """A mail's fields without their content: bodies by their length, variables by their names, files by their size."""
    shown = dict(mail)
    for name in CONTENT:
        value = shown.get(name)
        if isinstance(value, str):
            shown[name] = f"({len(value)} characters)"
        elif isinstance(value, dict):
            shown[name] = f"({', '.join(sorted(value)) or 'none'})"
    if isinstance(shown.get("attachments"), list):
        shown["attachments"] = [_file(one) for one in shown["attachments"]]
    if "mime" in shown:
        shown["mime"] = _bytes(shown["mime"])
    return shown


def _file(attachment: object) -> object:
    if not isinstance(attachment, dict):
        return "(not a file)"
    known = {name: value for name, value in attachment.items() if name != "content"}
    return known | _bytes(attachment.get("content"))


def _bytes(content: object) -> dict[str, object]:
    match content:
        case str():
            return {"bytes": len(content) * 3 // 4 - content.count("=")}
        case {"size": size}:  # it is kept apart from the mail
            return {"bytes": size}
        case _:
            return {}


def _in_portions(job_ids: Iterable[str]) -> Iterator[list[str]]:
    ids = iter(job_ids)
    while some := list(islice(ids, 100)):
        yield some
