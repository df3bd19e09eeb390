"""The words that records have for outcomes."""

from typing import get_args

from postroom.jobs.job import LOOKED_UP
from postroom.jobs.outcome import CleanedUp, LookupResult, Outcome


def test_records_keep_their_words_for_outcomes() -> None:
    words = {one.recorded_as for one in (*get_args(Outcome), *get_args(LookupResult), CleanedUp)}

    assert words == {
        *("accepted", "throttled", "deferred", "held", "refused", "unknown"),
        *LOOKED_UP,
        "tidied",
    }
