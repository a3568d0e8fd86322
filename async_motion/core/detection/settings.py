"""How one camera is watched: the settings of a `Detector`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from async_motion.core.detection.sensitivity import MEASURES, Measures
from async_motion.core.detection.zones import Polygon, Zone
from async_motion.core.options import (
    HORIZON,
    LEARNING_S,
    MAX_AREA,
    MIN_AREA,
    REST_S,
    SENSITIVITY,
    Sensitivity,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """How one camera is watched. Areas are shares of the image, 0..1.

    `sensitivity` selects the `MEASURES`; each of the next four fields overrides one of them where not None.
    `min_area` applies at the lower edge of the image, `min_area_far` from `horizon` (0..1 from the top)
    upwards; None or a larger value means `min_area`. Between the two, the square root of the area grows
    linearly with the position of a region's lower edge. Nothing is reported for `learning_s` after the start.
    An object that has not stirred for `rest_s` becomes background.
    """

    sensitivity: Sensitivity = SENSITIVITY
    threshold: float | None = None
    noise_factor: float | None = None
    strong_share: float | None = None
    unrest_factor: float | None = None
    learning_s: float = LEARNING_S
    rest_s: float = REST_S
    min_area: float = MIN_AREA
    min_area_far: float | None = None
    horizon: float = HORIZON
    max_area: float = MAX_AREA
    masks: tuple[Polygon, ...] = ()
    zones: tuple[Zone, ...] = ()

    @property
    def measures(self) -> Measures:
        """The measures outside of zones that have their own sensitivity."""
        own = {field.name: getattr(self, field.name) for field in fields(Measures)}
        return replace(
            MEASURES[self.sensitivity], **{name: value for name, value in own.items() if value is not None}
        )
