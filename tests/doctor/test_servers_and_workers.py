"""What Redis' own words mean, and what the workers'."""

from dataclasses import replace

import pytest

from postroom.doctor.finding import Finding, Group, Level, Reporter, changes, worst
from postroom.doctor.redis_server import of_facts, of_rights, unreachable
from postroom.doctor.workers import of_holds, of_workers
from postroom.jobs.job import Hold
from postroom.jobs.workers import WorkerFacts
from postroom.operations.stats import Worker
from postroom.store.server_facts import ServerFacts

from .test_propagation import NOW

GOOD = ServerFacts(
    answered_in_s=0.001, version="8.0.0", role="master", used_memory=10**6, maxmemory=10**9,
    settings={"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}, ahead_s=0.1,
)  # fmt: skip
HERE = WorkerFacts(version="1", settings="aa", templates="bb")
WORKER = Worker(name="host:1", slots=8, silent_s=1, version="1", settings="aa", templates="bb")


def test_a_server_in_order_is_green() -> None:
    found = [*of_facts(GOOD), *of_rights([])]
    assert {one.level for one in found} == {Level.GREEN}


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (replace(GOOD, settings={"appendonly": "no"}), Level.YELLOW, "all mail since its last snapshot"),
        (replace(GOOD, settings={"appendonly": "yes", "appendfsync": "everysec"}), Level.YELLOW, "a power cut"),
        (replace(GOOD, settings={"maxmemory-policy": "allkeys-lru"}), Level.YELLOW, "forgets mail"),
        (replace(GOOD, used_memory=85 * 10**7), Level.YELLOW, "no new mail is taken in"),
        (replace(GOOD, used_memory=96 * 10**7), Level.RED, "takes no new mail in"),
        (replace(GOOD, ahead_s=-7.0), Level.YELLOW, "leases go by Redis' clock"),
        (replace(GOOD, role="slave"), Level.RED, "takes no writes"),
        (replace(GOOD, sentinels=(3, 1)), Level.YELLOW, "a failover needs most"),
        (replace(GOOD, others=("cart", "session")), Level.YELLOW, "FLUSHDB"),
    ],
)
def test_a_server_with_a_weakness_is_told_with_what_to_do(facts: ServerFacts, level: Level, words: str) -> None:
    (bad,) = (one for one in of_facts(facts) if one.level is not Level.GREEN)
    assert (bad.level, words in bad.meaning, bool(bad.next)) == (level, True, True)


def test_a_server_that_tells_nothing_is_not_accused() -> None:
    assert worst(of_facts(ServerFacts(answered_in_s=0.1))) is Level.GREEN


def test_a_wrong_password_and_a_server_that_is_away_have_cures_of_their_own() -> None:
    assert "ACL LIST" in unreachable("Redis refused the name or password of POSTROOM_REDIS_URL").next
    assert "start Redis" in unreachable("Redis did not answer").next


@pytest.mark.parametrize(
    ("living", "level", "words"),
    [
        ([], Level.RED, "nothing is sent"),
        ([replace(WORKER, settings="other")], Level.YELLOW, "of settings"),
        ([replace(WORKER, templates="")], Level.YELLOW, "of templates"),
        ([replace(WORKER, version="0.9")], Level.YELLOW, "of version"),
        ([replace(WORKER, redirect_all_to="me@contoso.com")], Level.YELLOW, "one address"),
    ],
)
def test_workers_that_are_away_or_differ_are_told(living: list[Worker], level: Level, words: str) -> None:
    (bad,) = (one for one in of_workers(living, HERE) if one.level is not Level.GREEN)
    assert (bad.level, words in bad.meaning) == (level, True)


def test_workers_of_an_old_version_that_say_nothing_are_no_difference() -> None:
    old = replace(WORKER, version=None, settings=None, templates=None)
    assert worst(of_workers([WORKER, old], HERE)) is Level.GREEN


def test_a_hold_of_a_fault_has_the_words_of_its_reason_and_a_person_s_hold_those_of_the_person() -> None:
    fault = Hold(scope="app", name="default", reason="expired_client_secret", since=NOW, waiting=12)
    person = Hold(scope="lane", name="hr@contoso.com", reason="inventory", since=NOW, by="ops@host")
    red, yellow = of_holds([fault, person])

    assert (red.level, "secret has expired" in red.meaning, "set a new secret" in red.next) == (Level.RED, True, True)
    assert "12 waiting" in red.seen
    assert (yellow.level, yellow.meaning, "ops@host" in yellow.seen) == (Level.YELLOW, "inventory", True)


def finding(name: str, level: Level) -> Finding:
    return Finding(group=Group.REDIS, name=name, level=level, asked="?", seen="s")


def test_the_worst_decides_and_what_was_skipped_does_not() -> None:
    green, yellow, red, skipped = (
        finding("x", level) for level in (Level.GREEN, Level.YELLOW, Level.RED, Level.SKIPPED)
    )
    assert [worst(some) for some in ([], [skipped], [green, skipped], [yellow, green], [red, yellow])] == [
        Level.GREEN, Level.GREEN, Level.GREEN, Level.YELLOW, Level.RED,
    ]  # fmt: skip


def test_a_change_is_another_level_or_a_finding_that_is_new() -> None:
    before = [finding("a", Level.RED), finding("b", Level.GREEN)]
    after = [finding("a", Level.GREEN), finding("b", Level.GREEN), finding("c", Level.YELLOW)]
    assert [one.name for one in changes(before, after)] == ["a", "c"]


def test_a_reporter_names_its_group() -> None:
    assert Reporter(Group.DOORS).skipped("smtp", "is it?", "no").group is Group.DOORS
