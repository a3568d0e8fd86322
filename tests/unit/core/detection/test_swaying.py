"""Ground that sways is known where edges all over the image move; a change of light and an object are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from async_motion.core.detection.alignment import STEADY
from async_motion.core.detection.background import Background
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.look import Look
from async_motion.core.detection.regions import Regions
from async_motion.core.detection.scene import Light
from async_motion.core.detection.swaying import swaying
from async_motion.core.detection.working_image import Plane, above, u8

SHAPE = HEIGHT, WIDTH = 180, 320
EVERYWHERE: Plane = np.full(SHAPE, 255, np.uint8)
LINES = [(left, top) for top in (20, 100) for left in range(25, WIDTH, 50)]
"""Left and top of the lines on the ground, each 4 pixels wide and 50 high."""


def car_park(*, moved: float = 0.0, only: tuple[int, int] | None = None) -> Plane:
    """Return bright lines on even ground; all of them, or `only` one, are so many pixels to the right."""
    ground = np.full(SHAPE, 100, np.float32)
    for left, top in LINES:
        shift = moved if only in (None, (left, top)) else 0.0
        whole, rest = int(shift), shift - int(shift)
        line = np.zeros(10, np.float32)
        line[whole : whole + 4] += 110 * (1 - rest)
        line[whole + 1 : whole + 5] += 110 * rest
        ground[top : top + 50, left : left + 10] += line
    return np.asarray(cv2.GaussianBlur(ground, (3, 3), 0), np.uint8)


def look_at(image: Plane, differs: Plane) -> Look:
    """Return the look of an image without shake or light; up to 10 grey levels are no difference."""
    limit: Plane = np.full(image.shape, 10, np.uint8)
    return Look(image, image, image, STEADY, Light(), image, limit, limit, limit, differs, differs, 1.0)


def judged(ground: Plane, image: Plane, *, watched: Plane = EVERYWHERE) -> dict[tuple[int, int], bool]:
    """Return whether each region sways, by the left and the top of its box."""
    differs = above(u8(cv2.absdiff(image, ground)), 10)
    regions = Regions(u8(cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))))
    look = look_at(image, differs)
    sways = swaying(regions, look, Background(ground, 0.0), watched, np.arange(regions.count) > 0)
    assert not sways[0]
    boxes = [(int(left), int(top)) for left, top, *_ in regions.boxes]
    return {box: bool(flag) for box, flag in zip(boxes[1:], sways[1:], strict=True)}


@pytest.mark.parametrize("pixels", [1.0, 2.0, 3.0])
def test_lines_that_all_move_sway(pixels: float) -> None:
    found = judged(car_park(), car_park(moved=pixels))
    assert len(found) == len(LINES)
    assert all(found.values())


@pytest.mark.parametrize("pixels", [1.0, 2.0, 3.0])
def test_what_moves_alone_does_not_sway(pixels: float) -> None:
    found = judged(car_park(), car_park(moved=pixels, only=LINES[3]))
    assert len(found) == 1
    assert not any(found.values())


def test_an_object_among_swaying_lines_does_not_sway() -> None:
    image = car_park(moved=2.0)
    image[75:95, 145:160] = 30
    found = judged(car_park(), image)
    assert len(found) == len(LINES) + 1
    assert [box for box, sways in found.items() if not sways] == [(145, 75)]


@pytest.mark.parametrize("depth", [0.05, 0.1, 0.15])
def test_a_shade_over_the_image_is_no_wind(depth: float) -> None:
    image = car_park(moved=2.0, only=LINES[3])
    drift = cv2.resize(
        np.random.default_rng(3).random((3, 5)).astype(np.float32),
        (WIDTH, HEIGHT),
        interpolation=cv2.INTER_CUBIC,
    )
    shaded = np.asarray(image * (1 - depth * drift), np.uint8)
    assert not any(judged(car_park(), shaded).values())


def test_only_watched_edges_tell() -> None:
    watched: Plane = EVERYWHERE.copy()
    watched[:90] = 0
    image = car_park()
    image[:90] = car_park(moved=2.0)[:90]
    image[90:, :60] = car_park(moved=2.0)[90:, :60]
    assert all(judged(car_park(), image).values())
    assert not any(judged(car_park(), image, watched=watched).values())


@pytest.mark.parametrize("fps", [5, 15])
@pytest.mark.parametrize("person", [False, True])
def test_a_camera_with_swaying_lines_sees_only_who_passes(fps: int, person: bool) -> None:
    detector, draw, seen = Detector(DetectorSettings(min_area=0.001)), np.random.default_rng(1), []
    still, swayed = car_park(moved=2.0), car_park(moved=4.0)
    # Lines that move in turn to the left and to the right are no shake of the camera.
    for left in range(0, WIDTH, 100):
        swayed[:, left : left + 50] = car_park()[:, left : left + 50]
    for step in range(26 * fps):
        now = step / fps
        frame = (swayed if now > 20 and int(2 * now) % 2 else still).copy()
        if person and now > 21:
            frame[60:120, (at := int(40 * (now - 21))) : at + 20] = 30
        noisy = np.clip(frame + draw.normal(0, 1, SHAPE), 0, 255).astype(np.uint8)
        seen.append(detector.update(noisy, now).motion)
    if person:
        assert np.mean(seen[22 * fps :]) > 0.95
    else:
        assert not any(seen)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 7), (16, 16), (60, 9)])
def test_a_small_image_cannot_tell(shape: tuple[int, int]) -> None:
    ground: Plane = np.full(shape, 100, np.uint8)
    image: Plane = np.full(shape, 200, np.uint8)
    full: Plane = np.full(shape, 255, np.uint8)
    regions = Regions(full)
    assert not swaying(
        regions, look_at(image, full), Background(ground, 0.0), full, np.arange(regions.count) > 0
    ).any()
