"""One frame as the verdict sees it, and the thresholds that it is compared with.

A pixel's threshold is a floor in grey levels, lower in calm places, plus a multiple of the pixel's noise.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2

from async_motion.core.detection.alignment import Shift
from async_motion.core.detection.background import NOISE_UNIT
from async_motion.core.detection.regions import Unrest
from async_motion.core.detection.scene import Light
from async_motion.core.detection.working_image import Plane, u8

_CALM_SHARE = 0.5
"""Where no specks come and go, the threshold is multiplied by this."""
_CALM_FROM_S, _CALM_AFTER_S = 0.5, 4.5
"""Ages of the background between which the trust in calm places grows from 0 to 1."""


class Look(NamedTuple):
    """One frame being judged: `plane` as it came, `aligned` without shake, `corrected` also without light.

    `threshold` is `floor` plus the weighted noise, `whole_threshold` the same without the discount for calm
    places. `differs` marks what exceeds the former, `stands_out` what exceeds the latter.
    """

    plane: Plane
    aligned: Plane
    corrected: Plane
    shift: Shift
    light: Light
    distance: Plane
    floor: Plane
    threshold: Plane
    whole_threshold: Plane
    differs: Plane
    stands_out: Plane
    changed: float


class _Calm(NamedTuple):
    """The last result of `_calm_floor`, and its inputs."""

    trust: float
    cells: bytes
    floor: Plane


class Levels(NamedTuple):
    """The last thresholds, and their inputs, which do not change in every frame."""

    floor: Plane
    noise: Plane
    dimmed: float
    threshold: Plane
    whole_threshold: Plane

    def hold(self, floor: Plane, noise: Plane, dimmed: float) -> bool:
        """Return whether the thresholds still apply. Planes are never changed in place."""
        return floor is self.floor and noise is self.noise and dimmed == self.dimmed


class Thresholds:
    """The thresholds of one camera. `floor` (h, w) are the grey levels outside of calm places."""

    def __init__(self, floor: Plane, noise_factor: float) -> None:
        self._floor, self._weight = floor, noise_factor / NOISE_UNIT
        self._calm: _Calm | None = None
        self._levels: Levels | None = None

    def of(self, noise: Plane, unrest: Unrest, age_s: float, dimmed: float) -> Levels:
        """Return the thresholds with this `noise`, for a background of this age.

        `dimmed` is at least 1: undoing the light of a dimmed image amplifies its noise.
        """
        floor = self._calm_floor(unrest, age_s)
        if self._levels is None or not self._levels.hold(floor, noise, dimmed):
            threshold = u8(cv2.addWeighted(floor, dimmed, noise, self._weight, 0.0))
            whole = u8(cv2.addWeighted(self._floor, dimmed, noise, self._weight, 0.0))
            self._levels = Levels(floor, noise, dimmed, threshold, whole)
        return self._levels

    def _calm_floor(self, unrest: Unrest, age_s: float) -> Plane:
        """Return the threshold of each pixel without its noise: lower where the scene has been calm."""
        trust = min(max((age_s - _CALM_FROM_S) / (_CALM_AFTER_S - _CALM_FROM_S), 0.0), 1.0)
        if not trust:
            return self._floor
        cells = unrest.calm_cells()
        as_bytes = cells.tobytes()
        if self._calm is None or trust != self._calm.trust or as_bytes != self._calm.cells:
            scale = trust * (1.0 - _CALM_SHARE) / 255.0
            less = cv2.multiply(unrest.calm(cells), self._floor, scale=scale)
            self._calm = _Calm(trust, as_bytes, u8(cv2.subtract(self._floor, less)))
        return self._calm.floor
