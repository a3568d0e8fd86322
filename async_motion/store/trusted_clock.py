"""Whether the wall clock may decide what is old. Pure: both clocks come as values.

A clock that leaps a year ahead would make every event too old. A leap is an advance of the wall clock that
the monotonic clock does not share; at the start, an advance over what was noted before. After a leap the
clock is not trusted until it has run for `HOLD_S` without another. Where it is set back meanwhile, nothing
was removed; where it was right (a machine without a battery, or one that was off for a month), what is too
old goes half a day later.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

LEAP_S: Final = 3600.0
ABSENCE_S: Final = 86400.0
"""How far the clock may be ahead of what was noted when the service was last running."""
HOLD_S: Final = 12 * 3600.0


class TrustedClock:
    """`noted` is the newest time (aware) that was known to be right, None where nothing is known."""

    def __init__(self, noted: datetime | None) -> None:
        self._before = noted
        self._at: float | None = None
        self._held_from: float | None = None

    def trusts(self, now: datetime, monotonic: float) -> bool:
        """Return whether the wall clock `now` (aware) can be trusted at `monotonic` (seconds)."""
        if self._before is not None:
            passed_s = ABSENCE_S if self._at is None else monotonic - self._at + LEAP_S
            ahead_s = (now - self._before).total_seconds()
            if ahead_s > passed_s:
                self._held_from = monotonic
            elif self._at is not None and ahead_s < -LEAP_S:
                self._held_from = None  # it was corrected
        self._before, self._at = now, monotonic
        if self._held_from is not None and monotonic - self._held_from >= HOLD_S:
            self._held_from = None
        return self._held_from is None
