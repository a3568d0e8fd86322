"""Reduction to the working size, and the arithmetic that the detector's parts share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core.detection.working_image import (
    LONGEST,
    eighth,
    halved,
    median_of,
    middle,
    ordered,
    quartered,
    working_image,
    working_size,
)


@pytest.mark.parametrize("shape", [(16, 16), (17, 401), (240, 320), (720, 1280), (1080, 1920), (2161, 3841)])
def test_the_working_image_has_the_working_size(shape: tuple[int, int]) -> None:
    plane = working_image(np.zeros(shape, np.uint8))
    assert plane.shape == working_size(*shape)
    assert max(plane.shape) <= LONGEST
    assert plane.flags.c_contiguous


def test_halving_takes_means() -> None:
    assert halved(np.array([[0, 4, 9], [8, 12, 9], [9, 9, 9]], np.uint8)).tolist() == [[6]]


def test_quartering_keeps_what_is_where() -> None:
    luma = np.zeros((64, 128), np.uint8)
    luma[16:32, 64:96] = 200
    small = quartered(luma)
    assert small.shape == (16, 32)
    assert np.all(small[4:8, 16:24] == 200)
    assert int(small.sum()) == 200 * 4 * 8


def test_a_luma_with_padded_rows_is_reduced_alike() -> None:
    padded = np.random.default_rng(0).integers(0, 256, (1080, 2048), np.uint8)
    view = padded[:, :1920]
    assert np.array_equal(working_image(view), working_image(view.copy()))


def test_an_eighth_of_a_tiny_plane_is_not_empty() -> None:
    assert eighth(np.full((5, 16), 7, np.uint8)).min() == 7


@given(count=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_the_median_of_planes_is_numpys_upper_median(count: int, seed: int) -> None:
    stack = np.random.default_rng(seed).integers(0, 256, (count, 3, 5), np.uint8)
    assert np.array_equal(median_of(list(stack)), np.sort(stack, axis=0)[count // 2])


@given(count=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_planes_are_ordered_pixel_by_pixel(count: int, seed: int) -> None:
    stack = np.random.default_rng(seed).integers(0, 256, (count, 3, 5), np.uint8)
    assert np.array_equal(ordered(list(stack)), np.sort(stack, axis=0))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1))
def test_the_middle_is_the_upper_median(values: list[float]) -> None:
    assert middle(np.array(values, np.float32)) == sorted(values)[len(values) // 2]
