"""A camera's PTS, tied to our clocks.

A stream's PTS say when each frame was captured, on the camera's own clock with an arbitrary origin. We know
when each packet arrived. `arrival - PTS` is the true offset plus the network delay. The delay is never
negative, so the offset follows the smallest sample:

- It falls at once, and rises by at most `DRIFT` seconds a second: more than any crystal drifts, far less than
  network jitter. So the frames of a burst after a stall get the times at which they were captured, not those
  at which they arrived.
- While the smallest sample of every second is higher than the one before, the camera's clock runs slow. This
  is a wrong rate, not drift: the offset may rise twice as fast as the samples.
- While all samples of `RECOVERY_S` are clearly higher than the offset, the offset was wrong: it rises too.

PTS that jump ahead of their arrival by `LEAP_S`, run back by `BACK_S`, or are `DELAY_S` late begin a new
*era* with its own offset: a camera that set its clock, a looping file, one wrong packet. When PTS fit the
previous era again, that era continues. A frame whose PTS stand still gets its arrival time.

Two invariants hold for any PTS. No frame was captured after its packet arrived. All code behind this module
uses our monotonic time only, so that no other module has to handle a new era.

A camera's stamps never run backwards, not even over reconnects. Only when the machine's wall clock is set
back by more than `STEP_S` do the labels (not `monotonic`) follow it; otherwise they would stand still until
the old time comes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

DRIFT = 0.001
BACK_S = 1.0
LEAP_S = 2.0
DELAY_S = 10.0
RESUME_S = 3.0
"""PTS belong to the previous era if their sample exceeds its offset by at most this."""

SLOPE_WINDOWS = 4
"""Number of one-second minima that distinguish a slow clock from jitter."""
MIN_SLOPE = 0.02
RECOVERY_S = 10
RECOVERY_RATE = 0.1
CLEARLY_S = 0.3
STILL_S = 1.0
"""PTS stand still if they have not advanced for this long while packets arrive."""

STEP_S = 5.0
TICK_S = 1e-3
HISTORY = 1024
"""Number of packets whose arrival is remembered: more than a decoder holds back."""


class Stamp(NamedTuple):
    """The two times of one frame."""

    captured_at: datetime
    monotonic: float


@dataclass(slots=True)
class Floor:
    """A camera's latest stamp, in seconds on each clock; passed on from connection to connection."""

    monotonic: float = float("-inf")
    wall: float = float("-inf")


@dataclass(slots=True, eq=False)
class _Era:
    """A stretch of PTS with one origin."""

    offset: float
    newest: float
    """Its highest PTS."""


class PtsClock:
    """Converts PTS (seconds) to stamps. One for each connection; not thread-safe.

    For a live stream, call `arrived` for each packet, then `time_of`. For a file, which is paced by us, call
    `anchor`, then `due`. `stamp` turns either result into the frame's two times.
    """

    def __init__(self, *, monotonic: Callable[[], float], wall: Callable[[], float], floor: Floor) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._floor = floor
        self._era: _Era | None = None
        self._before: _Era | None = None
        self._seen = 0.0
        self._advanced_at = 0.0
        self._minima: deque[float] = deque(maxlen=RECOVERY_S)
        """The smallest sample of each second of this era, the newest still growing."""
        self._second = float("-inf")
        self._arrivals: dict[float, tuple[_Era, float]] = {}

    @property
    def floor(self) -> Floor:
        """The latest stamp given so far."""
        return self._floor

    def arrived(self, pts: float) -> None:
        """Update the offset from the PTS of a packet that has just arrived."""
        now = self._monotonic()
        sample = now - pts
        era = self._era
        if era is None or self._is_new_era(era, pts, sample, now):
            era = self._enter_era(pts, sample, now)
        if pts > era.newest:
            era.newest, self._advanced_at = pts, now
        if now - self._advanced_at > STILL_S:
            era.offset = sample
        else:
            self._note(sample, now)
            rise = self._rate() * max(0.0, now - self._seen)
            era.offset = min(sample, era.offset + rise)
        self._seen = now
        self._arrivals.pop(pts, None)
        self._arrivals[pts] = (era, now)
        if len(self._arrivals) > HISTORY:
            del self._arrivals[next(iter(self._arrivals))]

    def time_of(self, pts: float) -> float:
        """Return the monotonic time at which the frame of this PTS was captured, never after its arrival.

        Raises ValueError before the first PTS.
        """
        if self._era is None:
            raise ValueError("this clock has seen no PTS yet")
        era, arrived = self._arrivals.get(pts) or (self._era, self._monotonic())
        return min(era.offset + pts, arrived)

    def anchor(self, pts: float) -> None:
        """Tie a PTS to the present moment: for files, which are paced by us."""
        self._era = _Era(self._monotonic() - pts, pts)

    def due(self, pts: float) -> float:
        """Return the monotonic time of a PTS, also in the future. Raises ValueError before the first PTS."""
        if self._era is None:
            raise ValueError("this clock has seen no PTS yet")
        return self._era.offset + pts

    def stamp(self, at: float) -> Stamp:
        """Return the two times of a frame captured at `at` (monotonic), moved to follow the stamp before."""
        floor = self._floor
        at = max(at, floor.monotonic + TICK_S)
        wall = at + (self._wall() - self._monotonic())
        if floor.wall - STEP_S < wall <= floor.wall:
            wall = floor.wall + TICK_S
        floor.monotonic, floor.wall = at, wall
        return Stamp(datetime.fromtimestamp(wall, UTC), at)

    def _is_new_era(self, era: _Era, pts: float, sample: float, now: float) -> bool:
        ahead = (pts - era.newest) - (now - self._seen)
        leaps = ahead > LEAP_S and sample < era.offset - LEAP_S
        return leaps or pts < era.newest - BACK_S or sample > era.offset + DELAY_S

    def _enter_era(self, pts: float, sample: float, now: float) -> _Era:
        """Enter the previous era if the PTS fit it, else a new one; return it."""
        past, self._before = self._before, self._era
        fits = past is not None and -CLEARLY_S <= sample - past.offset <= RESUME_S
        self._era = era = past if fits and past is not None else _Era(sample, pts)
        self._minima.clear()
        self._second = float("-inf")
        self._advanced_at = self._seen = now
        return era

    def _note(self, sample: float, now: float) -> None:
        """Include a sample in the minimum of its second."""
        if now - self._second >= 1.0:
            self._second = now
            self._minima.append(sample)
        else:
            self._minima[-1] = min(self._minima[-1], sample)

    def _rate(self) -> float:
        """Return how fast the offset may rise, in seconds a second."""
        era = self._era
        whole = list(self._minima)[:-1]  # the newest second is not over
        if era is None or len(whole) < SLOPE_WINDOWS:
            return DRIFT
        recent = whole[-SLOPE_WINDOWS:]
        slope = min(after - before for before, after in pairwise(recent))
        if slope > MIN_SLOPE:
            return DRIFT + 2.0 * slope
        lasting = len(whole) == RECOVERY_S - 1 and min(whole) > era.offset + CLEARLY_S
        return RECOVERY_RATE if lasting else DRIFT
