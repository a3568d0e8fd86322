"""How large and how strong a region must be, by its distance and its zone."""

from __future__ import annotations

import numpy as np

from async_motion.core.detection.areas import FEWEST_PIXELS, Areas
from async_motion.core.detection.regions import Regions
from async_motion.core.detection.sensitivity import MEASURES
from async_motion.core.detection.settings import DetectorSettings
from async_motion.core.detection.zones import Zone

SHAPE = (100, 200)
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def regions_at(*boxes: tuple[int, int, int, int]) -> Regions:
    """Return the regions of a mask with these boxes (left, top, right, bottom)."""
    mask = np.zeros(SHAPE, np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return Regions(mask)


def test_the_minimum_area_grows_towards_the_lower_edge() -> None:
    areas = Areas(DetectorSettings(min_area=0.01, min_area_far=0.0025, horizon=0.2), SHAPE)
    far, between, near = areas.required(regions_at((10, 5, 20, 15), (50, 50, 60, 60), (90, 90, 99, 100)))[1:]
    assert round(far) == 0.0025 * 20000
    assert far < between < near
    assert round(near) == 0.01 * 20000


def test_no_area_is_below_the_fewest_pixels() -> None:
    areas = Areas(DetectorSettings(min_area=0.0), SHAPE)
    assert areas.required(regions_at((10, 5, 20, 15)))[1] == FEWEST_PIXELS


def test_a_zone_has_its_own_area_floor_and_share() -> None:
    zone = Zone(name="left", polygon=LEFT, sensitivity="high", min_area=0.05)
    areas = Areas(DetectorSettings(min_area=0.01, zones=(zone,)), SHAPE)
    regions = regions_at((10, 10, 20, 20), (150, 10, 160, 20))
    assert np.round(areas.required(regions)).tolist()[1:] == [1000, 200]
    assert areas.floor[50, 50] == MEASURES["high"].threshold
    assert areas.floor[50, 150] == MEASURES["medium"].threshold
    every = np.array([False, True, True])
    expected = [MEASURES["high"].strong_share, MEASURES["medium"].strong_share]
    assert areas.strong_shares(regions, every).tolist()[1:] == expected


def test_a_zone_is_touched_by_what_lies_in_it() -> None:
    areas = Areas(DetectorSettings(min_area=0.01, zones=(Zone(name="left", polygon=LEFT),)), SHAPE)
    regions = regions_at((10, 10, 30, 30), (150, 10, 170, 30))
    assert areas.touched(regions, np.array([False, True, False])) == ("left",)
    assert areas.touched(regions, np.array([False, False, True])) == ()


def test_a_mask_is_not_watched() -> None:
    areas = Areas(DetectorSettings(masks=(LEFT,)), SHAPE)
    assert 9900 <= areas.watched_pixels <= 10000
    assert not areas.watched[:, :100].any()
    assert not areas.ignored[:, 101:].any()
