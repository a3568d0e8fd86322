"""What takes the whole picture at once: gain, offset, light, a switch to infrared, a turned camera.

A robust straight line from the background's grey levels to the frame's says what the camera or the sun did
to the whole picture; it is undone before anything is compared. What no line explains is a change of scene.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from async_motion.core.background import Plane

_STRIDE = 3
_DARK, _BRIGHT = 4, 251
_ROUNDS = 4


class Light(NamedTuple):
    """frame = gain * background + offset, in grey levels."""

    gain: float
    offset: float

    def undo(self, picture: Plane) -> Plane:
        """Return `picture` as it would look in the background's light."""
        if abs(self.gain - 1.0) < 0.004 and abs(self.offset) < 0.5:
            return picture
        levels = np.clip((np.arange(256) - self.offset) / self.gain + 0.5, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(picture, levels), np.uint8)


def fit_light(picture: Plane, reference: Plane) -> Light:
    """Return the line that maps `reference` to `picture`, blind to the part of the picture that moves."""
    frame = picture[::_STRIDE, ::_STRIDE].astype(np.float32).ravel()
    rest = reference[::_STRIDE, ::_STRIDE].astype(np.float32).ravel()
    sound = (frame > _DARK) & (frame < _BRIGHT) & (rest > _DARK) & (rest < _BRIGHT)
    frame, rest = frame[sound], rest[sound]
    if frame.size < 16:
        return Light(1.0, 0.0)
    gain, offset = 1.0, float(np.median(frame - rest))
    for _ in range(_ROUNDS):
        error = np.abs(frame - (gain * rest + offset))
        near = error <= max(2.0, 2.5 * float(np.median(error)))
        x, y = rest[near], frame[near]
        mean_x, mean_y = float(x.mean()), float(y.mean())
        spread = float(((x - mean_x) ** 2).mean())
        if spread > 4.0:
            gain = min(max(float(((x - mean_x) * (y - mean_y)).mean()) / spread, 0.25), 4.0)
        offset = mean_y - gain * mean_x
    return Light(gain, offset)
