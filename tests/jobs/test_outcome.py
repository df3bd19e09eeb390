"""The names that outcomes have in records never change."""

from typing import get_args

from postroom.jobs.job import LOOKED_UP
from postroom.jobs.outcome import CleanedUp, LookupResult, Outcome


def test_outcomes_have_the_same_names_in_records_for_ever() -> None:
    words = {one.recorded_as for one in (*get_args(Outcome), *get_args(LookupResult), CleanedUp)}

    assert words == {
        *("accepted", "throttled", "deferred", "held", "refused", "unknown"),
        *LOOKED_UP,
        "tidied",
    }
