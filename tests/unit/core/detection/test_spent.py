"""The time that each place has been given."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.regions import Regions
from async_motion.core.detection.spent import Spent
from tests.support.planes import plane

REGIONS = Regions(plane((8, 8, 16, 8), (120, 40, 8, 8)))


def test_time_is_spent_in_a_place_and_forgotten() -> None:
    spent = Spent((7, 20), 60.0)
    for _ in range(4):
        spent.spend(REGIONS, 1, 0.5)
    assert spent.most(REGIONS, 1) == spent.mean(REGIONS, 1) == 2.0
    assert spent.most(REGIONS, 2) == 0.0
    spent.wait(60.0)
    assert spent.most(REGIONS, 1) == pytest.approx(2.0 / np.e)


def test_a_long_gap_is_not_all_spent() -> None:
    spent = Spent((7, 20), 60.0)
    spent.spend(REGIONS, 1, 3600.0)
    assert spent.most(REGIONS, 1) == 5.0


def test_one_cell_of_a_place_may_have_spent_more_than_the_others() -> None:
    spent = Spent((7, 20), 60.0)
    spent.spend(Regions(plane((9, 9, 5, 5))), 1, 4.0)
    assert spent.most(REGIONS, 1) == 4.0
    assert spent.mean(REGIONS, 1) < 2.0


def test_a_region_in_an_incomplete_cell_at_the_far_edge_has_a_place() -> None:
    spent = Spent((7, 20), 60.0)
    corner = Regions(plane((152, 52, 8, 8)))
    spent.spend(corner, 1, 1.0)
    assert spent.most(corner, 1) == 1.0
