"""Is a camera's image worth judging? Frozen, dark, covered, turned, or no signal at all.

The camera answers and frames come, and still nothing is seen: the sensor hangs, the lamp has failed, a hat
hangs over the lens, the camera was turned to the wall, or a recorder shows its own "NO SIGNAL". Each is found
in a small copy of the luma, once a second:

    frozen     for `FROZEN_S` no image but, bit for bit, a few that are nearly alike: a living sensor has
               noise, and an encoder that is given one image over and over makes a few of it. Behind a clock
               at the upper or lower edge, which goes on, it takes `CLOCK_S`
    dark       nothing brighter than a few grey levels above black
    no_signal  most of the image is exactly one grey, without any noise, and the known edges are gone
    covered    hardly an edge left, where there were many
    turned     the edges are not where they were: the correlation with the learned map of edges is low

Edges, because they stay where they are while the light changes, the night falls and things move about. The
map of edges is learned over minutes while the image is well, and a new view that has stood for `ACCEPT_S`
becomes the known one. A problem is reported when it has lasted, and is over when the image has been well for
`WELL_S`. Pure and deterministic; the clock is the frames' own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from enum import StrEnum
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Luma

Grid: TypeAlias = NDArray[np.float32]

LOOK_S = 1.0
"""At most one look a second: none of these happens faster."""

FROZEN_S = 30.0
FROZEN_LOOKS = 10
CLOCK_S = 60.0
TILES = (9, 16)
"""Rows and columns of the image in which a clock is told from the rest."""

CLOCK_ROWS = 2
"""Rows of tiles at the upper and at the lower edge in which a clock may be."""

CLOCK_SHARE = 0.15
"""Of the tiles, a clock takes no more."""

MIN_DETAIL, MIN_DETAILED = 16, 12
"""Grey levels within a tile that has detail, and how many such tiles say anything."""

ONE_GREY = 0.6
"""The share of an image that is one grey, and of neighbours that are equal, from which on no lens was
there."""

SIGNAL_GREYS = (20, 235)
"""Outside of these, one grey is a night or a glaring light."""

NO_SIGNAL_LOOKS = 8
"""Looks at one image that make it no signal where no edges are known yet."""

KNOWN = 64
"""Images that are remembered to find them again: a frozen scene's differ with their place in the GOP."""

STILL = 0.5
"""Mean difference of two looks, in grey levels, up to which they may be one image, encoded twice."""

DARK_S = 10.0
COVERED_S = 10.0
TURNED_S = 20.0
WELL_S = 3.0
ACCEPT_S = 3600.0
LEARN_S = 300.0
"""The time constant with which the map of edges follows the scene."""

LEARNED_S = 20.0
"""Nothing is compared with a map that has been learned for less."""

GAP_S = 10.0
"""After a gap of this length (a reconnect) the counts restart; what was learned stays."""

DARK_LEVEL = 32.0
"""99 of 100 samples are below this: video black is 16, and a little noise lies upon it."""

FLAT = 0.8
"""Mean step between neighbouring cells, in grey levels, of an image without any structure."""

FLAT_SHARE = 0.2
"""An image with less than this share of its usual edges is covered, where it is also below `DULL`."""

DULL = 2.5
SAME_VIEW = 0.35
"""Correlation with the known map of edges below which the view is another."""

WIDTH, HEIGHT = 80, 45
"""Cells of the small copy."""

SAMPLES = 4
"""Samples of a side of a cell: taken with a stride, so that the cost does not grow with the image."""


class ImageProblem(StrEnum):
    """What is wrong with a camera's image."""

    FROZEN = "frozen"
    DARK = "dark"
    COVERED = "covered"
    TURNED = "turned"
    NO_SIGNAL = "no_signal"


AFTER_S = {
    ImageProblem.FROZEN: 0.0,
    ImageProblem.DARK: DARK_S,
    ImageProblem.COVERED: COVERED_S,
    ImageProblem.TURNED: TURNED_S,
    ImageProblem.NO_SIGNAL: 3.0,
}
"""How long each must last before it is reported. FROZEN has its own time in it."""


