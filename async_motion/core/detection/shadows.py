"""Cast shadows: darker than the background, with its texture unchanged.

The logarithm of the ratio of frame to background is flat inside a shadow, for any texture of the ground
(the ratio test of Rosin and Ellis, "Image difference threshold strategies and shadow detection", 1995). Each
pixel takes the lowest variance of the windows that contain it, so a shadow is recognised up to its edge.
"""

from __future__ import annotations

import cv2
import numpy as np

from async_motion.core.detection.working_image import Plane, as_mask, extent, u8

_LOGARITHMS = np.log(np.arange(256) + 4.0).astype(np.float32)
_WINDOW = (5, 5)
_FLAT = 0.04**2
"""Maximum variance of the log ratio in a flat window."""
_DARKEST, _LIGHTEST = float(np.log(0.35)), -0.04
_SQUARE = np.ones(_WINDOW, np.uint8)
_REACH = 4
"""How far the test looks beyond a pixel."""
_SMALL = np.ones((3, 3), np.uint8)


def shadows(plane: Plane, background: Plane, differs: Plane) -> Plane:
    """Return a mask of those pixels of `differs` that are shadow."""
    ratio = cv2.subtract(cv2.LUT(plane, _LOGARITHMS), cv2.LUT(background, _LOGARITHMS))
    darker = u8(cv2.bitwise_and(as_mask((ratio >= _DARKEST) & (ratio <= _LIGHTEST)), differs))
    if not cv2.countNonZero(darker):
        return darker
    # What the opening at the end removes is not worth the test.
    found = u8(cv2.morphologyEx(darker, cv2.MORPH_OPEN, _SMALL))
    window = extent(found, _REACH)
    if window is not None:
        part = ratio[window]
        mean = cv2.blur(part, _WINDOW)
        variance = cv2.subtract(cv2.sqrBoxFilter(part, cv2.CV_32F, _WINDOW), cv2.multiply(mean, mean))
        flat = as_mask(cv2.erode(variance, _SQUARE) <= _FLAT)
        found[window] = cv2.morphologyEx(cv2.bitwise_and(flat, found[window]), cv2.MORPH_OPEN, _SMALL)
    return found
