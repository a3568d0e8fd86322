"""Places where motion was confirmed: for some seconds, weaker evidence is enough there.

A person who stops, or stands before a similar ground, has fewer strong pixels than one who walks in. So
strong evidence opens a place, and weak evidence there is motion but does not extend it: without strong
evidence the place is closed after `_HOLDS_S`. Places follow the regions that are motion, whatever tracks they
continue: a person who stands falls into parts, whose tracks come and go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.regions import Regions, labels

_HOLDS_S = 10.0
_CONFIRMED_S = 0.5
"""Motion of this length confirms a place: an insect in front of the lens does not."""
_LONGEST_STEP_S = 0.25
"""A frame stands for at most this length of motion."""
_JOINS, _NEAR = 2.0, 3.0
"""How far from a place, in pixels, motion belongs to it, and a region is near it."""


@dataclass(slots=True)
class _Place:
    """`box` (left, top, right, bottom in pixels) of the last motion, at `at`; all motion took `lasted` s."""

    box: NDArray[np.float64]
    at: float
    lasted: float = 0.0


class Places:
    """The places of one camera. Call `near`, then `update`, for each frame."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def near(self, regions: Regions, now: float) -> NDArray[np.bool_]:
        """Return which regions are at or beside a confirmed place."""
        found = np.zeros(regions.count, np.bool_)
        if not self._places or regions.count < 2:
            return found
        boxes = _corners(regions)
        for place in self._places:
            if place.lasted >= _CONFIRMED_S - 1e-6 and now - place.at <= _HOLDS_S:
                found |= _meets(boxes, place.box, _NEAR)
        found[0] = False
        return found

    def update(self, regions: Regions, real: NDArray[np.bool_], now: float, passed_s: float) -> None:
        """Open or extend the places of the regions that are `real` motion; close those without for long."""
        self._places = [place for place in self._places if now - place.at <= _HOLDS_S]
        boxes = _corners(regions)
        met: dict[int, _Place] = {}
        for label in labels(real):
            box = boxes[label]
            place = max(
                (place for place in self._places if _meets(box[None], place.box, _JOINS)[0]),
                key=lambda place: place.lasted,
                default=None,
            )
            if place is None:
                place = _Place(box, now)
                self._places.append(place)
            if id(place) in met:
                # The parts of one object are one place.
                place.box = np.concatenate(
                    (np.minimum(place.box[:2], box[:2]), np.maximum(place.box[2:], box[2:]))
                )
            else:
                place.box = box
            met[id(place)] = place
        for place in met.values():
            place.at = now
            place.lasted += min(passed_s, _LONGEST_STEP_S)


def _corners(regions: Regions) -> NDArray[np.float64]:
    """Return the regions' boxes (n, 4) as left, top, right, bottom."""
    corners = regions.boxes.astype(np.float64)
    corners[:, 2:] += corners[:, :2]
    return corners


def _meets(boxes: NDArray[np.float64], box: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Return which of `boxes` overlap `box` enlarged by `margin` pixels."""
    overlap = np.minimum(boxes[:, 2:], box[2:] + margin) > np.maximum(boxes[:, :2], box[:2] - margin)
    return np.asarray(overlap.all(axis=1), np.bool_)
