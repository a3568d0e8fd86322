"""A frozen image: the sensor hangs, or a recorder repeats the last image and draws over it.

A working sensor has noise: every part of its image differs from frame to frame, and never repeats for long.
Two signs of a frozen image are followed, each of which covers what the other cannot:

    repeats       bit for bit, one of a few images that are nearly alike: an encoder makes variants of a
                  repeated image. A clock may run on: small, in one place, or along the upper or lower edge
    stirs in one  an image that had noise in every part loses it everywhere between two frames, but for one
    place only    area that goes on in place: a spinner, text that blinks. An encoder with a fixed bit rate
                  may code each keyframe differently; the frames between two keyframes are equal. It must
                  last for `CLOCK_S` without leaving its first place, and begin without a change of light

A frozen image is reported; it hides no motion. A camera that becomes clean, because a lamp was switched on or
its encoder leaves out noise from now on, shows the same while a person stands and waves.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Luma

Tiles: TypeAlias = NDArray[np.bool_]

FROZEN_S = 30.0
FROZEN_LOOKS = 10
CLOCK_S = 60.0
TILES = (9, 16)
"""Rows and columns of tiles by which a clock is told from the rest of the image."""

CLOCK_ROWS = 2
"""Rows of tiles at the upper and at the lower edge in which clocks and text may change."""

CLOCK_BOX = 27
"""The tiles of the smallest rectangle around a clock elsewhere, at most: a line of text, or a spinner."""

CLOCK_TICK_S = 3.0
"""A clock elsewhere changes at least this often."""

CLOCK_SHARE = 0.15
"""The maximum share of tiles that a clock covers."""

MIN_DETAIL, MIN_DETAILED = 16, 12
"""The range in grey levels of a tile with detail, and how many such tiles are needed for a verdict."""

KNOWN = 64
"""Images remembered for comparison: those of a frozen scene differ with their position in the GOP."""

STILL = 0.5
"""Mean difference of two images, in grey levels, up to which they may be one image encoded twice."""

PLACE_SHARE = 0.25
"""The maximum share of tiles that change, over all pairs, where an image stirs in one place only."""

PAIRS, MIN_STILL = 4, 3
"""Pairs of frames that are compared, and how many of them must be still: the others show a keyframe."""

SAME_LEVEL = 1.0
"""The maximum median change of the tiles' mean levels, in grey levels, with which an image freezes."""

NOISY = 0.85
"""The minimum share of the earlier pairs in which more than `PLACE_SHARE` of the tiles changed."""

NOISE_S = 300.0
"""The time constant of that share."""

NOISE_KNOWN_S = 20.0
"""The shortest learning time after which it is used."""


