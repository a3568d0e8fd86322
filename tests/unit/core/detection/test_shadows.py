"""A shadow darkens the background evenly; an object replaces it."""

from __future__ import annotations

import numpy as np

from async_motion.core.detection.shadows import shadows

GROUND = np.random.default_rng(0).integers(110, 130, (60, 80), np.uint8)
DIFFERS = np.zeros_like(GROUND)
DIFFERS[20:40, 20:60] = 255


def test_an_even_shadow_is_found_up_to_its_edge() -> None:
    ground = np.full_like(GROUND, 120)
    shaded = ground.copy()
    shaded[20:40, 20:60] = 72
    assert np.array_equal(shadows(shaded, ground, DIFFERS), DIFFERS)


def test_a_thing_with_a_pattern_of_its_own_is_not_a_shadow() -> None:
    plane = GROUND.copy()
    plane[20:40, 20:60] = np.random.default_rng(1).integers(30, 110, (20, 40))
    assert not shadows(plane, GROUND, DIFFERS).any()


def test_what_is_brighter_or_black_is_not_a_shadow() -> None:
    for level in (180, 5):
        plane = np.full_like(GROUND, 120)
        plane[20:40, 20:60] = level
        assert not shadows(plane, np.full_like(GROUND, 120), DIFFERS).any()
