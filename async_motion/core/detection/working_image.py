"""Reduction of a camera's luma to the small working image on which everything else is computed.

The luma is halved until its longer side is at most `LONGEST`. Halving is an exact 2x2 mean, which OpenCV
computes at memory speed and which averages sensor noise. Reading the luma is most of the cost, so with a
reduction by eight or more only every second pair of rows is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Luma

Plane = NDArray[np.uint8]
"""(h, w) uint8 at the working size: an image, or a mask of 0 and 255."""
Window = tuple[slice, slice]
"""Rows and columns of a plane."""

_BLUR = (7, 7)
BLURRED = np.ones(_BLUR, np.uint8)
"""The neighbourhood that the texture of a pixel depends on."""
_BESIDE = np.ones((5, 5), np.uint8)
_BESIDE_EDGES = np.ones((9, 9), np.uint8)
_EDGE_HEIGHT, _FEWEST_EDGES = 12, 20
"""Edges are at least so high, in grey levels; fewer pixels of them tell nothing."""
LONGEST = 400
"""The longer side of the working image, in pixels, is at most this."""


def u8(array: object) -> Plane:
    """Return OpenCV's result typed as the uint8 array that its arguments guarantee."""
    return np.asarray(array, np.uint8)


def as_mask(flags: NDArray[np.bool_]) -> Plane:
    """Return flags as a mask of 0 and 255."""
    return np.negative(flags.view(np.uint8))


def above(plane: Plane, level: float) -> Plane:
    """Return the mask of the pixels above `level`; several times as fast as inRange for a small plane."""
    return u8(cv2.threshold(plane, level, 255, cv2.THRESH_BINARY)[1])


