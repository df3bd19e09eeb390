"""One thing that the doctor looked at: what was asked, what was seen, what it means, and what to do next."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    """What a check looks at, in the order in which the checks are made. `--only` takes one of these words."""

    SETTINGS = "settings"
    REDIS = "redis"
    WORKERS = "workers"
    WAY_OUT = "way-out"
    ENTRA = "entra"
    RIGHTS = "rights"
    MAILBOXES = "mailboxes"
    TEMPLATES = "templates"
    DOORS = "doors"


class Level(StrEnum):
    """Green: in order. Yellow: works, or may work soon, and somebody should look. Red: mail is not sent because of it.

    Skipped: not asked, because something before it makes the question pointless, or because nothing is configured.
    """

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    SKIPPED = "skipped"


_BADNESS = {Level.SKIPPED: 0, Level.GREEN: 0, Level.YELLOW: 1, Level.RED: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`name` says what it is about: a setting, an app, a mailbox. `meaning` and `next` may be empty where all is well.

    `asked`, `seen`, `meaning` and `next` are sentences for people. What other systems said is in them as it came, so
    whoever prints them makes it printable first.
    """

    group: Group
    name: str
    level: Level
    asked: str
    seen: str
    meaning: str = ""
    next: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells this finding from others of the same examination, and finds it again in the next one."""
        return self.group.value, self.name, self.asked


def worst(findings: Iterable[Finding]) -> Level:
    """Red, yellow or green: the worst level among these. What was skipped counts as green."""
    levels = [finding.level for finding in findings if finding.level is not Level.SKIPPED]
    return max(levels, key=_BADNESS.__getitem__, default=Level.GREEN)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Makes the findings of one group."""

    group: Group

    def green(self, name: str, asked: str, seen: str, meaning: str = "", next: str = "") -> Finding:  # noqa: A002
        return self._finding(Level.GREEN, name, asked, seen, meaning, next)

    def yellow(self, name: str, asked: str, seen: str, meaning: str, next: str) -> Finding:  # noqa: A002
        return self._finding(Level.YELLOW, name, asked, seen, meaning, next)

    def red(self, name: str, asked: str, seen: str, meaning: str, next: str) -> Finding:  # noqa: A002
        return self._finding(Level.RED, name, asked, seen, meaning, next)

    def skipped(self, name: str, asked: str, why: str) -> Finding:
        return self._finding(Level.SKIPPED, name, asked, why)

    def _finding(
        self, level: Level, name: str, asked: str, seen: str, meaning: str = "", following: str = ""
    ) -> Finding:
        return Finding(
            group=self.group, name=name, level=level, asked=asked, seen=seen, meaning=meaning, next=following
        )


def changes(before: Iterable[Finding], after: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of `after` that are not in `before` with the same level."""
    levels = {finding.key: finding.level for finding in before}
    return (finding for finding in after if levels.get(finding.key) is not finding.level)
