"""Lights of a part of the image, and uneven ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from async_motion.core.detection.local_light import find_local_light
from async_motion.core.detection.working_image import Plane
from tests.support.scenes import texture

_PERSON = slice(70, 150), slice(140, 170)


def lamp(x: int, y: int, gain: float = 1.5, radius: float = 50.0) -> NDArray[np.float32]:
    """Return by which factor a lamp at (x, y) makes a plane of 240x320 pixels brighter."""
    rows, columns = np.mgrid[:240, :320]
    glow = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return np.asarray(1.0 + (gain - 1.0) * glow, np.float32)


def person(still: Plane, level: int = 15) -> Plane:
    plane = still.copy()
    plane[_PERSON] = level
    return plane


def lit(plane: Plane, factors: NDArray[np.float32] | float) -> Plane:
    return np.asarray(np.clip(plane * factors, 0, 255), np.uint8)


def hidden() -> Plane:
    mask = np.zeros((240, 320), np.uint8)
    mask[_PERSON] = 255
    return mask


@pytest.mark.parametrize("x", [155, 190])
@pytest.mark.parametrize("gain", [0.6, 1.5])
def test_a_lamp_is_continued_behind_a_person(x: int, gain: float) -> None:
    still, factors = texture() // 2, lamp(x, 110, gain)
    light = find_local_light(lit(person(still), factors), person(still), hidden())
    assert light is not None
    # Whatever the person looks like: 0.1 of a light of 0.5 is the top of the glow, which is not seen.
    assert np.abs(light.factors - factors)[_PERSON].max() < 0.1
    assert light.where[_PERSON].all()
    # Nothing changes where the light does not reach.
    assert not light.where[:, :15].any()
    assert np.array_equal(light.apply(still)[:, :15], still[:, :15])
    expected = lit(still, factors)
    assert np.abs(light.apply(still).astype(int) - expected)[light.where > 0].mean() < 3.0


def test_half_of_a_room_is_a_local_light() -> None:
    still = texture() // 2
    factors = np.tile(1.0 + 0.5 / (1.0 + np.exp((np.arange(320) - 160) / 20.0)), (240, 1)).astype(np.float32)
    light = find_local_light(lit(person(still), factors), person(still), hidden())
    assert light is not None
    assert np.abs(light.factors - factors)[_PERSON].max() < 0.1


def test_a_person_who_fills_the_image_hides_the_light() -> None:
    still = texture() // 2
    mostly = np.full_like(still, 255)
    mostly[:, :80] = 0
    assert find_local_light(lit(still, 1.5), still, mostly) is None
    mostly[:, 80:180] = 0
    assert find_local_light(lit(still, 1.5), still, mostly) is not None


def test_without_a_change_there_is_no_light() -> None:
    still = person(texture())
    assert find_local_light(still, still, hidden()) is None


def test_a_lamp_far_from_the_person_is_not_the_persons_light() -> None:
    still = person(texture() // 2)
    assert find_local_light(lit(still, lamp(20, 20, radius=15.0)), still, hidden()) is None


@pytest.mark.parametrize("x", [100, 172, 174, 180])
@pytest.mark.parametrize("look", ["textured", "bright", "dark"])
@pytest.mark.parametrize("ground", ["textured", "plain"])
def test_what_comes_into_view_beside_a_person_is_no_light(ground: str, look: str, x: int) -> None:
    still = person(texture() if ground == "textured" else np.full((240, 320), 90, np.uint8))
    levels = {
        "textured": texture(seed=4),
        "bright": np.full_like(still, 200),
        "dark": np.full_like(still, 40),
    }
    beside = still.copy()
    beside[60:150, x : x + 40] = levels[look][60:150, x : x + 40]
    assert find_local_light(beside, still, hidden()) is None


def test_a_lamp_on_plain_ground_is_a_light() -> None:
    still = person(np.full((240, 320), 90, np.uint8))
    light = find_local_light(lit(still, lamp(155, 110)), still, hidden())
    assert light is not None
    assert np.abs(light.factors - lamp(155, 110))[_PERSON].max() < 0.1


def test_the_screen_of_a_television_does_not_follow_its_own_light() -> None:
    still = texture() // 2
    after = lit(still, lamp(155, 110))
    after[90:120, 200:240] = texture(seed=5)[90:120, 200:240]
    light = find_local_light(after, still, hidden())
    assert light is not None
    assert light.where[90:120, 250:260].all()
    assert np.mean(light.where[90:120, 200:240] > 0) < 0.5


@pytest.mark.parametrize("scene", ["other", "black", "flat"])
def test_another_scene_is_no_light(scene: str) -> None:
    still = person(texture())
    after = {"other": person(texture(seed=6)), "black": still // 16, "flat": np.full_like(still, 60)}[scene]
    assert find_local_light(after, still, hidden()) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 16), (90, 160), (135, 240)])
def test_any_size_is_judged(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    before = draw.integers(0, 255, shape, np.uint8)
    middle = np.zeros(shape, np.uint8)
    middle[shape[0] // 3 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = 255
    for after in (before, lit(before, 0.5), draw.integers(0, 255, shape, np.uint8)):
        light = find_local_light(after, before, middle)
        assert light is None or light.factors.shape == light.where.shape == shape
