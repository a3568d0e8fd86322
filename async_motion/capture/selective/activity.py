"""When an idle camera must be decoded in full: cheap evidence, learned for each camera.

`KeyframeActivity` looks only at keyframes, reduced to a small grid. It compares each with the scene at rest:
the mean of each cell and its usual deviation. A change of the overall brightness is removed first.

`PacketActivity` watches the size of the packets between keyframes. A packet encodes what has changed since
the frame before. While nothing happens, packets at the same place in their GOPs are about equally large. An
encoder with a constant bit rate raises the QP instead, so a packet's *weight* combines size and QP. The
surplus over the usual weight is summed (CUSUM): a few packets that are much heavier are a sign, and so are
many that are slightly heavier, mostly long before the next keyframe. Lighter packets are summed likewise: the
noise that they encoded is hidden by something. A single packet that is far heavier than any before is a sign
by itself: what appears within one frame and stands there costs no second one.

Both are more sensitive than any detector behind them: a false sign costs the decoding of a GOP, a missed one
may cost an event. `DetectorFeedback` returns the detector's verdicts. If it found nothing after a sign, both
learn that such a change is usual here; floors bound how much sensitivity they can lose. An object that has
arrived and stands still becomes part of the scene after a while.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Detection, Luma, Reason

Grid = NDArray[np.float32]

WIDTH, HEIGHT = 128, 72
"""Cells of the grid: a person of 2 % of the frame's width still covers two."""

SAMPLES = 3
"""Samples along each side of a cell."""

MIN_STEP = 4.0
"""Minimum change of a cell, in grey levels: half of the most sensitive detector's threshold."""

STRAY = 4.0
"""A cell has changed when `away > STRAY * scatter`."""

MAX_SCATTER = 10.0
"""Maximum scatter to forgive, in grey levels: `STRAY * MAX_SCATTER` of difference is a sign in any scene."""

CLUSTER = 4
"""Changed cells in a neighbourhood of 3x3 that make a sign."""

LEARN = 0.1
FORGET = 0.02
"""Learning rates of mean and scatter; a scatter falls at the slower one, so that occasional motion stays
usual."""

PARDON = 1.4
"""A difference in which the detector found nothing is usual up to `PARDON` times its strength."""

SETTLED_LOOKS = 8
"""Looks after which a change that stands still belongs to the scene."""

FIRST_LOOKS = 4
"""Looks after which the usual scatter is known."""

SMALL = 48
"""Bytes of overhead in every packet."""

HALVING = 6
"""QP steps that halve the size of a packet."""

MAX_PLACES = 512
"""Maximum number of places in a GOP that are distinguished."""

ALLOWED = 1.0
"""The part of a packet's surplus, in this camera's median deviations, that is not summed."""

MAX_SURPLUS = 4.0
"""Maximum surplus of a single packet in the sum: one alone may be heavy for no reason."""

LONE, MAX_LONE = 8.0, 64.0
"""A single packet this many deviations above the usual is a sign; after false signs, at most `MAX_LONE`."""

PARDON_LONE = 1.25
"""After a false sign, a packet is as usual up to `PARDON_LONE` times the heaviest since."""

SIGN = 12.0
"""The sum from which it is a sign."""

DOUBT, MAX_DOUBT = 1.5, 3.0
"""Each false sign multiplies the limit by `DOUBT`, up to `MAX_DOUBT` in total."""

REGAIN = 0.005
"""The share of that increase that each GOP takes back."""

MIN_DEVIATION = 0.03
"""Minimum median deviation in octaves (log2): 0.03 is 2 %."""

FIRST_WEIGHTS = 50
"""Packets after which the usual deviation is known."""

SEEN_SHARE = 0.01
"""Share of the frame that a moving object covers; it costs about this share of a keyframe's bytes."""

DULL = frozenset({Reason.STILL, Reason.MASKED, Reason.ABOVE_AREA})
"""Verdicts that let an idle camera stay idle."""

USUAL_SPECKS, MIN_SPECKS = 2.0, 0.0005
"""An object that is still too small may come nearer, but noise always leaves some specks. The frame is
interesting if `changed > max(MIN_SPECKS, USUAL_SPECKS * usual)`."""


