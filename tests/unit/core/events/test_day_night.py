"""Day or night: decided at once, then with hysteresis, agreement and a dwell; and the share of colour."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core.events.day_night import COLOUR, SUN, LightLimits, Profile, Switch, colour_share
from tests.support.video import ground

DAY, NIGHT = Profile.DAY, Profile.NIGHT
LIMITS = LightLimits(night_below=0.0, day_above=10.0, agree=2, dwell_s=100.0)


def followed(limits: LightLimits, *figures: tuple[float, float]) -> list[Profile]:
    """Return a switch's profile after each (monotonic, figure)."""
    switch = Switch(limits)
    return [switch.update(figure, at) for at, figure in figures]


@pytest.mark.parametrize(
    ("figure", "profile"), [(50, DAY), (5, DAY), (4.9, NIGHT), (-50, NIGHT), (10, DAY), (0, NIGHT)]
)
def test_the_first_figure_decides_at_once(figure: float, profile: Profile) -> None:
    assert followed(LIMITS, (0, figure)) == [profile]


def test_between_the_limits_it_stays_as_it_was() -> None:
    figures = [(1000.0 * number, 5.0) for number in range(1, 9)]
    assert set(followed(LIMITS, (0, 20), *figures)) == {DAY}
    assert set(followed(LIMITS, (0, -20), *figures)) == {NIGHT}


def test_a_change_needs_agreement_in_a_row() -> None:
    said = followed(LIMITS, (0, 20), (200, -5), (230, 5), (260, -5), (290, -5), (320, -5))
    assert said == [DAY, DAY, DAY, DAY, NIGHT, NIGHT]


def test_a_change_waits_for_the_dwell_and_then_comes() -> None:
    said = followed(LIMITS, (0, -5), (30, 20), (60, 20), (90, 20), (100, 20), (130, -5), (160, -5), (200, -5))
    assert said == [NIGHT, NIGHT, NIGHT, NIGHT, DAY, DAY, DAY, NIGHT]


@given(st.lists(st.floats(-100, 100), max_size=200), st.floats(1, 60))
def test_it_never_flaps(figures: list[float], step_s: float) -> None:
    said = followed(LIMITS, *((number * step_s, figure) for number, figure in enumerate(figures)))
    changes = [number * step_s for number in range(1, len(said)) if said[number] is not said[number - 1]]
    assert all(after - before >= LIMITS.dwell_s for before, after in itertools.pairwise(changes))


def test_limits_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match="night_below"):
        LightLimits(night_below=2, day_above=2)


def test_a_dusk_is_one_change() -> None:
    dusk = [(60.0 * minute, 10.0 - minute / 5) for minute in range(120)]
    said = followed(SUN, *dusk)
    assert said.count(DAY) == 81  # down to -6 degrees


# ---- colour ----


def grey(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


def test_a_scene_has_colour_and_infrared_has_none() -> None:
    scene = ground(640, 360)
    assert colour_share(scene) > 0.5
    infrared = grey(scene)
    assert colour_share(infrared) == 0


def test_noise_is_not_colour() -> None:
    draw = np.random.default_rng(1)
    noisy = grey(ground(1280, 720)).astype(np.int16) + draw.normal(0, 6, (720, 1280, 3)).astype(np.int16)
    assert colour_share(np.clip(noisy, 0, 255).astype(np.uint8)) < COLOUR.night_below


def test_a_tint_of_the_whole_image_is_not_colour() -> None:
    violet = grey(ground(640, 360)).astype(np.int16) + np.array([25, 0, 15], np.int16)
    assert colour_share(np.clip(violet, 0, 255).astype(np.uint8)) < COLOUR.night_below


def test_coloured_letters_make_no_day() -> None:
    infrared = grey(ground(1920, 1080))
    infrared[20:60, 40:440] = (0, 255, 255)
    assert 0 < colour_share(infrared) < COLOUR.night_below


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (3, 500), (500, 3)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_any_shape_and_level_has_a_share(shape: tuple[int, int], level: int) -> None:
    assert colour_share(np.full((*shape, 3), level, np.uint8)) == 0


def test_the_image_is_only_read() -> None:
    image = ground(100, 80)
    image.flags.writeable = False
    assert 0 <= colour_share(image) <= 1
