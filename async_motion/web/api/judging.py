"""Estimate from stored boxes whether an event would be reported with other masks, zones and areas.

It is an estimate: a box is larger than what moved in it, and frames that were never stored cannot be judged.
The unmasked part of a box, times `FILLED`, is compared with the minimum area at the box's lower edge. As in
the detector, this is `min_area_far` down to the horizon; below it, its square root grows linearly to that of
`min_area` at the lower edge of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from async_motion.core.model import Box, FrameInfo
from async_motion.web.api import models

GRID: Final = 8
"""A box is sampled at GRID x GRID points."""
FILLED: Final = 0.5
"""Share of a box that moved: an assumption, not measured, as the stored boxes do not hold it."""

Points = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reported`: at least one frame would have had motion. `zones`: those that it would have touched."""

    reported: bool
    zones: tuple[str, ...]


def judge(frames: Sequence[FrameInfo], shapes: models.ShapesBody) -> Verdict:
    """Return the verdict on an event with these frames, under `shapes`."""
    reported = False
    touched: dict[str, None] = {}
    for frame in frames:
        for box in frame.boxes:
            points = _samples(box)
            free = [point for point in points if not any(inside(point, mask) for mask in shapes.masks)]
            area = box.width * box.height * FILLED * len(free) / len(points)
            if not free or area < smallest(box.y + box.height, shapes):
                continue
            reported = True
            for name, zone in shapes.zones.items():
                within = sum(inside(point, zone.polygon) for point in free) / len(points)
                min_area = (
                    zone.min_area if zone.min_area is not None else smallest(box.y + box.height, shapes)
                )
                if within and box.width * box.height * FILLED * within >= min_area:
                    touched[name] = None
    return Verdict(reported=reported, zones=tuple(touched))


def smallest(bottom: float, shapes: models.ShapesBody) -> float:
    """Return the minimum area (share, 0..1) of a box whose lower edge is at `bottom`, 0..1 from the top."""
    far, near = shapes.min_area_far, shapes.min_area
    if far is None or far >= near:
        return near
    # The side of an object, the root of its area, grows linearly from the horizon down.
    way = min(1.0, max(0.0, (bottom - shapes.horizon) / (1.0 - shapes.horizon)))
    return (math.sqrt(far) + (math.sqrt(near) - math.sqrt(far)) * way) ** 2


def inside(point: tuple[float, float], polygon: Points) -> bool:
    """Return whether a point (x, y) lies in a polygon, by the even-odd rule."""
    x, y = point
    within = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            within = not within
    return within


def _samples(box: Box) -> list[tuple[float, float]]:
    return [
        (box.x + box.width * (column + 0.5) / GRID, box.y + box.height * (row + 0.5) / GRID)
        for row in range(GRID)
        for column in range(GRID)
    ]
