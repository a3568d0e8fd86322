"""Boxes as tuples of their corners: for a few boxes, tuples are several times as fast as arrays."""

from __future__ import annotations

from collections.abc import Iterable

Corners = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


def common(one: Corners, other: Corners) -> float:
    """Return how many pixels two boxes have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    return max(width, 0.0) * max(min(one[3], other[3]) - max(one[1], other[1]), 0.0)


def size(box: Corners) -> float:
    """Return how many pixels a box has."""
    return (box[2] - box[0]) * (box[3] - box[1])


def meet(one: Corners, other: Corners, margin: float) -> bool:
    """Return whether two boxes overlap once `margin` pixels are added to one."""
    return (
        one[0] < other[2] + margin
        and one[2] > other[0] - margin
        and one[1] < other[3] + margin
        and one[3] > other[1] - margin
    )


def enclosing(boxes: Iterable[Corners]) -> Corners:
    """Return the smallest box that holds all of `boxes`, at least one."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)
