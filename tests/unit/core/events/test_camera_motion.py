"""A camera that turns is told apart from motion in front of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.events.camera_motion import CameraMotion, View
from async_motion.core.events.tracker import Tracker, TrackerSettings
from async_motion.core.model import Detection, Luma, Phase, Reason
from tests.support.scenes import objects

HEIGHT, WIDTH = 180, 320
START = datetime(2026, 11, 1, tzinfo=UTC)
GRAIN = [np.random.default_rng(seed).normal(0, 2, (HEIGHT, WIDTH)) for seed in range(5)]
grains = cycle(GRAIN)
FloatPlane = NDArray[np.float32]


@pytest.fixture(autouse=True)
def same_grain_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.grains", cycle([*GRAIN[1:], GRAIN[0]]))


def world(seed: int, height: int = 500, width: int = 1600) -> FloatPlane:
    """Return a wide scene (height, width), float32, with objects in it."""
    count = height * width // 3000
    plane = objects(height, width, seed=seed, count=count, widths=(10, 80), heights=(10, 60))
    coarse = np.random.default_rng(seed).normal(0, 6, (height // 4, width // 4)).astype(np.float32)
    return plane + np.asarray(cv2.resize(coarse, (width, height)), np.float32)


WORLD = world(3)


def seen(plane: FloatPlane) -> Luma:
    """Return the image as uint8 with sensor noise added."""
    return np.clip(plane + next(grains), 0, 255).astype(np.uint8)


def aimed(x: float = 60, y: float = 60, zoom: float = 1.0, contrast: float = 1.0) -> FloatPlane:
    """Return the part of `WORLD` that the camera sees with its top left corner at (x, y) at zoom 1."""
    centre = (x + WIDTH / 2, y + HEIGHT / 2)
    size = (round(WIDTH / zoom), round(HEIGHT / zoom))
    part = 110 + contrast * (cv2.getRectSubPix(WORLD, size, centre) - 110)
    return np.asarray(cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def with_box(plane: FloatPlane, x: float, side: int = 40) -> FloatPlane:
    plane = plane.copy()
    cv2.rectangle(plane, (int(x), 80), (int(x) + side // 2, 80 + side), 235.0, -1)
    return plane


@dataclass
class Watched:
    """A camera's detector and tracker, with `CameraMotion` between them."""

    fps: float = 5.0
    motion: CameraMotion = field(default_factory=CameraMotion)
    detector: Detector = field(default_factory=lambda: Detector(DetectorSettings()))
    tracker: Tracker = field(
        default_factory=lambda: Tracker(TrackerSettings(), instance="edge1", camera="porch", make_id=str)
    )
    views: list[View] = field(default_factory=list)
    events: int = 0
    frames: int = 0

    def play(self, seconds: float, plane: Callable[[float], FloatPlane]) -> None:
        for number in range(round(seconds * self.fps)):
            at, luma = self.frames / self.fps, seen(plane(number / self.fps))
            self.frames += 1
            detection = self.detector.update(luma, at)
            view = self.motion.update(luma, at, detection)
            self.views.append(view)
            if view is View.MOVING:
                detection = replace(detection, motion=False, reason=Reason.SCENE_CHANGE)
            elif view is View.MOVED:
                self.detector = Detector(DetectorSettings())
                detection = self.detector.update(luma, at)
            changes = self.tracker.update(START + timedelta(seconds=at), at, detection)
            self.events += sum(getattr(change, "phase", None) is Phase.START for change in changes)


@pytest.mark.parametrize(
    ("fps", "across", "down", "zoom"),
    [
        (5, 0.02, 0, 1),
        (5, 0.06, 0, 1),
        (5, 0.25, 0, 1),
        (4, 0.25, 0, 1),
        (12, 0.25, 0, 1),
        (5, 1.0, 0, 1),
        (5, -0.25, 0, 1),
        (5, 0, 0.1, 1),
        (5, 0, 0.4, 1),
        (5, 0.1, 0.1, 1),
        (5, 0, 0, 1.1),
        (5, 0, 0, 1.3),
    ],
)
def test_a_pan_a_tilt_and_a_zoom_are_not_motion(fps: int, across: float, down: float, zoom: float) -> None:
    """`across` and `down` are shares of the image per second, `zoom` is a factor per second."""
    seconds = 3.0
    x, y = (400 if across <= 0 else 60), (150 if zoom != 1 else 60)

    def turning(at: float) -> FloatPlane:
        return aimed(x + across * at * WIDTH, y + down * at * HEIGHT, zoom**at)

    watched = Watched(fps)
    watched.play(8, lambda _at: aimed(x, y))
    watched.play(seconds, turning)
    watched.play(6, lambda _at: turning(seconds))
    assert watched.events == 0
    # The new view has been learned: a walk there is one event, which ends with it.
    watched.play(2, lambda at: with_box(turning(seconds), 20 + at * 100))
    assert watched.events == 1
    watched.play(14, lambda _at: turning(seconds))
    assert watched.tracker.event is None


