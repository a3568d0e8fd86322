"""Bootstrap intervals: of groups, not of frames."""

from __future__ import annotations

from async_motion.tune.intervals import f1_interval, sum_interval
from async_motion.tune.scoring import Score


def test_an_interval_resamples_whole_groups() -> None:
    good, bad = Score(tp=1000), Score(fn=1000)
    assert f1_interval([good] * 5) == (1.0, 1.0)
    low, high = f1_interval([good, bad]) or (0.0, 0.0)
    assert (low, high) == (0.0, 1.0)  # with two groups, nothing is known
    low, high = f1_interval([good, bad] * 50) or (0.0, 0.0)
    assert 0.5 < low < 2 / 3 < high < 0.8
    assert f1_interval([]) is None


def test_the_interval_of_a_sum_holds_the_sum() -> None:
    assert sum_interval([1.0] * 4) == (4.0, 4.0)
    low, high = sum_interval([8.0, 0.0, 0.0, 0.0]) or (1.0, 0.0)
    assert (low, high) == (0.0, 24.0)
    assert sum_interval([]) is None