class FrozenImage:
    """Follow one camera's images, by samples of their luma. Keep the object over reconnects."""

    def __init__(self) -> None:
        self._samples: Luma | None = None
        self._whole = _Repeats(0.0)
        self._tiles: list[_Repeats] = []
        self._looked = 0.0
        self._paired = True
        """Whether the last look's image was compared with the frame after it."""
        self._pairs: deque[Tiles] = deque(maxlen=PAIRS)
        """The tiles that changed from a look to the frame after it, for the last looks."""
        self._noisy = 0.0
        self._noise_known_s = 0.0
        self._levels: deque[NDArray[np.float32]] = deque(maxlen=PAIRS + 1)
        """The tiles' mean levels at the last looks that were compared: the first is from before the pairs."""
        self._place_since: float | None = None
        """Since when the image stirs in one place only."""
        self._place: Tiles = np.zeros(TILES, bool)
        """That place with the tiles around it, as it was first seen."""

    def pause(self) -> None:
        """Start the comparison again after a gap; what is known of the noise stays."""
        self._samples, self._paired, self._place_since = None, True, None
        self._whole = _Repeats(0.0)
        self._tiles.clear()
        self._pairs.clear()
        self._levels.clear()

    def look(self, samples: Luma, now: float, passed: float) -> bool:
        """Take the image of a look, `passed` seconds after the last one; return whether it is frozen."""
        self._samples, self._looked, self._paired = samples, now, False
        repeats = self._whole.update(samples, now, FROZEN_S)
        behind_clock = self._repeats_behind_a_clock(samples, now)
        self._learn_noise(now, passed)
        return repeats or behind_clock or self._has_stirred_in_place(now)

    @property
    def same_looks(self) -> int:
        """Looks in a row at which the image repeated itself."""
        return self._whole.looks

    @property
    def wants_pair(self) -> bool:
        """Whether `compare` wants the next frame."""
        return not self._paired and self._samples is not None

    def compare(self, samples: Luma) -> None:
        """Compare the last look's image with the frame after it."""
        before = self._samples
        self._paired = True
        if before is None or before.shape != samples.shape or min(samples.shape) < max(TILES):
            return
        self._pairs.append(_reduced(np.logical_or, before != samples).astype(bool))
        self._levels.append(cv2.resize(samples, TILES[::-1], interpolation=cv2.INTER_AREA).astype(np.float32))
        place = self._place_of_changes()
        if place is None or not self._is_detailed(samples):
            self._place_since = None
        elif self._place_since is None:
            if not self._keeps_its_levels(~_near(place)):
                self._forget_noise()  # the light has changed, and the camera become clean
            elif self._noise_known_s >= NOISE_KNOWN_S and self._noisy >= NOISY:
                self._place_since, self._place = self._looked, _near(place)
        elif (place & ~self._place).any():
            self._place_since = None
            self._forget_noise()  # an object has moved: the image lives

    def _forget_noise(self) -> None:
        self._noisy, self._noise_known_s = 0.0, 0.0

    def _keeps_its_levels(self, rest: Tiles) -> bool:
        """Return whether `rest` has the levels of the look before the pairs: a frozen image keeps them."""
        change = np.abs(self._levels[-1] - self._levels[0])[rest]
        return change.size > 0 and float(np.median(change)) <= SAME_LEVEL

    def _place_of_changes(self) -> Tiles | None:
        """Return the tiles that changed within the last pairs if they are few, and the rest stood still."""
        if len(self._pairs) < PAIRS:
            return None
        still = [pair for pair in self._pairs if pair.mean() <= PLACE_SHARE]
        place = np.logical_or.reduce(still) if len(still) >= MIN_STILL else None
        return place if place is not None and 0 < place.mean() <= PLACE_SHARE else None

    def _is_detailed(self, samples: Luma) -> bool:
        span = _reduced(np.maximum, samples).astype(int) - _reduced(np.minimum, samples)
        return int((span[CLOCK_ROWS:-CLOCK_ROWS] >= MIN_DETAIL).sum()) >= MIN_DETAILED

    def _learn_noise(self, now: float, passed: float) -> None:
        """Learn from the newest pair how often the image differs everywhere, unless it is frozen.

        A camera that becomes clean unlearns its noise.
        """
        if not self._pairs or (self._place_since is not None and now - self._place_since >= CLOCK_S):
            return
        self._noise_known_s += passed
        share = max(passed / NOISE_S, min(1.0, passed / (self._noise_known_s or 1.0)))
        self._noisy += min(share, 1.0) * (float(self._pairs[-1].mean() > PLACE_SHARE) - self._noisy)

    def _has_stirred_in_place(self, now: float) -> bool:
        """Return whether the image has stirred in one place only for `CLOCK_S`, and still does."""
        if self._place_since is None or now - self._place_since < CLOCK_S:
            return False
        return bool(self._pairs[-1].mean() <= PLACE_SHARE)

    def _repeats_behind_a_clock(self, samples: Luma, now: float) -> bool:
        rows, columns = TILES
        if samples.shape[0] < rows or samples.shape[1] < columns:
            return False
        parts = [
            part
            for band in np.array_split(samples, rows, axis=0)
            for part in np.array_split(band, columns, axis=1)
        ]
        if not self._tiles:
            self._tiles = [_Repeats(now) for _ in parts]
        frozen = [tile.update(part, now, CLOCK_S) for tile, part in zip(self._tiles, parts, strict=True)]
        middle = range(CLOCK_ROWS * columns, (rows - CLOCK_ROWS) * columns)
        goes_on = [place for place in middle if not frozen[place]]
        if goes_on and not self._is_clock(goes_on, now):
            return False
        detailed = sum(int(parts[place].max()) - int(parts[place].min()) >= MIN_DETAIL for place in middle)
        return detailed >= MIN_DETAILED and frozen.count(False) <= CLOCK_SHARE * len(frozen)

    def _is_clock(self, places: Sequence[int], now: float) -> bool:
        """Return whether the tiles that change lie together, and one of them has just changed."""
        rows = [place // TILES[1] for place in places]
        columns = [place % TILES[1] for place in places]
        ticks = any(now - self._tiles[place].new_at <= CLOCK_TICK_S for place in places)
        box = (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1)
        return box <= CLOCK_BOX and ticks


class _Repeats:
    """The image, or a tile of it, and how long it has repeated itself bit for bit."""

    def __init__(self, now: float) -> None:
        self._known: deque[bytes] = deque(maxlen=KNOWN)
        self._before: Luma | None = None
        self.new_at = now
        """The time of the last new content."""
        self.looks = 0
        """Looks in a row since then."""

    def update(self, part: Luma, now: float, seconds: float) -> bool:
        """Compare the part with its past; return whether nothing new has appeared for `seconds`."""
        before, self._before = self._before, part
        if before is not None and cv2.norm(before, part, cv2.NORM_L1) > STILL * part.size:
            self._known.clear()
        digest = hashlib.blake2b(part.tobytes(), digest_size=16).digest()
        if digest not in self._known:
            self._known.append(digest)
            self.new_at, self.looks = now, 0
        self.looks += 1
        return now - self.new_at >= seconds and self.looks >= FROZEN_LOOKS


def _reduced(by: np.ufunc, samples: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return `samples` (H, W) reduced to one value for each of the TILES."""
    rows, columns = (
        np.arange(count) * size // count for count, size in zip(TILES, samples.shape, strict=True)
    )
    return np.asarray(by.reduceat(by.reduceat(samples, rows, axis=0), columns, axis=1))


def _near(place: Tiles) -> Tiles:
    """Return `place` with the tiles around it."""
    return np.asarray(cv2.dilate(place.astype(np.uint8), np.ones((3, 3), np.uint8)) != 0)
