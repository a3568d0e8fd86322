"""JPEGs: their size in pixels and bytes, and clear errors for what is not a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core.model import Image
from async_motion.errors import ImageError
from async_motion.jpeg import decode, dimensions, encode, shrink


def scene(width: int, height: int, *, noise: int = 0) -> Image:
    """Return a gradient with a red square in it, and some noise to make it large."""
    across = np.linspace(0, 255, width, dtype=np.float32)[None, :, None]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = np.repeat(across * down, 3, axis=2)
    if noise:
        image += np.random.default_rng(1).integers(-noise, noise, image.shape)
    image[height // 4 : height // 2, width // 4 : width // 2] = (0, 0, 255)
    return np.clip(image, 0, 255).astype(np.uint8)


def test_an_image_survives_the_way_to_jpeg_and_back() -> None:
    image = scene(320, 180)
    jpeg, width, height = encode(image, 95)
    assert (width, height) == (320, 180)
    assert dimensions(jpeg) == (320, 180)
    back = decode(jpeg)
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < 2
    assert back[60, 100].argmax() == 2, "red is still red"


def test_a_grey_image_is_encoded_too() -> None:
    jpeg, width, height = encode(scene(64, 48)[:, :, 0])
    assert (width, height) == (64, 48)
    assert decode(jpeg).shape == (48, 64, 3)


def test_quality_decides_the_size() -> None:
    image = scene(320, 180, noise=20)
    assert len(encode(image, 30)[0]) < len(encode(image, 85)[0]) < len(encode(image, 98)[0])


@pytest.mark.parametrize(
    ("width", "max_width", "expected"),
    [(640, 320, (320, 180)), (640, 640, (640, 360)), (640, 1000, (640, 360)), (640, 333, (333, 187))],
)
def test_an_image_is_reduced_to_the_maximum_width_and_keeps_its_shape(
    width: int, max_width: int, expected: tuple[int, int]
) -> None:
    jpeg, *size = encode(scene(width, 360), 85, max_width)
    assert tuple(size) == expected
    assert dimensions(jpeg) == expected


def test_a_very_flat_image_keeps_a_row() -> None:
    assert encode(scene(1000, 4), 85, 10)[1:] == (10, 1)


def test_the_array_is_not_written_to() -> None:
    image = scene(320, 180)
    image.flags.writeable = False
    encode(image, 85)
    encode(image, 85, 100)


@pytest.mark.parametrize("shape", [(0, 0, 3), (10, 0, 3), (4, 4, 7)])
def test_an_invalid_image_raises_image_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="cannot encode"):
        encode(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "jpeg", [b"", b"\xff", b"\xff\xd8", b"not a jpeg at all", b"\xff\xd8\xff\xe0\x00\x10JFIF"]
)
def test_an_invalid_jpeg_raises_image_error(jpeg: bytes) -> None:
    with pytest.raises(ImageError):
        decode(jpeg)
    with pytest.raises(ImageError):
        dimensions(jpeg)
    with pytest.raises(ImageError):
        shrink(jpeg, 100, 80, 10**6)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_behind_a_jpegs_first_two_have_dimensions_or_are_refused(rest: bytes) -> None:
    try:
        width, height = dimensions(b"\xff\xd8" + rest)
    except ImageError:
        return
    assert width > 0
    assert height > 0


@given(st.integers(1, 200), st.integers(1, 200), st.booleans())
@settings(max_examples=50, deadline=None)
def test_dimensions_agree_with_the_decoder(width: int, height: int, progressive: bool) -> None:
    done, jpeg = cv2.imencode(
        ".jpg", np.zeros((height, width, 3), np.uint8), (cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive))
    )
    assert done
    assert dimensions(jpeg.tobytes()) == (width, height)


def test_a_jpeg_that_is_small_enough_comes_back_as_it_is() -> None:
    jpeg, _, _ = encode(scene(320, 180))
    assert shrink(jpeg, 320, 10, len(jpeg)) is jpeg


@pytest.mark.parametrize("max_width", [1919, 1280, 960, 640, 480, 241, 240, 100])
def test_shrink_keeps_to_the_width(max_width: int) -> None:
    jpeg, _, _ = encode(scene(1920, 1080))
    smaller = shrink(jpeg, max_width, 80, 10**9)
    assert dimensions(smaller) == (max_width, round(1080 * max_width / 1920))
    back = decode(smaller)
    assert back[back.shape[0] * 3 // 8, back.shape[1] * 3 // 8].argmax() == 2


def test_shrink_lowers_the_quality_before_the_size() -> None:
    jpeg, _, _ = encode(scene(640, 360, noise=60), 90)
    smaller = shrink(jpeg, 640, 80, len(jpeg) // 2)
    assert dimensions(smaller) == (640, 360)
    assert len(smaller) <= len(jpeg) // 2


def test_shrink_makes_it_fit_whatever_the_noise() -> None:
    jpeg, _, _ = encode(scene(640, 360, noise=120), 95)
    assert len(shrink(jpeg, 640, 80, 4000)) <= 4000


def test_a_bound_that_no_image_can_keep_is_an_error() -> None:
    jpeg, _, _ = encode(scene(640, 360, noise=120), 95)
    with pytest.raises(ImageError, match="at most 100 bytes"):
        shrink(jpeg, 640, 80, 100)
