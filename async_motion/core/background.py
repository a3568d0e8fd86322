"""What the camera sees at rest: a stack of past looks of each pixel, and how much each usually strays.

A pixel is explained when at least two of its samples are near it. Samples are replaced first in, first out,
and only where nothing moves, so that what moves does not poison them; what has stood still for a while is
taken over. How much a pixel strays is followed by the sign-step estimate of a quantile: unlike a running
mean, it does not go blind where things pass by all the time.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

SAMPLES = 16
MEMORY_S = 24.0
"""The stack holds the looks of about so many seconds."""
FIRST_S = 1.0
"""The first looks are taken faster: the stack is filled once in so many seconds."""
NOISE_CAP = 30.0


class Background:
    """The samples (SAMPLES, H, W) uint8 and the deviation (H, W) float32 in grey levels of one camera."""

    def __init__(self, picture: Plane, monotonic: float) -> None:
        """Prime every sample with `picture` (H, W)."""
        self.samples: Plane = np.repeat(picture[None], SAMPLES, axis=0)
        self.noise = np.full(picture.shape, 2.0, np.float32)
        self.reference: Plane = picture.copy()
        self._next = 0
        self._born = monotonic
        self._sampled_at = monotonic
        self._seen_at = monotonic

    def distance(self, picture: Plane) -> Plane:
        """Return how far each pixel is from its second nearest sample, in grey levels."""
        nearest = cv2.absdiff(picture, self.samples[0])
        second = np.full_like(nearest, 255)
        for sample in self.samples[1:]:
            difference = cv2.absdiff(picture, sample)
            cv2.min(second, cv2.max(nearest, difference), second)
            cv2.min(nearest, difference, nearest)
        return np.asarray(second, np.uint8)

    def learn(self, picture: Plane, distance: Plane, moving: Plane, monotonic: float) -> None:
        """Take `picture` over where `moving` is 0."""
        passed = min(max(monotonic - self._seen_at, 0.0), 1.0)
        self._seen_at = monotonic
        still = cv2.bitwise_not(moving)
        step = np.float32(4.0 * passed)
        above = distance > self.noise
        change = np.where(above, 4.0 * step, -step).astype(np.float32)
        change[moving > 0] = 0.0
        self.noise = np.clip(self.noise + change, 0.5, NOISE_CAP).astype(np.float32)
        young = monotonic - self._born < FIRST_S
        period = (FIRST_S if young else MEMORY_S) / SAMPLES
        if monotonic - self._sampled_at >= period:
            self._sampled_at = monotonic
            cv2.copyTo(picture, still, self.samples[self._next])
            self._next = (self._next + 1) % SAMPLES
            cv2.copyTo(picture, still, self.reference)

    def absorb(self, picture: Plane, where: Plane) -> None:
        """Make `picture` the only look of the pixels where `where` is not 0."""
        for sample in self.samples:
            cv2.copyTo(picture, where, sample)
        cv2.copyTo(picture, where, self.reference)
