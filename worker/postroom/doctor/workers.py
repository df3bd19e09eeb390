"""Workers: whether any ticks, whether they go by the settings and templates of here, and what they hold back."""

from collections.abc import Iterator, Sequence

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings, Unreachable, listed
from postroom.errors import PostroomError
from postroom.jobs.job import Hold
from postroom.jobs.reasons import plain_text, reason_of
from postroom.jobs.workers import WorkerFacts
from postroom.operations import stats
from postroom.operations.stats import Worker
from postroom.store.queries import Records
from postroom.wiring import worker_facts

_SAY = Reporter(Group.WORKERS)
_NAME = "workers"
_ASKED = "does any worker tick?"


def check(around: Surroundings) -> Iterator[Finding]:
    connection = around.redis
    if isinstance(connection, Unreachable):
        yield _SAY.skipped(_NAME, _ASKED, "Redis does not answer (redis)")
        return
    try:
        living = stats.alive(connection)
        holds = Records(connection).holds()
    except PostroomError as error:
        yield _SAY.skipped(_NAME, _ASKED, f"Redis does not say ({error})")
        return
    yield from of_workers(living, worker_facts(around.settings))
    yield from of_holds(holds)


def of_workers(living: Sequence[Worker], here: WorkerFacts) -> Iterator[Finding]:
    """What the living workers are, beside what this command reads as its settings."""
    if not living:
        yield _SAY.red(
            _NAME, _ASKED, f"none in the last {stats.LOST_AFTER_S:.0f} s", "mail is taken in, and nothing is sent",
            "start one: `postroom worker` (or look at its service: systemctl status, docker ps, kubectl get pods)",
        )  # fmt: skip
        return
    slots = sum(worker.slots for worker in living)
    yield _SAY.green(_NAME, _ASKED, f"{len(living)} process(es), {slots} slots")
    yield from _same(living, "settings", here.settings, "settings")
    yield from _same(living, "templates", here.templates, "templates")
    yield from _same(living, "version", here.version, "version")
    redirecting = [worker.name for worker in living if worker.redirect_all_to]
    if redirecting:
        yield _SAY.yellow(
            _NAME, "do they send mail to its recipients?", f"{listed(redirecting)}: POSTROOM_REDIRECT_ALL_TO",
            "these workers send all mail to one address", "remove the setting where these workers run; restart them",
        )  # fmt: skip


def _same(living: Sequence[Worker], fact: str, here: str, what: str) -> Iterator[Finding]:
    asked = f"do they have the {what} of this command?"
    known = [worker for worker in living if getattr(worker, fact) is not None]
    others = [
        f"{worker.name} ({getattr(worker, fact) or 'unreadable'})" for worker in known if getattr(worker, fact) != here
    ]
    if others:
        yield _SAY.yellow(
            _NAME, asked, f"here {here or 'unreadable'}; {listed(others, 3)}",
            f"what this command says of {what} need not hold for these workers, and a mail may fare differently there",
            f"restart the workers, or run the doctor with their {what} (their environment, folder and user)",
        )  # fmt: skip
    elif known:
        yield _SAY.green(_NAME, asked, f"all the same ({here or 'unreadable'})")


def of_holds(holds: Sequence[Hold]) -> Iterator[Finding]:
    """What the workers hold back, or cannot reach."""
    asked = "is mail held?"
    for hold in holds[:20]:
        name = f"{hold.scope} {hold.name}"
        waiting = f", {hold.waiting:,} waiting" if hold.waiting else ""
        if hold.by is not None:
            yield _SAY.yellow(
                name, asked, f"{hold.by} holds it since {hold.since:%Y-%m-%d %H:%M} UTC{waiting}", hold.reason,
                f"when it is time: `postroom release` ({hold.scope})",
            )  # fmt: skip
            continue
        reason = reason_of(hold.reason)
        detail = f": {hold.detail}" if hold.detail else ""
        yield _SAY.red(
            name, asked, f"held since {hold.since:%Y-%m-%d %H:%M} UTC ({hold.reason}{detail}){waiting}",
            plain_text(reason.meaning) if reason else f"Microsoft's answer was {hold.reason}",
            (plain_text(reason.next_step) if reason and reason.next_step else "see `postroom holds`")
            + "; the workers try again by themselves, `postroom release` does so at once",
        )  # fmt: skip
    if not holds:
        yield _SAY.green(_NAME, asked, "nothing is held")
