"""Regions that are no motion yet but may be an object: small, weak, or seen for the first time.

The background learns what is not motion. So a person who comes slowly, far away or in poor light would be
noise and unrest before there is enough evidence. Where all around is calm, such a region is no speck, and the
background does not learn it: for `_LONGEST_S` in each place, forgotten within minutes. What comes back for
ever, such as a spider's thread, is learned after that. Regions at the edge of the image are partly out of
view, so they are not waited for. The detector asks only while no shake and no light is undone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.areas import FEWEST_PIXELS
from async_motion.core.detection.regions import Regions, Unrest, labels, some
from async_motion.core.detection.spent import Spent
from async_motion.core.detection.working_image import Plane

_SHARE = 0.2
"""A region of less than this share of the minimum area is a speck."""
CALM_AROUND = 0.002
"""Share of specks around a region up to which all around is calm."""
_MAX_REGIONS = 20
"""More regions at once are rain, leaves or noise."""
_LONGEST_S, _FORGOTTEN_S = 5.0, 300.0


class Undecided:
    """The undecided regions of one camera. Call `mask` for each frame."""

    def __init__(self, unrest: Unrest) -> None:
        self._unrest = unrest
        self._spent = Spent(unrest.cells.shape, _FORGOTTEN_S)
        """How long each place has been undecided."""

    def wait(self, passed_s: float) -> None:
        """Forget the spent time at the rate of `_FORGOTTEN_S`. Call this for each frame."""
        self._spent.wait(passed_s)

    def mask(
        self, regions: Regions, required: NDArray[np.float64], among: NDArray[np.bool_], passed_s: float
    ) -> Plane | None:
        """Return the mask (h, w) of those regions `among` these that are undecided; None for none.

        `required` are the pixels that each region needs.
        """
        if not some(among[1:]):
            return None
        undecided = among & regions.inner & (regions.area >= np.maximum(_SHARE * required, FEWEST_PIXELS))
        chosen = labels(undecided)
        if not 0 < len(chosen) <= _MAX_REGIONS:
            return None
        for label in chosen:
            undecided[label] = (
                self._unrest.around(regions, label) <= CALM_AROUND
                and self._spent.mean(regions, label) < _LONGEST_S
            )
        if not some(undecided):
            return None
        for label in labels(undecided):
            self._spent.spend(regions, label, passed_s)
        return regions.mask_of(undecided)
