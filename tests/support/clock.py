"""The clock of the tests: time that passes when a test says so."""

from __future__ import annotations

from datetime import UTC, datetime

BEGIN = datetime(2026, 11, 22, 7, 31, 12, 345000, UTC)
"""When the wall clock of every test begins."""


class Clock:
    """Seconds that a test moves by hand. The wall clock goes with them.

    The clock itself, called, is the monotonic one: give it where a `clock` is asked for, and its methods
    where Unix time (`wall`) or a datetime (`now`) is.
    """

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """Return the monotonic clock, in seconds."""
        return self.seconds

    def wall(self) -> float:
        """Return Unix time."""
        return BEGIN.timestamp() + self.seconds

    def now(self) -> datetime:
        """Return the wall clock as an aware datetime."""
        return datetime.fromtimestamp(self.wall(), UTC)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
