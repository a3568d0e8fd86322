"""The shift of a shaking camera, to a twentieth of a pixel.

Method: Lucas and Kanade, "An iterative image registration technique" (1981), solved at a few hundred points:
the steepest of each small cell of the background, so that they cover the whole image. Moving objects and
changes of light are outvoted: the median difference is subtracted, and outliers get weight 0. A level of half
the size catches shifts that the finer one cannot. A shift is accepted only if the points then agree clearly
better.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.working_image import Plane, halved, middle, u8

_CELL = 5
_STEEP = 4.0
"""Minimum gradient of a point, in grey levels a pixel."""
_MARGIN = 4
_FEWEST = 60
"""With fewer points the image has too little texture."""
_CALM = 1.0
"""Median difference of the points, in grey levels, up to which no shift is searched."""
_NEAR = (9, 9)
"""The neighbourhood of a point."""
_OFF, _NOISES = 0.3, 1.0
"""A point has moved if its grey level tells of this many working pixels, and of this many times the noise."""
_ASTRAY = 2.0
_MAX_SHIFT = 24.0
_MIN_SHIFT = 0.15
_BETTER = 0.9
"""With the shift, the points disagree by at most this share of what they do without it."""
_FAR, _BETTER_FAR = 6.0, 0.7
"""A shift of more than `_FAR` pixels is seldom, and shadows of clouds pass for one along straight edges: it
must explain more."""


class Shift(NamedTuple):
    """Displacement of the scene from the background, to the right and down, in working pixels."""

    x: float
    y: float

    def __bool__(self) -> bool:
        return self.x != 0.0 or self.y != 0.0


STEADY = Shift(0.0, 0.0)


class Edges(NamedTuple):
    """The steepest points of a background, in working pixels, and which of them have moved in an image."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    moved: NDArray[np.bool_]

    def where(self, mask: Plane) -> Edges:
        """Return the points where `mask` (h, w) is not 0."""
        inside = mask[self.y.astype(np.intp), self.x.astype(np.intp)] > 0
        return Edges(self.x[inside], self.y[inside], self.moved[inside])


class Aligner:
    """Finds the shift of images against one background, (h, w) uint8."""

    def __init__(self, background: Plane) -> None:
        self._scale = 2 if max(background.shape) > 200 and min(background.shape) >= 2 else 1
        base = halved(background) if self._scale == 2 else background
        self._fine = _Points(base, _CELL)
        self._coarse = _Points(halved(base), _CELL - 1) if min(base.shape) >= 32 else None

    def shift(self, plane: Plane) -> Shift:
        """Return the shift of `plane` (h, w), or STEADY if none fits clearly better."""
        if self._fine.count < _FEWEST:
            return STEADY
        base = self._smoothed(plane)
        if self._fine.agree(base):
            return STEADY
        at_rest = self._fine.disagreement(base)
        if at_rest <= _CALM:
            return STEADY
        moved, rest = self._fine.follow(base, np.zeros(2), rounds=2)
        if rest > _ASTRAY and self._coarse is not None and self._coarse.count:
            far, _ = self._coarse.follow(halved(base), np.zeros(2), rounds=5)
            again, less = self._fine.follow(base, 2.0 * far, rounds=3)
            if less < rest:
                moved, rest = again, less
        x, y = (float(value) * self._scale for value in moved)
        length = float(np.hypot(x, y))
        if length <= _MIN_SHIFT or max(abs(x), abs(y)) >= _MAX_SHIFT:
            return STEADY
        if rest >= (_BETTER_FAR if length > _FAR else _BETTER) * at_rest:
            return STEADY
        return Shift(x, y)

    def edges(self, plane: Plane, noise: float) -> Edges:
        """Return the steepest points and which have moved in `plane` (h, w); `noise` is in grey levels."""
        return self._fine.edges(self._smoothed(plane), self._scale, _NOISES * noise)

    def _smoothed(self, plane: Plane) -> Plane:
        """Return an image at the size of the fine points, smoothed as the background was for them."""
        return u8(cv2.GaussianBlur(halved(plane) if self._scale == 2 else plane, (3, 3), 0))


