"""JPEGs for events: a scene with a moving square."""

from __future__ import annotations

import cv2
import numpy as np

from async_motion.core.model import Box


def walking_square(count: int, width: int = 640, height: int = 360) -> tuple[list[bytes], list[Box]]:
    """Return `count` JPEGs, and the square's box in each as shares (0..1) of the image."""
    across = np.linspace(30, 120, width, dtype=np.uint8)
    ground = np.dstack([np.tile(across, (height, 1))] * 3)
    side = height // 4
    jpegs, boxes = [], []
    for place in range(count):
        left = round((width - side) * place / max(1, count - 1))
        image = ground.copy()
        cv2.rectangle(image, (left, side), (left + side, 2 * side), (40, 60, 230), -1)
        jpegs.append(cv2.imencode(".jpg", image)[1].tobytes())
        boxes.append(Box(left / width, side / height, side / width, side / height))
    return jpegs, boxes
