"""Times as users write them, in a zone with daylight saving time (Europe/Berlin)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from async_motion.cli.when import hours_of, local, moment, whole_day
from async_motion.errors import UsageError
from tests.support.zone import local_zone

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday, 13:00 in Berlin


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2026-11-25T10:00Z"),
        ("1h30min", "2026-11-25T10:30Z"),
        ("7d", "2026-11-18T12:00Z"),
        ("today", "2026-11-24T23:00Z"),
        ("Yesterday", "2026-11-23T23:00Z"),
        ("monday", "2026-11-22T23:00Z"),
        ("wednesday", "2026-11-17T23:00Z"),
        ("2026-07-01", "2026-06-30T22:00Z"),
        ("2026-07-01 07:30", "2026-07-01T05:30Z"),
        ("2026-07-01T07:30:15.5", "2026-07-01T05:30:15.5Z"),
        ("2026-07-01T07:30Z", "2026-07-01T07:30Z"),
        ("2026-07-01T07:30-05:00", "2026-07-01T12:30Z"),
        ("07:30", "2026-11-25T06:30Z"),
        ("7:30", "2026-11-25T06:30Z"),
        ("yesterday 07:30", "2026-11-24T06:30Z"),
        ("monday 07:30:01", "2026-11-23T06:30:01Z"),
    ],
)
def test_a_moment(text: str, expected: str) -> None:
    assert moment(text, NOW, "--since") == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026-13-01", "2026-11-31 07:00", "25:00", "7h ago", "2x", "next 07:30", "99999999999h"],
)
def test_an_invalid_time_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--since: .*expected a time such as"):
        moment(text, NOW, "--since")


def test_a_day_as_an_end_is_included() -> None:
    assert moment("yesterday", NOW, "--to", end=True) == datetime(2026, 11, 24, 23, tzinfo=UTC)
    assert moment("07:30", NOW, "--to", end=True) == datetime(2026, 11, 25, 6, 30, tzinfo=UTC)


def test_a_day_is_as_long_as_the_clock_says() -> None:
    spring = whole_day("2026-03-29", NOW, "--on")
    autumn = whole_day("2026-10-25", NOW, "--on")
    assert spring == (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    assert autumn == (datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC))
    assert [len(hours_of(*day)) - 1 for day in (spring, autumn, whole_day("today", NOW, "--on"))] == [
        23,
        25,
        24,
    ]
    with pytest.raises(UsageError, match=r"--on: 2h: expected a day"):
        whole_day("2h", NOW, "--on")
    for day in ("0001-01-01", "9999-12-31"):
        with pytest.raises(UsageError, match="expected a day"):
            whole_day(day, NOW, "--on")


def test_an_hour_that_comes_twice_is_taken_whole() -> None:
    """02:00 to 02:59 on the day when the clock goes back covers both passes of the hour."""
    first = moment("2026-10-25 02:00", NOW, "--from")
    last = moment("2026-10-25 02:59", NOW, "--to", end=True)
    assert last - first == timedelta(hours=1, minutes=59)
    assert local(first) == "2026-10-25 02:00:00+0200"
    assert local(last) == "2026-10-25 02:59:00+0100"


def test_an_hour_that_never_comes_does_not_end_in_an_error() -> None:
    at = moment("2026-03-29 02:30", NOW, "--from")
    assert at - datetime(2026, 3, 29, 1, tzinfo=UTC) in (timedelta(minutes=-30), timedelta(minutes=30))
