"""Where large attachments are kept apart from their mail: in pieces in Redis, or as files in a folder that all share.

They are staged first, under a name of their own, and taken over by a job in the step that takes the mail in.
What a producer has staged and never taken in, because it died, the tick gives up after an hour; what is to leave the
folder, with its job or without one, a worker removes.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from postroom.errors import Unavailable
from postroom.mail import content
from postroom.mail.content import PIECE, AttachmentMissing, Content, Stored
from postroom.store import functions
from postroom.store.functions import PREFIX

# What a mail carries itself: each attachment up to this size, and together up to four times as much.
SMALL = 64 * 1024
INSIDE = 4 * SMALL

# A folder without it is not ours: a share that is not mounted has an empty folder in its place.
_MARK = ".postroom"
_BATCH = 100


class Attachments:
    """The places for attachments. With a folder new ones go there; what is in Redis is read from there all the same."""

    def __init__(self, connection: functions.Connection, folder: Path | None = None) -> None:
        self._redis = connection
        self.folder = folder

    def store(self, contents: Iterable[Content], name: str, stage: Callable[[str, bytes], None]) -> list[Stored]:
        """The contents, stored under this name, a UUID. `stage(part, value)` keeps a value under it in Redis."""
        if self.folder is None:
            return [self._store_pieces(one, name, number, stage) for number, one in enumerate(contents)]
        # Said first: whatever happens now, the files are found again.
        stage("folder", b"1")
        try:
            return self._store_files(list(contents), self.folder, name)
        except OSError as error:
            raise Unavailable(f"the folder POSTROOM_ATTACHMENTS cannot be written ({error.strerror})") from error

    def read(self, stored: Stored, begin: int, end: int) -> bytes:
        """These bytes of what is stored; see `content.Source`."""
        return self._read_pieces(stored, begin, end) if stored.where == "redis" else self._read_file(stored, begin, end)

    def remove_due(self) -> tuple[int, int]:
        """Removes files from the folder whose jobs have ended; how many are gone, and how many could not be removed."""
        if self.folder is None:
            return 0, 0
        with functions.or_unavailable():
            due = [name.decode() for name in self._redis.zrange(PREFIX + "files", 0, _BATCH - 1)]
        gone = [name for name in due if _removed(self.folder, name)]
        with functions.or_unavailable():
            if gone:
                self._redis.zrem(PREFIX + "files", *gone)
            for name in set(due) - set(gone):
                self._redis.zincrby(PREFIX + "files", 60_000, name)  # the others first
        return len(gone), len(due) - len(gone)

    def _store_pieces(self, one: Content, name: str, number: int, stage: Callable[[str, bytes], None]) -> Stored:
        digest = hashlib.sha256()
        for place, piece in enumerate(content.pieces(one)):
            digest.update(piece)
            stage(f"{number}:{place}", piece)
        size = content.size_of(one)
        return Stored(
            where="redis", name=name, number=number, piece=PIECE, size=size, sha256=digest.hexdigest(), source=self
        )

    def _store_files(self, contents: list[Content], folder: Path, name: str) -> list[Stored]:
        (folder / _MARK).touch()
        own = folder / name
        own.mkdir()
        stored = []
        for number, one in enumerate(contents):
            digest = hashlib.sha256()
            part = own / f"{number}.part"
            with part.open("xb") as file:
                for piece in content.pieces(one):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            part.rename(own / str(number))
            size = content.size_of(one)
            stored.append(
                Stored(
                    where="folder",
                    name=name,
                    number=number,
                    piece=PIECE,
                    size=size,
                    sha256=digest.hexdigest(),
                    source=self,
                )
            )
        _sync(own)
        _sync(folder)
        return stored

    def _read_pieces(self, stored: Stored, begin: int, end: int) -> bytes:
        if begin >= end:
            return b""
        places = range(begin // stored.piece, -(-end // stored.piece))
        with functions.or_unavailable():
            pieces = self._redis.hmget(f"{PREFIX}files:{stored.name}", [f"{stored.number}:{place}" for place in places])
        if None in pieces:
            raise AttachmentMissing("a piece of it is no longer in Redis")
        skipped = places[0] * stored.piece
        return b"".join(pieces)[begin - skipped : end - skipped]

    def _read_file(self, stored: Stored, begin: int, end: int) -> bytes:
        if self.folder is None:
            raise OSError("POSTROOM_ATTACHMENTS is not set here")
        if not re.fullmatch(r"[0-9a-f-]{36}", stored.name):
            raise AttachmentMissing("it names no file of ours")
        try:
            with (self.folder / stored.name / str(stored.number)).open("rb") as file:
                file.seek(begin)
                data = file.read(end - begin)
        except FileNotFoundError:
            if not (self.folder / _MARK).exists():
                raise
            raise AttachmentMissing("its file is no longer in the folder") from None
        if len(data) != end - begin:
            raise AttachmentMissing("its file is shorter than it was")
        return data


def _removed(folder: Path, name: str) -> bool:
    try:
        shutil.rmtree(folder / name)
    except FileNotFoundError:
        return (folder / _MARK).exists()
    except OSError:
        return False
    return True


def _sync(folder: Path) -> None:
    """Makes the names in a folder as durable as its files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
