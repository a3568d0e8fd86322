"""luma -> Detection: what moved in front of one fixed camera, and why we think so.

    luma ─reduce─▶ picture ─undo light─▶ distance to the background ─threshold─▶ mask ─▶ regions ─▶ verdict
                                              ▲                                             │
                                              └────────────── learn where nothing moves ◀───┘

Pure arithmetic on arrays: no clock, no file, no randomness; the same frames give the same verdicts. Every
time constant is in seconds of `monotonic`, so that 5 and 30 frames a second behave alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.background import Background, Plane
from async_motion.core.model import Box, Detection, Luma, Reason, SceneChange
from async_motion.core.picture import working_picture, working_size
from async_motion.core.regions import Confirmation, Region, clean, find_regions
from async_motion.core.scene import Light, fit_light
from async_motion.core.zones import Polygon, Zone, draw
from async_motion.errors import FrameShapeError

__all__ = ["Detector", "DetectorSettings", "Polygon", "Sensitivity", "Zone"]

Sensitivity = Literal["low", "medium", "high"]

THRESHOLDS: dict[str, float] = {"low": 30.0, "medium": 20.0, "high": 13.0}
"""How many grey levels a pixel must differ in a picture without noise, by sensitivity."""

_NOISE_FACTOR = 2.5
_LEARNING_S = 1.0
_SCENE_SHARE = 0.6
_SETTLE_S = 0.3
_MIN_PIXELS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """How one camera is watched. Areas are shares of the picture, 0..1.

    `threshold` is in grey levels (0..255) and stands in for the one that `sensitivity` gives.
    """

    sensitivity: Sensitivity = "medium"
    threshold: float | None = None
    min_area: float = 0.002
    max_area: float = 0.9
    masks: tuple[Polygon, ...] = ()
    zones: tuple[Zone, ...] = ()


class Detector:
    """Watches one camera. Not thread-safe: one caller at a time."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self.counts: Counter[Reason] = Counter()
        """Frames judged so far, by reason."""
        self._shape: tuple[int, int] | None = None
        self._confirmation = Confirmation(3)
        self._mask: Plane = np.zeros((1, 1), np.uint8)
        self._distance: Plane = self._mask

    def update(self, luma: Luma, monotonic: float) -> Detection:
        """Compare `luma` (H, W) uint8 with the background, then learn from it.

        The array is only read, and not kept. The first frame primes the background and scores 0.
        Raises FrameShapeError when (H, W) changes: the caller starts a new detector.
        """
        if luma.ndim != 2 or min(luma.shape) < 1:
            raise FrameShapeError(f"a luma plane has two dimensions, this array is {luma.shape}")
        if self._shape is None:
            detection = self._begin(luma, monotonic)
        elif luma.shape != self._shape:
            raise FrameShapeError(f"the picture was {self._shape} so far and is {luma.shape} now")
        else:
            detection = self._judge(working_picture(luma), monotonic)
        self.counts[detection.reason] += 1
        return detection

    def debug_maps(self) -> dict[str, Plane]:
        """Return pictures of the inner state, (h, w) uint8 each at the working size, empty before a frame."""
        if self._shape is None:
            return {}
        return {
            "background": self._background.reference.copy(),
            "noise": np.clip(self._background.noise * 8.0, 0, 255).astype(np.uint8),
            "threshold": np.clip(self._threshold() * 2.0, 0, 255).astype(np.uint8),
            "distance": self._distance.copy(),
            "mask": self._mask.copy(),
            "ignored": self._ignored.copy(),
        }

    def _begin(self, luma: Luma, monotonic: float) -> Detection:
        height, width = luma.shape
        self._shape = (height, width)
        size = working_size(height, width)
        self._ignored = draw(self.settings.masks, size)
        self._watched = max(1, int(np.count_nonzero(self._ignored == 0)))
        self._zones = [(zone, draw([zone.polygon], size) > 0) for zone in self.settings.zones]
        self._floor = self._floor_map(size)
        self._start(working_picture(luma), monotonic)
        return Detection(motion=False, reason=Reason.LEARNING)

    def _start(self, picture: Plane, monotonic: float) -> None:
        self._background = Background(picture, monotonic)
        self._confirmation.forget()
        self._mask = np.zeros_like(picture)
        self._distance = np.zeros_like(picture)
        self._learning_until = monotonic + _LEARNING_S
        self._settling_until = monotonic

    def _floor_map(self, size: tuple[int, int]) -> NDArray[np.float32]:
        settings = self.settings
        own = settings.threshold if settings.threshold is not None else THRESHOLDS[settings.sensitivity]
        floor = np.full(size, own, np.float32)
        for zone, inside in reversed(self._zones):
            if zone.sensitivity is not None:
                floor[inside] = THRESHOLDS[zone.sensitivity]
        return floor

    def _threshold(self) -> NDArray[np.float32]:
        return np.asarray(self._floor + _NOISE_FACTOR * self._background.noise, np.float32)

    def _judge(self, raw: Plane, monotonic: float) -> Detection:
        light = fit_light(raw, self._background.reference)
        picture = light.undo(raw)
        self._distance = self._background.distance(picture)
        differs = cv2.compare(
            self._distance, np.minimum(self._threshold(), 254.0).astype(np.uint8), cv2.CMP_GT
        )
        changed = cv2.countNonZero(differs) / differs.size
        noise = float(self._background.noise.mean())
        if changed > _SCENE_SHARE:
            self._start(raw, monotonic)
            self._settling_until = monotonic + _SETTLE_S
            return Detection(
                motion=False,
                reason=Reason.SCENE_CHANGE,
                scene_change=_kind(light),
                changed=changed,
                noise=noise,
            )
        whole = clean(np.asarray(differs, np.uint8))
        detection = self._verdict(whole, changed, noise, light, monotonic)
        self._background.learn(picture, self._distance, whole, monotonic)
        return detection

    def _verdict(
        self, whole: Plane, changed: float, noise: float, light: Light, monotonic: float
    ) -> Detection:
        watched = cv2.copyTo(whole, cv2.bitwise_not(self._ignored))
        labels, regions = find_regions(np.asarray(watched, np.uint8))
        large = [region for region in regions if region.area >= self._required(labels, region)]
        fitting = [region for region in large if region.area <= self.settings.max_area * watched.size]
        real = [region for region in fitting if self._confirmation.confirmed(labels == region.label)]
        self._confirmation.remember(np.asarray(watched, np.uint8))

        keep = np.zeros(int(labels.max()) + 1, np.uint8)
        keep[[region.label for region in real]] = 255
        self._mask = keep[labels]
        pixels = cv2.countNonZero(self._mask)
        reason = Reason.MOTION
        if monotonic < self._settling_until:
            reason = Reason.SCENE_CHANGE
        elif monotonic < self._learning_until:
            reason = Reason.LEARNING
        elif not real:
            reason = self._why_not(whole, regions, large, fitting)
        motion = reason is Reason.MOTION
        return Detection(
            motion=motion,
            reason=reason,
            score=pixels / self._watched if motion else 0.0,
            boxes=tuple(_box(region, watched.shape) for region in real) if motion else (),
            zones=self._touched(labels, real) if motion else (),
            scene_change=SceneChange.UNKNOWN if reason is Reason.SCENE_CHANGE else None,
            changed=changed,
            noise=noise,
            gain=light.gain,
        )

    def _why_not(
        self, whole: Plane, regions: list[Region], large: list[Region], fitting: list[Region]
    ) -> Reason:
        if fitting:
            return Reason.DEBOUNCE
        if large:
            return Reason.ABOVE_AREA
        hidden = cv2.countNonZero(cv2.copyTo(whole, self._ignored))
        if hidden >= self._pixels(self.settings.min_area):
            return Reason.MASKED
        return Reason.BELOW_AREA if regions else Reason.STILL

    def _pixels(self, share: float) -> float:
        return max(share * self._ignored.size, _MIN_PIXELS)

    def _required(self, labels: NDArray[np.uint16], region: Region) -> float:
        """Return the pixels that this region needs: the minimum of the zone that it mostly lies in."""
        for zone, inside in self._zones:
            if zone.min_area is not None and 2 * _overlap(labels, region, inside) > region.area:
                return self._pixels(zone.min_area)
        return self._pixels(self.settings.min_area)

    def _touched(self, labels: NDArray[np.uint16], regions: list[Region]) -> tuple[str, ...]:
        touched = []
        for zone, inside in self._zones:
            least = self._pixels(self.settings.min_area if zone.min_area is None else zone.min_area)
            if any(_overlap(labels, region, inside) >= min(least, region.area / 2) for region in regions):
                touched.append(zone.name)
        return tuple(touched)


def _overlap(labels: NDArray[np.uint16], region: Region, inside: NDArray[np.bool_]) -> int:
    rows, columns = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
    return int(np.count_nonzero((labels[rows, columns] == region.label) & inside[rows, columns]))


def _box(region: Region, shape: tuple[int, ...]) -> Box:
    height, width = shape
    return Box(region.x / width, region.y / height, region.width / width, region.height / height)


def _kind(light: Light) -> SceneChange:
    return SceneChange.LIGHT if abs(light.gain - 1.0) > 0.1 or abs(light.offset) > 10 else SceneChange.UNKNOWN
