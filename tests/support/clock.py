"""The clock of the tests: time passes only when a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime

BEGIN = datetime(2026, 11, 22, 7, 31, 12, 345000, UTC)
"""The initial wall clock time of every test."""


class Clock:
    """A clock that a test moves by hand: monotonic and wall clock together.

    Calling the object returns the monotonic time in seconds: pass it as a `clock`. Pass `wall` for Unix time,
    `now` for a datetime. `ahead_s` is how far the wall clock was set ahead.
    """

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds
        self.ahead_s = 0.0

    def __call__(self) -> float:
        """Return the monotonic time, in seconds."""
        return self.seconds

    def wall(self) -> float:
        """Return Unix time."""
        return BEGIN.timestamp() + self.seconds + self.ahead_s

    def now(self) -> datetime:
        """Return the wall clock as an aware datetime."""
        return datetime.fromtimestamp(self.wall(), UTC)

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.seconds += seconds

    def turn_to(self, at: datetime) -> None:
        """Advance the clock to the moment `at`."""
        self.seconds += (at - self.now()).total_seconds()
