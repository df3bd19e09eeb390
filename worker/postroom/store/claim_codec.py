"""Decodes what the functions of claims reply: the job that was claimed, and whether it may be sent."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from postroom.jobs.job import Claimant, Job, Status, moment


def decode_claim(answer: Sequence[Any], claimant: Claimant) -> Job | None:
    """The job in a reply of claim.lua or settle.lua; None if there is none."""
    if answer[0] != b"claimed":
        return None
    _, job_id, app, mail, told, rounds = answer
    record = _Told(*told)
    job = Job(
        id=job_id.decode(),
        lane=record.lane.decode(),
        app=app.decode(),
        token=claimant.token,
        asked_at=claimant.asked_at,
        marked=record.phase == b"sending",
        mail=mail,
        attempts=0,
        others_wait=rounds > 0,
        taken_in_at=moment(int(record.created)),
    )
    return _claimed_again(job, record) if record.status else job


def _claimed_again(job: Job, record: "_Told") -> Job:
    """The same where it is not its first claim."""
    return job._replace(
        attempts=int(record.attempts or 0),
        in_doubt=bool(record.in_doubt),
        look_ups=int(record.look_ups or 0),
        resend=bool(record.resend),
        resends=int(record.resends or 0),
        draft=record.draft.decode() or None,
        to_add=tuple(map(int, record.to_add.split())),
        upload=record.upload.decode() or None,
        upload_at=int(record.range) if record.range else None,
        drafting=bool(record.drafting),
        orphaned_drafts=tuple(record.strays.decode().split()),
        late_draft=bool(record.late_draft),
        clean_up=bool(record.clean_up),
        sent=record.status.decode() == Status.ACCEPTED,
        suspect=bool(record.suspect),
    )


class _Told(NamedTuple):
    """What claiming.lua tells of a record; empty where it has no such field, or it is its first claim."""

    lane: bytes
    created: bytes
    phase: bytes
    status: bytes = b""
    attempts: bytes = b""
    in_doubt: bytes = b""
    look_ups: bytes = b""
    resend: bytes = b""
    resends: bytes = b""
    draft: bytes = b""
    to_add: bytes = b""
    upload: bytes = b""
    range: bytes = b""
    drafting: bytes = b""
    strays: bytes = b""
    late_draft: bytes = b""
    clean_up: bytes = b""
    suspect: bytes = b""


def decode_wait(answer: Sequence[Any]) -> float | None:
    """What mark.lua or note.lua says: 0 if it may leave, or in how many seconds; None if the claim is lost."""
    match answer[0]:
        case b"void":
            return None
        case b"wait":
            return int(answer[1]) / 1000
        case _:
            return 0.0
