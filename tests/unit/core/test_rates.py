"""Bursts pass, floods are throttled, and the log counts the suppressed lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from async_motion.core.rates import MAX_KEYS, LogThrottle, TokenBucket, TokenBuckets


@given(st.integers(1, 20), st.floats(0.01, 100), st.lists(st.floats(0, 1000), max_size=200))
def test_no_more_than_the_burst_and_one_for_each_interval_pass(
    burst: int, every_s: float, times: list[float]
) -> None:
    bucket = TokenBucket(burst, every_s)
    times.sort()
    passed = [at for at in times if bucket.take(at)]
    if times:
        assert len(passed) <= burst + (times[-1] - times[0]) / every_s + 1e-6
    assert passed[:burst] == times[:burst]


def test_what_stands_still_comes_back() -> None:
    bucket = TokenBucket(2, 1.0)
    assert [bucket.take(at) for at in (0.0, 0.0, 0.0, 0.9, 1.0, 1.1)] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = TokenBucket(1, 1.0)
    assert bucket.take(100.0)
    assert not bucket.take(0.0)
    assert not bucket.take(0.5)


def test_keys_are_bounded() -> None:
    buckets = TokenBuckets(1, 1e9)
    assert all(buckets.take(key, 0.0) for key in range(2 * MAX_KEYS))
    assert not buckets.take(MAX_KEYS, 0.0), "one of the newest is remembered"
    assert buckets.take(0, 0.0), "the oldest is forgotten"


def test_a_flood_leaves_few_lines_that_tell_its_size() -> None:
    throttle = LogThrottle(burst=2, every_s=60.0)
    said = [throttle.admit("porch", at / 100) for at in range(1000)]
    assert [line for line in said if line is not None] == ["", ""]
    assert throttle.admit("yard", 10.0) == ""
    assert throttle.admit("porch", 70.0) == " (998 more like it)"
    assert throttle.admit("porch", 130.0) == ""
