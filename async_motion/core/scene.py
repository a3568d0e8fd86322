"""What takes the whole picture at once: gain, offset, a lamp, a switch to infrared, a turned camera.

A robust straight line from the background's grey levels to the frame's says what the camera or the light did
to the whole picture; it is undone before anything is compared. What no line explains is a step when most of
the picture jumps within one frame and is calm again in the next: a lorry that fills the picture jumps in
every frame, a switch only once. The jump itself is held back until the next frame has told them apart.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import SceneChange
from async_motion.core.picture import Plane, eighth, gradient, middle, u8

_SAMPLES = 2500
_DARK, _BRIGHT = 2, 252
_CLIPPED_DARK, _CLIPPED_BRIGHT = 6, 248
_TOLERANCE = 6.0
_FITS = 0.8
"""When so many samples agree with the background as they are, no line is looked for."""
_JUMP = 6
"""A cell of 8x8 pixels has jumped when its pixels changed by more than this on average, in grey levels."""
_LEVELS = np.arange(256)


class Light(NamedTuple):
    """frame = gain * background + offset, in grey levels."""

    gain: float = 1.0
    offset: float = 0.0

    def __bool__(self) -> bool:
        return self.gain != 1.0 or self.offset != 0.0

    @property
    def large(self) -> bool:
        """Whether the model should follow this light if it lasts."""
        return abs(self.gain - 1.0) > 0.1 or abs(self.offset) > 8.0

    def undo(self, picture: Plane) -> Plane:
        """Return `picture` as it would look in the background's light."""
        levels = np.clip((_LEVELS - self.offset) / self.gain + 0.5, 0, 255).astype(np.uint8)
        return u8(cv2.LUT(picture, levels))

    def apply(self, picture: Plane) -> Plane:
        """Return a picture in the background's light as it would look in this one."""
        levels = np.clip(_LEVELS * self.gain + self.offset + 0.5, 0, 255).astype(np.uint8)
        return u8(cv2.LUT(picture, levels))

    def clipped(self, picture: Plane, background: Plane) -> Plane:
        """Return a mask of the pixels of `picture` that this light has made black or white."""
        as_expected = cv2.inRange(cv2.absdiff(self.apply(background), picture), 0, 8)
        sound = cv2.inRange(picture, _CLIPPED_DARK + 1, _CLIPPED_BRIGHT - 1)
        return u8(cv2.subtract(as_expected, sound))


def find_light(picture: Plane, background: Plane) -> Light:
    """Return the line that maps `background` to `picture`, blind to the part of the picture that moves.

    The identity stands unless another line explains clearly more of the picture, and at least half of it.
    """
    stride = max(1, int(np.sqrt(picture.size / _SAMPLES)))
    frame = picture[stride // 2 :: stride, stride // 2 :: stride].astype(np.float32).ravel()
    rest = background[stride // 2 :: stride, stride // 2 :: stride].astype(np.float32).ravel()
    sound = (frame > _DARK) & (frame < _BRIGHT) & (rest > _DARK) & (rest < _BRIGHT)
    frame, rest = frame[sound], rest[sound]
    if frame.size < 30:
        return Light()
    as_it_is = float(np.mean(np.abs(frame - rest) <= _TOLERANCE))
    if as_it_is > _FITS:
        return Light()
    best, explained = Light(), as_it_is
    shift = Light(1.0, middle(frame - rest))
    scale = Light(middle((frame + 2.0) / (rest + 2.0)), 0.0)
    for start in (shift, scale):
        light = _refined(start, frame, rest)
        tolerance = _TOLERANCE * min(max(light.gain, 0.5), 1.0)
        share = float(np.mean(np.abs(frame - light.gain * rest - light.offset) <= tolerance))
        if share > explained:
            best, explained = light, share
    trivial = abs(best.gain - 1.0) <= 0.01 and abs(best.offset) <= 1.0
    return Light() if trivial or explained <= max(0.5, as_it_is + 0.08) else best


def _refined(light: Light, frame: NDArray[np.float32], rest: NDArray[np.float32]) -> Light:
    """Fit the line again and again to the samples that are near it."""
    gain, offset = light
    for _ in range(4):
        error = np.abs(frame - gain * rest - offset)
        near = error <= max(_TOLERANCE, 2.0 * middle(error))
        x, y = rest[near], frame[near]
        mean_x, mean_y = float(x.mean()), float(y.mean())
        spread = float(((x - mean_x) ** 2).mean())
        if spread > 9.0:
            gain = min(max(float(((x - mean_x) * (y - mean_y)).mean()) / spread, 0.2), 5.0)
        offset = mean_y - gain * mean_x
    return Light(gain, offset)


def jumped(picture: Plane, before: Plane) -> float:
    """Return the share of the picture, 0..1, that changed from one frame to the next."""
    cells = eighth(u8(cv2.absdiff(picture, before)))
    return float(np.mean(cells > _JUMP))


def kind_of(picture: Plane, background: Plane) -> SceneChange:
    """Tell what made `picture` differ from `background` all over.

    The edges stay where they are unless the camera was moved. In infrared, things have other brightnesses
    beside each other; under a lamp they keep their ratio to their neighbours.
    """
    before, after = gradient(background).astype(np.float32), gradient(picture).astype(np.float32)
    likeness = np.corrcoef(before.ravel(), after.ravel())[0, 1] if before.std() and after.std() else 0.0
    if likeness < 0.4:
        return SceneChange.MOVED
    ratio = np.log(picture.astype(np.float32) + 8.0) - np.log(background.astype(np.float32) + 8.0)
    local = cv2.blur(ratio, (15, 15))
    return SceneChange.INFRARED if float(np.std(ratio - local)) > 0.12 else SceneChange.LIGHT
