"""From a camera's luma to the small working picture on which everything else is computed.

The picture is halved until its longer side is at most `LONGEST`: a halving is an exact 2x2 mean, which
OpenCV does at memory speed, and it averages the sensor's noise away. Reading the luma is most of the cost, so
of a picture that is reduced by eight or more only every second pair of rows is read.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Luma

Plane = NDArray[np.uint8]
"""(h, w) uint8 at the working size: a picture, or a mask of 0 and 255."""

LONGEST = 400
"""The longer side of the working picture, in pixels, is at most this."""


def u8(array: object) -> Plane:
    """Say that what OpenCV returned is a uint8 array, as the arguments given to it made sure."""
    return np.asarray(array, np.uint8)


def working_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the working picture for a luma of that size."""
    while max(height, width) > LONGEST and min(height, width) >= 2:
        height, width = height // 2, width // 2
    return height, width


def halved(picture: Plane) -> Plane:
    """Return the 2x2 means of `picture`; an odd last row or column is left out."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    even = picture[: 2 * height, : 2 * width]
    return u8(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))


def quartered(picture: Plane) -> Plane:
    """Return a picture of a quarter of the sides: of each 4x4 block the mean of its 2x2 corner."""
    height, width = picture.shape[0] // 4, picture.shape[1] // 4
    blocks = picture[: 4 * height, : 4 * width].reshape(height, 4, 4 * width)
    pairs = np.ascontiguousarray(blocks[:, :2]).reshape(2 * height, 4 * width)
    # Every second column is the low byte of a pair: six times as fast as a strided copy.
    return halved(pairs).view("<u2").astype(np.uint8)


def middle(values: NDArray[np.float32]) -> float:
    """Return the upper median of a flat array that is not empty, several times faster than np.median."""
    half = values.size // 2
    return float(np.partition(values, half)[half])


def eighth(plane: Plane) -> Plane:
    """Return the 8x8 means of a picture or a mask; what is left over at the far edges is left out."""
    small = plane
    for _ in range(3):
        if min(small.shape) >= 2:
            small = halved(small)
    return small


def working_picture(luma: Luma) -> Plane:
    """Reduce (H, W) uint8 to `working_size` and smooth it by one pixel. The result is never a view."""
    small = quartered(luma) if max(luma.shape) > 4 * LONGEST and min(luma.shape) >= 8 else luma
    while max(small.shape) > LONGEST and min(small.shape) >= 2:
        small = halved(small)
    return u8(cv2.GaussianBlur(np.ascontiguousarray(small), (3, 3), 0))


def gradient(picture: Plane) -> Plane:
    """Return how steep each pixel is, in quarter grey levels of the Sobel sums, both directions added."""
    across = cv2.convertScaleAbs(cv2.Sobel(picture, cv2.CV_16S, 1, 0), alpha=0.25)
    down = cv2.convertScaleAbs(cv2.Sobel(picture, cv2.CV_16S, 0, 1), alpha=0.25)
    return u8(cv2.add(across, down))


def median_of(planes: list[Plane]) -> Plane:
    """Return the upper median of each pixel over `planes`, by a network of minima and maxima (Batcher)."""
    sorted_planes = list(planes)
    count = len(planes)
    for low, high in _network(count):
        first, second = sorted_planes[low], sorted_planes[high]
        sorted_planes[low] = u8(cv2.min(first, second))
        sorted_planes[high] = u8(cv2.max(first, second))
    return sorted_planes[count // 2].copy()


def _network(count: int) -> list[tuple[int, int]]:
    """Return the pairs to compare, in order, that sort `count` values."""
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
