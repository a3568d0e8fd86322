"""How long each place has been given the benefit of the doubt: what comes back for ever is used up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.background import HOLDS_S
from async_motion.core.detection.regions import Regions
from async_motion.core.detection.working_image import mean


class Spent:
    """Seconds spent in each cell of 8x8 pixels of one camera, forgotten at the rate of `forgotten_s`."""

    def __init__(self, cells: tuple[int, ...], forgotten_s: float) -> None:
        self._forgotten_s = forgotten_s
        self._seconds = np.zeros(cells, np.float32)
        self._waited_s = 0.0
        """The time that is not forgotten yet: most frames do not read the cells."""

    def wait(self, passed_s: float) -> None:
        """Forget at the rate of `forgotten_s`. Call this for each frame."""
        self._waited_s += passed_s

    def spend(self, regions: Regions, label: int, seconds: float) -> None:
        """Add `seconds`, at most `HOLDS_S`, to the place of a region."""
        cells = self._cells(regions, label)
        cells += np.float32(min(seconds, HOLDS_S))

    def mean(self, regions: Regions, label: int) -> float:
        """Return the mean of the seconds spent in the place of a region."""
        return mean(self._cells(regions, label))

    def most(self, regions: Regions, label: int) -> float:
        """Return the most seconds that any cell in the place of a region has spent."""
        return float(self._cells(regions, label).max())

    def _cells(self, regions: Regions, label: int) -> NDArray[np.float32]:
        """Return the cells that a region's box touches, at least one; a view."""
        self._seconds *= np.float32(math.exp(-self._waited_s / self._forgotten_s))
        self._waited_s = 0.0
        left, top, width, height = regions.boxes[label].tolist()
        rows, columns = self._seconds.shape
        first, upper = min(left // 8, columns - 1), min(top // 8, rows - 1)
        return self._seconds[upper : (top + height) // 8 + 1, first : (left + width) // 8 + 1]
