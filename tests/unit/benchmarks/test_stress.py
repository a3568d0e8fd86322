"""The stress set: made by a seed, with labels that still fit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.stress import DISTURBANCES


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbance_keeps_the_number_of_frames_and_follows_the_seed(name: str) -> None:
    gradient = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    frames = [np.roll(gradient, index, axis=1) for index in range(120)]
    first, second, other = (
        np.stack(DISTURBANCES[name](frames, np.random.default_rng(seed), 10.0)) for seed in (1, 1, 2)
    )
    assert first.dtype == np.uint8
    assert len(first) == len(frames)
    if name != "h264":  # its encoder is not the same twice
        assert np.array_equal(first, second)
    if name not in ("plain", "half_size", "mirrored", "rare"):
        assert not np.array_equal(first, other)
        assert not np.array_equal(first, np.stack(frames))