class DetectorFeedback:
    """The detector's verdicts: reported on the event loop, read by the reader thread."""

    def __init__(self) -> None:
        self.heard = float("-inf")
        """The monotonic time of the newest frame that was judged; it stands still while detection is off."""
        self.latest = float("-inf")
        """The monotonic time of the newest frame that was worth a closer look."""
        self._specks = 0.0

    @property
    def has_reported(self) -> bool:
        """Whether any frame was judged."""
        return self.heard > float("-inf")

    def tell(self, monotonic: float, detection: Detection) -> None:
        """Record the verdict on the frame captured at `monotonic`."""
        self.heard = max(self.heard, monotonic)
        if self._is_interesting(detection):
            self.latest = max(self.latest, monotonic)

    def _is_interesting(self, detection: Detection) -> bool:
        if detection.reason in DULL:
            return False
        if detection.reason is not Reason.BELOW_AREA:
            return True
        more = detection.changed > max(MIN_SPECKS, USUAL_SPECKS * self._specks)
        # Step towards the median: up for each frame with more, down for each with less.
        self._specks += MIN_SPECKS / 10 * (1 if detection.changed > self._specks else -1)
        self._specks = max(self._specks, 0.0)
        return more


class KeyframeActivity:
    """Learns what one camera sees at rest. Pass it each keyframe, or about one frame a second."""

    def __init__(self) -> None:
        self._mean: Grid | None = None
        self._scatter: Grid = np.zeros((HEIGHT, WIDTH), np.float32)
        self._last: Grid = self._scatter
        self._still = np.zeros((HEIGHT, WIDTH), np.uint8)
        self._unexplained: Grid | None = None
        self._shape: tuple[int, ...] = ()
        self._looks = 0

    def look(self, luma: Luma) -> bool:
        """Return whether anything in `luma` (H, W) differs from the scene; learn from what is at rest."""
        grid = _grid(luma)
        if self._mean is None or luma.shape != self._shape:
            self._begin(grid, luma.shape)
            return True
        self._looks += 1
        difference = grid - self._mean
        difference -= float(np.median(difference))
        away = np.abs(difference)
        changed = (away > np.maximum(MIN_STEP, STRAY * self._scatter)).astype(np.uint8)
        crowd = cv2.boxFilter(changed, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        sign = self._looks <= FIRST_LOOKS or bool((crowd >= CLUSTER).any())
        if sign:
            strange: Grid = np.where(changed == 1, away, np.float32(0)).astype(np.float32)
            known = self._unexplained
            self._unexplained = strange if known is None else np.maximum(known, strange)
        self._learn(grid, away, changed == 1)
        return sign

    def forgive(self) -> None:
        """Learn that all signs since the last call are usual: the detector found nothing."""
        if self._unexplained is not None:
            usual = np.minimum(self._unexplained * np.float32(PARDON / STRAY), np.float32(MAX_SCATTER))
            np.maximum(self._scatter, usual, out=self._scatter)
        self._unexplained = None

    def explained(self) -> None:
        """Learn nothing from the signs since the last call: the detector found something."""
        self._unexplained = None

    def _begin(self, grid: Grid, shape: tuple[int, ...]) -> None:
        self._shape, self._looks = shape, 1
        self._mean, self._last = grid.copy(), grid
        self._scatter.fill(MIN_STEP / 2)
        self._still.fill(0)
        self._unexplained = None

    def _learn(self, grid: Grid, away: Grid, changed: NDArray[np.bool_]) -> None:
        assert self._mean is not None
        stands = np.abs(grid - self._last) <= np.maximum(MIN_STEP, STRAY * self._scatter)
        self._still = np.where(changed & stands, self._still + 1, 0).astype(np.uint8)
        self._last = grid
        settled = self._still >= SETTLED_LOOKS
        self._still[settled] = 0
        rate = max(LEARN, 1.0 / self._looks)
        # The mean also follows the light, so that later differences stay small.
        self._mean += np.where(changed, 0, rate * (grid - self._mean))
        self._mean[settled] = grid[settled]
        more = np.where(away > self._scatter, rate, max(FORGET, 1.0 / self._looks))
        self._scatter += np.where(changed, 0, more * (away - self._scatter))


class PacketActivity:
    """Watches the weight of one camera's packets between its keyframes."""

    def __init__(self, packets_a_second: float) -> None:
        self._rate = packets_a_second
        self._usual: list[float | None] = []
        self._seen: list[int] = []
        self._deviation = 0.3
        self._samples = 0
        self._heavier = self._lighter = 0.0
        self._summed = False
        """Whether a sum was a sign since the last verdict."""
        self._doubt = 1.0
        self._lone, self._heaviest = LONE, 0.0
        """Deviations from which one packet is a sign, and those of the heaviest since the last verdict."""
        self._key: float | None = None

    def key(self, size: int, qp: int | None) -> None:
        """Record the size (bytes) and QP of a keyframe's packet, which begins a GOP."""
        weight = _weight(size, qp)
        self._key = weight if self._key is None else self._key + 0.2 * (weight - self._key)
        self._doubt += REGAIN * (1.0 - self._doubt)
        self._lone += REGAIN * (LONE - self._lone)

    @property
    def tell(self) -> bool:
        """Whether an object that covers `SEEN_SHARE` of the frame would be a sign within a second.

        False if noise dominates the packets.
        """
        known = [usual for usual in self._usual if usual is not None]
        if self._samples < FIRST_WEIGHTS or not known or self._key is None:
            return False
        seen = math.log2(1 + SEEN_SHARE * 2.0 ** min(self._key - sum(known) / len(known), 64.0))
        return seen > self._deviation * (ALLOWED + SIGN * self._doubt / max(1.0, self._rate))

    def weigh(self, size: int, position: int, *, quiet: bool | None, qp: int | None = None) -> bool:
        """Record packet `position` (from 1) of a GOP; return whether the recent packets are a sign.

        `quiet`: whether the detector found nothing. None: unknown; the packet is learned from only while the
        sum of surpluses is below half of its limit.
        """
        weight = _weight(size, qp)
        place = min(position, MAX_PLACES) - 1
        while len(self._usual) <= place:
            self._usual.append(None)
            self._seen.append(0)
        usual = self._usual[place]
        if usual is None:
            # No packet at this place was seen at rest: there is nothing to compare with.
            if quiet is not False:
                self._usual[place], self._seen[place] = weight, 1
            return False
        excess = weight - usual
        deviations = excess / self._deviation
        self._heavier = max(0.0, self._heavier + min(MAX_SURPLUS, deviations) - ALLOWED)
        self._lighter = max(0.0, self._lighter + min(MAX_SURPLUS, -deviations) - ALLOWED)
        limit = SIGN * self._doubt
        if quiet or (quiet is None and self._heavier < limit / 2):
            self._learn(place, excess)
        if self._samples < FIRST_WEIGHTS:
            return False
        self._heaviest = max(self._heaviest, deviations)
        by_sum = max(self._heavier, self._lighter) >= limit
        self._summed |= by_sum
        # Cut the sums, so that they fall below the limit as soon as the packets are usual again.
        self._heavier, self._lighter = min(self._heavier, limit), min(self._lighter, limit)
        return by_sum or deviations >= self._lone

    def forgive(self) -> None:
        """Learn that the last sign was false. A single heavy packet says nothing against the sums."""
        lone = self._heaviest >= self._lone
        if lone:
            self._lone = min(MAX_LONE, self._heaviest * PARDON_LONE)
        if self._summed or not lone:
            self._doubt = min(MAX_DOUBT, self._doubt * DOUBT)
        self.explained()

    def explained(self) -> None:
        """Reset the sums after a true sign."""
        self._heavier = self._lighter = self._heaviest = 0.0
        self._summed = False

    def _learn(self, place: int, excess: float) -> None:
        self._seen[place] += 1
        usual = self._usual[place]
        assert usual is not None
        self._usual[place] = usual + max(0.1, 1.0 / self._seen[place]) * max(-1.0, min(1.0, excess))
        self._samples += 1
        # Step towards the median: rare, large values do not blind it.
        step = 0.01 + 0.03 * (self._samples < FIRST_WEIGHTS * 4)
        self._deviation *= 1 + step if abs(excess) > self._deviation else 1 - step
        self._deviation = max(self._deviation, MIN_DEVIATION)


def _weight(size: int, qp: int | None) -> float:
    return math.log2(size + SMALL) + (0.0 if qp is None else qp / HALVING)


def _grid(luma: Luma) -> Grid:
    """Return a luma plane as (HEIGHT, WIDTH) cells, each the mean of a few samples."""
    down = max(1, luma.shape[0] // (HEIGHT * SAMPLES))
    across = max(1, luma.shape[1] // (WIDTH * SAMPLES))
    samples = np.ascontiguousarray(luma[::down, ::across])
    return cv2.resize(samples, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
