"""A shift of the image is compensated; an image without texture or without a shift is left unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.alignment import STEADY, Aligner, Shift, shifted
from tests.support.scenes import texture


@pytest.mark.parametrize("true", [Shift(0.6, -0.4), Shift(3.0, 2.0), Shift(-9.5, 6.0)])
def test_the_shift_is_found_and_undone(true: Shift) -> None:
    still = texture()
    shaken = shifted(still, Shift(-true.x, -true.y))
    found = Aligner(still).shift(shaken)
    assert abs(found.x - true.x) < 0.2
    assert abs(found.y - true.y) < 0.2
    rest = np.abs(shifted(shaken, found).astype(int) - still)[20:-20, 20:-20]
    assert rest.mean() < 2.0


def test_an_unmoved_image_is_steady_though_a_part_of_it_moves() -> None:
    still = texture()
    passing = still.copy()
    passing[60:180, 80:160] = 10
    assert Aligner(still).shift(passing) is STEADY
    assert not STEADY


def test_a_change_of_light_is_not_a_shift() -> None:
    still = texture()
    assert Aligner(still).shift(np.clip(still.astype(int) + 25, 0, 255).astype(np.uint8)) is STEADY


@pytest.mark.parametrize("shape", [(240, 320), (16, 16), (16, 300), (1, 300), (300, 1), (1, 1)])
def test_a_bare_image_cannot_tell(shape: tuple[int, int]) -> None:
    bare = np.full(shape, 90, np.uint8)
    assert Aligner(bare).shift(np.full(shape, 140, np.uint8)) is STEADY
