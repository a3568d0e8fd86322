"""From changed pixels to regions: cleaning, connected components, and the evidence for each.

The mask is generous, so that objects stay whole; the verdict asks each region for evidence:

- **Strong pixels**: enough of the region must be far above its pixels' noise.
- **Unrest**: where specks come and go (leaves, water, rain), more strong pixels are required.
- **Persistence**: the region continues a track (`tracks`).
- **Edges**: an object brings its own edges. An unchanging region whose outline is an edge in the
  background but not in the frame is a hole that an object has left; it becomes background at once.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.working_image import Plane, eighth, gradient, u8

_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_SQUARE = np.ones((5, 5), np.uint8)
_CELLS = np.ones((3, 3), np.uint8)
_HOLE = 0.02
"""Maximum size of a hole that is filled, as a share of the image."""
_VANISHED = 0.7
"""A region is a hole if the edges along its outline are below this share of the background's."""
_EDGE = 6
_NEW_OUTLINE = 0.25
"""A patch of light has new edges along less than this share of its outline."""
_UNCHANGED = 0.85
_UNREST_S = 8.0
_RESTLESS = 0.02
"""Share of specks at which a cell is fully restless. Windy trees and strong rain have 0.02 to 0.06."""


def clean(differs: Plane) -> Plane:
    """Drop specks from a mask, close its gaps and fill its holes."""
    if min(differs.shape) < 3 or not cv2.countNonZero(differs):
        return differs.copy()
    mask = cv2.morphologyEx(cv2.medianBlur(differs, 3), cv2.MORPH_CLOSE, _DISC)
    return _filled(u8(mask))


def _filled(mask: Plane) -> Plane:
    """Fill small holes in place."""
    x, y, width, height = cv2.boundingRect(mask)
    if width < 3 or height < 3:
        return mask
    inside = mask[y : y + height, x : x + width]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        cv2.bitwise_not(inside), connectivity=4, ltype=cv2.CV_16U
    )
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    enclosed = (left > 0) & (top > 0)
    enclosed &= left + stats[:, cv2.CC_STAT_WIDTH] < width
    enclosed &= top + stats[:, cv2.CC_STAT_HEIGHT] < height
    enclosed &= stats[:, cv2.CC_STAT_AREA] < _HOLE * mask.size
    enclosed[0] = False
    if count > 1 and enclosed.any():
        inside |= (enclosed.astype(np.uint8) * 255)[labels]
    return mask


