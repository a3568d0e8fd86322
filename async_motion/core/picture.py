"""From a camera's luma to the small working picture on which everything else is computed.

The picture is halved until its longer side is at most `LONGEST`: a halving is an exact 2x2 mean, which
OpenCV does at memory speed (1080p to 240x135 in under 0.1 ms), and it averages the sensor's noise away.
"""

from __future__ import annotations

import cv2
import numpy as np

from async_motion.core.model import Luma

LONGEST = 400
"""The longer side of the working picture, in pixels, is at most this."""


def working_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the working picture for a luma of that size."""
    while max(height, width) > LONGEST and min(height, width) >= 2:
        height, width = height // 2, width // 2
    return height, width


def working_picture(luma: Luma) -> Luma:
    """Reduce (H, W) uint8 to `working_size`. The result is the caller's own, contiguous, never a view."""
    small = luma
    while max(small.shape) > LONGEST and min(small.shape) >= 2:
        height, width = small.shape[0] // 2, small.shape[1] // 2
        small = np.asarray(
            cv2.resize(small[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA),
            dtype=np.uint8,
        )
    return small.copy() if small is luma else small
