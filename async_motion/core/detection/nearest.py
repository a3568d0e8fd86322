"""Distance of an image to the second nearest look of each pixel, and a shortcut to compare it with a limit.

The exact distance reads every look. Where it only matters whether the distance exceeds a limit, the second
lowest and the second highest look are enough: outside of all looks they give the exact distance, and between
two looks the distance is at most the gap between these two. Only pixels with a gap above the limit need all
looks. They are few, unless the scene is restless.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from async_motion.core.detection.working_image import Plane, ordered, u8

_MANY = 0.2
"""If more than this share of the pixels needs all looks, the whole image is as fast."""
_SPARE = 1
"""Grey levels by which a limit may fall before the pixels that need all looks are chosen again."""


def second_nearest(plane: Plane, looks: Sequence[Plane]) -> Plane:
    """Return how far each pixel is from its second nearest look, in grey levels; at least two looks."""
    nearest = u8(cv2.absdiff(plane, looks[0]))
    difference = u8(cv2.absdiff(plane, looks[1]))
    second, larger = np.maximum(nearest, difference), np.empty_like(nearest)
    np.minimum(nearest, difference, out=nearest)
    for look in looks[2:]:
        cv2.absdiff(plane, look, difference)
        np.maximum(nearest, difference, out=larger)
        np.minimum(second, larger, out=second)
        np.minimum(nearest, difference, out=nearest)
    return second


class Bounds:
    """What is needed of a stack of looks, a power of two, to compare distances with a limit.

    The looks are read again for some pixels, so they must not change as long as the object is used.
    """

    def __init__(self, looks: Sequence[Plane]) -> None:
        self._looks = looks
        by_level = ordered(looks)
        self._second, self._last_but_one = by_level[1], by_level[-2]
        self._gap = np.zeros_like(looks[0])
        for lower, higher in pairwise(by_level):
            np.maximum(self._gap, higher - lower, out=self._gap)
        self._wide = cv2.add(self._gap, np.full_like(self._gap, _SPARE))
        self._limit: Plane | None = None
        self._doubtful = np.zeros(0, np.intp)
        self._their_looks: Plane | None = None
        self._others = self._gap
        """The gaps of all pixels but the doubtful ones."""

    def distance(self, plane: Plane, limit: Plane) -> Plane | None:
        """Return a plane that exceeds any level from `limit` upwards where the exact distance does.

        None if too many pixels need all looks. `limit` must not change in place.
        """
        if limit is not self._limit:
            self._limit = limit
            if self._their_looks is None or cv2.countNonZero(cv2.compare(self._others, limit, cv2.CMP_GT)):
                self._choose(limit)
        if self._their_looks is None:
            return None
        above, below = cv2.subtract(plane, self._last_but_one), cv2.subtract(self._second, plane)
        distance = u8(cv2.max(above, below))
        if self._doubtful.size:
            theirs = plane.ravel()[self._doubtful]
            distance.ravel()[self._doubtful] = _second_nearest_of_few(theirs, self._their_looks)
        return distance

    def _choose(self, limit: Plane) -> None:
        """Choose the pixels that need all looks, if possible enough for a slightly lower limit too."""
        for gap in (self._wide, self._gap):
            # Flags are three times as fast as a mask here.
            self._doubtful = np.flatnonzero(gap > limit)
            if self._doubtful.size <= _MANY * limit.size:
                self._their_looks = u8([look.ravel()[self._doubtful] for look in self._looks])
                self._others = self._gap.copy()
                self._others.ravel()[self._doubtful] = 0
                return
        self._their_looks = None


def _second_nearest_of_few(values: Plane, looks: Plane) -> Plane:
    """Return `second_nearest` of flat `values` (n,) and `looks` (power of two, n), in few calls."""
    differences = np.maximum(values, looks)
    differences -= np.minimum(values, looks)
    half = len(looks) // 2
    first, other = differences[:half], differences[half:]
    nearest, second = np.minimum(first, other), np.maximum(first, other)
    while half > 1:
        half //= 2
        one, two = nearest[:half], nearest[half:]
        second = np.minimum(np.minimum(second[:half], second[half:]), np.maximum(one, two))
        nearest = np.minimum(one, two)
    return u8(second[0])
