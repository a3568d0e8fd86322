"""A clock before this version was made is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from async_motion.core.wall_clock import EARLIEST, clock_problem


@pytest.mark.parametrize("now", [EARLIEST, datetime(2031, 5, 1, tzinfo=timezone(timedelta(hours=9)))])
def test_a_time_that_can_be_is_no_problem(now: datetime) -> None:
    assert clock_problem(now) is None


def test_a_board_without_a_battery_is_told_of() -> None:
    assert "1970-01-01" in (clock_problem(datetime(1970, 1, 1, 0, 0, 9, tzinfo=UTC)) or "")
    assert clock_problem(EARLIEST - timedelta(seconds=1)) is not None
