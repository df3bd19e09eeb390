"""What the mails of a batch have in common, so that it is sent to Redis once, and kept there once."""

import base64
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from postroom.mail import content
from postroom.mail.model import Attachment, Mail, as_json, joined

# Less than this is not worth being kept apart, in characters.
SMALLEST = 200


class Entry(NamedTuple):
    """One of many mails to be taken in.

    `fields` are those of its JSON, each as text, without what attachments hold, and `text` is all of them.
    """

    job_id: str
    mail: Mail
    key: str | None
    fingerprint: str
    fields: Mapping[str, str]
    text: str

    def own_json(self, common: "Common | None") -> str:
        """The mail, or what it does not share."""
        if not common and not self.mail.enclosed:
            return self.text
        own = {name: text for name, text in self.fields.items() if not common or name not in common.fields}
        if self.mail.attachments and "attachments" in own:
            own["attachments"] = _attachments_json(self.mail)
        if self.mail.mime is not None:
            own["mime"] = as_json(self.mail.to_fields()["mime"])
        return joined(own)


class Common(NamedTuple):
    """What several mails share: fields as an `Entry` has them, and one of these mails."""

    fields: Mapping[str, str]
    one: Mail
    digest: str

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return self.one.attachments if "attachments" in self.fields else ()

    def to_json(self, one: Mail) -> str:
        """The shared part, with attachments as this mail has them: the one here, or that with stored contents."""
        return joined(dict(self.fields) | ({"attachments": _attachments_json(one)} if self.attachments else {}))


class Sharing:
    """Finds what mails share, as they come in portions; reads attachments that they share once."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._enclosed: tuple[content.Content, ...] = ()
        self._between: list[str] = []
        self._hashed = hashlib.sha256()
        self._last: Common | None = None

    def entry(self, job_id: str, mail: Mail, key: str | None, *, batch: str | None = None) -> Entry:
        """This mail, ready to be taken in. Without a key, the `batch` and a hash of the mail are one."""
        fields = mail.to_texts(mark=self._mark)
        text = joined(fields)
        fingerprint = self._digest(mail, text)[:32]
        if key is None and batch is not None:
            key = f"{batch}/{fingerprint}"
        return Entry(job_id, mail, key, fingerprint, fields, text)

    def common(self, entries: Sequence[Entry]) -> Common | None:
        """What all of these share, if that is worth it. It is what the last ones shared, if these do too."""
        last = self._last
        if last is None or not all(_shares(entry, last.fields, last.one) for entry in entries):
            self._last = self._found(entries)
        return self._last

    def _found(self, entries: Sequence[Entry]) -> Common | None:
        first, others = entries[0], entries[1:]
        fields = {
            name: text for name, text in first.fields.items() if all(_has(e, name, text, first.mail) for e in others)
        }
        if not others or (len(joined(fields)) < SMALLEST and not (first.mail.attachments and "attachments" in fields)):
            return None
        one = first.mail.model_copy(update={} if "attachments" in fields else {"attachments": (), "mime": None})
        return Common(fields=fields, one=one, digest=self._digest(one, joined(fields)))

    def _digest(self, mail: Mail, text: str) -> str:
        """`mail.digest()` of a mail with this JSON. Attachments come first in it, and many have the same."""
        if not mail.enclosed:
            return mail.digest(text)
        *between, rest = text.split(self._mark)
        if between != self._between or mail.enclosed != self._enclosed:
            self._hashed = hashlib.sha256()
            for before, enclosed in zip(between, mail.enclosed, strict=True):
                self._hashed.update(before.encode())
                for piece in content.pieces(enclosed):
                    self._hashed.update(base64.b64encode(piece))
            self._between, self._enclosed = between, mail.enclosed
        hashed = self._hashed.copy()
        hashed.update(rest.encode())
        return hashed.hexdigest()


def _has(entry: Entry, name: str, text: str, one: Mail) -> bool:
    same = entry.fields.get(name) == text and name != "mime"  # each source is another one's
    return same and (name != "attachments" or entry.mail.attachments == one.attachments)


def _shares(entry: Entry, fields: Mapping[str, str], one: Mail) -> bool:
    return all(_has(entry, name, text, one) for name, text in fields.items())


def _attachments_json(mail: Mail) -> str:
    return as_json(mail.to_fields()["attachments"])
