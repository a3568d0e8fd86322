"""The distance to the second nearest look, exact and for comparisons with a limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core.detection.nearest import Bounds, second_nearest
from async_motion.core.detection.working_image import Plane

SHAPE = (6, 11)


def drawn(seed: int, spread: int) -> tuple[list[Plane], Plane]:
    """Return 16 looks and an image; the grey levels of each pixel are within `spread`."""
    draw = np.random.default_rng(seed)
    base = draw.integers(0, 256 - spread, SHAPE)
    looks = [(base + draw.integers(0, spread + 1, SHAPE)).astype(np.uint8) for _ in range(16)]
    image = np.clip(base + draw.integers(-30, spread + 31, SHAPE), 0, 255).astype(np.uint8)
    return looks, image


@given(seed=st.integers(0, 10_000), spread=st.integers(0, 255), looks=st.integers(2, 16))
def test_the_second_nearest_look_is_that_of_a_sorted_list(seed: int, spread: int, looks: int) -> None:
    stack, image = drawn(seed, spread)
    stack = stack[:looks]
    away = np.abs(np.array(stack, np.int16) - image)
    assert np.array_equal(second_nearest(image, stack), np.sort(away, axis=0)[1])


@given(seed=st.integers(0, 10_000), spread=st.integers(0, 12), lowest=st.integers(0, 12))
def test_bounds_decide_any_comparison_from_the_limit_upwards(seed: int, spread: int, lowest: int) -> None:
    looks, image = drawn(seed, spread)
    # A few restless pixels need all looks.
    for number, look in enumerate(looks):
        look[0, :8] = (37 * number) % 256
    limit = np.random.default_rng(seed).integers(lowest, lowest + 20, SHAPE, np.uint8)
    found = Bounds(looks).distance(image, limit)
    exact = second_nearest(image, looks)
    gaps = np.diff(np.sort(np.array(looks, np.int16), axis=0), axis=0).max(axis=0)
    assert (found is None) == bool(np.mean(gaps > limit) > 0.2)
    if found is None:
        return
    for more in range(40):
        assert np.array_equal(found > limit + more, exact > limit + more)


def test_bounds_do_not_help_where_everything_is_restless() -> None:
    looks = [np.full(SHAPE, 16 * number, np.uint8) for number in range(16)]
    bounds = Bounds(looks)
    assert bounds.distance(looks[3], np.full(SHAPE, 15, np.uint8)) is None
    assert bounds.distance(looks[3], np.full(SHAPE, 16, np.uint8)) is not None