class Regions:
    """The connected regions of a mask. Arrays are indexed by label; label 0 is the background and always 0.

    `labels` (h, w) uint16; `area` in pixels; `boxes` (n, 4): left, top, width, height in pixels.
    """

    def __init__(self, mask: Plane) -> None:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_16U)
        self.count = int(count)
        self.labels = np.asarray(labels, np.uint16)
        self.area: NDArray[np.int64] = np.asarray(stats[:, cv2.CC_STAT_AREA], np.int64).copy()
        self.area[0] = 0
        self.boxes = np.asarray(stats[:, :4], np.int64)
        self._pixels = np.flatnonzero(mask > 0)
        self._label_of = self.labels.ravel()[self._pixels]

    def sums(self, plane: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return the sum of `plane` (h, w) over each region."""
        values = plane.ravel()[self._pixels]
        sums = np.bincount(self._label_of, weights=values, minlength=self.count)
        return np.asarray(sums, np.float64)

    def share(self, mask: Plane) -> NDArray[np.float64]:
        """Return the share of each region that lies where `mask` is not 0."""
        return np.asarray(self.sums(mask > 0) / np.maximum(self.area, 1), np.float64)

    def mask_of(self, chosen: NDArray[np.bool_]) -> Plane:
        """Return the mask of the chosen regions."""
        mask = np.zeros(self.labels.shape, np.uint8)
        for label in np.flatnonzero(chosen).tolist():
            left, top, width, height = self.boxes[label].tolist()
            box = (slice(top, top + height), slice(left, left + width))
            mask[box] |= u8(cv2.inRange(self.labels[box], label, label))
        return mask

    def unchanged(self, plane: Plane, past: Plane, tolerance: Plane) -> NDArray[np.bool_]:
        """Return which regions look as they did in the image `past`, except for a few pixels."""
        alike = cv2.compare(cv2.absdiff(plane, past), tolerance, cv2.CMP_LE)
        return self.share(u8(alike)) > _UNCHANGED

    def left_behind(
        self, mask: Plane, plane: Plane, edges_at_rest: Plane, past: Plane, tolerance: Plane
    ) -> NDArray[np.bool_]:
        """Return which regions are holes: unchanged since `past`, with an outline that is background edge."""
        gone = self.unchanged(plane, past, tolerance)
        if not gone.any():
            return gone
        label, now, then = self._outlines(mask, plane, edges_at_rest)

        def total(values: NDArray[np.generic]) -> NDArray[np.float64]:
            return np.asarray(np.bincount(label, weights=values, minlength=self.count), np.float64)

        gone &= total(now) < _VANISHED * total(then)
        gone &= total(then > now + _EDGE) > total(now > then + _EDGE)
        gone[0] = False
        return gone

    def without_outline(self, mask: Plane, plane: Plane, edges_at_rest: Plane) -> NDArray[np.bool_]:
        """Return which regions bring no edges along their outline: light does not, an object does."""
        label, now, then = self._outlines(mask, plane, edges_at_rest)
        new = np.bincount(label, weights=now > then + _EDGE, minlength=self.count)
        return np.asarray(new < _NEW_OUTLINE * np.bincount(label, minlength=self.count), np.bool_)

    def _outlines(
        self, mask: Plane, plane: Plane, edges_at_rest: Plane
    ) -> tuple[NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]:
        """Return the label of each pixel along the outlines, and its gradient now and at rest."""
        band = cv2.subtract(cv2.dilate(mask, _SQUARE), cv2.erode(mask, _SQUARE))
        pixels = np.flatnonzero(u8(band) > 0)
        label = np.asarray(cv2.dilate(self.labels, _SQUARE), np.uint16).ravel()[pixels]
        now = gradient(plane).ravel()[pixels].astype(np.float64)
        return label, now, edges_at_rest.ravel()[pixels].astype(np.float64)


class Unrest:
    """Share of specks in each cell of 8x8 pixels, 0..1, averaged over seconds: leaves, water, rain, noise."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self.cells = np.zeros(eighth(np.zeros(shape, np.uint8)).shape, np.float32)

    def learn(self, specks: Plane, passed_s: float, age_s: float, kept: Plane | None = None) -> None:
        """Include this frame's `specks` (h, w), except in cells near the mask `kept`."""
        now = np.asarray(cv2.blur(eighth(specks).astype(np.float32), (3, 3)), np.float32)
        now /= np.float32(255.0)
        step = np.float32(passed_s / min(_UNREST_S, 1.0 + age_s)) * (now - self.cells)
        if kept is not None:
            step[cv2.dilate(eighth(kept), _CELLS) > 0] = 0.0
        self.cells += step

    def plane(self) -> NDArray[np.float32]:
        """Return the unrest of each pixel, (h, w)."""
        size = (self._shape[1], self._shape[0])
        return np.asarray(cv2.resize(self.cells, size, interpolation=cv2.INTER_NEAREST), np.float32)

    def within(self, box: NDArray[np.float64]) -> float:
        """Return the unrest of the cells in and around a box (left, top, right, bottom in pixels)."""
        left, top, right, bottom = (int(side) // 8 for side in np.maximum(box, 0.0))
        rows, columns = slice(max(top - 2, 0), bottom + 3), slice(max(left - 2, 0), right + 3)
        cells = self.cells[rows, columns]
        return float(cells.mean()) if cells.size else 0.0

    def calm(self) -> Plane:
        """Return the calm of each pixel's surroundings, (h, w) uint8: 255 without specks, 0 restless."""
        calm = cv2.convertScaleAbs(np.maximum(_RESTLESS - self.cells, 0), alpha=255.0 / _RESTLESS)
        size = (self._shape[1], self._shape[0])
        return u8(cv2.resize(calm, size, interpolation=cv2.INTER_LINEAR))
