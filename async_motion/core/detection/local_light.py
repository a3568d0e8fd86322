"""A light of a part of the image, or one that is uneven: a lamp, a window, half of a room.

It multiplies the grey levels of all that it falls on by a factor that changes little from one place to the
next. The factor is measured from one frame to the next, in cells of 4x4 pixels. Behind an object the ground
is not seen, so there the factor is continued from around the object. So the background behind a person who
stands in the light follows the light, and the person is not learned.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.working_image import (
    BLURRED,
    Plane,
    above,
    as_mask,
    grown,
    patched,
    texture,
    u8,
)

_CELL = 4
_DARK = 2.0
"""Added to the grey levels of a cell: in the dark, noise is a large share of them."""
_SEEN = 0.5
"""Share of a cell that must be seen for its factor to be known."""
_REACHES = 3, 7, 15, 31, 63
"""Sides, in cells, of the surroundings from which unknown factors come: the smallest that know enough."""
_KNOW_ENOUGH = 0.15
"""Share of the surroundings that must be known."""
_STEPS = 30
"""Unknown factors are smoothed this often."""
_BRIGHTER = 0.03
"""Where the factor differs from 1 by more, there is light."""
_AROUND = np.ones((25, 25), np.uint8)
"""The light must reach to within 12 pixels of what is hidden."""
_TOLERANCE = 8
"""An explained pixel is this close to its expected grey level."""
_UNEXPLAINED = 0.3
"""Share of the pixels around what is hidden, and of those that have changed, that may be unexplained."""
_HIDDEN = 0.5
"""Where more of the image is hidden, its light is not known."""
_FEWEST = 100
"""Fewer changed pixels tell nothing."""
_DIMMEST, _BRIGHTEST = 0.2, 5.0
"""Outside of these factors the ground can hardly be seen."""
_TEXTURED, _SAME = 2.0, 0.6
"""Deviation of textured ground from its blurred self, in grey levels, and the least correlation of the ground
before and after."""
_SPECK = np.ones((3, 3), np.uint8)
_SOFT = 0.05
"""Where the ground is plain, at most this share may be unexplained: an object has a sharp outline."""


class LocalLight(NamedTuple):
    """By which factor each pixel has become brighter, (h, w) float32, in the mask `where` (h, w).

    `factors` are those of the ground, also behind objects; `seen` those of what is seen, objects included.
    """

    factors: NDArray[np.float32]
    seen: NDArray[np.float32]
    where: Plane

    def apply(self, ground: Plane) -> Plane:
        """Return the ground (h, w) uint8 as it would look in this light."""
        return patched(ground, _lit(ground, self.factors), self.where)

    def apply_to_image(self, image: Plane) -> Plane:
        """Return an image of the ground and objects (h, w) uint8 as it would look in this light."""
        return patched(image, _lit(image, self.seen), self.where)


def find_local_light(after: Plane, before: Plane, hidden: Plane) -> LocalLight | None:
    """Return the light in which `before` looks like `after` around `hidden`, or None.

    All are (h, w) uint8; `hidden` is a mask of where objects are or may be, and is left out.
    """
    if cv2.countNonZero(hidden) > _HIDDEN * hidden.size:
        return None
    factors = _factors(after, before, hidden)
    near = u8(cv2.dilate(hidden, _AROUND))
    expected = _lit(before, factors)
    misses = above(u8(cv2.absdiff(expected, after)), _TOLERANCE)
    misses |= as_mask((factors < _DIMMEST) | (factors > _BRIGHTEST))
    if _missed(misses, u8(cv2.subtract(near, hidden))) > _UNEXPLAINED:
        return None
    _, areas = cv2.connectedComponents(as_mask(np.abs(factors - 1.0) > _BRIGHTER))
    reaching = np.unique(areas[near > 0])
    where = as_mask(np.isin(areas, reaching[reaching > 0]))
    changed = above(u8(cv2.absdiff(after, before)), _TOLERANCE)
    # Beside what is hidden, the texture is that of an object.
    changed = u8(cv2.subtract(cv2.bitwise_and(changed, where), cv2.dilate(hidden, BLURRED)))
    # An object that comes into view there changes the image too.
    if cv2.countNonZero(changed) < _FEWEST or not _same_ground(after, before, expected, misses, changed):
        return None
    # What the light does not explain, such as the screen of a television, does not follow it.
    other = u8(cv2.subtract(grown(u8(cv2.morphologyEx(misses, cv2.MORPH_OPEN, _SPECK))), hidden))
    seen = _factors(after, before, np.zeros_like(hidden))
    return LocalLight(factors, seen, u8(cv2.subtract(where, other)))


def _missed(misses: Plane, where: Plane) -> float:
    """Return the share of the mask `where` that is not explained; 0 of nothing."""
    return cv2.countNonZero(cv2.bitwise_and(misses, where)) / max(cv2.countNonZero(where), 1)


def _same_ground(after: Plane, before: Plane, expected: Plane, misses: Plane, where: Plane) -> bool:
    """Return whether `after` shows the ground of `before` in the mask `where`, and not what hides it."""
    missed = _missed(misses, where)
    seen = cv2.subtract(where, misses) > 0
    earlier, now, then = (texture(plane)[seen] for plane in (before, after, expected))
    if float(earlier @ earlier) < _TEXTURED**2 * len(earlier):
        return missed <= _SOFT
    alike = float(now @ then) >= _SAME * float(np.sqrt((now @ now) * (then @ then)))
    return missed <= _UNEXPLAINED and alike


def _lit(plane: Plane, factors: NDArray[np.float32]) -> Plane:
    return u8(cv2.multiply(plane, factors, dtype=cv2.CV_8U))


def _factors(after: Plane, before: Plane, hidden: Plane) -> NDArray[np.float32]:
    """Return by which factor each pixel has become brighter, (h, w), continued where `hidden` is not 0."""
    height, width = after.shape
    size = max(width // _CELL, 1), max(height // _CELL, 1)
    seen = (hidden == 0).astype(np.float32)

    def cells(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)

    share = cells(seen)
    dark = np.maximum(_DARK * share, 1e-3)
    factors = (cells(after * seen) + dark) / (cells(before * seen) + dark)
    factors = _blurred(_continued(factors, share >= _SEEN), 3)
    return np.asarray(cv2.resize(factors, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _continued(factors: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return `factors`, those that are not `known` replaced by what is around them; by 1 if nothing is."""
    if known.all():
        return factors
    continued = np.where(known, factors, np.float32(1.0))
    weights, unknown = known.astype(np.float32), ~known
    for side in _REACHES:
        share = _blurred(weights, side)
        reached = unknown & (share > _KNOW_ENOUGH)
        continued[reached] = (_blurred(factors * weights, side) / np.maximum(share, 1e-3))[reached]
        unknown = unknown & ~reached
    for _ in range(_STEPS):
        continued[~known] = _blurred(continued, 3)[~known]
    return continued


def _blurred(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REPLICATE), np.float32)
