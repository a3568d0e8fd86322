"""The sun's elevation, for day and night settings."""

from __future__ import annotations

from datetime import datetime

from astral import Observer
from astral.sun import elevation


def sun_elevation(latitude: float, longitude: float, at: datetime) -> float:
    """Return the sun's elevation above the horizon in degrees at `at` (aware); negative: below it.

    Degrees north and east are positive. Good to about a tenth of a degree.
    """
    return float(elevation(Observer(latitude, longitude), at))
