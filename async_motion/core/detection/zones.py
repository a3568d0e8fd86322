"""Masks and named zones: polygons in shares of the image, drawn once at the working size.

A mask is an area that never counts. A zone is a named area that is reported; it may have its own sensitivity
and minimum area, which apply to the regions that lie mostly in it. Where zones overlap, the first in the
settings that covers most of a region decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.options import Sensitivity

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) as shares of the image, 0..1 each, at least three."""

_SHIFT = 4  # fillPoly takes fixed-point corners: sixteenths of a pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A named area. Where `sensitivity` or `min_area` (share of the image) is None, the camera's applies."""

    name: str
    polygon: Polygon
    sensitivity: Sensitivity | None = None
    min_area: float | None = None


def draw(polygons: Sequence[Polygon], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an (H, W) uint8 plane with 255 inside any of the polygons and 0 elsewhere."""
    height, width = shape
    plane = np.zeros(shape, np.uint8)
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64) * (width, height) - 0.5
        fixed = np.round(np.clip(corners, -1.0, (width, height)) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(plane, [fixed], 255, lineType=cv2.LINE_8, shift=_SHIFT)
    return plane
