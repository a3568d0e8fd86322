"""Image problems of a camera that still answers; a normal scene reports none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import cv2
import numpy as np
import pytest

from async_motion.core.events.image_health import ACCEPT_S, GAP_S, ImageHealth
from async_motion.core.model import Luma
from tests.support.scenes import objects

Shot = Callable[[float], Luma]


def view(seed: int, height: int = 360, width: int = 640) -> np.ndarray:
    return objects(height, width, seed=seed)


def living(plane: np.ndarray, *, noise: float = 2.0, gain: float = 1.0) -> Shot:
    """Return a shot with sensor noise: no two images in a row are the same."""
    draw = np.random.default_rng(1)
    grains = (draw.normal(0, noise, plane.shape).astype(np.float32) for _ in range(5))
    shots = cycle([np.clip(plane * gain + grain, 0, 255).astype(np.uint8) for grain in grains])
    return lambda _at: next(shots)


class Camera:
    """Plays shots to an `ImageHealth`, one each `step` seconds."""

    def __init__(self) -> None:
        self.health = ImageHealth()
        self.now = 5000.0
        self.step = 0.5

    def play(self, shot: Shot, seconds: float) -> list[str | None]:
        said = []
        for _ in range(int(seconds / self.step)):
            self.now += self.step
            said.append(self.health.update(shot(self.now), self.now))
        return said

    def until(self, shot: Shot, problem: str | None, within_s: float) -> float:
        """Return after how many seconds `problem` was reported; fail if another one comes first."""
        began = self.now
        before = self.health.update(shot(self.now), self.now)
        while self.now - began <= within_s:
            said = self.play(shot, self.step)[-1]
            if said == problem:
                return self.now - began
            assert said == before, f"said {said!r} on the way to {problem!r}"
        raise AssertionError(f"{problem!r} was not said within {within_s} s")


@pytest.fixture
def camera() -> Camera:
    return Camera()


def well(camera: Camera, seed: int = 1, seconds: float = 60) -> None:
    assert set(camera.play(living(view(seed)), seconds)) == {None}


def test_a_living_scene_is_well(camera: Camera) -> None:
    well(camera, seconds=200)


def test_frozen(camera: Camera) -> None:
    well(camera)
    still = living(view(1))(0.0)
    assert 25 <= camera.until(lambda _at: still, "frozen", 40) <= 35
    assert camera.until(living(view(1)), None, 10) <= 5


def test_an_image_that_repeats_within_a_gop_is_not_frozen(camera: Camera) -> None:
    shots = [living(view(1), noise=2)(0.0) for _ in range(1)]

    def encoded(at: float) -> Luma:
        # At a low bit rate an encoder changes nothing until the next keyframe.
        draw = np.random.default_rng(int(at // 4))
        return np.clip(shots[0] + draw.normal(0, 1, shots[0].shape), 0, 255).astype(np.uint8)

    assert set(camera.play(encoded, 120)) == {None}


@pytest.mark.parametrize("black", [0, 16])
def test_dark(camera: Camera, black: int) -> None:
    well(camera)
    dark = living(np.full((360, 640), black, np.float32), noise=1.5)
    assert 8 <= camera.until(dark, "dark", 20) <= 14
    assert camera.until(living(view(1)), None, 10) <= 5


@pytest.mark.parametrize("grey", [60, 120, 250])
def test_covered(camera: Camera, grey: int) -> None:
    well(camera)
    y = np.linspace(-15, 15, 360, dtype=np.float32)[:, None]  # light from one side
    cloth = living(np.full((360, 640), grey, np.float32) + y, noise=2)
    assert 8 <= camera.until(cloth, "covered", 20) <= 14
    assert camera.until(living(view(1)), None, 10) <= 5


def test_covered_from_the_start(camera: Camera) -> None:
    assert camera.until(living(np.full((360, 640), 130, np.float32)), "covered", 20) <= 14


def test_turned(camera: Camera) -> None:
    well(camera)
    assert 18 <= camera.until(living(view(2)), "turned", 30) <= 25
    assert camera.until(living(view(1)), None, 10) <= 5


def test_turned_a_little_to_the_side(camera: Camera) -> None:
    wide = view(3, width=900)
    assert set(camera.play(living(wide[:, :640]), 60)) == {None}
    assert camera.until(living(wide[:, 200:840]), "turned", 30)


def test_a_new_view_is_known_after_a_while(camera: Camera) -> None:
    well(camera)
    camera.until(living(view(2)), "turned", 30)
    camera.step = 8.0
    assert camera.until(living(view(2)), None, ACCEPT_S + 60)
    camera.step = 0.5
    assert set(camera.play(living(view(2)), 60)) == {None}
    assert camera.until(living(view(1)), "turned", 60)


@pytest.mark.parametrize("gain", [0.35, 0.6, 1.6])
def test_a_lamp_is_not_a_problem(camera: Camera, gain: float) -> None:
    well(camera)
    assert set(camera.play(living(view(1), gain=gain), 120)) == {None}


def test_a_shaking_camera_is_not_a_problem(camera: Camera) -> None:
    draw = np.random.default_rng(4)
    plane = view(1, height=380, width=660)

    def shaken(_at: float) -> Luma:
        y, x = (int(step) for step in draw.integers(0, 6, 2))
        return plane[y : y + 360, x : x + 640].astype(np.uint8)

    assert set(camera.play(shaken, 120)) == {None}


def test_a_lorry_that_stops_before_the_lens_for_a_moment_is_not_a_problem(camera: Camera) -> None:
    well(camera)
    lorry = view(1).copy()
    lorry[40:, 60:560] = 200
    cv2.rectangle(lorry, (90, 90), (500, 300), 90.0, 6)
    assert set(camera.play(living(lorry), 15)) == {None}
    well(camera)


def test_passing_objects_are_not_a_problem(camera: Camera) -> None:
    well(camera)
    back = view(1)

    def busy(at: float) -> Luma:
        plane = back.copy()
        for lane in range(4):
            x = int((at * (90 + 40 * lane)) % 800) - 160
            cv2.rectangle(plane, (x, 60 + lane * 80), (x + 150, 120 + lane * 80), 235.0, -1)
        return living(plane)(at)

    assert set(camera.play(busy, 120)) == {None}


def test_another_resolution_is_learned_again(camera: Camera) -> None:
    well(camera)
    assert set(camera.play(living(view(9, height=720, width=1280)), 60)) == {None}


def test_a_gap_is_not_counted_as_time(camera: Camera) -> None:
    well(camera)
    still = living(view(1))(0.0)
    assert set(camera.play(lambda _at: still, 20)) == {None}
    camera.now += GAP_S + 100
    assert set(camera.play(lambda _at: still, 20)) == {None}


def test_a_turned_camera_is_noticed_over_a_reconnect(camera: Camera) -> None:
    well(camera)
    camera.now += 300
    assert camera.until(living(view(2)), "turned", 30)


@pytest.mark.parametrize(
    "shape", [(16, 16), (45, 80), (120, 160), (2160, 3840), (33, 511), (480, 1), (1, 640)]
)
def test_any_shape(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(2)
    health = ImageHealth()
    for number in range(5):
        luma = draw.integers(0, 256, shape, dtype=np.uint8)
        luma.flags.writeable = False
        assert health.update(luma, float(number * 2)) is None


def test_a_view_with_padded_rows_is_only_read(camera: Camera) -> None:
    padded = np.zeros((360, 704), np.uint8)
    padded[:, :640] = view(1).astype(np.uint8)
    luma = padded[:, :640]
    luma.flags.writeable = False
    assert camera.health.update(luma, 1.0) is None


def clocked(shot: Shot, *, left: int = 10, top: int = 8, scale: float = 0.7) -> Shot:
    """Return the shot with a clock drawn over it, as a camera's on-screen display does."""

    def shown(at: float) -> Luma:
        luma = shot(at).copy()
        luma[top : top + int(34 * scale), left : left + int(315 * scale)] = 16
        place = (left + 4, top + int(28 * scale))
        cv2.putText(luma, f"{at:012.1f}", place, cv2.FONT_HERSHEY_SIMPLEX, scale, 235.0, 2)
        return luma

    return shown


