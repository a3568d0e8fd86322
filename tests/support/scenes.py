"""Still scenes as luma planes, drawn from a seed; for moving ones encoded as clips, see `video`."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Luma


def patches(height: int = 120, width: int = 160, *, seed: int = 0) -> Luma:
    """Return a plane (height, width) of patches of 8x8 pixels with values 70..179."""
    coarse = np.random.default_rng(seed).integers(70, 180, (height // 8 + 1, width // 8 + 1))
    return np.kron(coarse, np.ones((8, 8), int))[:height, :width].astype(np.uint8)


def texture(height: int = 240, width: int = 320, *, seed: int = 3) -> Luma:
    """Return a plane (height, width) with soft structures of about 12 pixels."""
    coarse = np.random.default_rng(seed).integers(30, 220, (height // 12, width // 12), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def objects(
    height: int,
    width: int,
    *,
    seed: int,
    count: int = 40,
    widths: tuple[int, int] = (20, 160),
    heights: tuple[int, int] = (20, 120),
) -> NDArray[np.float32]:
    """Return a grey plane (height, width), float32, with `count` rectangles of values 40..219."""
    draw = np.random.default_rng(seed)
    plane = np.full((height, width), 110, np.float32)
    for _ in range(count):
        x, y = int(draw.integers(0, width)), int(draw.integers(0, height))
        w, h = int(draw.integers(*widths)), int(draw.integers(*heights))
        cv2.rectangle(plane, (x, y), (x + w, y + h), float(draw.integers(40, 220)), -1)
    return plane
