"""The synthetic camera: a reproducible scene with early, then occasional motion."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.capture import CaptureSpec, open_source
from async_motion.capture.readers.demo import FIRST_S, HEIGHT, MOTION_S, PERIOD_S, WIDTH, Garden, moving
from tests.support.capture import read


@pytest.fixture(scope="module")
def garden() -> Garden:
    return Garden()


def changed(garden: Garden, one_s: float, other_s: float) -> float:
    """Return the share of pixels that differ by more than the noise."""
    a, b = garden.draw(one_s, "").astype(int), garden.draw(other_s, "").astype(int)
    return float((np.abs(a - b).max(axis=2) > 25).mean())


def test_the_scene_is_a_function_of_time(garden: Garden) -> None:
    assert np.array_equal(garden.draw(5.0, "x"), Garden().draw(5.0, "x"))
    assert garden.draw(5.0, "x").shape == (HEIGHT, WIDTH, 3)


def test_quiet_is_quiet_and_motion_is_motion(garden: Garden) -> None:
    assert changed(garden, 0.0, 2.8) == 0
    for act in range(4):
        start = FIRST_S + act * PERIOD_S
        assert changed(garden, 0.0, start + MOTION_S / 2) > 0.005
        assert changed(garden, 0.0, start + MOTION_S) == 0
        assert changed(garden, 0.0, start + PERIOD_S - 0.2) == 0


def test_a_person_comes_within_the_first_seconds() -> None:
    assert moving(0.0) is None
    assert moving(4.0) is not None
    busy = [moving(tenth / 10) is not None for tenth in range(160)]
    assert sum(busy) == pytest.approx(60, abs=1)


def test_the_demo_can_be_read() -> None:
    frames = read(open_source(CaptureSpec(camera="demo", source="demo:", fps=10)), 3)
    assert [frame.luma.shape for frame in frames] == [(HEIGHT, WIDTH)] * 3
    assert frames[0].bgr().shape == (HEIGHT, WIDTH, 3)
    assert frames[0].captured_at < frames[1].captured_at < frames[2].captured_at
