"""Image problems: a camera that delivers frames but shows nothing useful.

The sensor hangs, the lamp has failed, the lens is covered, the camera was turned to the wall, or a recorder
shows its own "NO SIGNAL". Each is detected in a small copy of the luma, once a second:

    frozen     the images repeat, or stir in one place only (`frozen.py`)
    dark       nothing is brighter than a few grey levels above black
    no_signal  most of the image is exactly one grey, without noise, and the known edges are gone. Night too
               may be exactly black: there, a drawing must replace the known view within `REPLACED_S`
    covered    few edges remain where there were many
    turned     the edges have moved: the correlation with the learned edge map is low

Edges are used because they stay in place while the light changes, night falls and objects move. The edge map
is learned over minutes while the image is good. A new view that has lasted for `ACCEPT_S` becomes the known
one. A problem is reported once it has lasted, and ends when the image has been good for `WELL_S`. Pure and
deterministic; time is that of the frames.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.events.frozen import FrozenImage
from async_motion.core.model import Luma

Grid: TypeAlias = NDArray[np.float32]

LOOK_S = 1.1
"""The shortest time between two checks: none of these problems appears faster. It is not in step with the
keyframes of most cameras."""

ONE_GREY = 0.6
"""The least share of one grey level, and of equal neighbours, in an image that a machine drew."""

SIGNAL_GREYS = (20, 235)
"""Outside of these levels, a uniform grey may be night or glare."""

REPLACED_S = 5.0
"""A drawing on black appears at most this long after the last good image: night comes slowly."""

GONE = 0.35
"""Less than this share of the known edges is left behind a placeholder; behind a headlight they stay."""

UNLIT, OUTLINE = 8, 24
"""A drawing rises from `UNLIT` above black by `OUTLINE` or more within two samples. Light fades out."""

NO_SIGNAL_LOOKS = 8
"""Checks in a row that report no signal where no edges are known yet."""

DARK_S = 10.0
COVERED_S = 10.0
TURNED_S = 20.0
WELL_S = 3.0
ACCEPT_S = 3600.0
LEARN_S = 300.0
"""The time constant of the edge map."""

LEARNED_S = 20.0
"""The shortest learning time after which the edge map is used."""

GAP_S = 10.0
"""After a gap of this length (a reconnect) the counts restart; the edge map stays."""

DARK_LEVEL = 32.0
"""The 99th percentile of a dark image is below this: video black is 16, plus a little noise."""

FLAT = 0.8
"""Mean step between neighbouring cells, in grey levels, of an image without structure."""

FLAT_SHARE = 0.2
"""An image with less than this share of its usual edges is covered, if it is also below `DULL`."""

DULL = 2.5
SAME_VIEW = 0.35
"""Correlation with the edge map below which the view has changed."""

WIDTH, HEIGHT = 80, 45
"""Cells of the small copy."""

SAMPLES = 4
"""Samples along a cell's side, taken with a stride, so that the cost does not grow with the image."""


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
"""How long each must last before it is reported. For FROZEN the check itself includes the time."""


