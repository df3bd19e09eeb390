"""The files that hold secrets: who else on this machine may read or write them."""

import stat
from collections.abc import Iterator
from pathlib import Path

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings
from postroom.settings.loading import SECRETS
from postroom.settings.model import PREFIX, Settings
from postroom.settings.origins import config_file

_SAY = Reporter(Group.SETTINGS)
_ASKED = "can other users of this machine read its secrets?"


def check(around: Surroundings) -> Iterator[Finding]:
    """A finding for each file whose mode opens a secret, or one for all of them."""
    files = secret_files(around)
    findings = [finding for path in files if (finding := of_mode(path, _mode(path)))]
    yield from findings
    if files and not findings:
        yield _SAY.green("files", _ASKED, f"{len(files)} file(s) with secrets, closed to others")


def of_mode(path: Path, mode: int | None) -> Finding | None:
    """What a file's mode means; None where it is in order, or does not exist."""
    if mode is None or is_of_container(path):
        return None
    seen = f"its mode is {mode:04o}"
    if mode & stat.S_IWOTH:
        return _SAY.red(
            str(path), _ASKED, seen, "every user of this machine may replace the secret, and with it the app",
            f"chmod 600 {path}",
        )  # fmt: skip
    if mode & stat.S_IROTH:
        return _SAY.yellow(
            str(path), _ASKED, seen, "every user of this machine can read the secret, and send as this app",
            f"chmod 600 {path} (0640 if the workers are of another user, in the file's group)",
        )  # fmt: skip
    return None


def is_of_container(path: Path) -> bool:
    """Whether an orchestrator mounted it, whose modes say nothing: there is nobody else in the container.

    https://kubernetes.io/docs/concepts/configuration/secret/ and https://docs.docker.com/engine/swarm/secrets/
    """
    return path.is_relative_to("/run/secrets") or (path.parent / "..data").exists()


def secret_files(around: Surroundings) -> list[Path]:
    """The files that exist and hold secrets of these settings."""
    given = around.settings
    candidates = [around.folder / ".env", *_named(given)]
    candidates += [Path(value) for name, value in around.environ.items() if name in _FILE_SETTINGS and value]
    file = config_file(around.environ, around.folder)
    if file and _has_secrets(given):
        candidates.append(file)
    return sorted({path for path in candidates if path.is_file()})


_FILE_SETTINGS = {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}


def _named(given: Settings) -> Iterator[Path]:
    for app in given.all_apps.values():
        named = (app.client_secret_file, app.client_certificate, app.federated_token_file)
        yield from (path for path in named if isinstance(path, Path))
    if given.smtp_key or given.smtp_certificate:
        yield given.smtp_key or given.smtp_certificate or Path()


def _has_secrets(given: Settings) -> bool:
    """Whether the tables of the file hold secrets themselves."""
    by_password = any(one.password_hash for one in given.smtp.values())
    return by_password or any(app.client_secret or app.client_certificate_password for app in given.apps.values())


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
