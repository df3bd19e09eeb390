"""Workers replace the certificates of apps by themselves, where that is asked for: one process at a time for a file."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event

from postroom.errors import PostroomError
from postroom.setup.errors import SetupError
from postroom.setup.rotation import Rotated, Rotation
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import place_of

LOOKED_AGAIN_S = 3600.0
# A worker looks again in an hour, so it need not wait for Entra long.
PATIENCE_S = 120.0


def renew_for_ever(
    renewals: Mapping[str, Callable[[], Rotated]], stop: Event, emit: Emit, again_s: float = LOOKED_AGAIN_S
) -> None:
    """Takes the rotation of each app's certificate as far as it goes, each hour until `stop` is set.

    No error ends it: the old certificate is used meanwhile, and `postroom check` warns before it expires.
    """
    while not stop.is_set():
        for app, renew in renewals.items():
            try:
                done = renew()
            except PostroomError as error:
                emit("certificate.failed", app=app, error=str(error))
            except Exception as error:  # noqa: BLE001 - the next try may succeed
                emit("certificate.failed", app=app, error=place_of(error))
            else:
                if done is not Rotated.NOTHING:
                    emit("certificate.rotated", app=app, step=str(done))
        stop.wait(again_s)


def renewal(rotation: Rotation, every: timedelta) -> Callable[[], Rotated]:
    """Takes this rotation as far as it goes, unless another process is at it."""

    def renew() -> Rotated:
        with alone(rotation.path) as mine:
            return rotation.run(every, patience_s=PATIENCE_S) if mine else Rotated.NOTHING

    return renew


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether this process is the one that may replace the file, until the block ends.

    The lock is on a file beside it, and not in Redis: it has to be where the certificate is, and it ends with the
    process. Raises SetupError where the folder cannot be written to.
    """
    try:
        file = path.with_name(f"{path.name}.lock").open("a")
    except OSError as error:
        raise SetupError(f"{path} cannot be replaced: {error.strerror}; make its folder writable") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
