"""Regions of the mask, unrest, and what tells a hole from an object."""

from __future__ import annotations

import numpy as np

from async_motion.core.detection.regions import Regions, Unrest, clean
from async_motion.core.detection.working_image import Plane, gradient


def plane(*boxes: tuple[int, int, int, int]) -> Plane:
    """Return a mask (60, 80), 0 or 255, with boxes given as (left, top, width, height)."""
    mask = np.zeros((60, 80), np.uint8)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = 255
    return mask


def test_cleaning_drops_specks_and_fills_holes() -> None:
    mask = plane((10, 10, 20, 20), (50, 50, 1, 1))
    mask[18:22, 18:22] = 0
    cleaned = clean(mask)
    assert cleaned[50, 50] == 0
    assert cleaned[20, 20] == 255
    assert not clean(np.zeros((2, 2), np.uint8)).any()


def test_regions_know_their_pixels() -> None:
    regions = Regions(plane((5, 5, 10, 4), (40, 30, 6, 6)))
    assert regions.count == 3
    assert sorted(regions.area.tolist()) == [0, 36, 40]
    large = regions.area >= 40
    assert np.array_equal(regions.mask_of(large), plane((5, 5, 10, 4)))
    assert regions.share(plane((5, 5, 5, 4)))[large][0] == 0.5
    assert regions.sums(np.full((60, 80), 2.0))[large][0] == 80.0


def test_no_region_in_an_empty_mask() -> None:
    regions = Regions(plane())
    assert regions.count == 1
    assert not regions.area.any()


def test_unrest_rises_where_specks_are_and_falls_again() -> None:
    unrest = Unrest((60, 80))
    for _ in range(100):
        unrest.learn(plane((0, 0, 24, 24)), 0.1, 60.0)
    assert unrest.plane().shape == (60, 80)
    high = float(unrest.plane()[10, 10])
    assert high > 0.5
    assert float(unrest.plane()[50, 70]) == 0.0
    for _ in range(100):
        unrest.learn(plane(), 0.1, 60.0)
    assert float(unrest.plane()[10, 10]) < high / 2


def test_unrest_is_not_learned_near_what_is_kept() -> None:
    unrest = Unrest((60, 80))
    for _ in range(20):
        unrest.learn(plane((0, 0, 80, 60)), 0.1, 60.0, plane((0, 0, 16, 16)))
    assert (
        unrest.within(np.array([0.0, 0.0, 4.0, 4.0]))
        < 0.01
        < unrest.within(np.array([56.0, 40.0, 70.0, 55.0]))
    )


def test_a_hole_is_told_from_a_thing_by_its_edges() -> None:
    ground = np.full((60, 80), 120, np.uint8)
    with_thing = ground.copy()
    with_thing[20:40, 30:50] = 40
    mask = plane((30, 20, 20, 20))
    tolerance = np.full_like(ground, 12)
    hole = Regions(mask).left_behind(mask, ground, gradient(with_thing), ground, tolerance)
    thing = Regions(mask).left_behind(mask, with_thing, gradient(ground), with_thing, tolerance)
    moving = Regions(mask).left_behind(mask, ground, gradient(with_thing), with_thing, tolerance)
    assert hole[1]
    assert not thing[1]
    assert not moving[1]
