"""Encodes mail as arguments of take_in.lua and take_in_many.lua, and decodes their replies."""

from collections.abc import Sequence
from typing import Any

from postroom.errors import InvalidMail, KeyConflict, PostroomError, Unavailable
from postroom.jobs.job import Receipt, milliseconds_of, recipient_token
from postroom.mail.content import Content, size_of
from postroom.mail.model import Mail
from postroom.mail.validation import too_large
from postroom.store.attachments import INSIDE, SMALL
from postroom.store.shared_content import Common, Entry

LONGEST_KEY = 500
_NEW = b"new"


def check_names(mail: Mail, key: str | None, batch: str | None) -> None:
    """InvalidMail if the mail has no sender, or key or batch cannot be one."""
    if mail.sender is None:
        raise InvalidMail("sender: missing")
    for name, value in (("key", key), ("batch", batch)):
        if value is not None and not (isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_KEY):
            raise InvalidMail(f"{name}: a string of 1 to {LONGEST_KEY} printable characters is needed")


def split_valid(entries: Sequence[Entry], batch: str | None) -> tuple[list[Entry], dict[str, Receipt | PostroomError]]:
    """Those that may be taken in, and by their job ids what is wrong with the others."""
    sound: list[Entry] = []
    wrong: dict[str, Receipt | PostroomError] = {}
    for entry in entries:
        try:
            check_names(entry.mail, entry.key, batch)
            sound.append(entry)
        except InvalidMail as error:
            wrong[entry.job_id] = error
    return sound, wrong


def entries_with_own_files(entries: Sequence[Entry], common: Common | None) -> list[Entry]:
    """Those with files that are to be stored before them, and are not shared."""
    if common and common.attachments:
        return []
    return [entry for entry in entries if (enclosed := entry.mail.enclosed) and large_contents(enclosed)]


def large_contents(enclosed: Sequence[Content]) -> list[int]:
    """The places of those that are too large to travel inside the mail."""
    apart, inside = [], 0
    for place, size in enumerate(map(size_of, enclosed)):
        if size > SMALL or inside + size > INSIDE:
            apart.append(place)
        else:
            inside += size
    return apart


def encode_mail(job_id: str, mail: Mail, payload: str, key: str | None, fingerprint: str) -> tuple[object, ...]:
    """A mail as arguments, in the order of mail_arguments.lua."""
    recipients, needed = mail.recipients, mail.format
    return (
        job_id,
        mail.sender.lane if mail.sender else "",
        mail.priority,
        len(recipients),
        " ".join(dict.fromkeys([recipient_token(address.address) for address in recipients])),
        key or "",
        fingerprint,
        milliseconds_of(mail.scheduled_at),
        milliseconds_of(mail.expires_at),
        needed if needed > 1 else "",
        "1" if mail.is_plain else "",
        "\n".join(mail.tags),
        mail.size,
        payload,
    )


def encode_mails(entries: Sequence[Entry], common: Common | None) -> list[tuple[object, ...]]:
    """The same for each mail, without what they have in `common`."""
    return [
        encode_mail(entry.job_id, entry.mail, entry.own_json(common), entry.key, entry.fingerprint) for entry in entries
    ]


def decode_receipts(entries: Sequence[Entry], answers: Sequence[Any]) -> dict[str, Receipt | PostroomError]:
    """By job id, what the answer to each is: its receipt, or why it is refused."""
    return {entry.job_id: _receipt_or_error(answer, entry) for entry, answer in zip(entries, answers, strict=True)}


def _receipt_or_error(answer: Sequence[Any], entry: Entry) -> Receipt | PostroomError:
    try:
        return decode_receipt(answer, entry.job_id, entry.key)
    except (InvalidMail, KeyConflict) as error:
        return error


def decode_receipt(answer: Any, job_id: str, key: str | None) -> Receipt:
    """What take_in.lua answers; KeyConflict, InvalidMail or Unavailable where it refuses."""
    if answer == _NEW:
        return Receipt(id=job_id, known=False)
    said = answer[0].decode()
    if said == "conflict":
        raise KeyConflict(key or "", answer[1].decode())
    if said == "refused":
        raise InvalidMail(f"to: more recipients than this sender may reach in a day ({int(answer[1])})")
    if said == "too_large":
        raise InvalidMail(too_large(int(answer[2]), int(answer[1])))
    if said == "no_drafts":
        raise InvalidMail(
            "attachments: a mail of more than 4 MB goes by a draft, and this sender's app may make none "
            "(permission Mail.ReadWrite; a large mail waits for it already, see postroom jobs --status deferred)"
        )
    if said == "unstaged":
        raise Unavailable("the attachments took so long that what was stored of them had been given up; send it again")
    first = answer[1].decode()
    return Receipt(id=first, known=first != job_id)  # this very job, where it is taken in again
