"""A camera's pts clock, tied to ours.

A stream says when each picture was taken in its own PTS, which starts anywhere and runs a little fast
or slow. What we know is when a packet reached us: `arrival - pts` is the true offset plus the delay on the
way, and the delay is never negative. So the offset follows the smallest sample: it falls at once, and rises
by at most `DRIFT` seconds a second, which is more than any crystal is off and far less than the network
jitters. A burst after a stall is thus labelled with the times at which it was filmed, not at which it came.

PTS that runs back by more than `BACK_S` (B frames reorder by less), or an offset that is `JUMP_S` too
small, is a new beginning (a camera that set its clock, a file that looped in the server): the clock ties
itself again.

Stamps never run backwards for a camera, not even over reconnects; only when a person sets the machine's
wall clock back by more than `STEP_S` do the labels (not `monotonic`) follow it, as they would otherwise stand
still until the old time comes again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

DRIFT = 0.001
BACK_S = 1.0
JUMP_S = 10.0
STEP_S = 5.0
TICK_S = 1e-3


class Stamp(NamedTuple):
    """The two times of one picture."""

    captured_at: datetime
    monotonic: float


@dataclass(slots=True)
class Floor:
    """The latest stamp that a camera has given; shared by all of its connections, one after the other."""

    monotonic: float = float("-inf")
    wall: float = float("-inf")


class PtsClock:
    """Turns PTS into stamps. One for each connection; not safe for two threads."""

    def __init__(self, *, monotonic: Callable[[], float], wall: Callable[[], float], floor: Floor) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._floor = floor
        self._offset: float | None = None
        self._pts = float("-inf")
        self._seen = 0.0

    @property
    def floor(self) -> Floor:
        """The latest stamp given so far."""
        return self._floor

    def arrived(self, pts: float) -> bool:
        """Learn from a packet of PTS `pts` that has just come. Return whether PTS moved on."""
        now = self._monotonic()
        sample = now - pts
        if self._offset is None or sample < self._offset:
            self._offset = sample
        elif sample > self._offset + JUMP_S or pts < self._pts - BACK_S:
            self._offset, self._pts = sample, float("-inf")
        else:
            self._offset = min(sample, self._offset + DRIFT * max(0.0, now - self._seen))
        self._seen = now
        moved = pts > self._pts
        self._pts = max(pts, self._pts)
        return moved

    def anchor(self, pts: float) -> None:
        """Tie PTS `pts` to this very moment: for files, whose pace is ours."""
        self._offset = self._monotonic() - pts

    def due(self, pts: float) -> float:
        """Return the monotonic time that belongs to `pts`. The clock must have been tied."""
        if self._offset is None:
            raise ValueError("this clock was never tied to a PTS")
        return self._offset + pts

    def stamp(self, pts: float) -> Stamp:
        """Return the two times of a picture of PTS `pts`, later than any before it."""
        floor = self._floor
        at = max(self.due(pts), floor.monotonic + TICK_S)
        wall = at + (self._wall() - self._monotonic())
        if floor.wall - STEP_S < wall <= floor.wall:
            wall = floor.wall + TICK_S
        floor.monotonic, floor.wall = at, wall
        return Stamp(datetime.fromtimestamp(wall, UTC), at)
