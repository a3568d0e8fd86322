"""The verdict on each region: whether its evidence is enough for motion.

`evident` is the strong evidence that opens an event, `lasting` the weaker evidence that does so after seconds
in a calm place, `weak` what is enough where motion was confirmed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.areas import FEWEST_PIXELS, Areas
from async_motion.core.detection.background import NOISE_UNIT, Background
from async_motion.core.detection.look import Look
from async_motion.core.detection.regions import Regions, Unrest, labels, some
from async_motion.core.detection.settings import DetectorSettings
from async_motion.core.detection.spent import Spent
from async_motion.core.detection.tracks import Tracks, stirring
from async_motion.core.detection.undecided import CALM_AROUND
from async_motion.core.detection.working_image import Plane, as_mask, u8

_STRONG, _STRONG_NOISE_WEIGHT = 5.0 / 3.0, 6.0
"""A pixel is strong if `distance > _STRONG * floor + _STRONG_NOISE_WEIGHT * noise_factor * noise`."""
_LASTING_STRONG, _LASTING_NOISE_WEIGHT = 1.3, 2.0
"""The same for what has lasted for seconds in a calm place: chance does not last."""
IN_PLACE_S = 10.0
"""What lasts, or is held, is motion only where motion that did not come from elsewhere has had less time."""
_UNREST_WEIGHT = 75.0
"""The required strong pixels are multiplied by `min(exp(_UNREST_WEIGHT * unrest), unrest_factor)`."""
_SOLID_SHARE, _SOLID_STRONG = 0.4, 3.0
"""A region of which this share is strong is solid. With `_SOLID_STRONG` times the required strong pixels, it
is judged by the unrest around it instead of its own: an object stirs alone, leaves stir with their tree."""
KEPT_SHARE = 0.5
"""The parts of a kept track together need this share of the area and strong pixels that others need."""
_KEPT_STRONG = 0.15
"""Share of a kept track's pixels that must be strong."""
_WEAK_SHARE, _WEAK_PART, _WEAK_DIFFERENT = 0.5, 0.2, 0.6
"""Where motion was confirmed, the parts of a track together need the first share of the area, each part the
second, and the third share of the part must be beyond the whole threshold."""
_WEAK_UNREST, _WEAK_AROUND = 0.01, 0.015
"""This holds only up to these mean unrests of the watched image (rain differs everywhere) and around the
region (leaves go on for ever)."""
_BEYOND = 0.5
"""A strong pixel is also outside its neighbourhood's past range by more than `_BEYOND * threshold`: swaying
leaves stay within the brightness range of their tree."""


class Scene(NamedTuple):
    """What was learned of the scene up to a frame.

    `in_place`: the time that motion which did not come from elsewhere has had in each place. `past`: the
    image about half a second ago.
    """

    background: Background
    unrest: Unrest
    tracks: Tracks
    in_place: Spent
    past: Plane


