"""The thresholds of a frame: a floor that is lower where it is calm, and the noise on top of it."""

from __future__ import annotations

import numpy as np

from async_motion.core.detection.background import NOISE_UNIT
from async_motion.core.detection.look import Thresholds
from async_motion.core.detection.regions import Unrest

SHAPE = (64, 96)
FLOOR = np.full(SHAPE, 12, np.uint8)
NOISE = np.full(SHAPE, 2 * NOISE_UNIT, np.uint8)


def test_half_of_the_floor_is_enough_where_it_has_been_calm() -> None:
    thresholds, unrest = Thresholds(FLOOR, 1.0), Unrest(SHAPE)
    unrest.cells[:, :6] = 0.1
    young = thresholds.of(NOISE, unrest, 0.0, 1.0)
    assert (young.threshold == 14).all()
    known = thresholds.of(NOISE, unrest, 60.0, 1.0)
    assert (known.threshold[:, :40] == 14).all()
    assert (known.threshold[:, -40:] == 8).all()
    assert (known.whole_threshold == 14).all()


def test_what_was_dimmed_needs_more_and_nothing_new_costs_nothing() -> None:
    thresholds, unrest = Thresholds(FLOOR, 1.0), Unrest(SHAPE)
    plain = thresholds.of(NOISE, unrest, 0.0, 1.0)
    assert thresholds.of(NOISE, unrest, 0.0, 1.0) is plain
    assert (thresholds.of(NOISE, unrest, 0.0, 2.0).threshold > plain.threshold).all()
