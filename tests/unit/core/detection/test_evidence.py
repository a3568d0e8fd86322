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
from async_motion.core.detection.spent import Spent
from async_motion.core.detection.tracks import Tracks
from async_motion.core.detection.working_image import Plane

SHAPE = (96, 128)
SETTINGS = DetectorSettings(min_area=0.01)
GROUND = np.full(SHAPE, 100, np.uint8)
ONE = np.array([False, True])
NONE = np.zeros(2, np.bool_)


def look_at(image: Plane, model: Scene, areas: Areas) -> Look:
    """Return how the image differs from the background, in its own light and without shake."""
    levels = Thresholds(areas.floor, 1.0).of(model.background.noise, model.unrest, 0.0, 1.0)
    distance = model.background.distance(image)
    differs, stands_out = (
        ((distance > limit) * 255).astype(np.uint8) for limit in (levels.threshold, levels.whole_threshold)
    )
    return Look(
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


def scene(ground: Plane = GROUND, past: Plane = GROUND) -> Scene:
    unrest = Unrest(SHAPE)
    tracks = Tracks(20.0, np.full(unrest.cells.shape, 255, np.uint8))
    return Scene(Background(ground, 0.0), unrest, tracks, Spent(unrest.cells.shape, 60.0), past)


def judged(rise: int, unrest: float = 0.0) -> tuple[bool, bool]:
    """Return whether a box of 16x16 pixels, brighter by `rise`, has strong and has weak evidence."""
    image: Plane = GROUND.copy()
    image[40:56, 60:76] += np.uint8(rise)
    model = scene()
    model.unrest.cells[:] = unrest
    areas = Areas(SETTINGS, SHAPE)
    look = look_at(image, model, areas)
    regions = Regions(look.differs)
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


STRIPES: Plane = np.where(np.arange(128) // 4 % 2, 100, 124).astype(np.uint8)[None, :].repeat(96, axis=0)


@pytest.mark.parametrize(
    ("what", "enough"),
    [
        ("man", True),
        ("unmoving", False),
        ("at the edge", False),
        ("among specks", False),
        ("where something stirs for ever", False),
        ("in its neighbours' range", False),
        ("too faint", False),
    ],
)
def test_what_is_enough_after_seconds_in_a_calm_place(what: str, enough: bool) -> None:
    top, left = 40, 0 if what == "at the edge" else 60
    ground = STRIPES if what == "in its neighbours' range" else GROUND.copy()
    image: Plane = ground.copy()
    image[top : top + 16, left : left + 16] += np.uint8(16 if what == "too faint" else 24)
    if what == "in its neighbours' range":
        image[top : top + 16, left : left + 16] = ground[top : top + 16, left + 4 : left + 20]
    model = scene(ground, image if what == "unmoving" else ground)
    areas = Areas(SETTINGS, SHAPE)
    look = look_at(image, model, areas)
    regions = Regions(look.differs)
    assert regions.count == 2
    if what == "among specks":
        model.unrest.cells[:] = 0.01
    if what == "where something stirs for ever":
        for _ in range(5):
            model.in_place.spend(regions, 1, 2.5)
    lasting = Evidence(SETTINGS, areas).lasting(regions, areas.required(regions), look, ONE, model)
    assert lasting.tolist() == [False, enough]
