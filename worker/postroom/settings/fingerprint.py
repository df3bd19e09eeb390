"""Short fingerprints of settings and templates: equal for workers that go by the same."""

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from postroom.settings.model import Settings

# Places and choices of one machine, and what only doors use.
_OF_ONE_MACHINE = {
    "redis_url", "ca_bundle", "transport", "templates", "attachments", "events", "log_format", "federated_token_file",
    "smtp", "smtp_allow", "smtp_certificate", "smtp_key",
}  # fmt: skip


def of_settings(settings: Settings) -> str:
    """That of the settings that all workers must share, with their secrets and the content of certificates.

    What has its default value counts as not set, so that a version with new settings has the same fingerprint.
    """
    given = settings.model_dump(exclude=_OF_ONE_MACHINE, exclude_defaults=True)
    return _short(json.dumps(given, sort_keys=True, default=_plain).encode())


def of_folder(folder: Path) -> str:
    """That of all files in this folder; empty if it cannot be read.

    Hidden files do not count: a ConfigMap of Kubernetes has folders there whose names differ in each pod.
    """
    try:
        files = sorted((file.relative_to(folder).as_posix(), file) for file in _files(folder))
        return _short(b"".join(name.encode() + b"\0" + sha256(file.read_bytes()).digest() for name, file in files))
    except OSError:
        return ""


def _files(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()  # links may lead back to a folder above them
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _plain(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return sha256(value.read_bytes()).hexdigest() if value.is_file() else ""
        case _:
            return str(value)


def _short(content: bytes) -> str:
    return sha256(content).hexdigest()[:8]
