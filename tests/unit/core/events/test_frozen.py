"""A frozen image, also behind what goes on in one place; a scene in which things move is none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from async_motion.core.events.frozen import FrozenImage
from async_motion.core.model import Box, Luma
from tests.support.scenes import objects

LOOK_S = 1.2
MIDDLE = Box(0.4, 0.3, 0.2, 0.4)
Shot = Callable[[float], Luma]

SCENE = objects(180, 320, seed=1).astype(np.uint8)


def living(at: float) -> Luma:
    """Return the scene with a sensor's noise, another one at each time."""
    noise = np.random.default_rng(round(at * 10)).normal(0, 2, SCENE.shape)
    return np.asarray(np.clip(SCENE + noise, 0, 255), np.uint8)


def spinner(at: float, image: Luma = SCENE) -> Luma:
    shown = image.copy()
    cv2.ellipse(shown, (160, 90), (30, 30), at * 273 % 360, 0, 270, 240.0, 4, cv2.LINE_AA)
    return shown


class Camera:
    """Shows images five times a second, from a start at 100 s."""

    def __init__(self) -> None:
        self.frozen = FrozenImage()
        self.now = 100.0

    def show(self, shot: Shot, seconds: float) -> list[bool]:
        """Return what each look said."""
        said = []
        for _ in range(round(seconds / LOOK_S)):
            said.append(self.frozen.look(shot(self.now), self.now, LOOK_S))
            assert self.frozen.wants_pair
            self.frozen.compare(shot(self.now + 0.2))
            assert not self.frozen.wants_pair
            self.now += LOOK_S
        return said


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_a_living_scene_is_not_frozen(camera: Camera) -> None:
    assert not any(camera.show(living, 60))
    assert not camera.frozen.hides([MIDDLE])


def test_an_image_that_repeats_is_frozen(camera: Camera) -> None:
    said = camera.show(lambda _at: SCENE, 40)
    assert 30 <= said.index(True) * LOOK_S <= 35


def test_motion_in_one_place_of_a_frozen_image_is_hidden_within_seconds(camera: Camera) -> None:
    camera.show(living, 40)
    camera.show(spinner, 6)
    assert camera.frozen.hides([MIDDLE])
    assert not camera.frozen.hides([MIDDLE, Box(0.0, 0.0, 0.1, 0.1)]), "elsewhere, too"
    assert not camera.frozen.hides([])
    said = camera.show(spinner, 70)
    assert True in said
    assert not any(camera.show(living, 10)[1:]), "it lives again"
    assert not camera.frozen.hides([MIDDLE])


def test_a_keyframe_that_differs_everywhere_now_and_then_does_not_hide_it(camera: Camera) -> None:
    camera.show(living, 40)

    def recoded(at: float) -> Luma:
        """Return the spinner over an image that each keyframe codes differently: every 2 s."""
        return spinner(at, np.asarray(SCENE + np.uint8(int(at / 2) % 7), np.uint8))

    camera.show(recoded, 8)
    assert camera.frozen.hides([MIDDLE])
    assert camera.show(recoded, 70)[-5:].count(True) >= 3


def test_an_object_before_a_living_background_is_not_hidden(camera: Camera) -> None:
    """An animal that stays in one place, on a clean camera: its noise is a fraction of a grey level."""

    def animal(at: float) -> Luma:
        noise = np.random.default_rng(int(at * 10)).normal(0, 0.4, SCENE.shape)
        return np.asarray(np.clip(spinner(at).astype(np.float32) + noise, 0, 255), np.uint8)

    camera.show(living, 40)
    assert not any(camera.show(animal, 90))
    assert not camera.frozen.hides([MIDDLE])


def test_a_camera_without_noise_hides_nothing(camera: Camera) -> None:
    """Its encoder leaves noise out: what stirs in one place may be a person who stands."""
    camera.show(lambda _at: SCENE, 25)
    camera.show(spinner, 20)
    assert not camera.frozen.hides([MIDDLE])


def test_a_dark_scene_hides_nothing(camera: Camera) -> None:
    """Black has no noise: a torch that stays is motion."""
    camera.show(living, 40)
    camera.show(lambda at: spinner(at, np.full_like(SCENE, 16)), 20)
    assert not camera.frozen.hides([MIDDLE])


def test_an_object_that_crosses_a_scene_without_noise_is_not_hidden(camera: Camera) -> None:
    def crossing(at: float) -> Luma:
        shown = SCENE.copy()
        x = int(at * 60) % 280
        shown[60:120, x : x + 40] = 230
        return shown

    camera.show(living, 40)
    said = camera.show(crossing, 60)
    assert not any(said)
    assert not camera.frozen.hides([Box(0.0, 0.0, 1.0, 1.0)])


def test_a_pause_begins_again_and_keeps_what_is_known_of_the_noise(camera: Camera) -> None:
    camera.show(living, 40)
    camera.show(spinner, 6)
    camera.frozen.pause()
    assert not camera.frozen.wants_pair
    assert not camera.frozen.hides([MIDDLE])
    camera.show(spinner, 6)
    assert camera.frozen.hides([MIDDLE])


@pytest.mark.parametrize("shape", [(1, 1), (8, 15), (9, 16), (37, 53)])
def test_any_shape(camera: Camera, shape: tuple[int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    assert not any(camera.show(lambda _at: image, 20))
    assert not camera.frozen.hides([Box(0.0, 0.0, 1.0, 1.0), Box(1.0, 1.0, 0.0, 0.0)])
