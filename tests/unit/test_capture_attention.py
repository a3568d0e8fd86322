"""The cheap evidence: quiet is learned, a sign is not missed, and what a detector forgives stays forgiven."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.capture.attention import (
    FIRST_LOOKS,
    FIRST_WEIGHTS,
    MOST_EXCESS,
    SETTLED_LOOKS,
    Interest,
    Scene,
    Weights,
)
from async_motion.core.model import Detection, Luma, Reason
from tests.support.video import ground

KEY = 20_000
"""What a key picture weighs."""


class Place:
    """A scene in grey, with a sensor's noise and whatever stands in it."""

    def __init__(self, size: tuple[int, int] = (640, 360), noise: float = 2.0) -> None:
        self.back = ground(*size)[..., 1].astype(np.float32)
        self.noise = noise
        self.draw = np.random.default_rng(5)

    def shot(
        self, *, box: tuple[int, int, int, int] | None = None, step: float = 60.0, gain: float = 1.0
    ) -> Luma:
        picture = self.back * gain
        if box is not None:
            x, y, w, h = box
            picture = picture.copy()
            picture[y : y + h, x : x + w] += step
        return np.clip(picture + self.draw.normal(0, self.noise, picture.shape), 0, 255).astype(np.uint8)


def rested(place: Place, looks: int = 20) -> Scene:
    scene = Scene()
    signs = [scene.look(place.shot()) for _ in range(looks)]
    assert all(signs[:FIRST_LOOKS])
    assert not any(signs[FIRST_LOOKS:])
    return scene


@pytest.mark.parametrize("size", [(320, 240), (640, 360), (1920, 1080)])
def test_the_smallest_thing_that_a_detector_reports_is_a_sign(size: tuple[int, int]) -> None:
    place = Place(size)
    scene = rested(place)
    side = int((0.002 * size[0] * size[1]) ** 0.5)  # the default minimum area: 0.2 %
    assert scene.look(place.shot(box=(size[0] // 3, size[1] // 3, side, side), step=25))


def test_light_as_a_whole_is_no_sign() -> None:
    place = Place()
    scene = rested(place)
    assert not scene.look(np.clip(place.shot().astype(int) + 12, 0, 255).astype(np.uint8))


def test_what_stays_belongs_to_the_scene_after_a_while() -> None:
    place = Place()
    scene = rested(place)
    parked = [scene.look(place.shot(box=(200, 150, 120, 60))) for _ in range(SETTLED_LOOKS * 2)]
    assert parked[0]
    assert not any(parked[SETTLED_LOOKS + 2 :])
    assert scene.look(place.shot())  # it has left


def test_what_a_detector_forgives_is_no_sign_again_but_more_of_it_is() -> None:
    place = Place()
    scene = rested(place)
    leaves = (300, 100, 60, 60)
    assert scene.look(place.shot(box=leaves, step=18))
    scene.forgive()
    scene.look(place.shot())
    assert not scene.look(place.shot(box=leaves, step=18))
    assert scene.look(place.shot(box=leaves, step=70))


def test_the_floor_of_sensitivity_cannot_be_unlearned() -> None:
    place = Place()
    scene = rested(place)
    for _ in range(30):
        scene.look(place.shot(box=(300, 100, 80, 80), step=90))
        scene.forgive()
        scene.look(place.shot())
        scene.forgive()
    assert scene.look(place.shot(box=(300, 100, 80, 80), step=60))


def test_another_resolution_begins_anew() -> None:
    scene = rested(Place())
    assert scene.look(Place((320, 240)).shot())


def weighed(*, groups: int = 20, length: int = 50, scatter: float = 0.1, rate: float = 25.0) -> Weights:
    draw = np.random.default_rng(3)
    weights = Weights(rate)
    for _ in range(groups):
        weights.key(KEY)
        for place in range(1, length):
            size = int(400 * (1 + place / length) * draw.lognormal(0, scatter))
            weights.weigh(size, place, learn=True)
    return weights


def test_quiet_packets_are_quiet_wherever_they_stand_in_their_group() -> None:
    weights = weighed()
    draw = np.random.default_rng(4)
    signs = 0
    for _ in range(50):
        weights.key(KEY)
        for place in range(1, 50):
            signs += weights.weigh(int(400 * (1 + place / 50) * draw.lognormal(0, 0.1)), place, learn=True)
    assert signs <= 2


def test_heavier_packets_are_a_sign_within_the_window() -> None:
    weights = weighed()
    weights.key(KEY)
    signs = [
        weights.weigh(int(400 * (1 + place / 50) * (1.0 if place < 20 else 1.8)), place, learn=True)
        for place in range(1, 40)
    ]
    assert not any(signs[:18])
    assert any(signs[19:27])


def test_a_single_heavy_packet_is_not() -> None:
    weights = weighed()
    weights.key(KEY)
    signs = [weights.weigh(800 if place == 20 else 560, place, learn=True) for place in range(15, 26)]
    assert not any(signs)


@pytest.mark.parametrize(("size", "tells"), [(200, True), (1000, True), (2000, False), (8000, False)])
def test_packets_tell_only_where_something_small_would_stand_out(size: int, tells: bool) -> None:
    weights = Weights(25)
    assert not weights.tell  # nothing is known yet
    for _ in range(5):
        weights.key(KEY)
        for place in range(1, 50):
            weights.weigh(size + place % 3, place, learn=True)
    assert weights.tell == tells


def test_packets_that_scatter_do_not_tell() -> None:
    draw = np.random.default_rng(1)
    weights = Weights(25)
    for _ in range(20):
        weights.key(KEY)
        for place in range(1, 50):
            weights.weigh(int(200 * draw.lognormal(0, 0.9)), place, learn=True)
    assert not weights.tell


def test_nothing_is_said_before_anything_is_known() -> None:
    weights = Weights(25)
    assert not any(
        weights.weigh(100 if n < 20 else 5000, n + 1, learn=True) for n in range(FIRST_WEIGHTS // 2)
    )


def test_the_floor_for_weights_cannot_be_unlearned() -> None:
    weights = weighed()
    for _ in range(20):
        weights.key(KEY)
        for place in range(1, 30):
            weights.weigh(100_000, place, learn=False)
        weights.forgive()
    weights.key(KEY)
    heavy = 2 ** (MOST_EXCESS + 0.7)
    signs = [weights.weigh(int(400 * (1 + place / 50) * heavy), place, learn=False) for place in range(1, 20)]
    assert any(signs)


@pytest.mark.parametrize(
    ("reason", "interesting"),
    [
        (Reason.MOTION, True),
        (Reason.DEBOUNCE, True),
        (Reason.BELOW_AREA, True),
        (Reason.LEARNING, True),
        (Reason.SCENE_CHANGE, True),
        (Reason.STILL, False),
        (Reason.MASKED, False),
        (Reason.ABOVE_AREA, False),
    ],
)
def test_interest(reason: Reason, interesting: bool) -> None:
    interest = Interest()
    assert not interest.told
    interest.tell(7.0, Detection(motion=reason is Reason.MOTION, reason=reason))
    assert interest.told
    assert (interest.latest == 7.0) == interesting
