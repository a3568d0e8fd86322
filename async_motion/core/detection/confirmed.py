"""Places where motion was confirmed: for some seconds, weaker evidence is enough there.

A person who stops, or stands before a similar ground, has fewer strong pixels than one who walks in. So
strong evidence opens a place, and weak evidence there is motion but does not extend it: without strong
evidence the place is closed after `_HOLDS_S`. Places follow the regions that are motion, whatever tracks they
continue: a person who stands falls into parts, whose tracks come and go.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.regions import Regions, labels, some

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


class Places:
    """The places of one camera, at most `_MOST`. Call `near`, then `update`, for each frame."""

    def __init__(self) -> None:
        self._boxes = np.zeros((0, 4))
        """Left, top, right and bottom of each place's last motion, in pixels."""
        self._at = np.zeros(0)
        """When that was."""
        self._lasted = np.zeros(0)
        """How many seconds of motion each place has had."""
        self._weak_at = np.zeros(0)
        """When weak evidence last counted there."""

    def weaken(self, regions: Regions, weak: NDArray[np.bool_], now: float) -> None:
        """Note that these `weak` regions count as motion now.

        The background does not learn them, so they may become strong by themselves. For `_PAUSE_S` what is
        strong there extends no place: otherwise a television would be motion for ever.
        """
        for label in labels(weak):
            self._weak_at[_meets(self._boxes, regions.corners[label], _NEAR)] = now

    def near(self, regions: Regions, now: float) -> NDArray[np.bool_]:
        """Return which regions are at or beside a confirmed place."""
        found = np.zeros(regions.count, np.bool_)
        if regions.count < 2 or not self._at.size:
            return found
        confirmed = self._confirmed() & (now - self._at <= _HOLDS_S)
        if some(confirmed):
            each = _meets(regions.corners[:, None], self._boxes[confirmed], _NEAR)
            found = np.asarray(each.any(axis=1), np.bool_)
            found[0] = False
        return found

    def update(self, regions: Regions, real: NDArray[np.bool_], now: float, passed_s: float) -> None:
        """Open or extend the places of the regions that are `real` motion; close those without for long."""
        held = now - self._at <= _HOLDS_S
        if False in held.tolist():
            self._boxes, self._at = self._boxes[held], self._at[held]
            self._lasted, self._weak_at = self._lasted[held], self._weak_at[held]
        if not some(real):
            return
        met: set[int] = set()
        for label in labels(real):
            box = regions.corners[label]
            meets = np.flatnonzero(_meets(self._boxes, box, _JOINS))
            place = int(meets[self._lasted[meets].argmax()]) if meets.size else self._opened(met, now)
            if place is None:
                continue
            if place in met:
                # The parts of one object are one place.
                known = self._boxes[place]
                box = np.concatenate((np.minimum(known[:2], box[:2]), np.maximum(known[2:], box[2:])))
            self._boxes[place] = box
            met.add(place)
        pause = max(_PAUSE_S, 1.5 * passed_s)
        for place in met:
            if now - self._weak_at[place] <= pause:
                continue
            if now - self._at[place] > pause and self._lasted[place] < _CONFIRMED_S - 1e-6:
                self._lasted[place] = 0.0
            self._lasted[place] += min(passed_s, _LONGEST_STEP_S)
            self._at[place] = now

    def _confirmed(self) -> NDArray[np.bool_]:
        return np.asarray(self._lasted >= _CONFIRMED_S - 1e-6, np.bool_)

    def _opened(self, met: set[int], now: float) -> int | None:
        """Return a new place, if need be instead of the oldest unconfirmed one that is not `met`."""
        if len(self._at) < _MOST:
            self._boxes = np.concatenate((self._boxes, np.zeros((1, 4))))
            self._at, self._lasted = np.append(self._at, now), np.append(self._lasted, 0.0)
            self._weak_at = np.append(self._weak_at, -np.inf)
            return len(self._at) - 1
        others = [place for place in np.flatnonzero(~self._confirmed()).tolist() if place not in met]
        if not others:
            return None
        place = int(min(others, key=self._at.__getitem__))
        self._at[place], self._lasted[place], self._weak_at[place] = now, 0.0, -np.inf
        return place


def _meets(boxes: NDArray[np.float64], box: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Return which of `boxes` (..., 4) overlap `box` (..., 4) enlarged by `margin` pixels."""
    overlap = (boxes[..., :2] < box[..., 2:] + margin) & (boxes[..., 2:] > box[..., :2] - margin)
    return np.asarray(overlap[..., 0] & overlap[..., 1], np.bool_)