@pytest.mark.parametrize(
    ("left", "top", "scale"),
    [
        (10, 8, 0.7),
        (10, 326, 0.7),
        (400, 8, 0.7),
        (10, 8, 2.0),
        (150, 6, 0.4),
        (10, 60, 0.7),
        (210, 170, 0.7),
    ],
)
def test_frozen_behind_a_running_clock(camera: Camera, left: int, top: int, scale: float) -> None:
    def with_clock(shot: Shot) -> Shot:
        return clocked(shot, left=left, top=top, scale=scale)

    assert set(camera.play(with_clock(living(view(1))), 90)) == {None}
    still = living(view(1))(0.0)
    assert 55 <= camera.until(with_clock(lambda _at: still), "frozen", 90) <= 70
    assert camera.until(with_clock(living(view(1))), None, 10) <= 5


def test_something_that_moves_in_a_noiseless_scene_is_not_frozen(camera: Camera) -> None:
    back = view(1).astype(np.uint8)

    def walked(at: float) -> Luma:
        luma = back.copy()
        x = int(at * 40) % 600
        luma[150:210, x : x + 30] = 230
        return luma

    assert set(camera.play(clocked(walked), 120)) == {None}


def no_signal(grey: int) -> Shot:
    """Return a recorder's placeholder image: text on one grey level."""
    luma = np.full((360, 640), grey, np.uint8)
    cv2.putText(luma, "NO SIGNAL", (200, 190), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 235.0, 3)
    return lambda _at: luma


