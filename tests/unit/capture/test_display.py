"""How a frame is displayed: by display matrix, EXIF orientation and pixel aspect ratio."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.display import AS_CODED, Display, aspect_of, by_exif, by_matrix
from tests.support.exif import exif

ONE = 1 << 16
LUMA = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)

SHOWN = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
"""LUMA as displayed, by EXIF orientation (TIFF 6.0: the sides of the first row and the first column)."""

MATRIX = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""(a, b, c, d) of the equivalent display matrix: x' = a x + c y, y' = b x + d y."""


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("order", "<>")
def test_exif(orientation: int, order: str) -> None:
    display = Display(*by_exif(exif(orientation, order)))
    assert display.luma(LUMA).tolist() == SHOWN[orientation]


@pytest.mark.parametrize("orientation", SHOWN)
def test_a_display_matrix(orientation: int) -> None:
    a, b, c, d = (ONE * one for one in MATRIX[orientation])
    display = Display(*by_matrix(struct.pack("=9i", a, b, 0, c, d, 0, 7, 7, 1 << 30)))
    assert display.luma(LUMA).tolist() == SHOWN[orientation]


def test_pixels_that_are_not_square_are_stretched_and_never_reduced() -> None:
    image = np.zeros((288, 352, 3), np.uint8)
    assert Display(aspect=12 / 11).image(image).shape == (288, 384, 3)
    assert Display(aspect=1 / 2).image(image).shape == (576, 352, 3)
    assert Display(turns=1, aspect=2.0).image(image).shape == (704, 288, 3)
    assert Display(aspect=2.0).luma(image[..., 0]).shape == (288, 352), "areas are shares"


def test_what_is_cropped_is_not_displayed() -> None:
    cropped = Display(crop=(1, 0, 0, 1))
    assert cropped.luma(LUMA).tolist() == [[2, 3]]
    assert Display(1, False, 2.0, (1, 0, 0, 1)).image(np.dstack([LUMA] * 3)).shape == (4, 1, 3)
    assert Display(crop=(2, 0, 1, 0)).luma(LUMA).shape == (2, 3), "nothing would be left"


def test_an_image_is_not_stretched_beyond_the_bound() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    assert Display(aspect=4.0).image(image, 30_000).shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("ratio", "aspect"), [((24, 11), 24 / 11), ((0, 1), 1.0), ((1, 0), 1.0), ((255, 1), 1.0), ((-2, 1), 1.0)]
)
def test_an_impossible_ratio_is_square(ratio: tuple[int, int], aspect: float) -> None:
    class Ratio:
        numerator, denominator = ratio

    assert aspect_of(Ratio()) == aspect
    assert aspect_of(None) == 1.0


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    by_matrix(data)
    by_exif(data)
    by_exif(b"\xff\xd8\xff\xe1\x00\x40Exif\0\0II*\0" + data)
    by_exif(b"\x89PNG\r\n\x1a\n" + data)
    by_exif(b"RIFF\0\0\0\0WEBP" + data)


def test_as_coded() -> None:
    assert Display(*by_exif(b"\xff\xd8\xff\xdb")) == AS_CODED
    assert AS_CODED.as_coded
