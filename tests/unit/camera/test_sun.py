"""The sun's elevation at equinox and solstice, where latitude and declination give it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from async_motion.camera.sun import sun_elevation


@pytest.mark.parametrize(
    ("latitude", "longitude", "at", "expected"),
    [
        (0.0, 0.0, datetime(2026, 3, 20, 12, 7, tzinfo=UTC), 90.0),
        (23.44, 0.0, datetime(2026, 6, 21, 12, 2, tzinfo=UTC), 90.0),
        (52.52, 13.41, datetime(2026, 6, 21, 11, 8, tzinfo=UTC), 90 - 52.52 + 23.44),
        (52.52, 13.41, datetime(2026, 12, 21, 11, 4, tzinfo=UTC), 90 - 52.52 - 23.44),
        (-33.87, 151.21, datetime(2026, 12, 21, 1, 53, tzinfo=UTC), 90 - 33.87 + 23.44),
        (90.0, 0.0, datetime(2026, 12, 21, 0, 0, tzinfo=UTC), -23.44),
    ],
)
def test_noon_and_midnight(latitude: float, longitude: float, at: datetime, expected: float) -> None:
    assert sun_elevation(latitude, longitude, at) == pytest.approx(expected, abs=0.3)


def test_the_zone_of_the_time_does_not_matter() -> None:
    at = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
    elsewhere = at.astimezone(timezone(timedelta(hours=9)))
    assert sun_elevation(52.5, 13.4, at) == sun_elevation(52.5, 13.4, elsewhere)
    assert sun_elevation(52.5, 13.4, at) < sun_elevation(52.5, 13.4, at - timedelta(hours=1))
