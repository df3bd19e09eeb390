"""Redis: whether it answers, may be used, keeps what it confirms, has room, and tells the time."""

from collections.abc import Iterator

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings, Unreachable, listed
from postroom.errors import PostroomError
from postroom.store.durability import weaknesses_of
from postroom.store.server_check import redis_faults
from postroom.store.server_facts import ServerFacts, server_facts

_SAY = Reporter(Group.REDIS)
_NAME = "redis"
FULL, NEARLY_FULL = 0.95, 0.8  # parts of maxmemory
CLOCK_OFF_S = 5.0


def check(around: Surroundings) -> Iterator[Finding]:
    connection = around.redis
    asked = "does it answer?"
    if isinstance(connection, Unreachable):
        yield unreachable(connection.why)
        return
    try:
        facts = server_facts(connection, around.settings.redis_url)
        faults = redis_faults(connection)
    except PostroomError as error:
        yield _SAY.red(
            _NAME, asked, str(error), "nothing is taken in and nothing is sent until it takes writes again",
            "look at the server (redis-cli INFO), then `postroom doctor --only redis`",
        )  # fmt: skip
        return
    version = f"version {facts.version}" if facts.version else "it does not tell its version"
    yield _SAY.green(_NAME, asked, f"{version}, in {facts.answered_in_s * 1000:.1f} ms")
    yield from of_rights(faults)
    yield from of_facts(facts)


def unreachable(why: str) -> Finding:
    """Redis did not answer, or let nobody in."""
    if "name or password" in why:
        cause = "Redis answers, and refuses this login"
        following = "compare name and password in POSTROOM_REDIS_URL with the server's (redis-cli ACL LIST)"
    else:
        cause = "nothing is taken in and nothing is sent without Redis; what it confirmed is on its disk"
        following = "start Redis, or correct POSTROOM_REDIS_URL; then `postroom doctor --only redis`"
    return _SAY.red(_NAME, "does it answer?", why, cause, following)


def of_rights(faults: list[str]) -> Iterator[Finding]:
    """What its version or its user's rights make impossible."""
    asked = "may its user do all that Postroom needs?"
    for fault in faults:
        yield _SAY.red(
            _NAME, asked, fault, "workers and doors do not start with this Redis",
            "give the user the rights of docs/operations.md, \"The user of Redis\" (redis-cli ACL SETUSER …)",
        )  # fmt: skip
    if not faults:
        yield _SAY.green(_NAME, asked, "each command, function and channel is allowed")


def of_facts(facts: ServerFacts) -> Iterator[Finding]:
    """What the server's own words mean."""
    yield from _durability(facts)
    yield from _memory(facts)
    yield from _clock(facts)
    if facts.role == "slave":
        yield _SAY.red(
            _NAME, "is it the primary?", "it is a replica", "a replica takes no writes",
            "set POSTROOM_REDIS_URL to the primary, or to the Sentinels (redis+sentinel://)",
        )  # fmt: skip
    if facts.sentinels and facts.sentinels[1] < facts.sentinels[0]:
        given, answering = facts.sentinels
        yield _SAY.yellow(
            _NAME, "do the Sentinels answer?", f"{answering} of {given} answer", "a failover needs most of them",
            "look at the Sentinels in POSTROOM_REDIS_URL",
        )  # fmt: skip
    if facts.others:
        yield _SAY.yellow(
            _NAME, "has it a database of its own?", f"there are keys of others: {listed(facts.others)}…",
            "others share its memory, and their FLUSHDB deletes waiting mail",
            "give Postroom a database of its own: another number at the end of POSTROOM_REDIS_URL, or another server",
        )  # fmt: skip


def _durability(facts: ServerFacts) -> Iterator[Finding]:
    asked = "does it keep what it confirmed?"
    if not facts.settings:
        yield _SAY.green(
            _NAME, asked, "it does not tell its settings",
            next="whoever runs it should see to appendonly yes, appendfsync always, maxmemory-policy noeviction",
        )  # fmt: skip
        return
    weak = weaknesses_of(facts.settings)
    for one in weak:
        seen, _, wanted = one.partition(": ")
        cause = seen.partition(", so ")[2]
        yield _SAY.yellow(
            f"{_NAME} {seen.split()[2]}", asked, seen.partition(", so ")[0], cause,
            f"{wanted} (redis-cli CONFIG SET, and in its configuration file); docs/operations.md, \"Redis\"",
        )  # fmt: skip
    if not weak:
        yield _SAY.green(_NAME, asked, ", ".join(f"{name} {value}" for name, value in facts.settings.items()))


def _memory(facts: ServerFacts) -> Iterator[Finding]:
    asked = "has it room?"
    if facts.used_memory is None:
        return
    if facts.maxmemory is None:
        yield _SAY.green(_NAME, asked, f"{_megabytes(facts.used_memory)} used; it has no bound of its own")
        return
    part = facts.used_memory / facts.maxmemory
    seen = f"{_megabytes(facts.used_memory)} of {_megabytes(facts.maxmemory)} used ({part:.0%})"
    following = "raise maxmemory, or shorten POSTROOM_RETENTION_ACCEPTED and POSTROOM_RETENTION_DEAD"
    if part >= FULL:
        yield _SAY.red(_NAME, asked, seen, "a full Redis takes no new mail in; what waits is still sent", following)
    elif part >= NEARLY_FULL:
        yield _SAY.yellow(_NAME, asked, seen, "once it is full, no new mail is taken in", following)
    else:
        yield _SAY.green(_NAME, asked, seen)


def _clock(facts: ServerFacts) -> Iterator[Finding]:
    asked = "is its clock that of this machine?"
    if facts.ahead_s is None:
        return
    if abs(facts.ahead_s) >= CLOCK_OFF_S:
        where = "ahead" if facts.ahead_s > 0 else "behind"
        yield _SAY.yellow(
            _NAME, asked, f"it is {abs(facts.ahead_s):.0f} s {where}",
            "schedules, pauses and leases go by Redis' clock, tokens and certificates by this machine's",
            "synchronise both clocks (chronyc tracking, timedatectl)",
        )  # fmt: skip
    else:
        yield _SAY.green(_NAME, asked, f"they differ by {abs(facts.ahead_s):.1f} s")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
