"""A frozen image, also behind what goes on in one place; a scene in which things move is none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from async_motion.core.events.frozen import FrozenImage
from async_motion.core.model import Luma
from tests.support.scenes import objects

LOOK_S = 1.2
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


def test_an_image_that_repeats_is_frozen(camera: Camera) -> None:
    said = camera.show(lambda _at: SCENE, 40)
    assert 30 <= said.index(True) * LOOK_S <= 35


def test_an_image_that_stirs_in_one_place_is_frozen(camera: Camera) -> None:
    camera.show(living, 40)
    said = camera.show(recoded, 75)
    assert 60 <= said.index(True) * LOOK_S <= 72
    assert not any(camera.show(living, 10)[1:]), "it lives again"


def recoded(at: float) -> Luma:
    """Return the spinner over an image that each keyframe codes differently: every 2 s."""
    return spinner(at, np.asarray(SCENE + np.uint8(int(at / 2) % 2), np.uint8))


def test_an_object_before_a_living_background_is_not_frozen(camera: Camera) -> None:
    """An animal that stays in one place, on a clean camera: its noise is a fraction of a grey level."""

    def animal(at: float) -> Luma:
        noise = np.random.default_rng(int(at * 10)).normal(0, 0.4, SCENE.shape)
        return np.asarray(np.clip(spinner(at).astype(np.float32) + noise, 0, 255), np.uint8)

    camera.show(living, 40)
    assert not any(camera.show(animal, 90))


def test_a_camera_without_noise_is_not_frozen_where_it_is_recoded(camera: Camera) -> None:
    """Its encoder leaves noise out: what stirs in one place may be a person who stands."""
    camera.show(lambda _at: SCENE, 25)
    assert not any(camera.show(recoded, 80))


def test_a_dark_scene_is_not_frozen(camera: Camera) -> None:
    """Without detail, an image that is clean is no sign: a torch that stays is motion."""

    def torch(at: float) -> Luma:
        shown = np.full_like(SCENE, 16 + int(at / 2) % 2)
        return np.asarray(cv2.circle(shown, (160, 90), 4 + int(at * 5) % 5, 240.0, -1), np.uint8)

    camera.show(lambda at: living(at) - SCENE + np.uint8(17), 40)
    assert not any(camera.show(torch, 75))


def test_a_lamp_that_ends_the_noise_does_not_freeze_the_image(camera: Camera) -> None:
    """A person switches it on, and stays."""
    camera.show(lambda at: living(at) // np.uint8(2), 40)
    assert not any(camera.show(recoded, 80))


@pytest.mark.parametrize("speed", [5, 10, 20, 30])
@pytest.mark.parametrize("turns", [False, True])
def test_a_walker_before_a_camera_that_becomes_clean_is_not_frozen(
    camera: Camera, speed: int, *, turns: bool
) -> None:
    """`speed` is in pixels per second; the image is 320 wide."""

    def walked(at: float) -> Luma:
        shown = SCENE.copy()
        way = int((at - began) * speed) % 560
        x = min(way, 560 - way) if turns else way // 2
        shown[50:130, x : x + 10] = 230
        return shown

    camera.show(living, 40)
    began = camera.now
    assert not any(camera.show(walked, 90))


def test_a_clean_camera_unlearns_its_noise(camera: Camera) -> None:
    """An animal that settles later is no spinner."""
    camera.show(living, 40)
    camera.show(lambda at: spinner(at + int(at), np.roll(SCENE, int(at) * 40, axis=1)), 5)
    camera.show(lambda _at: SCENE, 25)
    assert not any(camera.show(recoded, 80))


def test_a_pause_begins_again_and_keeps_what_is_known_of_the_noise(camera: Camera) -> None:
    camera.show(living, 60)
    camera.show(recoded, 6)
    camera.frozen.pause()
    assert not camera.frozen.wants_pair
    said = camera.show(recoded, 75)
    assert 60 <= said.index(True) * LOOK_S <= 72


@pytest.mark.parametrize("shape", [(1, 1), (8, 15), (9, 16), (37, 53)])
def test_any_shape(camera: Camera, shape: tuple[int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    assert not any(camera.show(lambda _at: image, 20))
