"""What `low`, `medium` and `high` mean: four measures, each of which can be set by itself.

None of them counts pixels, so they mean the same at every resolution: grey levels, multiples of a pixel's
noise, and shares of the minimum area.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from async_motion.core.options import Sensitivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """How much a pixel must differ, and how much evidence a region needs.

    `threshold`: grey levels by which a pixel must differ where there is no noise; half of it in a calm place.
    `noise_factor`: multiple of the pixel's noise, added to the threshold. `strong_share`: the strong pixels
    that a region must have, as a share of the minimum area. `unrest_factor`: where leaves, water or rain come
    and go all the time, `strong_share` is multiplied by up to this factor, which bounds the insensitivity.
    """

    threshold: float
    noise_factor: float = 1.0
    strong_share: float = 0.5
    unrest_factor: float = 12.0


MEASURES: Mapping[Sensitivity, Measures] = {
    "low": Measures(threshold=18.0, strong_share=0.75),
    "medium": Measures(threshold=12.0),
    "high": Measures(threshold=8.0, strong_share=0.35),
}
