"""Times and durations on the command line, however far away."""

from datetime import UTC, datetime

import click
import pytest

from postroom.cli.options import duration_option, json_option, since_option, time_option


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00+23:59", "99999999999d", "9" * 400 + "s"]
)
def test_a_time_that_no_calendar_reaches_is_named(text: str) -> None:
    for read in (time_option, since_option):
        with pytest.raises(click.BadParameter, match="neither an ISO time"):
            read("--at", text)
    if text.endswith(("d", "s")):
        with pytest.raises(click.BadParameter, match="longer than 100 years"):
            duration_option("--timeout", text)


def test_other_times_are_read() -> None:
    assert time_option("--at", "2026-12-24T18:00Z") == datetime(2026, 12, 24, 18, tzinfo=UTC)
    assert time_option("--at", "10min") > datetime.now(UTC)
    assert since_option("--since", None) is None


def test_a_json_text_with_a_name_twice_is_refused_because_one_of_the_two_would_be_lost() -> None:
    with pytest.raises(click.BadParameter, match="'ToRecipients' twice in one object"):
        json_option("--outlook-rest", b'{"Message": {"ToRecipients": [1], "ToRecipients": [2]}}')
    assert json_option("--vars", b'\xef\xbb\xbf{"name": "Ann"}') == json_option("--vars", '{"name": "Ann"}')
