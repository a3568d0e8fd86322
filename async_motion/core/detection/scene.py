"""Changes of the whole image: gain, offset, a lamp, a switch to infrared, a turned camera.

A robust straight line maps the background's grey levels to the frame's; it is inverted before anything is
compared. A change that no line explains is a scene change if most of the image changes after a calm frame
and is calm again soon. A lorry that fills the image, or traffic, changes it frame after frame. A shake is
removed first. The first frame of a leap is not reported as motion: the frames after it decide.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.working_image import Plane, above, eighth, gradient, mean, middle, u8
from async_motion.core.model import SceneChange

_SAMPLES = 2500
_DARK, _BRIGHT = 2, 252
_CLIPPED_DARK, _CLIPPED_BRIGHT = 6, 248
_TOLERANCE = 6.0
_FITS = 0.8
"""Share of samples that agree with the background from which no line is fitted."""
_FEWEST = 30
"""Fewer sound samples tell nothing."""
_GAINS = 0.2, 5.0
"""Minimum and maximum gain of a light that still shows the scene."""
_JUMPED = 6
"""Mean change, in grey levels, above which a cell of 8x8 pixels has jumped."""
_WHOLE = 0.5
"""Share of jumped cells above which the whole image has leapt."""
_CALM = 0.25
"""Before and after a leap of share s, a frame is calm if its own share is below `_CALM * s`."""
_PART, _UNUSUAL = 0.05, 3.0
"""A part has leapt if `share > _PART + _UNUSUAL * usual`."""
_USUAL_S = 2.0
_BRIGHTNESS, _SURROUNDINGS = 0.5, (5, 5)
"""Where edges change, brightness changes up and down: over surroundings of that many cells of 8x8 pixels, by
less than this share of what all pixels change."""
_LEVELS = np.arange(256)
_SOUND = u8(np.where((_LEVELS > _DARK) & (_LEVELS < _BRIGHT), 255, 0))
"""Whether a sample of each level is sound."""


class Light(NamedTuple):
    """frame = gain * background + offset, in grey levels."""

    gain: float = 1.0
    offset: float = 0.0

    def __bool__(self) -> bool:
        return self.gain != 1.0 or self.offset != 0.0

    @property
    def large(self) -> bool:
        """Whether the background should adopt this light if it lasts."""
        return abs(self.gain - 1.0) > 0.1 or abs(self.offset) > 8.0

    def undo(self, plane: Plane) -> Plane:
        """Return `plane` as it would look in the background's light."""
        levels = np.clip((_LEVELS - self.offset) / self.gain + 0.5, 0, 255).astype(np.uint8)
        return u8(cv2.LUT(plane, levels))

    def apply(self, plane: Plane) -> Plane:
        """Return `plane`, taken in the background's light, as it would look in this light."""
        levels = np.clip(_LEVELS * self.gain + self.offset + 0.5, 0, 255).astype(np.uint8)
        return u8(cv2.LUT(plane, levels))

    def clipped(self, plane: Plane, background: Plane) -> Plane:
        """Return a mask of the pixels of `plane` that this light has made black or white."""
        as_expected = cv2.inRange(cv2.absdiff(self.apply(background), plane), 0, 8)
        sound = cv2.inRange(plane, _CLIPPED_DARK + 1, _CLIPPED_BRIGHT - 1)
        return u8(cv2.subtract(as_expected, sound))


class Samples:
    """A grid of an image's pixels. A sample that is black or white tells nothing: it is not `sound`."""

    def __init__(self, grey: Plane) -> None:
        self.grey = grey

    @cached_property
    def sound(self) -> Plane:
        """The mask of the sound samples."""
        return u8(cv2.LUT(self.grey, _SOUND))

    @cached_property
    def firm(self) -> int:
        """The number of samples that stay sound unless they change by more than `_TOLERANCE`."""
        return cv2.countNonZero(cv2.inRange(self.grey, _DARK + _TOLERANCE + 1, _BRIGHT - _TOLERANCE - 1))


