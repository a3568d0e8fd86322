"""The background model: a stack of samples ("looks") of each pixel, and its usual deviation, the noise.

A pixel is background when at least two of its looks are near it. The first seconds fill the stack: the
majority of each pixel's looks is background, and the rest is taken for an object that moved. These first
looks are kept unchanged, so that the majority can still change until the first seconds are over. After that,
looks are replaced first in, first out, and only where nothing moves, so that moving objects do not poison
them. A second, slow stack ignores motion: what it has held for half of its time is at rest by definition. So
a parked car becomes background, and so does the ground that a car has left.

The noise follows a sign-step estimate of a quantile. Unlike a running mean, it does not go blind where
objects pass all the time.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.alignment import Aligner
from async_motion.core.detection.local_light import LocalLight
from async_motion.core.detection.nearest import Bounds, second_nearest
from async_motion.core.detection.scene import Light, Samples, samples_of
from async_motion.core.detection.working_image import (
    Plane,
    above,
    gradient,
    median_of,
    patched,
    sharpness,
    u8,
)

LOOKS = 16
_LOOK_PERIOD_S = 20.0 / LOOKS
"""The stack holds the looks of about 20 s."""
FIRST_S = 6.0
_FIRST_PERIOD_S = 2.0 / LOOKS
_OUTLIER = 20
"""A first look further than this from the majority, in grey levels, shows something that moved."""
SLOW_LOOKS = 9
SLOW_PERIOD_S = 4.0

_NEAR = np.ones((7, 7), np.uint8)
"""The neighbourhood of a pixel."""

NOISE_UNIT = 8
"""The noise plane counts in eighths of a grey level."""
_NOISE_START = 2 * NOISE_UNIT
_NOISE_FLOOR, _NOISE_CAP = np.uint8(NOISE_UNIT // 2), np.uint8(25 * NOISE_UNIT)
_NOISE_PERIOD_S = 0.2
_NOISE_UP, _NOISE_DOWN = 2, 1
"""Two steps up for one down: the plane follows the 67 % quantile of the distances. With eight steps (89 %), a
region that is not believed at once raises the noise below it within 3 s and is never believed."""

HOLDS_S = 5.0
"""A frame stands for the time since the one before, but for at most this: one frame in two seconds teaches as
fast as five a second."""


class Background:
    """The looks, their median `reference`, and the `noise` of one camera, all (h, w) uint8."""

    def __init__(self, plane: Plane, now: float) -> None:
        """Prime the model with one image."""
        self.reference: Plane = plane
        self.noise: Plane = np.full_like(plane, _NOISE_START)
        self.born = now
        self._looks: list[Plane] = []
        self._first: list[Plane] = [plane]
        self._slow: list[Plane] = [plane]
        self._at_rest: Plane | None = None
        self._next = 0
        self._mean_noise: float | None = None
        self._aligner: Aligner | None = None
        self._edges: Plane | None = None
        self._samples: Samples | None = None
        self._sharpness: float | None = None
        self._envelope: tuple[Plane, Plane] | None = None
        self._bounds: Bounds | None = None
        self._settled = False
        """Whether the looks are those of the frame before: bounds cost more than one exact distance."""
        self._first_period = _FIRST_PERIOD_S
        self._looked_at = self._slow_at = self._noise_at = now
        self._derive()

    @property
    def learning(self) -> bool:
        """Whether the first seconds are not over yet."""
        return bool(self._first)

    @property
    def mean_noise(self) -> float:
        """The mean of the noise, in grey levels."""
        if self._mean_noise is None:
            self._mean_noise = float(cv2.mean(self.noise)[0]) / NOISE_UNIT
        return self._mean_noise

    @property
    def aligner(self) -> Aligner:
        """The aligner against the reference, created on first use."""
        if self._aligner is None:
            self._aligner = Aligner(self.reference)
        return self._aligner

    @property
    def edges(self) -> Plane:
        """The reference's gradient."""
        if self._edges is None:
            self._edges = gradient(self.reference)
        return self._edges

    @property
    def sharpness(self) -> float:
        """The sharpness of the reference when it was last learned."""
        if self._sharpness is None:
            self._sharpness = sharpness(self.reference)
        return self._sharpness

    @property
    def samples(self) -> Samples:
        """The reference's samples, for `find_light`."""
        if self._samples is None:
            self._samples = samples_of(self.reference)
        return self._samples

    def teaches_noise(self, now: float) -> bool:
        """Return whether a frame at `now` teaches the noise, and so needs exact distances."""
        return now - self._noise_at >= _NOISE_PERIOD_S - 1e-6

    def distance(self, plane: Plane, limit: Plane | None = None) -> Plane:
        """Return how far each pixel is from its second nearest look, in grey levels.

        With `limit`, only comparisons with `limit` or a higher level are exact; that is several times faster.
        """
        second = None
        if limit is not None and not self._first:
            if self._bounds is None and self._settled:
                self._bounds = Bounds(self._looks)
            self._settled = True
            if self._bounds is not None:
                second = self._bounds.distance(plane, limit)
        if second is None:
            second = second_nearest(plane, self._looks)
        if self._at_rest is not None:
            np.minimum(second, cv2.absdiff(plane, self._at_rest), out=second)
        return second

    def beyond(self, plane: Plane, window: tuple[slice, slice]) -> Plane:
        """Return how far each pixel of the window is outside its neighbourhood's past range, in grey levels.

        A look that has left the stack counts until the next reference, which comes every fourth look.
        """
        if self._envelope is None:
            darkest, brightest = self._looks[0].copy(), self._looks[0].copy()
            for look in self._looks[1:]:
                cv2.min(darkest, look, darkest)
                cv2.max(brightest, look, brightest)
            self._envelope = u8(cv2.erode(darkest, _NEAR)), u8(cv2.dilate(brightest, _NEAR))
        seen, (darkest, brightest) = plane[window], (each[window] for each in self._envelope)
        return u8(cv2.max(cv2.subtract(darkest, seen), cv2.subtract(seen, brightest)))

    def learn(
        self, plane: Plane, distance: Plane, moving: Plane, now: float, kept: Plane | None = None
    ) -> None:
        """Learn `plane` into each part whose period has passed.

        After the first seconds, looks and noise are learned only where the mask `moving` is 0. Where the mask
        `kept` is not 0, they are not learned either, and the slow stack gets the reference instead.
        """
        learns_look = not self._first and now - self._looked_at >= _LOOK_PERIOD_S - 1e-6
        if kept is not None and (learns_look or self.teaches_noise(now)):
            moving = u8(cv2.bitwise_or(moving, kept))
        if self.teaches_noise(now):
            periods = round(min(now - self._noise_at, HOLDS_S) / _NOISE_PERIOD_S)
            self._noise_at = now
            self._follow_noise(distance, moving, periods)
        if self._first:
            self._learn_first(plane, now)
        elif learns_look:
            due = round(min(now - self._looked_at, HOLDS_S) / _LOOK_PERIOD_S)
            self._looked_at = now
            self._bounds, self._settled = None, False
            rest = cv2.bitwise_not(cv2.dilate(moving, np.ones((3, 3), np.uint8)))
            for _ in range(due):
                look = self._looks[self._next]
                cv2.copyTo(plane, rest, look)
                if self._envelope is not None:
                    darkest, brightest = self._envelope
                    cv2.min(darkest, cv2.erode(look, _NEAR), darkest)
                    cv2.max(brightest, cv2.dilate(look, _NEAR), brightest)
                self._next = (self._next + 1) % LOOKS
                if self._next % 4 == 0:
                    self._refer_to(median_of(self._looks))
                    self._sharpness = None
        if now - self._slow_at >= SLOW_PERIOD_S - 1e-6:
            self._slow_at = now
            if kept is not None:
                plane = patched(plane, self.reference, kept)
            self._slow = [*self._slow, plane][-SLOW_LOOKS:]
            if len(self._slow) == SLOW_LOOKS:
                self._at_rest = median_of(self._slow)

    def state(self, now: float) -> dict[str, NDArray[np.generic]]:
        """Return what was learned as arrays by name; times are ages in seconds at `now`."""
        ages = [now - at for at in (self.born, self._looked_at, self._slow_at, self._noise_at)]
        none = np.zeros((0, *self.noise.shape), np.uint8)
        return {
            "noise": self.noise,
            "reference": self.reference,
            "looks": np.stack(self._looks),
            "first": np.stack(self._first) if self._first else none,
            "slow": np.stack(self._slow),
            "times": np.array([*ages, self._first_period, float(self._next)]),
        }

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[np.generic]], now: float) -> Background:
        """Return the background that `state` was taken from, its ages counted back from `now`."""
        background = cls(u8(state["reference"]), now)
        background.noise, background._mean_noise = u8(state["noise"]), None
        background._looks = [u8(look).copy() for look in state["looks"]]
        background._first = [u8(look) for look in state["first"]]
        background._slow = [u8(look) for look in state["slow"]]
        if len(background._slow) == SLOW_LOOKS:
            background._at_rest = median_of(background._slow)
        born, looked, slow, noise, period, following = (float(value) for value in state["times"])
        background.born, background._looked_at = now - born, now - looked
        background._slow_at, background._noise_at = now - slow, now - noise
        background._first_period, background._next = period, int(following)
        return background

    def take_over(self, plane: Plane, where: Plane) -> None:
        """Make `plane` the only look of the pixels where the mask `where` is not 0."""
        self._looks = [patched(look, plane, where) for look in self._looks]
        self._envelope = None
        self._first = [patched(look, plane, where) for look in self._first]
        self._refer_to(patched(self.reference, plane, where))

    def follow(self, light: Light | LocalLight) -> None:
        """Convert everything that was learned to another light."""
        self._looks = [light.apply(look) for look in self._looks]
        self._first = [light.apply(look) for look in self._first]
        self._slow = [light.apply(look) for look in self._slow]
        self._at_rest = None if self._at_rest is None else light.apply(self._at_rest)
        self._refer_to(light.apply(self.reference))

    def _refer_to(self, reference: Plane) -> None:
        self.reference = reference
        self._aligner, self._edges, self._samples, self._envelope = None, None, None, None
        self._bounds, self._settled = None, False

    def _learn_first(self, plane: Plane, now: float) -> None:
        if now - self._looked_at >= self._first_period - 1e-6:
            self._looked_at = now
            self._first.append(plane)
            if len(self._first) >= LOOKS:  # cover the whole time so far with half as many looks
                self._first = self._first[::2]
                self._first_period *= 2.0
            self._derive()
        if now - self.born > FIRST_S:
            self._first = []

    def _derive(self) -> None:
        """Build the stack from the first looks; what is far from the majority is replaced, as it moved."""
        self._refer_to(median_of([self._first[index % len(self._first)] for index in range(LOOKS)]))
        self._sharpness = None
        cleaned = []
        for look in self._first:
            far = above(u8(cv2.absdiff(look, self.reference)), _OUTLIER)
            cleaned.append(patched(look, self.reference, far))
        self._looks = [cleaned[index % len(cleaned)].copy() for index in range(LOOKS)]

    def _follow_noise(self, distance: Plane, moving: Plane, periods: int) -> None:
        """Step the noise towards the distances, once for each period since the last step."""
        # Whole numbers: `NOISE_UNIT * distance > noise` holds if `distance > noise // NOISE_UNIT`.
        above = u8(cv2.compare(distance, self.noise // np.uint8(NOISE_UNIT), cv2.CMP_GT))
        if periods > 1:
            up, down = above & np.uint8(_NOISE_UP), ~above & np.uint8(_NOISE_DOWN)
            # More than one step never goes past the distance that was seen.
            strays = u8(cv2.convertScaleAbs(distance, alpha=NOISE_UNIT))
            higher, lower = cv2.subtract(strays, self.noise), cv2.subtract(self.noise, strays)
            up = np.maximum(up, np.minimum(higher, np.uint8(_NOISE_UP * periods)))
            down = np.maximum(down, np.minimum(lower, np.uint8(_NOISE_DOWN * periods)))
            followed = u8(cv2.subtract(cv2.add(self.noise, up), down))
        else:
            # Modulo 256, from a noise that is far from both ends: up where it is above, else down.
            followed = above & np.uint8(_NOISE_UP + _NOISE_DOWN)
            followed += self.noise - np.uint8(_NOISE_DOWN)
        # A fifth of the time of maximum and minimum with a number.
        np.clip(followed, _NOISE_FLOOR, _NOISE_CAP, out=followed)
        cv2.copyTo(self.noise, moving, followed)
        self.noise, self._mean_noise = followed, None
