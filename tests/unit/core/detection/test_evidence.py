"""The evidence of one region: strong pixels, more of them among specks, fewer where motion was confirmed."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.alignment import STEADY
from async_motion.core.detection.areas import Areas
from async_motion.core.detection.background import Background
from async_motion.core.detection.evidence import Evidence, Scene
from async_motion.core.detection.look import Look, Thresholds
from async_motion.core.detection.regions import Regions, Unrest
from async_motion.core.detection.scene import Light
from async_motion.core.detection.settings import DetectorSettings
from async_motion.core.detection.tracks import Tracks
from async_motion.core.detection.working_image import Plane

SHAPE = (96, 128)
SETTINGS = DetectorSettings(min_area=0.01)
GROUND = np.full(SHAPE, 100, np.uint8)
ONE = np.array([False, True])
NONE = np.zeros(2, np.bool_)


def judged(rise: int, unrest: float = 0.0) -> tuple[bool, bool]:
    """Return whether a box of 16x16 pixels, brighter by `rise`, has strong and has weak evidence."""
    background = Background(GROUND, 0.0)
    image: Plane = GROUND.copy()
    image[40:56, 60:76] += np.uint8(rise)
    model = Scene(background, Unrest(SHAPE), Tracks(20.0))
    model.unrest.cells[:] = unrest
    areas = Areas(SETTINGS, SHAPE)
    levels = Thresholds(areas.floor, 1.0).of(background.noise, model.unrest, 0.0, 1.0)
    distance = background.distance(image)
    differs = ((distance > levels.threshold) * 255).astype(np.uint8)
    stands_out = ((distance > levels.whole_threshold) * 255).astype(np.uint8)
    look = Look(
        image,
        image,
        image,
        STEADY,
        Light(),
        distance,
        levels.floor,
        levels.threshold,
        levels.whole_threshold,
        differs,
        stands_out,
        0.0,
    )
    regions = Regions(differs)
    assert regions.count == 2
    required, evidence = areas.required(regions), Evidence(SETTINGS, areas)
    evident = evidence.evident(regions, required, look, ONE, NONE, model)
    return bool(evident[1]), bool(evidence.weak(regions, required, look, ONE, model)[1])


@pytest.mark.parametrize(
    ("rise", "unrest", "strong", "weak"),
    [(60, 0.0, True, True), (20, 0.0, False, True), (60, 0.05, False, False)],
)
def test_what_is_enough(rise: int, unrest: float, strong: bool, weak: bool) -> None:
    assert judged(rise, unrest) == (strong, weak)