class ImageHealth:
    """Watch one camera's images. Keep it over reconnects."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet."""
        self._looked: float | None = None
        self._samples: Luma | None = None
        self._known: deque[bytes] = deque(maxlen=KNOWN)
        self._tiles: list[_Tile] = []
        self._same_since = 0.0
        self._same_looks = 0
        self._edges: Grid | None = None
        self._strength = 0.0
        self._learned_s = 0.0
        self._suspect: ImageProblem | None = None
        self._since = 0.0
        self._strange_since: float | None = None
        self._reported: ImageProblem | None = None

    def update(self, luma: Luma, monotonic: float) -> str | None:
        """Look at a frame (H, W) of time `monotonic` (seconds); return the problem in force, None if well.

        The array is only read. Costs about 0.2 ms for 1080p, once a second; otherwise nothing.
        """
        if self._shape is not None and luma.shape != self._shape:
            self._begin()  # another stream: nothing that was learned fits
        passed = None if self._looked is None else monotonic - self._looked
        if passed is not None and 0 <= passed < LOOK_S:
            return self._reported
        self._shape, self._looked = luma.shape, monotonic
        if passed is None or passed < 0 or passed > GAP_S:
            self._suspect, self._same_looks, self._samples, self._strange_since = None, 0, None, None
            self._known.clear()
            self._tiles.clear()
            passed = 0.0
        self._judge(self._examine(luma, monotonic, passed), monotonic)
        return self._reported

    def _examine(self, luma: Luma, now: float, passed: float) -> ImageProblem | None:
        """Return what this image looks like by itself, and learn from it if it is well."""
        samples = _sample(luma)
        frozen = self._is_frozen(samples, now)
        if _is_one_grey(samples) and self._is_no_signal(_edges(samples)):
            return ImageProblem.NO_SIGNAL
        if float(np.percentile(samples[::2, ::2], 99)) < DARK_LEVEL:
            return ImageProblem.DARK
        edges = _edges(samples)
        strength = float(edges.mean()) - _noise(samples)
        if strength < FLAT or (
            self._learned_s >= LEARNED_S and strength < DULL and strength < FLAT_SHARE * self._strength
        ):
            return ImageProblem.COVERED
        if frozen:
            return ImageProblem.FROZEN
        if self._is_strange(edges, now):
            return ImageProblem.TURNED
        self._learn(edges, strength, passed)
        return None

    def _is_frozen(self, samples: Luma, now: float) -> bool:
        before, self._samples = self._samples, samples
        moved = before is not None and cv2.norm(before, samples, cv2.NORM_L1) > STILL * samples.size
        digest = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        if moved:
            self._known.clear()
        if digest not in self._known:
            self._known.append(digest)
            self._same_since, self._same_looks = now, 0
        self._same_looks += 1
        behind_clock = self._is_frozen_behind_a_clock(samples, now)
        return behind_clock or (now - self._same_since >= FROZEN_S and self._same_looks >= FROZEN_LOOKS)

    def _is_frozen_behind_a_clock(self, samples: Luma, now: float) -> bool:
        rows, columns = TILES
        if samples.shape[0] < rows or samples.shape[1] < columns:
            return False
        parts = [
            part
            for band in np.array_split(samples, rows, axis=0)
            for part in np.array_split(band, columns, axis=1)
        ]
        if not self._tiles:
            self._tiles = [_Tile(now) for _ in parts]
        frozen = [tile.update(part, now) for tile, part in zip(self._tiles, parts, strict=True)]
        middle = range(CLOCK_ROWS * columns, (rows - CLOCK_ROWS) * columns)
        if not all(frozen[place] for place in middle):
            return False
        detailed = sum(int(parts[place].max()) - int(parts[place].min()) >= MIN_DETAIL for place in middle)
        return detailed >= MIN_DETAILED and frozen.count(False) <= CLOCK_SHARE * len(frozen)

    def _is_no_signal(self, edges: Grid) -> bool:
        """Return whether an image of one grey is not the known view."""
        if self._edges is None or self._learned_s < LEARNED_S:
            return self._same_looks >= NO_SIGNAL_LOOKS
        return _correlation(edges, self._edges) < SAME_VIEW

    def _is_strange(self, edges: Grid, now: float) -> bool:
        """Return whether this is another view than the known one; know it when it has stood for long."""
        if (
            self._edges is None
            or self._learned_s < LEARNED_S
            or _correlation(edges, self._edges) >= SAME_VIEW
        ):
            self._strange_since = None
            return False
        if self._strange_since is None:
            self._strange_since = now
        if now - self._strange_since < ACCEPT_S:
            return True
        self._edges, self._learned_s, self._strange_since = None, 0.0, None
        return False

    def _learn(self, edges: Grid, strength: float, passed: float) -> None:
        self._learned_s += passed
        if self._edges is None:
            self._edges, self._strength = edges, strength
            return
        # At first as a plain mean, so that whatever stood there in the first second does not stay.
        share = max(passed / LEARN_S, min(1.0, passed / (self._learned_s + LOOK_S)))
        cv2.accumulateWeighted(edges, self._edges, share)
        self._strength += share * (strength - self._strength)

    def _judge(self, found: ImageProblem | None, now: float) -> None:
        """Report what has lasted long enough."""
        if found != self._suspect:
            self._suspect, self._since = found, now
        lasted = now - self._since
        if found is None:
            if lasted >= WELL_S:
                self._reported = None
        elif lasted >= AFTER_S[found]:
            self._reported = found