def working_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the working image for a luma plane of the given size."""
    while max(height, width) > LONGEST and min(height, width) >= 2:
        height, width = height // 2, width // 2
    return height, width


def extent(mask: Plane, margin: int, window: Window | None = None) -> Window | None:
    """Return the rows and columns that hold all of a mask and `margin` pixels around it; None if empty.

    All of the mask lies in `window`, if that is known.
    """
    part = mask if window is None else mask[window]
    # Counting is several times as fast as boundingRect where there is nothing.
    if not cv2.countNonZero(part):
        return None
    left, top, width, height = cv2.boundingRect(part)
    if window is not None:
        top, left = top + window[0].start, left + window[1].start
    return (
        slice(max(top - margin, 0), min(top + height + margin, mask.shape[0])),
        slice(max(left - margin, 0), min(left + width + margin, mask.shape[1])),
    )


def grown(mask: Plane) -> Plane:
    """Return a mask with the two pixels around it: the rim of an object is weaker than its inside."""
    return u8(cv2.dilate(mask, _BESIDE))


def patched(plane: Plane, patch: Plane, where: Plane) -> Plane:
    """Return a copy of `plane` with `patch` where the mask is not 0."""
    copy = plane.copy()
    cv2.copyTo(patch, where, copy)
    return copy


def halved(plane: Plane) -> Plane:
    """Return the 2x2 means of `plane`; an odd last row or column is dropped."""
    height, width = plane.shape[0] // 2, plane.shape[1] // 2
    if plane.shape != (2 * height, 2 * width):
        plane = plane[: 2 * height, : 2 * width]
    return u8(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA))


def quartered(plane: Plane) -> Plane:
    """Return `plane` at a quarter of its sides: the mean of the top left 2x2 pixels of each 4x4 block."""
    height, width = plane.shape[0] // 4, plane.shape[1] // 4
    blocks = plane[: 4 * height, : 4 * width].reshape(height, 4, 4 * width)
    pairs = np.ascontiguousarray(blocks[:, :2]).reshape(2 * height, 4 * width)
    # The even columns are the low bytes of uint16 pairs; this is six times as fast as a strided copy.
    return halved(pairs).view("<u2").astype(np.uint8)


def mean(values: NDArray[np.float32]) -> float:
    """Return the mean of a non-empty array; `values.mean()` takes several times as long for a few values."""
    return float(np.add.reduce(values, axis=None) / values.size)


def middle(values: NDArray[np.float32]) -> float:
    """Return the upper median of a non-empty flat array; several times faster than np.median."""
    half = values.size // 2
    return float(np.partition(values, half)[half])


def eighth(plane: Plane) -> Plane:
    """Return the 8x8 means of an image or a mask; incomplete blocks at the far edges are dropped."""
    small = plane
    for _ in range(3):
        if min(small.shape) >= 2:
            small = halved(small)
    return small


def working_image(luma: Luma) -> Plane:
    """Reduce (H, W) uint8 to `working_size` and smooth it by one pixel. The result is never a view."""
    small = quartered(luma) if max(luma.shape) > 4 * LONGEST and min(luma.shape) >= 8 else luma
    while max(small.shape) > LONGEST and min(small.shape) >= 2:
        small = halved(small)
    return u8(cv2.GaussianBlur(np.ascontiguousarray(small), (3, 3), 0))


def gradient(plane: Plane) -> Plane:
    """Return |Sobel x| / 4 + |Sobel y| / 4 of each pixel, saturated at 255."""
    across = cv2.convertScaleAbs(cv2.Sobel(plane, cv2.CV_16S, 1, 0), alpha=0.25)
    down = cv2.convertScaleAbs(cv2.Sobel(plane, cv2.CV_16S, 0, 1), alpha=0.25)
    return u8(cv2.add(across, down))


def steepness(plane: Plane) -> NDArray[np.float32]:
    """Return by how many grey levels an image rises in a pixel, in its steepest direction, (h, w)."""
    across = cv2.Sobel(plane, cv2.CV_32F, 1, 0, scale=1 / 8)
    return np.asarray(cv2.magnitude(across, cv2.Sobel(plane, cv2.CV_32F, 0, 1, scale=1 / 8)), np.float32)


def texture(plane: Plane) -> NDArray[np.float32]:
    """Return how far each pixel is from the mean of its neighbourhood, in grey levels, (h, w)."""
    return np.asarray(cv2.subtract(plane, cv2.blur(plane, _BLUR), dtype=cv2.CV_32F), np.float32)


def sharpness(plane: Plane) -> float:
    """Return the share of its height by which a sharp edge of the image rises in a pixel; 0 without edges.

    0.3 to 0.4 where the lens is in focus, 0.2 in a soft image.
    """
    height = u8(cv2.subtract(cv2.dilate(plane, _BESIDE_EDGES), cv2.erode(plane, _BESIDE_EDGES)))
    edges = height >= _EDGE_HEIGHT
    if np.count_nonzero(edges) < _FEWEST_EDGES:
        return 0.0
    return float(np.percentile(steepness(plane)[edges] / height[edges], 95))


def median_of(planes: Sequence[Plane]) -> Plane:
    """Return the upper median of each pixel over `planes`."""
    return _sorted_by(_median_network(len(planes)), planes)[len(planes) // 2]


def ordered(planes: Sequence[Plane]) -> list[Plane]:
    """Return `planes` with the values of each pixel in ascending order."""
    return _sorted_by(_whole_network(len(planes)), planes)


def _sorted_by(comparators: list[tuple[int, int, bool, bool]], planes: Sequence[Plane]) -> list[Plane]:
    """Apply the comparators of a sorting network to a copy of `planes`."""
    copies = [plane.copy() for plane in planes]
    larger = np.empty_like(copies[0])
    for low, high, keeps_low, keeps_high in comparators:
        first, second = copies[low], copies[high]
        if keeps_high:
            np.maximum(first, second, out=larger if keeps_low else second)
        if keeps_low:
            np.minimum(first, second, out=first)
        if keeps_low and keeps_high:
            copies[high], larger = larger, second
    return copies


@cache
def _whole_network(count: int) -> list[tuple[int, int, bool, bool]]:
    """Return the comparators of `_network`, both of whose values are needed."""
    return [(low, high, True, True) for low, high in _network(count)]


@cache
def _median_network(count: int) -> list[tuple[int, int, bool, bool]]:
    """Return the comparators, in order, that bring the median of `count` values to `count // 2`.

    Each has the places of the lower and the higher value, and whether the median depends on them.
    """
    needed = {count // 2}
    comparators = []
    for low, high in reversed(_network(count)):
        if low in needed or high in needed:
            comparators.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return comparators[::-1]


def _network(count: int) -> list[tuple[int, int]]:
    """Return the comparators, in order, that sort `count` values: Batcher's odd-even merge sort."""
    pairs = []
    run = 1
    while run < count:
        step = run
        while step >= 1:
            for start in range(step % run, count - step, 2 * step):
                for offset in range(min(step, count - start - step)):
                    low = start + offset
                    if low // (run * 2) == (low + step) // (run * 2):
                        pairs.append((low, low + step))
            step //= 2
        run *= 2
    return pairs