class ImageHealth:
    """Follow one camera's images. Keep the object over reconnects."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._begin()

    def _begin(self) -> None:
        """Start without an edge map."""
        self._looked: float | None = None
        self._frozen = FrozenImage()
        self._edges: Grid | None = None
        self._strength = 0.0
        self._learned_s = 0.0
        self._suspect: ImageProblem | None = None
        self._since = 0.0
        self._strange_since: float | None = None
        self._good_at = float("-inf")
        """The time of the last image without a problem."""
        self._on_black = False
        """Whether a drawing on black has replaced the view, and the image has been black since."""
        self._reported: ImageProblem | None = None

    def update(self, luma: Luma, monotonic: float) -> str | None:
        """Check a frame (H, W) of time `monotonic` (seconds); return the problem in force, None if good.

        The array is only read. Two frames in a row are compared at most every `LOOK_S`; the
        others cost nothing.
        """
        if self._shape is not None and luma.shape != self._shape:
            self._begin()  # another stream: the edge map does not fit
        passed = None if self._looked is None else monotonic - self._looked
        looks = passed is None or passed < 0 or passed >= LOOK_S
        if not looks and not self._frozen.wants_pair:
            return self._reported
        samples = _sample(luma)
        if passed is None or passed < 0 or passed > GAP_S:
            self._suspect, self._strange_since = None, None
            self._frozen.pause()
            passed = 0.0
        if self._frozen.wants_pair:
            self._frozen.compare(samples)
        if looks:
            self._shape, self._looked = luma.shape, monotonic
            self._judge(self._examine(samples, monotonic, passed), monotonic)
        return self._reported

    def _examine(self, samples: Luma, now: float, passed: float) -> ImageProblem | None:
        """Return the problem of this image alone, and learn from it if it is good."""
        frozen = self._frozen.look(samples, now, passed)
        grey = _one_grey(samples)
        self._on_black = self._on_black and grey is not None and grey < SIGNAL_GREYS[0]
        if grey is not None and self._is_no_signal(samples, grey):
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
        self._good_at = now
        return None

    def is_placeholder(self, luma: Luma) -> bool:
        """Return whether a recorder drew this frame (H, W) in place of the known view.

        Text that moves across it is no motion. Without a known view no frame is a placeholder.
        """
        if self._edges is None or self._learned_s < LEARNED_S:
            return False
        samples = _sample(luma)
        grey = _one_grey(samples)
        return grey is not None and self._is_no_signal(samples, grey)

    def _is_no_signal(self, samples: Luma, grey: int) -> bool:
        """Return whether an image of one `grey` differs from the known view."""
        if not SIGNAL_GREYS[0] <= grey <= SIGNAL_GREYS[1]:
            return grey < SIGNAL_GREYS[0] and self._is_drawn_on_black(samples, grey)
        if self._edges is None or self._learned_s < LEARNED_S:
            return self._frozen.same_looks >= NO_SIGNAL_LOOKS
        return _correlation(_edges(samples), self._edges) < SAME_VIEW

    def _is_drawn_on_black(self, samples: Luma, grey: int) -> bool:
        if self._edges is None or self._learned_s < LEARNED_S or self._looked is None:
            return False
        left = float(np.minimum(_edges(samples), self._edges).sum())
        if left >= GONE * float(self._edges.sum()) or not _has_outlines(samples, grey):
            return False
        self._on_black = self._on_black or self._looked - self._good_at <= REPLACED_S
        return self._on_black

    def _is_strange(self, edges: Grid, now: float) -> bool:
        """Return whether the view has changed; after `ACCEPT_S` adopt the new one."""
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
        # At first a plain mean, so that objects of the first second do not stay in the map.
        share = max(passed / LEARN_S, min(1.0, passed / (self._learned_s + LOOK_S)))
        cv2.accumulateWeighted(edges, self._edges, share)
        self._strength += share * (strength - self._strength)

    def _judge(self, found: ImageProblem | None, now: float) -> None:
        """Report a problem once it has lasted long enough."""
        if found != self._suspect:
            self._suspect, self._since = found, now
        lasted = now - self._since
        if found is None:
            if lasted >= WELL_S:
                self._reported = None
        elif lasted >= AFTER_S[found]:
            self._reported = found


def _one_grey(samples: Luma) -> int | None:
    """Return the grey level that most of an image has exactly, as only a machine draws it; None without."""
    counts = np.bincount(samples.ravel(), minlength=256)
    grey = int(counts.argmax())
    near = int(counts[max(0, grey - 1) : grey + 2].sum())
    if near < ONE_GREY * samples.size or samples.shape[1] < 2:
        return None
    alike = float(np.mean(samples[:, 1:] == samples[:, :-1])) >= ONE_GREY
    return grey if alike else None


def _has_outlines(samples: Luma, black: int) -> bool:
    """Return whether what is lit in an image begins at an outline."""
    if samples.shape[1] < 3:
        return False
    unlit = samples[:, :-2] <= black + UNLIT
    rise = np.maximum(samples[:, 1:-1], samples[:, 2:])[unlit]
    begins = rise[rise > black + UNLIT]
    return begins.size > 0 and float(np.median(begins)) >= black + OUTLINE


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
    """Return what the sensor's noise alone contributes to the mean edge strength.

    Where at least half of the image is plain, the median step between neighbouring samples is noise. A cell
    averages its samples, which reduces it.
    """
    if samples.shape[1] < 2:
        return 0.0
    steps = np.abs(np.diff(samples[::4].astype(np.int16), axis=1))
    side = max(1.0, float(np.sqrt(samples.size / (WIDTH * HEIGHT))))
    # For a normal distribution the median deviation is 0.67 and the mean 0.80; a cell has two neighbours.
    return 2 * 0.80 / 0.67 * float(np.median(steps)) / side


def _correlation(one: Grid, other: Grid) -> float:
    """Return the correlation of two edge maps, -1..1, tolerating a shift by one cell."""
    a, b = (cv2.blur(np.sqrt(edges), (3, 3)) for edges in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 1.0
