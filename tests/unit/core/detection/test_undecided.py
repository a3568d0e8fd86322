"""Small or weak regions that may be an object: for some seconds the background does not learn them."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.regions import Regions, Unrest
from async_motion.core.detection.undecided import Undecided
from async_motion.core.detection.working_image import Plane
from tests.support.planes import Box, plane

SMALL = (40, 20, 6, 5)
REQUIRED = 100.0


def mask_of(undecided: Undecided, *boxes: Box, passed_s: float = 0.2) -> Plane | None:
    regions = Regions(plane(*boxes))
    required = np.full(regions.count, REQUIRED)
    return undecided.mask(regions, required, regions.area > 0, passed_s)


def test_a_small_region_is_undecided_and_a_speck_is_not() -> None:
    found = mask_of(Undecided(Unrest((60, 160))), SMALL, (100, 40, 4, 4))
    assert found is not None
    assert np.array_equal(found, plane(SMALL))


@pytest.mark.parametrize("edge", [(0, 20, 6, 5), (154, 20, 6, 5), (40, 0, 6, 5), (40, 55, 6, 5)])
def test_what_is_partly_out_of_view_is_not_waited_for(edge: Box) -> None:
    assert mask_of(Undecided(Unrest((60, 160))), edge) is None


def test_among_specks_nothing_is_undecided() -> None:
    unrest = Unrest((60, 160))
    unrest.cells[:] = 0.01
    assert mask_of(Undecided(unrest), SMALL) is None


def test_too_many_regions_are_rain() -> None:
    drops = [(8 + 12 * (index % 12), 5 + 14 * (index // 12), 6, 5) for index in range(24)]
    assert mask_of(Undecided(Unrest((60, 160))), *drops) is None
    assert mask_of(Undecided(Unrest((60, 160))), *drops[:20]) is not None


@pytest.mark.parametrize("passed_s", [0.1, 0.5, 2.0])
def test_a_place_is_undecided_for_five_seconds_and_again_after_minutes(passed_s: float) -> None:
    undecided = Undecided(Unrest((60, 160)))
    waited = 0.0
    while mask_of(undecided, SMALL, passed_s=passed_s) is not None:
        waited += passed_s
        assert waited < 10.0
    assert waited == pytest.approx(5.0, abs=1.1)
    assert mask_of(undecided, (120, 20, 6, 5)) is not None, "another place"
    undecided.wait(600.0)
    assert mask_of(undecided, SMALL) is not None
