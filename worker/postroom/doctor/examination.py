"""The checks in their order. What an earlier one found makes later ones pointless: they say so, and are skipped."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from postroom.doctor import (
    doors,
    entra,
    files,
    mailboxes,
    redis_server,
    rights,
    settings,
    templates,
    way_out,
    workers,
)
from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings, Wanted
from postroom.errors import ConfigError
from postroom.settings.loading import load_settings
from postroom.settings.origins import origins
from postroom.telemetry.redaction import place_of

Check = Callable[[Surroundings], Iterator[Finding]]

CHECKS: tuple[tuple[Group, Check], ...] = (
    (Group.SETTINGS, settings.check),
    (Group.SETTINGS, files.check),
    (Group.REDIS, redis_server.check),
    (Group.WORKERS, workers.check),
    (Group.WAY_OUT, way_out.check),
    (Group.ENTRA, entra.check),
    (Group.RIGHTS, rights.check),
    (Group.MAILBOXES, mailboxes.check),
    (Group.TEMPLATES, templates.check),
    (Group.DOORS, doors.check),
)


def examine(wanted: Wanted, only: Collection[Group], environ: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """Each finding as soon as it is made; of the groups in `only`, or of all if it is empty. Raises nothing."""
    groups = [group for group in Group if not only or group in only]
    try:
        given = load_settings(environ, folder)
    except ConfigError as error:
        yield from settings.of_faults(error.faults, origins(environ, folder))
        for group in groups:
            if group is not Group.SETTINGS:
                yield Reporter(group).skipped(group.value, "is it in order?", "the settings cannot be read (settings)")
        return
    around = Surroundings(given, wanted, environ, folder)
    for group, check in CHECKS:
        if group in groups:
            yield from _guarded(group, check, around)


def _guarded(group: Group, check: Check, around: Surroundings) -> Iterator[Finding]:
    """What the check finds. A fault of ours must not keep the other checks from being made."""
    try:
        yield from check(around)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and the next check is made
        yield Reporter(group).red(
            f"doctor ({group})", "could it be checked?", place_of(error), "the doctor itself failed here: a bug",
            "report it with this line",
        )  # fmt: skip