@pytest.mark.parametrize("grey", [29, 41, 105])
def test_no_signal(camera: Camera, grey: int) -> None:
    well(camera)
    assert 2 <= camera.until(no_signal(grey), "no_signal", 10) <= 6
    assert camera.until(living(view(1)), None, 10) <= 5


def test_no_signal_from_the_start(camera: Camera) -> None:
    assert camera.until(no_signal(41), "no_signal", 20) <= 15


def test_a_denoised_night_sky_is_not_a_missing_signal(camera: Camera) -> None:
    ground = living(view(5, height=140))

    def night(at: float) -> Luma:
        luma = np.full((360, 640), 26, np.uint8)
        luma[220:] = ground(at)
        return luma

    assert set(camera.play(night, 120)) == {None}


def test_words_that_wander_are_a_placeholder_where_the_view_is_known(camera: Camera) -> None:
    def wandering(at: float) -> Luma:
        luma = np.full((360, 640), 41, np.uint8)
        place = (60 + int(at * 40) % 300, 60 + int(at * 25) % 280)
        cv2.putText(luma, "NO SIGNAL", place, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 235.0, 3)
        return luma

    assert not camera.health.is_placeholder(wandering(0.0)), "no view is known yet"
    well(camera)
    assert not camera.health.is_placeholder(living(view(1))(0.0))
    assert not camera.health.is_placeholder(living(np.full((360, 640), 130, np.float32))(0.0)), "a hat"
    assert camera.health.is_placeholder(wandering(0.0))
    assert camera.until(wandering, "no_signal", 10)


def spinner_on_black(at: float) -> Luma:
    luma = np.full((360, 640), 16, np.uint8)
    cv2.ellipse(luma, (320, 180), (60, 60), at * 137 % 360, 0, 270, 200.0, 8, cv2.LINE_AA)
    return luma


def torch_on_black(at: float) -> Luma:
    y, x = np.mgrid[0:360, 0:640]
    light = 220 * np.exp(-((x - 100 - 40 * at % 400) ** 2 + (y - 200) ** 2) / 3000)
    return np.asarray(np.maximum(16, light), np.uint8)


def test_a_drawing_that_replaces_the_view_by_black_is_a_placeholder(camera: Camera) -> None:
    assert not camera.health.is_placeholder(spinner_on_black(0.0)), "no view is known yet"
    well(camera)
    assert camera.health.is_placeholder(spinner_on_black(0.0))
    assert camera.until(spinner_on_black, "no_signal", 10)
    assert camera.health.is_placeholder(spinner_on_black(0.3))


def test_a_torch_in_the_dark_is_no_placeholder(camera: Camera) -> None:
    well(camera)
    camera.play(lambda _at: np.full((360, 640), 16, np.uint8), 2)  # the lamp goes off
    for step in range(10):
        assert not camera.health.is_placeholder(torch_on_black(step / 5))


def test_a_drawing_long_after_the_known_view_is_no_placeholder(camera: Camera) -> None:
    """Night has come: outlines on black may be whatever a headlight shows."""
    well(camera)
    camera.until(lambda _at: np.full((360, 640), 16, np.uint8), "dark", 20)
    assert not camera.health.is_placeholder(spinner_on_black(0.0))


def test_a_car_among_the_lamps_of_a_black_night_is_no_placeholder(camera: Camera) -> None:
    def night(_at: float) -> Luma:
        luma = np.full((360, 640), 16, np.uint8)
        for x in range(40, 640, 120):
            cv2.circle(luma, (x, 60), 12, 230.0, -1)
            cv2.circle(luma, (x, 60), 6, 90.0, -1)
        return luma

    assert set(camera.play(night, 25)) == {None}
    car = night(0.0)
    cv2.rectangle(car, (300, 200), (420, 260), 180.0, -1)
    assert not camera.health.is_placeholder(car)
