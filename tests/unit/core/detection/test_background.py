"""The background model: what it learns, what it does not, and how fast."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.background import NOISE_UNIT, SLOW_LOOKS, SLOW_PERIOD_S, Background
from async_motion.core.detection.scene import Light
from async_motion.core.detection.working_image import Plane

STILL = np.full((40, 60), 100, np.uint8)
NOTHING = np.zeros_like(STILL)
THING = STILL.copy()
THING[10:20, 10:30] = 200
WHERE = (THING != STILL).astype(np.uint8) * 255


def watch(
    background: Background,
    plane: Plane,
    begin: float,
    seconds: float,
    moving: Plane = NOTHING,
    every_s: float = 0.1,
) -> None:
    for step in range(1, round(seconds / every_s) + 1):
        background.learn(plane, background.distance(plane), moving, begin + step * every_s)


def rested() -> Background:
    background = Background(STILL, 0.0)
    watch(background, STILL, 0.0, 8.0)
    return background


def test_what_is_known_has_no_distance() -> None:
    background = rested()
    assert not background.learning
    assert not background.distance(STILL).any()
    assert np.array_equal(background.distance(THING) > 0, WHERE > 0)


def test_a_limited_distance_follows_what_is_learned() -> None:
    background = rested()
    limit = np.full_like(STILL, 12)
    brighter = STILL + np.uint8(40)
    for step in range(200):
        now = 8.0 + 0.1 * step
        exact, limited = background.distance(THING), background.distance(THING, limit)
        assert np.array_equal(limited > limit, exact > limit)
        plane = brighter if step >= 100 else STILL
        background.learn(plane, background.distance(plane), NOTHING, now)
    assert background.distance(brighter, limit).max() <= 12
    background.take_over(THING, WHERE)
    assert background.distance(THING, limit)[15, 20] == background.distance(THING)[15, 20] == 0


def test_only_frames_that_teach_the_noise_need_exact_distances() -> None:
    background = rested()
    assert background.teaches_noise(8.2)
    background.learn(STILL, background.distance(STILL), NOTHING, 8.2)
    assert not background.teaches_noise(8.3)


def test_what_moved_through_the_first_seconds_is_not_learned() -> None:
    background = Background(THING, 0.0)
    watch(background, THING, 0.0, 1.0)
    watch(background, STILL, 1.0, 5.5)
    assert np.array_equal(background.reference, STILL)


def test_what_moves_does_not_poison_the_background() -> None:
    background = rested()
    watch(background, THING, 8.0, 15.0, WHERE)
    assert background.distance(THING)[15, 20] == 100


def test_what_stays_is_taken_over_in_the_end() -> None:
    background = rested()
    watch(background, THING, 8.0, SLOW_LOOKS * SLOW_PERIOD_S, WHERE)
    assert not background.distance(THING).any()


def test_noise_rises_where_pixels_vary_and_never_falls_below_its_floor() -> None:
    background = rested()
    assert background.noise.max() == 4
    watch(background, THING, 8.0, 1.0)
    assert background.noise[15, 20] > background.noise[0, 0]


@pytest.mark.parametrize("every_s", [0.2, 1.0, 2.0, 4.0])
def test_from_few_frames_it_learns_as_fast(every_s: float) -> None:
    background = rested()
    watch(background, THING, 8.0, 1.0)  # as if the detector had missed it
    assert background.noise.max() > 10
    assert not background.distance(THING).all()
    watch(background, STILL, 9.0, 12.0, every_s=every_s)
    assert background.noise.max() == 4
    watch(background, STILL, 21.0, 12.0, every_s=every_s)
    assert np.array_equal(background.distance(THING) > 0, WHERE > 0)
    darker = STILL - np.uint8(40)
    watch(background, darker, 33.0, 24.0, every_s=every_s)
    assert background.distance(STILL).all()


def test_what_stands_there_raises_the_noise_slowly() -> None:
    background = rested()
    before = int(background.noise.max())
    watch(background, THING, 8.0, 1.2)  # as if the detector had rejected it
    assert before < background.noise.max() < before + 2 * NOISE_UNIT


def test_a_single_frame_does_not_stand_for_hours() -> None:
    background = rested()
    background.learn(THING, background.distance(THING), NOTHING, 8.0 + 3600.0)
    assert not background.distance(STILL).any()
    assert background.reference[15, 20] == STILL[15, 20]


def test_ground_is_taken_over_at_once() -> None:
    background = rested()
    background.take_over(THING, WHERE)
    assert not background.distance(THING).any()


def test_it_follows_another_light() -> None:
    background = rested()
    light = Light(0.5, 10.0)
    background.follow(light)
    assert not background.distance(light.apply(STILL)).any()


def test_its_state_comes_back_at_another_time() -> None:
    background = rested()
    again = Background.restored(background.state(8.0), 1000.0)
    assert np.array_equal(again.distance(THING), background.distance(THING))
    assert np.array_equal(again.noise, background.noise)
    assert not again.learning
    assert again.born == 1000.0 - 8.0


def test_what_is_kept_is_not_taken_over_however_long() -> None:
    background = rested()
    for step in range(round(3 * SLOW_LOOKS * SLOW_PERIOD_S)):
        now = 9.0 + step
        background.learn(THING, background.distance(THING), NOTHING, now, WHERE)
    assert background.distance(THING)[15, 20] == 100
    assert not background.distance(STILL).any()
