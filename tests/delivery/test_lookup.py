"""A mail in doubt is looked up before it may be sent again."""

from dataclasses import replace

import pytest

from postroom.delivery.context import ClaimLost
from postroom.delivery.lookup import look_up
from postroom.jobs.outcome import Answer, Deferred, Found, NotFound, NotPermitted, StillDraft, Throttled

from .world import IN_DOUBT, NOT_THERE, REJECTED, World, asked


def test_a_mail_in_doubt_is_looked_for_in_both_folders_in_both_ways() -> None:
    world = World(answers=[NOT_THERE] * 4)

    assert look_up(IN_DOUBT, world.context()) == NOT_THERE
    assert [line for line in asked(world) if line != "note"] == [
        "search sentitems by property",
        "search sentitems by message-id",
        "search drafts by property",
        "search drafts by message-id",
    ]
    assert asked(world)[::2] == ["note"] * 4, "each request renews the lease first"


@pytest.mark.parametrize(
    "answer",
    [
        Found(answer=Answer(http_status=200)),
        NotPermitted(answer=Answer(http_status=403)),
        Deferred(reason="look_up_failed", free=True, answer=Answer(http_status=503)),
        Throttled(answer=Answer(http_status=429)),
    ],
)
def test_a_look_up_ends_with_the_first_answer_other_than_not_found(
    answer: Found | NotPermitted | Deferred | Throttled,
) -> None:
    world = World(answers=[NOT_THERE, answer])

    assert look_up(IN_DOUBT, world.context()) == answer


def test_a_look_up_renews_a_rejected_token() -> None:
    world = World(answers=[REJECTED, Found()])

    assert look_up(IN_DOUBT, world.context()) == Found()
    assert "with fresh" in world.diary[-1]


def test_a_look_up_whose_claim_is_lost_asks_nothing() -> None:
    world = World(is_lost=True)

    with pytest.raises(ClaimLost):
        look_up(IN_DOUBT, world.context())
    assert asked(world) == ["note"]


def test_a_stalled_look_up_asks_nothing() -> None:
    world = World()
    context = world.context()
    times = iter([0.0, 31.0])

    found = look_up(IN_DOUBT, replace(context, monotonic=lambda: next(times)))

    assert found == Deferred(reason="stalled", free=True)
    assert asked(world) == ["note"]


@pytest.mark.parametrize("found", [Found(), StillDraft(), NotPermitted(), Deferred(reason="look_up_failed", free=True)])
def test_a_mail_in_doubt_that_has_a_draft_is_looked_up_by_its_draft(
    found: Found | StillDraft | NotPermitted | Deferred,
) -> None:
    world = World(answers=[found])

    assert look_up(IN_DOUBT._replace(drafting=True, draft="d-1"), world.context()) == found
    assert asked(world) == ["note", "ask d-1"]


def test_a_draft_that_is_gone_is_looked_for_in_sent_items() -> None:
    gone = NotFound(draft_gone=True)
    drafted = IN_DOUBT._replace(drafting=True, draft="d-1")

    assert look_up(drafted, World(answers=[gone, NOT_THERE, NOT_THERE]).context()) == gone
    assert look_up(drafted, World(answers=[gone, NOT_THERE, Found()]).context()) == Found()
