"""Places where motion was confirmed: for some seconds, weaker evidence is enough there.

A person who stops, or stands before a similar ground, has fewer strong pixels than one who walks in. So
strong evidence opens a place, and weak evidence there is motion but does not extend it: without strong
evidence the place is closed after `_HOLDS_S`. Places follow the regions that are motion, whatever tracks they
continue: a person who stands falls into parts, whose tracks come and go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.corners import Corners, enclosing, meet
from async_motion.core.detection.regions import Regions, labels

_HOLDS_S = 10.0
_CONFIRMED_S = 0.5
"""Motion of this length confirms a place: an insect in front of the lens does not."""
_LONGEST_STEP_S = 0.25
"""A frame stands for at most this length of motion."""
_PAUSE_S = 1.0
"""Motion with longer pauses confirms nothing: insects come back to a lamp, branches to their place."""
_MOST = 32
"""More places are noise: snow, hail, a flock."""
_JOINS, _NEAR = 2.0, 3.0
"""How far from a place, in pixels, motion belongs to it, and a region is near it."""


@dataclass(slots=True, eq=False)
class _Place:
    """One place: the `box` of its last motion, and when that was; how many seconds of motion it has had."""

    box: Corners
    at: float
    lasted: float = 0.0
    weak_at: float = -math.inf
    """When weak evidence last counted there."""

    @property
    def is_confirmed(self) -> bool:
        return self.lasted >= _CONFIRMED_S - 1e-6


class Places:
    """The places of one camera, at most `_MOST`. Call `near`, then `update`, for each frame."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def weaken(self, regions: Regions, weak: NDArray[np.bool_], now: float) -> None:
        """Note that these `weak` regions count as motion now.

        The background does not learn them, so they may become strong by themselves. For `_PAUSE_S` what is
        strong there extends no place: otherwise a television would be motion for ever.
        """
        for label in labels(weak):
            box = regions.corners_of(label)
            for place in self._places:
                if meet(place.box, box, _NEAR):
                    place.weak_at = now

    def near(self, regions: Regions, among: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are at or beside a confirmed place."""
        found = np.zeros(regions.count, np.bool_)
        confirmed = [place.box for place in self._places if place.is_confirmed and now - place.at <= _HOLDS_S]
        for label in labels(among) if confirmed else []:
            box = regions.corners_of(label)
            found[label] = any(meet(known, box, _NEAR) for known in confirmed)
        return found

    def update(self, regions: Regions, real: NDArray[np.bool_], now: float, passed_s: float) -> None:
        """Open or extend the places of the regions that are `real` motion; close those without for long."""
        self._places = [place for place in self._places if now - place.at <= _HOLDS_S]
        met: list[_Place] = []
        for label in labels(real):
            box = regions.corners_of(label)
            meets = [place for place in self._places if meet(place.box, box, _JOINS)]
            place = max(meets, key=lambda place: place.lasted) if meets else self._opened(box, met, now)
            if place is None:
                continue
            if place in met:
                # The parts of one object are one place.
                place.box = enclosing((place.box, box))
            else:
                place.box = box
                met.append(place)
        pause = max(_PAUSE_S, 1.5 * passed_s)
        for place in met:
            if now - place.weak_at <= pause:
                continue
            if now - place.at > pause and not place.is_confirmed:
                place.lasted = 0.0
            place.lasted += min(passed_s, _LONGEST_STEP_S)
            place.at = now

    def _opened(self, box: Corners, met: list[_Place], now: float) -> _Place | None:
        """Return a new place, if need be instead of the oldest unconfirmed one that is not `met`."""
        if len(self._places) >= _MOST:
            others = [place for place in self._places if not place.is_confirmed and place not in met]
            if not others:
                return None
            oldest = min(others, key=lambda place: place.at)
            place = self._places[self._places.index(oldest)] = _Place(box, now)
            return place
        self._places.append(place := _Place(box, now))
        return place
