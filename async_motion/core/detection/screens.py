"""Screens: what is replaced as a whole, again and again, and stays where it is.

A television, a monitor or a display in a shop window moves, but nobody does. A cut replaces most of its
pixels from one frame to the next; in the frame after that, the outline is the same and hardly anything
differs. A person does not do that. Two cuts in the same place make it a screen, and what lies in a screen is
left out until nothing has stirred there for `_FORGOTTEN_S`. What passes is seen: a person before the screen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.corners import Corners, common, common_share, size
from async_motion.core.detection.regions import Regions, labels
from async_motion.core.detection.working_image import Plane

_REPLACED, _CALM = 0.5, 0.3
"""A cut changes at least the first share of a region, and the frame after it at most the second."""
_STAYS, _SAME_PLACE = 0.75, 0.7
"""Share of the union of two boxes that they have in common: of a region in two frames, of two cuts."""
_FILLED = 0.7
"""A screen fills at least this share of its box."""
_LARGEST, _LONGEST = 0.1, 2.5
"""A screen covers at most the first share of the image, and its sides differ at most by the second factor."""
_APART_S, _MEMORY_S = 0.8, 60.0
"""The shortest and the longest time between two cuts of a screen."""
_RAREST_S = 0.34
"""Frames at longer intervals are not looked at: what moves would be replaced."""
_FORGOTTEN_S = 300.0
_WITHIN = 0.7
"""A region belongs to a screen if this share of it lies there."""
_MOST = 8
"""Of more cuts or screens than this, the oldest are forgotten."""
_RIM = 2
"""Pixels around a screen that belong to it."""


class _Seen(NamedTuple):
    """A region or a screen: its box, when it was there, and which share of it had changed."""

    box: Corners
    at: float
    changed: float = 0.0


class Screens:
    """The screens of one camera, whose images are `shape` (h, w). Call `update` for each frame."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._before: Plane | None = None
        self._regions: list[_Seen] = []
        """Those of the frame before."""
        self._cuts: list[_Seen] = []
        self._screens: list[_Seen] = []
        self._mask: Plane | None = None

    def left_out(self, regions: Regions, among: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for lie in a screen."""
        if self._screens and now - min(screen.at for screen in self._screens) > _FORGOTTEN_S:
            self._screens = [screen for screen in self._screens if now - screen.at <= _FORGOTTEN_S]
            self._draw()
        if self._mask is None:
            return np.zeros(regions.count, np.bool_)
        found = np.asarray(among & (regions.share(self._mask, among) >= _WITHIN), np.bool_)
        stirring = [regions.corners_of(label) for label in labels(found)]
        self._screens = [
            screen._replace(at=now) if any(common(screen.box, box) for box in stirring) else screen
            for screen in self._screens
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
        known = [seen for seen in self._regions if now - seen.at <= _RAREST_S]
        self._regions = []
        if before is None:
            return
        for label, changed in regions.changed(plane, before, tolerance, among).items():
            seen = _Seen(regions.corners_of(label), now, changed / int(regions.area[label]))
            self._regions.append(seen)
            last = next((old for old in known if common_share(old.box, seen.box) >= _STAYS), None)
            if last is None or last.changed < _REPLACED or seen.changed > _CALM:
                continue
            if self._may_be_screen(regions, label, seen.box):
                self._cut(seen)

    def _may_be_screen(self, regions: Regions, label: int, box: Corners) -> bool:
        """Return whether a region is as a screen: a filled rectangle, neither too large nor too long."""
        pixels, width, height = size(box), box[2] - box[0], box[3] - box[1]
        return (
            bool(regions.inner[label])
            and pixels <= _LARGEST * regions.mask.size
            and max(width, height) <= _LONGEST * min(width, height)
            and int(regions.area[label]) >= _FILLED * pixels
        )

    def _cut(self, cut: _Seen) -> None:
        """Note a cut; the second in the same place makes it a screen."""
        self._cuts = [old for old in self._cuts if cut.at - old.at <= _MEMORY_S]
        if any(
            cut.at - old.at >= _APART_S and common_share(old.box, cut.box) >= _SAME_PLACE
            for old in self._cuts
        ):
            others = [old for old in self._screens if common_share(old.box, cut.box) < _SAME_PLACE]
            self._screens = [*others, cut][-_MOST:]
            self._draw()
        self._cuts = [*self._cuts, cut][-_MOST:]

    def _draw(self) -> None:
        self._mask = np.zeros(self._shape, np.uint8) if self._screens else None
        for screen in self._screens:
            left, top, right, bottom = (int(side) for side in screen.box)
            assert self._mask is not None
            self._mask[max(top - _RIM, 0) : bottom + _RIM, max(left - _RIM, 0) : right + _RIM] = 255
