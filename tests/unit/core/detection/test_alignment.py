"""A shift of the image is compensated; an image without texture or without a shift is left unchanged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from async_motion.core.detection.alignment import STEADY, Aligner, Shift, shifted
from async_motion.core.model import Luma
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


def road_below_clouds(seed: int, depth: float, drift: int) -> Luma:
    """Return a plain road with straight markings, below the shadows of clouds that drift to the left."""
    road = np.full((180, 320), 110, np.uint8)
    for left, right in ((60, 20), (100, 52), (150, 88), (176, 120)):
        cv2.line(road, (0, left), (319, right), 170, 3, cv2.LINE_AA)
    coarse = np.random.default_rng(seed).normal(0, 1, (5, 14)).astype(np.float32)
    cover = cv2.resize(coarse, (14 * 40, 180), interpolation=cv2.INTER_CUBIC)[:, drift : drift + 320]
    shaded = cv2.GaussianBlur(road, (3, 3), 0) * (1 - depth / (1 + np.exp(-3 * cover)))
    return np.asarray(np.clip(shaded, 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("seed", "depth", "drift"), [(1, 0.3, 220), (5, 0.3, 30), (7, 0.5, 220), (14, 0.3, 160), (22, 0.5, 160)]
)
def test_shadows_of_clouds_on_a_road_are_no_large_shift(seed: int, depth: float, drift: int) -> None:
    found = Aligner(road_below_clouds(seed, depth, 0)).shift(road_below_clouds(seed, depth, drift))
    assert max(abs(found.x), abs(found.y)) < 6.0


@pytest.mark.parametrize("shape", [(240, 320), (16, 16), (16, 300), (1, 300), (300, 1), (1, 1)])
def test_a_bare_image_cannot_tell(shape: tuple[int, int]) -> None:
    bare = np.full(shape, 90, np.uint8)
    assert Aligner(bare).shift(np.full(shape, 140, np.uint8)) is STEADY


def test_a_moved_image_moves_its_edges_and_a_light_does_not() -> None:
    still = texture()
    aligner, everywhere = Aligner(still), np.full(still.shape, 255, np.uint8)
    darker = (still * np.linspace(0.8, 1.0, still.shape[1])).astype(np.uint8)
    for image, least, most in (
        (still, 0.0, 0.0),
        (darker, 0.0, 0.2),
        (shifted(still, Shift(2.0, 1.0)), 0.5, 1.0),
    ):
        edges = aligner.edges(image, noise=1.0).where(everywhere)
        assert len(edges.x) > 100
        assert least <= np.mean(edges.moved) <= most


def test_edges_are_asked_for_where_a_mask_is() -> None:
    still, half = texture(), np.zeros((240, 320), np.uint8)
    half[:, 160:] = 255
    edges = Aligner(still).edges(still, noise=1.0).where(half)
    assert len(edges.x)
    assert edges.x.min() >= 160