class Evidence:
    """Judges the regions of one camera's frames."""

    def __init__(self, settings: DetectorSettings, areas: Areas) -> None:
        self._measures, self._max_area, self._areas = settings.measures, settings.max_area, areas

    def evident(
        self,
        regions: Regions,
        required: NDArray[np.float64],
        look: Look,
        fitting: NDArray[np.bool_],
        kept: NDArray[np.bool_],
        scene: Scene,
    ) -> NDArray[np.bool_]:
        """Return which of the `fitting` regions have enough evidence of motion."""
        background, unrest, tracks = scene.background, scene.unrest, scene.tracks
        window = regions.window
        limit = self._limit(window, look, background, _STRONG, _STRONG_NOISE_WEIGHT)
        strong = u8(cv2.compare(look.distance[window], limit, cv2.CMP_GT))
        needed = self._areas.strong_shares(regions, fitting) * required
        kept = kept & fitting
        anywhere = regions.pixels_inside(strong, None if some(kept) else fitting)
        evident = np.zeros(regions.count, np.bool_)
        # Unrest only raises what is needed.
        enough = fitting & (anywhere >= needed)
        if some(enough):
            solid = anywhere
            if look.light or look.shift:
                # Burnt-in text follows neither light nor shake: it is as before in the image as it came.
                as_it_came = cv2.absdiff(look.plane[window], background.reference[window])
                solid = regions.pixels_inside(strong & u8(cv2.compare(as_it_came, limit, cv2.CMP_GT)), enough)
            for label in labels(enough):
                if solid[label] >= _SOLID_SHARE * regions.area[label]:
                    around = needed[label] * self._more(unrest.around(regions, label))
                    evident[label] = solid[label] >= _SOLID_STRONG * around
        # What is solid needs no more, and the past of the neighbourhood costs most.
        doubtful = enough & ~evident
        if some(doubtful):
            near = u8(cv2.convertScaleAbs(look.threshold[window], alpha=_BEYOND))
            beyond = background.beyond(look.corrected, window)
            outside = regions.pixels_inside(strong & u8(cv2.compare(beyond, near, cv2.CMP_GT)), doubtful)
            for label in labels(doubtful):
                evident[label] = outside[label] >= needed[label] * self._more(unrest.of(regions, label))
        if some(kept & ~evident):
            # A kept object may match its surroundings, and its own stirring must not count as unrest.
            in_all, area = tracks.totals(anywhere), tracks.totals(regions.area.astype(np.float64))
            evident |= kept & (in_all >= np.maximum(KEPT_SHARE * needed, _KEPT_STRONG * area))
        return evident

    def lasting(
        self,
        regions: Regions,
        required: NDArray[np.float64],
        look: Look,
        among: NDArray[np.bool_],
        scene: Scene,
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those that have lasted for seconds have enough evidence for that.

        They are whole, calm all around, and stir. Their strong pixels are outside of their neighbourhood's
        past range: what sways is not.
        """
        lasting = among & regions.inner
        if not some(lasting):
            return lasting
        limit = self._limit(regions.window, look, scene.background, _LASTING_STRONG, _LASTING_NOISE_WEIGHT)
        strong = u8(cv2.compare(look.distance[regions.window], limit, cv2.CMP_GT))
        strong &= as_mask(scene.background.beyond(look.corrected, regions.window) > 0)
        needed = self._areas.strong_shares(regions, lasting) * required
        lasting &= regions.pixels_inside(strong, lasting) >= needed
        lasting &= stirring(regions, look.corrected, scene.past, look.whole_threshold, lasting)
        for label in labels(lasting):
            lasting[label] = (
                scene.unrest.around(regions, label) <= CALM_AROUND
                and scene.in_place.most(regions, label) < IN_PLACE_S
            )
        return lasting

    def weak(
        self,
        regions: Regions,
        required: NDArray[np.float64],
        look: Look,
        among: NDArray[np.bool_],
        scene: Scene,
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those where motion was confirmed have enough evidence for that."""
        unrest = scene.unrest
        parts = regions.area >= np.maximum(_WEAK_PART * required, FEWEST_PIXELS)
        together = scene.tracks.totals(np.where(parts, regions.area, 0.0))
        among = among & parts & (together >= _WEAK_SHARE * required)
        among &= regions.area <= self._max_area * look.differs.size
        weak = np.zeros(regions.count, np.bool_)
        if some(among) and unrest.mean(self._areas.watched_cells) <= _WEAK_UNREST:
            differs = regions.share(look.stands_out, among) > _WEAK_DIFFERENT
            for label in labels(among & differs):
                weak[label] = unrest.around(regions, label) <= _WEAK_AROUND
        return weak

    def _limit(
        self,
        window: tuple[slice, slice],
        look: Look,
        background: Background,
        floors: float,
        noises: float,
    ) -> Plane:
        """Return the distance beyond which a pixel is strong, as multiples of its floor and its noise."""
        return u8(
            cv2.addWeighted(
                look.floor[window],
                floors * max(1.0, 1.0 / look.light.gain),
                background.noise[window],
                noises * self._measures.noise_factor / NOISE_UNIT,
                0.0,
            )
        )

    def _more(self, unrest: float) -> float:
        """Return how many times more strong pixels are required where there is this unrest."""
        return min(math.exp(_UNREST_WEIGHT * unrest), self._measures.unrest_factor)