class _Tile:
    """One part of the image: whether it shows, bit for bit, nothing new."""

    def __init__(self, now: float) -> None:
        self._known: deque[bytes] = deque(maxlen=KNOWN)
        self._before: Luma | None = None
        self._same_since = now
        self._same_looks = 0

    def update(self, part: Luma, now: float) -> bool:
        """Look at it; return whether nothing new was there for `CLOCK_S`."""
        before, self._before = self._before, part
        if before is not None and cv2.norm(before, part, cv2.NORM_L1) > STILL * part.size:
            self._known.clear()
        digest = hashlib.blake2b(part.tobytes(), digest_size=8).digest()
        if digest not in self._known:
            self._known.append(digest)
            self._same_since, self._same_looks = now, 0
        self._same_looks += 1
        return now - self._same_since >= CLOCK_S and self._same_looks >= FROZEN_LOOKS


def _is_one_grey(samples: Luma) -> bool:
    """Return whether most of an image is exactly one grey, as only a machine draws it."""
    counts = np.bincount(samples.ravel(), minlength=256)
    grey = int(counts.argmax())
    if not SIGNAL_GREYS[0] <= grey <= SIGNAL_GREYS[1]:
        return False
    near = int(counts[max(0, grey - 1) : grey + 2].sum())
    if near < ONE_GREY * samples.size or samples.shape[1] < 2:
        return False
    return float(np.mean(samples[:, 1:] == samples[:, :-1])) >= ONE_GREY


def _sample(luma: Luma) -> Luma:
    """Return at most (HEIGHT, WIDTH) * SAMPLES pixels of an image, evenly taken, in a new array."""
    down = max(1, luma.shape[0] // (HEIGHT * SAMPLES))
    across = max(1, luma.shape[1] // (WIDTH * SAMPLES))
    return np.ascontiguousarray(luma[::down, ::across])


def _edges(samples: Luma) -> Grid:
    """Return the strength of the edges in each cell, in grey levels for each cell's width."""
    small = cv2.resize(samples, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.zeros_like(small)
    strength[:, 1:] += np.abs(np.diff(small, axis=1))
    strength[1:, :] += np.abs(np.diff(small, axis=0))
    return strength


def _noise(samples: Luma) -> float:
    """Return what the sensor's noise alone adds to the mean strength of the edges.

    The median step between neighbouring samples is noise, wherever at least half of the image is plain; a
    cell averages over its samples, so it carries less of it.
    """
    steps = np.abs(np.diff(samples[::4].astype(np.int16), axis=1))
    side = max(1.0, float(np.sqrt(samples.size / (WIDTH * HEIGHT))))
    # Of a normal deviation the median is 0.67 and the mean 0.80; each cell has two neighbours.
    return 2 * 0.80 / 0.67 * float(np.median(steps)) / side


def _correlation(one: Grid, other: Grid) -> float:
    """Return how alike two maps of edges are, -1..1, whatever their contrast; a cell's shift is forgiven."""
    a, b = (cv2.blur(np.sqrt(edges), (3, 3)) for edges in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 1.0
