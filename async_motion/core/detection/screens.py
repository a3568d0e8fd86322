"""Screens: what is replaced as a whole, again and again, and stays where it is.

What a television, a monitor or a display in a shop window shows is no motion of the scene. A cut replaces
most of the pixels in its box from one frame to the next, and the frame after that hardly differs there, even
if less of it differs from the ground then. A person who turns does not fill a box, and sways; a door is
higher than wide. Two cuts in the same place make a screen, and what lies in it is left out until it has not
differed as a whole for `_FORGOTTEN_S`. What passes before it is seen; who stays there and hardly stands out
of it is not.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.corners import Corners, size
from async_motion.core.detection.regions import Regions, labels
from async_motion.core.detection.working_image import Plane

_REPLACED, _CALM = 0.6, 0.3
"""A cut changes at least the first share of a box, and the frame after it at most the second share."""
_SAME_PLACE = 2.0
"""The sides of two boxes in the same place differ at most by this, in pixels: a person sways by more."""
_LARGEST = 0.1
"""Share of the image that a screen covers at most."""
_SQUAREST, _LONGEST = 1.2, 2.5
"""The least and the greatest ratio of its width to its height."""
_APART_S, _MEMORY_S = 0.8, 60.0
"""The shortest and the longest time between two cuts of a screen."""
_RAREST_S = 0.34
"""Frames at longer intervals are not looked at: what moves would be replaced."""
_FORGOTTEN_S = 300.0
"""A screen that has not differed as a whole for this long is not there."""
_WITHIN = 0.7
"""A region belongs to a screen if this share of it lies there."""
_MOST = 8
"""Of more cuts or screens than this, the oldest are forgotten."""
_RIM = 2
"""Pixels around a screen that belong to it."""


class _Sighting(NamedTuple):
    """A cut or a screen: its box, and when it was there."""

    box: Corners
    at: float


class Screens:
    """The screens of one camera, whose images are `shape` (h, w). Call `update`, then `left_out`."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._before: Plane | None = None
        self._replaced: list[_Sighting] = []
        """What was replaced in the frame before: cuts, where this frame is calm."""
        self._cuts: list[_Sighting] = []
        self._screens: list[_Sighting] = []
        self._mask: Plane | None = None

    def left_out(self, regions: Regions, among: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for lie in a screen; forget those that have ended."""
        if self._screens and now - min(screen.at for screen in self._screens) > _FORGOTTEN_S:
            self._screens = [screen for screen in self._screens if now - screen.at <= _FORGOTTEN_S]
            self._draw()
        if self._mask is None:
            return np.zeros(regions.count, np.bool_)
        found = np.asarray(among & (regions.share(self._mask, among) >= _WITHIN), np.bool_)
        boxes = [regions.corners_of(label) for label in labels(found)]
        self._screens = [
            old._replace(at=now) if any(_in_same_place(old.box, box) for box in boxes) else old
            for old in self._screens
        ]
        return found

    def update(
        self, regions: Regions, plane: Plane, tolerance: Plane, among: NDArray[np.bool_], now: float
    ) -> None:
        """Look for cuts in the regions `among` those asked for.

        `plane` (h, w) is the image without shake and light. What differs by more than `tolerance` (h, w) from
        the one before has changed.
        """
        before, self._before = self._before, plane
        replaced, self._replaced = self._replaced, []
        if before is None:
            return
        for cut in replaced:
            if now - cut.at <= _RAREST_S and _changed(plane, before, tolerance, cut.box) <= _CALM:
                self._cut(cut)
        for label in labels(among):
            box = regions.corners_of(label)
            if not regions.inner[label] or not self._has_shape(box):
                continue
            if _changed(plane, before, tolerance, box) >= _REPLACED:
                self._replaced.append(_Sighting(box, now))

    def _has_shape(self, box: Corners) -> bool:
        """Return whether a box is as that of a screen: wider than high, neither too large nor too long."""
        width, height = box[2] - box[0], box[3] - box[1]
        pixels = self._shape[0] * self._shape[1]
        return _SQUAREST * height <= width <= _LONGEST * height and size(box) <= _LARGEST * pixels

    def _cut(self, cut: _Sighting) -> None:
        """Note a cut; the second in the same place makes it a screen, the next ones keep it."""
        known = [old for old in self._cuts if cut.at - old.at <= _MEMORY_S]
        same = [old for old in known if _in_same_place(old.box, cut.box)]
        if any(cut.at - old.at < _APART_S for old in same):
            return
        # One for each place: a screen that cuts often must not push out the others.
        self._cuts = [*(old for old in known if old not in same), cut][-_MOST:]
        others = [old for old in self._screens if not _in_same_place(old.box, cut.box)]
        if same or len(others) < len(self._screens):
            self._screens = [*others, cut][-_MOST:]
            self._draw()

    def _draw(self) -> None:
        """Draw the mask of all screens."""
        mask = np.zeros(self._shape, np.uint8)
        for screen in self._screens:
            left, top, right, bottom = (int(side) for side in screen.box)
            mask[max(top - _RIM, 0) : bottom + _RIM, max(left - _RIM, 0) : right + _RIM] = 255
        self._mask = mask if self._screens else None


def _in_same_place(one: Corners, other: Corners) -> bool:
    return all(abs(a - b) <= _SAME_PLACE for a, b in zip(one, other, strict=True))


def _changed(plane: Plane, before: Plane, tolerance: Plane, box: Corners) -> float:
    """Return the share of a box in which two images differ by more than `tolerance`."""
    left, top, right, bottom = (int(side) for side in box)
    part = slice(top, bottom), slice(left, right)
    differs = cv2.compare(cv2.absdiff(plane[part], before[part]), tolerance[part], cv2.CMP_GT)
    return cv2.countNonZero(differs) / size(box)
