"""Day or night, decided from a figure that falls with the light, with hysteresis.

    figure   ▔▔▔▔╲___ day_above ________╱▔▔▔     above: day, below the lower limit: night,
                  ╲__ night_below __╱            between them: unchanged
    profile  day ──┴── night ───────────┴─ day

The figure is the sun's elevation, or the share of the image that has colour: a camera that has switched to
infrared shows none. A change needs `agree` figures in a row that agree, and comes at the earliest `dwell_s`
after the one before, so that a car's headlights do not switch to day. The first figure decides at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from async_motion.core.model import Image

COLOUR_WIDTH = 160
"""Width in pixels to which the image is reduced before colour is measured: this averages the noise away."""
COLOUR_LEVELS = 4
"""Grey levels between a pixel's channels, beyond the tint of the whole image, that count as colour.

Infrared shows none. A grey road by day has colour in a fifth of the image, other scenes in a quarter or more.
"""


class Profile(StrEnum):
    """Which of a camera's settings are in force."""

    DAY = "day"
    NIGHT = "night"


@dataclass(frozen=True, slots=True, kw_only=True)
class LightLimits:
    """The limits of night and day: see the module's diagram. Raises ValueError."""

    night_below: float
    day_above: float
    agree: int = 1
    dwell_s: float = 60.0

    def __post_init__(self) -> None:
        if self.night_below >= self.day_above:
            raise ValueError("night_below: expected less than day_above")


SUN = LightLimits(night_below=-6.0, day_above=-5.0)
"""Degrees above the horizon: at civil dusk a few lux are left, and cameras switch to infrared."""
COLOUR = LightLimits(night_below=0.01, day_above=0.05, agree=2, dwell_s=300.0)
"""Shares of the image. A camera's on-screen text may be coloured at night too."""


class Switch:
    """Follows one camera's figure. `profile` is None before the first."""

    def __init__(self, limits: LightLimits) -> None:
        self._limits = limits
        self.profile: Profile | None = None
        self._changed_at = 0.0
        self._contrary = 0
        """The number of figures in a row that contradict `profile`."""

    def update(self, figure: float, monotonic: float) -> Profile:
        """Take the next figure; return the profile in force."""
        limits = self._limits
        if self.profile is None:
            middle = (limits.night_below + limits.day_above) / 2
            self.profile = Profile.DAY if figure >= middle else Profile.NIGHT
            self._changed_at = monotonic
        elif self._says(figure) in (None, self.profile):
            self._contrary = 0
        else:
            self._contrary += 1
            if self._contrary >= limits.agree and monotonic - self._changed_at >= limits.dwell_s:
                self.profile = Profile.NIGHT if self.profile is Profile.DAY else Profile.DAY
                self._changed_at = monotonic
                self._contrary = 0
        return self.profile

    def _says(self, figure: float) -> Profile | None:
        if figure > self._limits.day_above:
            return Profile.DAY
        return Profile.NIGHT if figure < self._limits.night_below else None


def colour_share(image: Image) -> float:
    """Return the share, 0..1, of the pixels of a (H, W, 3) uint8 image that have colour.

    The tint of the whole image is subtracted first: some cameras show infrared in violet.
    """
    height, width = image.shape[:2]
    if width > COLOUR_WIDTH:
        size = (COLOUR_WIDTH, max(1, round(height * COLOUR_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    channels = image.astype(np.int16)
    blue, red = channels[..., 0] - channels[..., 1], channels[..., 2] - channels[..., 1]
    blue -= np.int16(np.median(blue))
    red -= np.int16(np.median(red))
    apart = np.maximum(np.maximum(blue, red), 0) - np.minimum(np.minimum(blue, red), 0)
    return float(np.count_nonzero(apart > COLOUR_LEVELS) / apart.size)
