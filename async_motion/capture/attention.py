"""When an idle camera must be decoded in full: cheap evidence, learned for each camera.

`Scene` looks at key pictures alone, reduced to a small grid, and compares each with what the scene looks like
at rest: the mean of each cell and how much it usually strays from it. Light that changes as a whole is taken
out first.

`Weights` watches what the packets between the key pictures weigh. A packet says what has changed since the
picture before; while nothing happens they weigh about the same, at the same place in each group. A few in a
row that weigh more than this camera's usual scatter are a sign, long before the next key picture comes.

Both are made to be more sensitive than any detector behind them: a false sign costs the decoding of a group
of pictures, a missed one may cost an event. `Interest` carries back what the detector made of the frames.
When it found nothing after a sign, both learn that such a thing is usual here; the floors below bound how
much they can unlearn. What has come and does not move any more belongs to the scene after a while.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Detection, Luma, Reason

Grid = NDArray[np.float32]

WIDTH, HEIGHT = 128, 72
"""Cells of the grid: a person of 2 % of a picture's width still has two to himself."""

SAMPLES = 3
"""Samples of a side of a cell that are looked at."""

LEAST_STEP = 4.0
"""Grey levels: no cell counts as changed by less. Half of what the most sensitive detector asks for."""

STRAY = 4.0
"""A cell has changed when it is this many times its usual scatter from its mean."""

MOST_SCATTER = 10.0
"""Grey levels: the floor of sensitivity. What differs by `STRAY` times this is a sign in any scene."""

CLUSTER = 4
"""Changed cells in a neighbourhood of 3x3 that make a sign."""

LEARN = 0.1
FORGET = 0.02
"""The share of each look that is learned, and by which a scatter falls: what stirs at times stays usual."""

PARDON = 1.4
"""What a detector found nothing in is usual up to this many times its strength."""

SETTLED_LOOKS = 8
"""What has changed and then stood still for so many looks belongs to the scene."""

FIRST_LOOKS = 4
"""Looks after which the usual scatter is known."""

WINDOW_S = 0.3
"""Packets are weighed together over this time: one alone may be heavy for no reason."""

SMALL = 48
"""Bytes that every packet has, whatever is in it."""

MOST_PLACES = 512
"""Places in a group of pictures that are told apart."""

LEAST_EXCESS = 0.2
"""In powers of two: nothing is a sign that weighs less than 15 % more than usual."""

SIGN = 4.0
"""A sign is this many times the usual scatter."""

MOST_EXCESS = 1.5
"""In powers of two: the floor of sensitivity. Packets of 2.8 times the usual weight are always a sign."""

FIRST_WEIGHTS = 50
"""Packets after which the usual scatter is known."""

SEEN_SHARE = 0.01
"""What moves costs about as large a share of a key picture's bytes as it covers of the picture."""

DULL = frozenset({Reason.STILL, Reason.MASKED, Reason.ABOVE_AREA})
"""Verdicts after which an idle camera may go on idling. What is too small as yet may come nearer."""


class Interest:
    """What the detector made of the frames: told on the event loop, read by the reader thread."""

    def __init__(self) -> None:
        self.told = False
        """Whether anybody tells."""
        self.latest = float("-inf")
        """The monotonic time of the newest frame that was worth a closer look."""

    def tell(self, monotonic: float, detection: Detection) -> None:
        """Take note of the verdict on the frame of time `monotonic`."""
        self.told = True
        if detection.reason not in DULL:
            self.latest = max(self.latest, monotonic)


