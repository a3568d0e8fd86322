"""Polygons in shares of the image (0..1) become masks."""

from __future__ import annotations

import numpy as np

from async_motion.core.detection.zones import draw

HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
ALL = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def test_a_half_is_half_at_every_size() -> None:
    for shape in ((16, 16), (90, 160), (239, 401)):
        share = np.count_nonzero(draw([HALF], shape)) / (shape[0] * shape[1])
        assert abs(share - 0.5) <= 1.0 / shape[1] + 0.01


def test_the_whole_image_is_covered() -> None:
    assert draw([ALL], (33, 47)).min() == 255


def test_corners_outside_are_cut_and_none_draws_nothing() -> None:
    beyond = ((-3.0, -3.0), (4.0, -3.0), (4.0, 4.0), (-3.0, 4.0))
    assert draw([beyond], (20, 30)).min() == 255
    assert not draw([], (20, 30)).any()
