"""Which failed attempts of an outage get a line in the log. Pure: the clock is passed in.

The first attempt is logged, and each whose reason differs from that of the line before. Others are logged at
growing intervals, up to 15 min, with their count. A night without the store is some 40 lines, not thousands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

REPEAT_FIRST_S: Final = 60.0
REPEAT_MAX_S: Final = 900.0
"""First and maximum interval between two lines about the same outage."""

_VARYING = re.compile(r"\S*\d\S*")
"""Words with a digit (keys, seconds, ports): they vary between attempts and do not make a new reason."""


class OutageLog:
    """Chooses the log lines about one peer. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reason: str | None = None
        self._tries = 0
        self._since = 0.0
        self._next = 0.0
        self._interval_s = REPEAT_FIRST_S

    def failed(self, reason: str) -> str | None:
        """Count a failed attempt; return the end of its line (`` (12 tries in 3 min)``), None for no line."""
        now = self._clock()
        if self._reason is None:
            self._since = now
        self._tries += 1
        same = _VARYING.sub("", reason)
        if same != self._reason:
            self._reason = same
            self._interval_s = REPEAT_FIRST_S
        elif now < self._next:
            return None
        else:
            self._interval_s = min(2 * self._interval_s, REPEAT_MAX_S)
        self._next = now + self._interval_s
        return "" if self._tries == 1 else f" ({self._tries} tries in {_lasted(now - self._since)})"

    def over(self) -> None:
        """Note that the outage has ended: the next failed attempt begins another."""
        self._reason, self._tries = None, 0


def _lasted(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