class Scene:
    """What one camera sees at rest. Give it each key picture, or a look about once a second."""

    def __init__(self) -> None:
        self._mean: Grid | None = None
        self._scatter: Grid = np.zeros((HEIGHT, WIDTH), np.float32)
        self._last: Grid = self._scatter
        self._still = np.zeros((HEIGHT, WIDTH), np.uint8)
        self._unexplained: Grid | None = None
        self._shape: tuple[int, ...] = ()
        self._looks = 0

    def look(self, luma: Luma) -> bool:
        """Say whether something is there that does not belong to the scene; learn from what is at rest."""
        grid = _grid(luma)
        if self._mean is None or luma.shape != self._shape:
            self._begin(grid, luma.shape)
            return True
        self._looks += 1
        difference = grid - self._mean
        difference -= float(np.median(difference))
        away = np.abs(difference)
        changed = (away > np.maximum(LEAST_STEP, STRAY * self._scatter)).astype(np.uint8)
        crowd = cv2.boxFilter(changed, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        sign = self._looks <= FIRST_LOOKS or bool((crowd >= CLUSTER).any())
        if sign:
            strange: Grid = np.where(changed == 1, away, np.float32(0)).astype(np.float32)
            known = self._unexplained
            self._unexplained = strange if known is None else np.maximum(known, strange)
        self._learn(grid, away, changed == 1)
        return sign

    def forgive(self) -> None:
        """Learn that whatever was a sign since the last call is usual here: a detector found nothing."""
        if self._unexplained is not None:
            usual = np.minimum(self._unexplained * np.float32(PARDON / STRAY), np.float32(MOST_SCATTER))
            np.maximum(self._scatter, usual, out=self._scatter)
        self._unexplained = None

    def explained(self) -> None:
        """Learn nothing from the signs since the last call: there was something."""
        self._unexplained = None

    def _begin(self, grid: Grid, shape: tuple[int, ...]) -> None:
        self._shape, self._looks = shape, 1
        self._mean, self._last = grid.copy(), grid
        self._scatter.fill(LEAST_STEP / 2)
        self._still.fill(0)
        self._unexplained = None

    def _learn(self, grid: Grid, away: Grid, changed: NDArray[np.bool_]) -> None:
        assert self._mean is not None
        stands = np.abs(grid - self._last) <= np.maximum(LEAST_STEP, STRAY * self._scatter)
        self._still = np.where(changed & stands, self._still + 1, 0).astype(np.uint8)
        self._last = grid
        settled = self._still >= SETTLED_LOOKS
        self._still[settled] = 0
        rate = max(LEARN, 1.0 / self._looks)
        # The mean follows the light too, so that tomorrow's difference is small.
        self._mean += np.where(changed, 0, rate * (grid - self._mean))
        self._mean[settled] = grid[settled]
        more = np.where(away > self._scatter, rate, max(FORGET, 1.0 / self._looks))
        self._scatter += np.where(changed, 0, more * (away - self._scatter))


class Weights:
    """What the packets of one camera weigh between its key pictures."""

    def __init__(self, packets_a_second: float) -> None:
        self._window = max(2, round(WINDOW_S * packets_a_second))
        self._usual: list[float] = []
        self._seen: list[int] = []
        self._recent: list[float] = []
        self._scatter = MOST_EXCESS / SIGN
        self._samples = 0
        self._unexplained = 0.0
        self._key_size = 0.0

    def key(self, size: int) -> None:
        """Take note of a key picture's packet: the next group begins."""
        self._recent.clear()
        self._key_size += (size - self._key_size) * (0.2 if self._key_size else 1.0)

    @property
    def tell(self) -> bool:
        """Whether something of `SEEN_SHARE` of the picture would be a sign between this camera's packets.

        Where noise fills the packets it would not, nor where the encoder holds them all at one size.
        """
        known = [usual for usual, seen in zip(self._usual, self._seen, strict=True) if seen]
        if self._samples < FIRST_WEIGHTS or not known:
            return False
        typical = 2.0 ** (sum(known) / len(known))
        return math.log2(1 + SEEN_SHARE * self._key_size / typical) > self._least()

    def _least(self) -> float:
        """Return from which excess on a few packets in a row are a sign."""
        return max(LEAST_EXCESS, min(MOST_EXCESS, SIGN * self._scatter))

    def weigh(self, size: int, position: int, *, learn: bool) -> bool:
        """Take note of packet `position` (from 1) of a group; say whether the last few are a sign.

        Learns from it only with `learn`, and never from a sign.
        """
        weight = math.log2(size + SMALL)
        place = min(position, MOST_PLACES) - 1
        while len(self._usual) <= place:
            self._usual.append(weight)
            self._seen.append(0)
        # Of a place that was never seen at rest nothing can be said.
        excess = weight - self._usual[place] if self._seen[place] else 0.0
        self._recent.append(excess)
        if len(self._recent) > self._window:
            self._recent.pop(0)
        if len(self._recent) < self._window or self._samples < FIRST_WEIGHTS:
            sign = False
        else:
            mean = sum(self._recent) / self._window
            sign = mean > self._least()
            if sign:
                self._unexplained = max(self._unexplained, mean)
        if learn and not sign:
            self._learn(place, weight)
        return sign

    def forgive(self) -> None:
        """Learn that whatever was a sign since the last call is usual here."""
        self._scatter = max(self._scatter, min(PARDON * self._unexplained, MOST_EXCESS) / SIGN)
        self._unexplained = 0.0

    def explained(self) -> None:
        """Learn nothing from the signs since the last call."""
        self._unexplained = 0.0

    def _learn(self, place: int, weight: float) -> None:
        first = not self._seen[place]
        self._seen[place] += 1
        excess = weight - self._usual[place]
        if first:
            self._usual[place] = weight
            return
        self._usual[place] += max(0.1, 1.0 / self._seen[place]) * max(-1.0, min(1.0, excess))
        if len(self._recent) == self._window:
            self._samples += 1
            strays = abs(sum(self._recent)) / self._window
            self._scatter += max(0.005, 1.0 / (1 + self._samples)) * (strays - self._scatter)


def _grid(luma: Luma) -> Grid:
    """Return a picture as (HEIGHT, WIDTH) cells, each the mean of a few samples."""
    down = max(1, luma.shape[0] // (HEIGHT * SAMPLES))
    across = max(1, luma.shape[1] // (WIDTH * SAMPLES))
    samples = np.ascontiguousarray(luma[::down, ::across])
    return cv2.resize(samples, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