@pytest.mark.parametrize(("across", "contrast"), [(0.015, 1.0), (0.02, 0.5), (0.015, 0.25)])
def test_a_slow_pan_is_not_motion(across: float, contrast: float) -> None:
    """The alignment and the learning of the detector hide most of it; its end must not be motion either."""
    watched = Watched()
    watched.play(8, lambda _at: aimed(contrast=contrast))
    watched.play(10, lambda at: aimed(60 + across * at * WIDTH, contrast=contrast))
    watched.play(6, lambda _at: aimed(60 + across * 10 * WIDTH, contrast=contrast))
    assert watched.events == 0
    watched.play(2, lambda at: with_box(aimed(60 + across * 10 * WIDTH, contrast=contrast), 20 + at * 100))
    assert watched.events == 1


def test_a_camera_that_returns_keeps_what_it_knows() -> None:
    """An operator looks to the side and back: the detector need not start again."""
    watched = Watched()
    watched.play(8, lambda _at: aimed())
    watched.play(2, lambda at: aimed(60 + 0.25 * (1 - abs(1 - at)) * WIDTH))
    watched.play(6, lambda _at: aimed())
    assert watched.events == 0
    assert set(watched.views) == {View.STEADY, View.MOVING}


@pytest.mark.parametrize("shake", [0, 2, 6])
def test_a_person_before_a_shaking_camera_is_seen(shake: int) -> None:
    draw = np.random.default_rng(5)

    def shaken(_at: float) -> FloatPlane:
        x, y = draw.integers(-shake, shake + 1, 2)
        return aimed(300 + x, 100 + y)

    watched = Watched()
    watched.play(10, shaken)
    watched.play(3, lambda at: with_box(shaken(at), 20 + at * 80))
    assert watched.events == 1


@pytest.mark.parametrize(("top", "bottom"), [(70, 180), (30, 165)])
def test_a_train_leaves_the_view_around_it(top: int, bottom: int) -> None:
    train = world(8, height=HEIGHT)

    def passing(at: float) -> FloatPlane:
        plane, x = aimed(), round(300 * at) - 900
        left, right = max(0, x), min(WIDTH, x + 900)
        if right > left:
            plane[top:bottom, left:right] = train[top:bottom, left - x : right - x]
        return plane

    watched = Watched()
    watched.play(10, lambda _at: aimed())
    watched.play(4, passing)
    assert set(watched.views) == {View.STEADY}
    assert watched.events == 1


@pytest.mark.parametrize(("at", "part"), [(100.0, 4), (0.2, 3)])
def test_a_gap_and_another_shape_begin_again(at: float, part: int) -> None:
    moves = Detection(motion=True, reason=Reason.MOTION, changed=0.5, jump=0.5)
    motion = CameraMotion()

    def view(x: float, since: float) -> View:
        luma = np.ascontiguousarray(seen(aimed(x))[:, : WIDTH * part // 4])
        return motion.update(luma, at + since, moves)

    assert motion.update(seen(aimed()), 0.0, moves) is View.STEADY
    assert view(80, 0.0) is View.STEADY
    assert view(90, 0.2) is View.STEADY, "it may be a shake"
    assert view(100, 0.4) is View.MOVING
    assert view(110, 0.6) is View.MOVING


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (45, 80), (33, 511), (2160, 3840)])
def test_any_shape_is_only_read(shape: tuple[int, int]) -> None:
    moves = Detection(motion=True, reason=Reason.MOTION, changed=0.5, jump=0.5)
    draw = np.random.default_rng(2)
    motion = CameraMotion()
    for number in range(3):
        luma = draw.integers(0, 256, shape, dtype=np.uint8)
        luma.flags.writeable = False
        assert motion.update(luma, number * 0.2, moves) is View.STEADY
        assert motion.update(luma, number * 0.2, moves) is View.STEADY, "time may stand still"