def samples_of(plane: Plane) -> Samples:
    """Return the samples of an image, for `find_light`."""
    stride = max(1, int(math.sqrt(plane.size / _SAMPLES)))
    return Samples(np.ascontiguousarray(plane[stride // 2 :: stride, stride // 2 :: stride]))


def find_light(image: Samples, background: Samples) -> Light:
    """Return the line that maps `background` to `image`; moving parts are outliers.

    Return the identity unless another line explains clearly more of the image, and at least half of it.
    """
    grey, grey_at_rest = image.grey, background.grey
    changed = above(u8(cv2.absdiff(grey, grey_at_rest)), _TOLERANCE)
    # Where little has changed, counting tells as much as the masks, and is several times as fast.
    count = cv2.countNonZero(changed)
    firm = background.firm - count
    if firm >= _FEWEST and firm - count > _FITS * firm:
        return Light()
    sound = u8(cv2.bitwise_and(image.sound, background.sound))
    samples = cv2.countNonZero(sound)
    if samples < _FEWEST:
        return Light()
    as_it_is = cv2.countNonZero(cv2.subtract(sound, changed)) / samples
    if as_it_is > _FITS:
        return Light()
    chosen = sound > 0
    frame, rest = grey[chosen].astype(np.float32), grey_at_rest[chosen].astype(np.float32)
    best, explained = Light(), as_it_is
    shift = Light(1.0, middle(frame - rest))
    scale = Light(middle((frame + 2.0) / (rest + 2.0)), 0.0)
    for start in (shift, scale):
        light = _refined(start, frame, rest)
        # Almost no slope is no dim light but an image without the scene, such as a recorder's "NO SIGNAL".
        if not _GAINS[0] <= light.gain <= _GAINS[1]:
            continue
        tolerance = _TOLERANCE * min(max(light.gain, 0.5), 1.0)
        share = float(np.mean(np.abs(frame - light.gain * rest - light.offset) <= tolerance))
        if share > explained:
            best, explained = light, share
    trivial = abs(best.gain - 1.0) <= 0.01 and abs(best.offset) <= 1.0
    return Light() if trivial or explained <= max(0.5, as_it_is + 0.08) else best


def _refined(light: Light, frame: NDArray[np.float32], rest: NDArray[np.float32]) -> Light:
    """Refit the line four times to the samples near it; its last slope may be out of `_GAINS`."""
    gain, offset = light
    for _ in range(4):
        gain = min(max(gain, _GAINS[0]), _GAINS[1])
        error = np.abs(frame - gain * rest - offset)
        near = error <= max(_TOLERANCE, 2.0 * middle(error))
        x, y = rest[near], frame[near]
        mean_x, mean_y = mean(x), mean(y)
        spread = mean((x - mean_x) ** 2)
        if spread > 9.0:
            gain = mean((x - mean_x) * (y - mean_y)) / spread
        offset = mean_y - gain * mean_x
    return Light(gain, offset)


def jumped(plane: Plane, before: Plane) -> float:
    """Return the share of the image, 0..1, that changed from one frame to the next."""
    change = u8(cv2.absdiff(plane, before))
    # At rest most images do not need the cells.
    if change.max() <= _JUMPED:
        return 0.0
    cells = eighth(change)
    return cv2.countNonZero(above(cells, _JUMPED)) / cells.size


class Jump(NamedTuple):
    """How a frame differs from the one before.

    `before`: that frame, aligned with the background. `share`: the share of the image, 0..1, that changed,
    with the shake undone; `unexplained`: the share that no gain and offset explain. `part`, `whole`: whether
    a part, or most, of the image has leapt: changed after a calm frame, and more than usual. `broken`:
    whether most of it has, and no light explains it. `renewed`: whether a part has, by its edges rather than
    its brightness.
    """

    before: Plane
    share: float
    unexplained: float
    part: bool
    whole: bool
    broken: bool
    renewed: bool

    def calm_after(self, leap: float) -> bool:
        """Return whether the image is calm again after a frame with the unexplained share `leap`."""
        return self.unexplained < _CALM * leap


class Jumps:
    """Tells a leap after a calm frame from changes that are usual, or that go on frame after frame."""

    def __init__(self, plane: Plane) -> None:
        self._before = self._aligned = plane
        self._last = Jump(plane, 0.0, 0.0, part=False, whole=False, broken=False, renewed=False)
        self._usual = 0.0

    def update(
        self, plane: Plane, aligned: Plane, light: Light, *, known: bool, passed_s: float, age_s: float
    ) -> Jump:
        """Compare `plane`, and `aligned` (shake undone), with the frame before; `light` is this frame's.

        `known`: the background, in some light, explains the frame before. A scene change normally follows a
        calm frame; an object that passes close by changes frame after frame. But a light may need several
        frames, and a flash may precede a switch. So a leap of the whole image that was `known` will do.
        """
        share = jumped(plane, self._before)
        if share and (aligned is not plane or self._aligned is not self._before):
            # A shake is no jump, and neither is an uncertain alignment: the smaller share counts.
            share = min(share, jumped(aligned, self._aligned))
        unexplained = share
        if share > _PART and (line := find_light(samples_of(aligned), samples_of(self._aligned))):
            unexplained = min(share, jumped(line.undo(aligned), self._aligned))
        before, usual = self._last, self._usual
        unusual = share > _PART + _UNUSUAL * usual
        abrupt, calm = before.share < _CALM * share, before.unexplained < _CALM * unexplained
        part = unusual and abrupt
        self._last = Jump(
            self._aligned,
            share,
            unexplained,
            part=part,
            whole=unusual and (abrupt or light.large) and share > _WHOLE,
            broken=(calm or (before.whole and known)) and unexplained > _WHOLE,
            renewed=part and _renewed(aligned, self._aligned),
        )
        grows = min(share, 2.0 * usual + _PART) if age_s > _USUAL_S else share
        self._usual += passed_s / min(_USUAL_S, passed_s + age_s) * (grows - usual)
        self._before, self._aligned = plane, aligned
        return self._last


def _renewed(plane: Plane, before: Plane) -> bool:
    """Return whether edges have changed rather than brightness: a keyframe does that, a light does not."""
    change = cv2.subtract(eighth(plane), eighth(before), dtype=cv2.CV_32F)
    all_change = eighth(u8(cv2.absdiff(plane, before))).sum(dtype=np.float64)
    brightness = np.abs(cv2.blur(change, _SURROUNDINGS)).sum(dtype=np.float64)
    return bool(brightness < _BRIGHTNESS * all_change)


def kind_of(plane: Plane, background: Plane) -> SceneChange:
    """Return what made all of `plane` differ from `background`.

    Edges stay in place unless the camera was moved. Infrared changes the ratio of neighbouring brightnesses;
    a lamp keeps it.
    """
    before, after = gradient(background).astype(np.float32), gradient(plane).astype(np.float32)
    likeness = np.corrcoef(before.ravel(), after.ravel())[0, 1] if before.std() and after.std() else 0.0
    if likeness < 0.4:
        return SceneChange.MOVED
    ratio = np.log(plane.astype(np.float32) + 8.0) - np.log(background.astype(np.float32) + 8.0)
    local = cv2.blur(ratio, (15, 15))
    return SceneChange.INFRARED if float(np.std(ratio - local)) > 0.12 else SceneChange.LIGHT