def shifted(plane: Plane, shift: Shift) -> Plane:
    """Return `plane` moved back onto the background; the uncovered border repeats the edge pixels."""
    matrix = np.array([[1.0, 0.0, shift.x], [0.0, 1.0, shift.y]], np.float32)
    return u8(
        cv2.warpAffine(
            plane,
            matrix,
            plane.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


class _Points:
    """The steepest point of each cell of an image, with its value and its gradient."""

    def __init__(self, plane: Plane, cell: int) -> None:
        self._smooth = u8(cv2.GaussianBlur(plane, (3, 3), 0))
        smooth = self._smooth.astype(np.float32)
        across = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), np.float32)
        down = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125), np.float32)
        steep = across * across + down * down
        steep[:_MARGIN] = steep[-_MARGIN:] = 0.0
        steep[:, :_MARGIN] = steep[:, -_MARGIN:] = 0.0
        rows, columns = plane.shape[0] // cell, plane.shape[1] // cell
        blocks = steep[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
        cells = blocks.transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
        best = cells.argmax(axis=1)
        which = np.arange(rows * columns)
        chosen = cells[which, best] > _STEEP**2
        y = (which // columns * cell + best // cell)[chosen]
        x = (which % columns * cell + best % cell)[chosen]
        self.count = int(x.size)
        self._x, self._y = x.astype(np.float32)[None], y.astype(np.float32)[None]
        self._places = y * plane.shape[1] + x
        self._value = smooth[y, x]
        self._across, self._down = across[y, x], down[y, x]
        self._xx, self._xy, self._yy = (
            self._across * self._across,
            self._across * self._down,
            self._down * self._down,
        )

    def _error(self, plane: Plane, at: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the difference of `plane` at the moved points from the points' values, less the median."""
        if at[0] or at[1]:
            across, down = self._x + np.float32(at[0]), self._y + np.float32(at[1])
            seen = u8(cv2.remap(plane, across, down, cv2.INTER_LINEAR))[0]
        else:
            seen = plane.take(self._places)
        error = seen - self._value
        return np.asarray(error - np.float32(middle(error)), np.float32)

    def agree(self, plane: Plane) -> bool:
        """Return whether the disagreement is at most `_CALM`, as counts tell for an offset of 0.

        False tells nothing. Counting costs a quarter of the medians.
        """
        error = plane.take(self._places) - self._value
        half = error.size // 2
        no_offset = np.count_nonzero(error < 0.0) <= half < np.count_nonzero(error <= 0.0)
        return bool(no_offset and np.count_nonzero(np.abs(error) <= _CALM) > half)

    def edges(self, plane: Plane, scale: int, levels: float) -> Edges:
        """Return the points in an image `scale` times as large; a difference up to `levels` is no move."""
        error = cv2.subtract(plane, self._smooth, dtype=cv2.CV_32F)
        # A change of light is that of the neighbourhood too.
        error = cv2.subtract(error, cv2.blur(error, _NEAR))
        least = np.maximum(np.sqrt(self._xx + self._yy) * np.float32(_OFF / scale), np.float32(levels))
        moved = np.asarray(np.abs(error.take(self._places)) > least, np.bool_)
        return Edges(self._x[0] * scale, self._y[0] * scale, moved)

    def disagreement(self, plane: Plane) -> float:
        """Return the median absolute difference in grey levels, without the offset that all points share."""
        error = plane.take(self._places) - self._value
        error -= np.float32(middle(error))
        return middle(np.abs(error, out=error))

    def follow(
        self, plane: Plane, at: NDArray[np.float64], *, rounds: int
    ) -> tuple[NDArray[np.float64], float]:
        """Return the refined displacement of all points, and their median disagreement there."""
        error = self._error(plane, at)
        for _ in range(rounds):
            size = np.abs(error)
            agree = (size < max(3.0 * middle(size), 4.0)).astype(np.float32)
            xx, xy, yy = float(agree @ self._xx), float(agree @ self._xy), float(agree @ self._yy)
            determinant = xx * yy - xy * xy
            # Aperture problem: stripes have no position along themselves.
            if determinant < 1e-3 * (xx + yy) ** 2:
                break
            error = agree * error
            u, v = float(error @ self._across), float(error @ self._down)
            step = np.array([yy * u - xy * v, xx * v - xy * u]) / determinant
            at = at - np.clip(step, -1.5, 1.5)
            error = self._error(plane, at)
        return at, middle(np.abs(error))
