"""Small masks, as the detector makes them."""

from __future__ import annotations

import numpy as np

from async_motion.core.detection.working_image import Plane

Box = tuple[int, int, int, int]
"""Left, top, width, height, in pixels."""


def plane(*boxes: Box) -> Plane:
    """Return a mask (60, 160) that is 255 in the boxes and 0 elsewhere."""
    mask = np.zeros((60, 160), np.uint8)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = 255
    return mask
