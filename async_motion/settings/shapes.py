"""Check values with a structure: polygons, the frames that an event keeps, confirmation of motion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from async_motion.core.events.selection import Keep
from async_motion.settings.quantities import seconds_between, share_of
from async_motion.settings.values import shown, structure


def check_polygon(value: object) -> tuple[tuple[float, float], ...]:
    expected = "expected three or more points [x, y], each a share of the image from 0 to 1"
    value = structure(value)
    if not isinstance(value, list | tuple) or len(value) < 3:
        what = f"{len(value)} points" if isinstance(value, list | tuple) else shown(value)
        raise ValueError(f"{what}, {expected}")
    points = []
    for point in value:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise ValueError(f"{shown(point)} is not a point, {expected}")
        x, y = (share_of(side) for side in point)
        if x is None or y is None or not (0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError(f"the point {point} lies outside the image, {expected}")
        points.append((x, y))
    (x0, y0), *rest = points
    dx, dy = max(((x - x0, y - y0) for x, y in rest), key=lambda d: abs(d[0]) + abs(d[1]))
    if all(abs(dx * (y - y0) - dy * (x - x0)) < 1e-9 for x, y in rest):
        raise ValueError(f"all points lie on one line, {expected}")
    return tuple(points)


def check_polygons(value: object) -> tuple[tuple[tuple[float, float], ...], ...]:
    value = structure(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)}, expected a list of polygons: [[[0, 0], [1, 0], [1, 0.1]], …]")
    return tuple(check_polygon(polygon) for polygon in value)


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of an event are kept. `every_s` is set for `every` alone."""

    kind: Keep
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Confirm:
    """Motion is confirmed when `hits` of the last `of` frames showed it (1 <= hits <= of <= 30)."""

    hits: int
    of: int


_every = seconds_between("100ms", "1h")


def check_frames(value: object) -> Frames:
    value = structure(value)
    if isinstance(value, str) and value in set(Keep) - {Keep.EVERY}:
        return Frames(kind=Keep(value))
    if isinstance(value, Mapping) and list(value) == ["every"]:
        return Frames(kind=Keep.EVERY, every_s=_every(value["every"]))
    raise ValueError(f"{shown(value)} is not known, expected all, first, best or {{every: 1s}}")


def check_confirm(value: object) -> Confirm:
    match = re.fullmatch(r"\s*(\d{1,3})\s*/\s*(\d{1,3})\s*", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 30:
        raise ValueError(f"{shown(value)} cannot be read, expected M/N with 1 <= M <= N <= 30, such as 2/3")
    return Confirm(int(match[1]), int(match[2]))
