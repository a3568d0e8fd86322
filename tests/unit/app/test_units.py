"""Building profiles and the detector from the settings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from async_motion.app.specs import detector_settings, night_values
from async_motion.app.units import build_profiles, keeps_learned
from async_motion.camera.unit import CameraUnit
from async_motion.capture import CameraSource
from async_motion.core.detection.detector import DetectorSettings
from async_motion.core.events.day_night import COLOUR, SUN, Profile
from async_motion.core.model import Image
from async_motion.settings import Settings, load


class FakeUnit:
    """The part of `CameraUnit` that the profile keeper calls."""

    def __init__(self) -> None:
        self.values_in_force: dict[str, Any] = {"sensitivity": "medium", "threshold": 25.0, "min_area": 0.002}

    def values(self) -> dict[str, Any]:
        return dict(self.values_in_force)

    def adopt(self, values: dict[str, Any]) -> None:
        self.values_in_force |= values

    async def look(self, work: Any) -> Any:
        image: Image = np.zeros((8, 8, 3), np.uint8)
        return work(image)


def read(tmp_path: Path, profiles: str) -> Settings:
    path = tmp_path / "v.yaml"
    path.write_text(
        "location: {latitude: 52.5, longitude: 13.4}\n"
        f"cameras: {{porch: {{source: usb:0, profiles: {profiles}}}}}\n"
    )
    return load(path, {})


@pytest.mark.parametrize(
    ("night", "values"),
    [
        ("", {}),
        ("{sensitivity: low}", {"sensitivity": "low", "threshold": None}),
        ("{sensitivity: low, threshold: 40}", {"sensitivity": "low", "threshold": 40.0}),
        ("{threshold: 40, min_area: 1%}", {"threshold": 40.0, "min_area": 0.01}),
    ],
)
def test_the_night_has_the_values_that_are_set_for_it(
    tmp_path: Path, night: str, values: dict[str, Any]
) -> None:
    settings = read(tmp_path, f"{{night: {night}}}")
    assert night_values(settings.cameras["porch"]) == values
    keeper = build_profiles(settings, "porch", unit=cast(CameraUnit, FakeUnit()), changed=lambda: None)
    assert (keeper is not None) == bool(values)


async def test_each_switch_asks_the_right_light(tmp_path: Path) -> None:
    found = {}
    for switch in ("manual", "sun", "picture"):
        settings = read(tmp_path, f"{{switch: {switch}, night: {{min_area: 1%}}}}")
        unit = FakeUnit()
        keeper = build_profiles(settings, "porch", unit=cast(CameraUnit, unit), changed=lambda: None)
        assert keeper is not None
        assert keeper.basis == switch
        keeper.choose("night")
        assert unit.values_in_force["min_area"] == 0.01
        assert keeper.values(Profile.DAY) == {"min_area": 0.002}
        found[switch] = keeper.light
    assert found["manual"] is None
    sun, colour = found["sun"], found["picture"]
    assert sun is not None
    assert sun.limits == SUN
    elevation = await sun.read()
    assert elevation is not None
    assert -90 <= elevation <= 90
    assert sun.words(-6.04) == "the sun stands at -6.0°"
    assert colour is not None
    assert colour.limits == COLOUR
    assert await colour.read() == 0
    assert colour.words(0.5) == "50.0% of the picture has colour"


@pytest.mark.parametrize(
    ("spool", "live", "keeps"),
    [("spool.db", True, True), (":memory:", True, False), ("spool.db", False, False)],
)
def test_what_is_learned_is_kept_on_a_disk_and_of_live_cameras(
    tmp_path: Path, spool: str, live: bool, keeps: bool
) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(f"spool: {{path: '{spool}'}}\n")
    assert keeps_learned(load(path, {}), cast(CameraSource, SimpleNamespace(live=live))) is keeps


def test_each_measure_of_the_settings_reaches_the_detector(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(
        "cameras: {porch: {source: usb:0, detect: {threshold: 9, noise_factor: 2, strong_share: 40%, "
        "unrest_factor: 5, learning: 2s, rest: 1min, min_area: 1%, min_area_far: 0.1%, horizon: 20%}}}\n"
    )
    assert detector_settings(load(path, {}).cameras["porch"]) == DetectorSettings(
        threshold=9.0,
        noise_factor=2.0,
        strong_share=0.4,
        unrest_factor=5.0,
        learning_s=2.0,
        rest_s=60.0,
        min_area=0.01,
        min_area_far=0.001,
        horizon=0.2,
    )
