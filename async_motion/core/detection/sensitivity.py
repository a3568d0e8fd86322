"""What `low`, `medium` and `high` stand for: four measures, each of which can also be set by itself.

None of them counts pixels, so that they mean the same at every resolution: grey levels, multiples of what a
pixel strays by anyway, and shares of the minimum area.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from async_motion.core.options import Sensitivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """From which difference on a pixel counts, and how much evidence a region must bring.

    `threshold`: grey levels that a pixel must differ by in a picture without noise. `noise_factor`: so many
    times its own noise come on top. `strong_share`: the pixels that must stand out far more than that, as a
    share of the minimum area. `unrest_factor`: where leaves, water or rain come and go all the time, up to so
    many times more of them are asked for; it is the floor below which nothing is ever learned away.
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
