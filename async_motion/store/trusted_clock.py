"""Decide whether the wall clock can be trusted for expiry. Pure: both clocks are passed as values.

A clock that leaps a year ahead would make every event too old. A leap is an advance of the wall clock of more
than `LEAP_S` beyond the monotonic clock's; at the start, of more than `ABSENCE_S` beyond the noted time.
After a leap the clock is not trusted until it has run for `HOLD_S` without another. If it is set back before
that, nothing was removed. If the leap was right (a machine without a clock battery, or one that was off for
a month), old events are only removed half a day later.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

LEAP_S: Final = 3600.0
ABSENCE_S: Final = 86400.0
"""How far the clock may be ahead, at the start, of the time noted in the last run."""
HOLD_S: Final = 12 * 3600.0


class TrustedClock:
    """Detects leaps of the wall clock. `noted` is the newest trusted time (aware), None if unknown."""

    def __init__(self, noted: datetime | None) -> None:
        self._before = noted
        self._at: float | None = None
        self._held_from: float | None = None

    def trusts(self, now: datetime, monotonic: float) -> bool:
        """Note both clocks; return whether `now` (aware) is trusted at `monotonic` (seconds)."""
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
