"""What is watched, and how large and how strong a region must be there: masks, zones, distance."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.regions import Regions
from async_motion.core.detection.sensitivity import MEASURES
from async_motion.core.detection.settings import DetectorSettings
from async_motion.core.detection.working_image import eighth, u8
from async_motion.core.detection.zones import draw

FEWEST_PIXELS = 4
"""No region of fewer pixels is judged."""


class Areas:
    """The masks and zones of one camera, drawn at the working size `shape` (h, w).

    `ignored` is 255 where a mask lies, `watched` elsewhere; `watched_cells` are its 8x8 means. `floor` is the
    threshold of each pixel in grey levels, without its noise.
    """

    def __init__(self, settings: DetectorSettings, shape: tuple[int, int]) -> None:
        self._settings = settings
        self._strong_share = settings.measures.strong_share
        self.ignored = draw(settings.masks, shape)
        self.watched = u8(cv2.bitwise_not(self.ignored))
        self.watched_pixels = max(1, cv2.countNonZero(self.watched))
        self.watched_cells = eighth(self.watched)
        self._zones = [(zone, draw([zone.polygon], shape)) for zone in settings.zones]
        self.floor = np.full(shape, min(max(round(settings.measures.threshold), 1), 255), np.uint8)
        for zone, inside in reversed(self._zones):
            if zone.sensitivity is not None:
                self.floor[inside > 0] = round(MEASURES[zone.sensitivity].threshold)

    def pixels(self, share: float) -> float:
        """Return the pixels of this share of the image, at least `FEWEST_PIXELS`."""
        return max(share * self.ignored.size, FEWEST_PIXELS)

    @property
    def far(self) -> float:
        """The minimum area far away, as a share of the image: never more than nearby."""
        far, near = self._settings.min_area_far, self._settings.min_area
        return near if far is None else min(far, near)

    def _by_distance(self, regions: Regions) -> NDArray[np.float64]:
        """Return how many pixels each region needs: more the lower its lower edge, as it is nearer."""
        near, far, horizon = self._settings.min_area, self.far, self._settings.horizon
        if far == near:
            # Not `near`, but its squared root: rounded as where the two differ.
            return np.full(regions.count, max(math.sqrt(near) ** 2 * self.ignored.size, FEWEST_PIXELS))
        foot = (regions.boxes[:, 1] + regions.boxes[:, 3]) / regions.shape[0]
        nearness = np.clip((foot - horizon) / (1.0 - horizon), 0.0, 1.0)
        area = (np.sqrt(far) + nearness * (np.sqrt(near) - np.sqrt(far))) ** 2
        return np.asarray(np.maximum(area * self.ignored.size, FEWEST_PIXELS), np.float64)

    def required(self, regions: Regions) -> NDArray[np.float64]:
        """Return how many pixels each region needs, by the zone that holds most of it or by distance."""
        if regions.count == 1:
            return np.zeros(1)
        required = self._by_distance(regions)
        for zone, inside in reversed(self._zones):
            if zone.min_area is not None:
                required[regions.share(inside) > 0.5] = self.pixels(zone.min_area)
        return required

    def strong_shares(self, regions: Regions, among: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the share of the minimum area that must be strong, for each region `among` these."""
        share = np.full(regions.count, self._strong_share)
        for zone, inside in reversed(self._zones):
            if zone.sensitivity is not None:
                share[regions.share(inside, among) > 0.5] = MEASURES[zone.sensitivity].strong_share
        return share

    def touched(self, regions: Regions, real: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the names of the zones that hold enough of a region that is `real` motion."""
        if not self._zones:
            return ()
        touched = []
        by_distance = self._by_distance(regions)
        for zone, inside in self._zones:
            min_area = by_distance if zone.min_area is None else self.pixels(zone.min_area)
            overlap = regions.share(inside, real) * regions.area
            if np.any(real & (overlap >= np.minimum(min_area, regions.area / 2)) & (overlap > 0)):
                touched.append(zone.name)
        return tuple(touched)
