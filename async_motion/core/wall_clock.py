"""A wall clock that cannot be right: a board without a battery starts in 1970, until NTP has set it.

Frames are stored all the same, under the wrong day.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""A time before this version was made."""


def clock_problem(now: datetime) -> str | None:
    """Return why `now` (aware) cannot be the time, in one line for an operator; None if it can."""
    if now >= EARLIEST:
        return None
    day = now.astimezone(UTC).date()
    return f"this machine's clock says {day}: events are stored under wrong days until it is set (NTP)"
