"""Estimate from stored boxes whether events would be reported with other masks, zones and areas.

The rules are the detector's. A region counts if its unmasked pixels are at least the minimum area: that of
the first zone that holds most of it, else `min_area_far` down to the horizon; below it, the square root of
the area grows linearly to that of `min_area` at the lower edge of the image. A region touches a zone that
holds as many of its pixels, or half of them.

It is an estimate. A box is larger than what moved in it: the pixels that moved are taken as spread evenly
over the boxes of a frame, whose score tells their number. Frames that were never stored cannot be judged, nor
a sensitivity: the bucket does not hold how far the pixels were above the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from async_motion.core.detection.working_image import Plane
from async_motion.core.detection.zones import draw
from async_motion.core.model import Box, FrameInfo
from async_motion.web.api import models

SIZE: Final = (225, 400)
"""Height and width of the planes on which the shapes are drawn."""
FILLED: Final = 0.5
"""Share of a box that moved in a frame without a score."""

Polygons = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reported`: at least one frame would have had motion. `zones`: those that it would have touched."""

    reported: bool
    zones: tuple[str, ...]


def judge(
    events: Sequence[Sequence[FrameInfo]], shapes: models.ShapesBody, *, masks: Polygons = ()
) -> list[Verdict]:
    """Return the verdict on each event, given by its frames, under `shapes`. Blocks.

    `masks` are those in force when the frames were stored: a score is a share of what they leave.
    """
    judging = _Judging(shapes, masks)
    return [judging.verdict(frames) for frames in events]


def smallest(bottom: float, shapes: models.ShapesBody) -> float:
    """Return the minimum area (share, 0..1) of a region with its lower edge at `bottom`, from the top."""
    far, near = shapes.min_area_far, shapes.min_area
    if far is None or far >= near:
        return near
    # The side of an object, the root of its area, grows linearly from the horizon down.
    way = min(1.0, max(0.0, (bottom - shapes.horizon) / (1.0 - shapes.horizon)))
    return (math.sqrt(far) + (math.sqrt(near) - math.sqrt(far)) * way) ** 2


class _Judging:
    """The shapes, drawn once for all events."""

    def __init__(self, shapes: models.ShapesBody, masks: Polygons) -> None:
        self._shapes = shapes
        self._watched = _count(~_drawn(masks)) / (SIZE[0] * SIZE[1])
        self._free: Plane = ~_drawn(shapes.masks)
        self._zones = [
            (name, zone.min_area, self._free & _drawn([zone.polygon])) for name, zone in shapes.zones.items()
        ]

    def verdict(self, frames: Sequence[FrameInfo]) -> Verdict:
        reported = False
        touched: dict[str, None] = {}
        for frame in frames:
            filled = self._filled(frame)
            for box in frame.boxes:
                counts, zones = self._judge_region(box, filled)
                reported |= counts
                touched |= dict.fromkeys(zones)
        return Verdict(reported=reported, zones=tuple(touched))

    def _filled(self, frame: FrameInfo) -> float:
        """Return the share of a frame's boxes that moved: its score counts the pixels of all regions."""
        boxes = sum(box.width * box.height for box in frame.boxes)
        return min(1.0, frame.score * self._watched / boxes) if boxes and frame.score else FILLED

    def _judge_region(self, box: Box, filled: float) -> tuple[bool, list[str]]:
        """Return whether the region in a box counts, and the zones that it touches."""
        rows, columns = (
            _span(start, length, size)
            for start, length, size in ((box.y, box.height, SIZE[0]), (box.x, box.width, SIZE[1]))
        )
        free = self._free[rows, columns]
        if not _count(free):
            return False, []
        pixel = box.width * box.height * filled / free.size
        area = pixel * _count(free)
        bottom = (rows.start + int((free > 0).nonzero()[0].max()) + 1) / SIZE[0]
        by_distance = smallest(min(bottom, box.y + box.height), self._shapes)
        held = [(name, own, pixel * _count(zone[rows, columns])) for name, own, zone in self._zones]
        required = (own for _, own, within in held if own is not None and within > area / 2)
        if area < next(required, by_distance):
            return False, []
        return True, [
            name
            for name, own, within in held
            if within and within >= min(by_distance if own is None else own, area / 2)
        ]


def _drawn(polygons: Polygons) -> Plane:
    """Return a plane with 255 inside any of the polygons."""
    return draw([tuple((x, y) for x, y in polygon) for polygon in polygons], SIZE)


def _span(start: float, length: float, size: int) -> slice:
    """Return the pixels from a share of `size` on, at least one."""
    first = min(size - 1, max(0, int(start * size)))
    return slice(first, min(size, max(first + 1, math.ceil((start + length) * size))))


def _count(plane: Plane) -> int:
    return int((plane > 0).sum())
