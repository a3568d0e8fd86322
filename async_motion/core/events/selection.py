"""Which frames of an event are kept: `all`, `first`, `best` or `every`, and at most `max_frames`.

Frames with motion are kept, preceded by the pre-roll where the policy keeps more than one still:

    all      every frame with motion, after the whole pre-roll
    every    the first frame with motion in each interval; intervals are counted from the opening frame in
             both directions, so that the pre-roll has the same rate
    first    the opening frame: the first one with motion
    best     the frame with the highest score, known only at the end: the best so far is held

*The cap.* An event that would exceed `max_frames` is thinned, not cut short. Most important is its opening,
then its best frame, then even coverage. So the stride doubles each time half of the remaining places is used:
half of the places at the full rate, a quarter at half the rate, and so on. Once thinned, a frame that scores
`PEAK_GAIN` times all kept before is kept out of turn, and the last place is reserved for such a frame. The
pre-roll takes at most a quarter of the places, with its newest frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

from async_motion.core.options import KEEP_EVERY_S, MAX_FRAMES

PEAK_GAIN = 1.25
"""How much better a frame must score to be kept out of turn. Scores span less than four decades, so there are
at most about forty such steps: a slowly growing score does not use up the places."""

_ROUNDING = 1e-6
"""A frame early by this share of an interval is on time: times are sums of floats."""


class Keep(StrEnum):
    """What an event keeps."""

    ALL = "all"
    FIRST = "first"
    BEST = "best"
    EVERY = "every"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """What an event keeps. `every_s` is the interval of `every`, in seconds. Raises ValueError."""

    keep: Keep = Keep.EVERY
    every_s: float = KEEP_EVERY_S
    max_frames: int = MAX_FRAMES

    def __post_init__(self) -> None:
        if self.keep is Keep.EVERY and not self.every_s > 0:
            raise ValueError("frames: every: expected a duration above 0")
        if self.max_frames < 1:
            raise ValueError("max_frames: expected 1 or more")


class Choice(Enum):
    """What to do with one frame."""

    SKIP = "skip"
    KEEP = "keep"
    HOLD = "hold"
    """Hold it, replacing the one held before; the one held when the event ends is kept."""


class Selection:
    """The selection for one event, whose first frame with motion came at `opening` (monotonic seconds).

    Call `pre_roll` once, then `choose` for each frame from the opening frame on, in order.
    """

    def __init__(self, settings: PolicySettings, opening: float) -> None:
        self._keep = settings.keep
        self._every_s = settings.every_s
        self._places = settings.max_frames
        self._left = settings.max_frames
        self._opening = opening
        self._best = -1.0
        """The highest score among the frames kept or held; -1 before the first."""
        self._cell = -1
        """The last interval from which a frame was kept or skipped."""
        self._passed = 0
        """Due frames skipped since the last one kept."""

    def pre_roll(self, times: Sequence[float]) -> list[int]:
        """Return the indices in `times` (monotonic, ascending, before the opening) of the frames to keep."""
        if self._keep in (Keep.FIRST, Keep.BEST):
            return []
        chosen = list(range(len(times)))
        if self._keep is Keep.EVERY:
            cells = [self._cell_of(at) for at in times]
            chosen = [i for i in chosen if i == 0 or cells[i] != cells[i - 1]]
        max_kept = self._places // 4
        chosen = chosen[-max_kept:] if max_kept else []
        self._left -= len(chosen)
        return chosen

    def choose(self, monotonic: float, score: float, *, motion: bool) -> Choice:
        """Decide on the next frame of the event."""
        if not motion:
            return Choice.SKIP
        if self._keep is Keep.BEST:
            if score <= self._best:
                return Choice.SKIP
            self._best = score
            return Choice.HOLD
        if self._best < 0:
            return self._take(monotonic, score)
        if self._keep is Keep.FIRST or self._left == 0:
            return Choice.SKIP
        stride = self._stride()
        if stride > 1 and score >= self._best * PEAK_GAIN:
            return self._take(monotonic, score)
        if self._left == 1 or not self._is_due(monotonic):
            return Choice.SKIP
        self._passed += 1
        return self._take(monotonic, score) if self._passed >= stride else Choice.SKIP

    def _take(self, monotonic: float, score: float) -> Choice:
        self._left -= 1
        self._passed = 0
        self._cell = self._cell_of(monotonic)
        self._best = max(self._best, score, 0.0)
        return Choice.KEEP

    def _stride(self) -> int:
        """Return the stride: 1, doubled each time half of the remaining places is used."""
        return 1 << int(math.log2(self._places / self._left))

    def _is_due(self, monotonic: float) -> bool:
        """Return whether this frame is due, and record its interval."""
        if self._keep is Keep.ALL:
            return True
        cell = self._cell_of(monotonic)
        if cell <= self._cell:
            return False
        self._cell = cell
        return True

    def _cell_of(self, monotonic: float) -> int:
        if self._keep is not Keep.EVERY:
            return 0
        return math.floor((monotonic - self._opening) / self._every_s + _ROUNDING)
