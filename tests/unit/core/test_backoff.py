"""Delays between retries: growth, bounds and jitter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core.backoff import Backoff


def delays(draw: float, count: int, **bounds: float) -> list[float]:
    backoff = Backoff(draw=lambda: draw, **bounds)
    return [backoff.next_s() for _ in range(count)]


def test_delays_double_until_the_longest() -> None:
    assert delays(1.0, 8, first_s=1.0, max_s=60.0) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_half_of_a_delay_is_certain() -> None:
    assert delays(0.0, 4, first_s=1.0, max_s=60.0) == [0.5, 1, 2, 4]


def test_a_factor_of_one_keeps_an_even_pace() -> None:
    assert delays(1.0, 3, first_s=5.0, factor=1.0) == [5, 5, 5]


def test_retry_after_is_a_lower_bound() -> None:
    backoff = Backoff(draw=lambda: 0.0)
    assert backoff.next_s(at_least_s=30.0) == 30.0
    assert backoff.next_s(at_least_s=0.1) == 1.0
    assert backoff.failures == 2


def test_reset_begins_again() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    first = [backoff.next_s() for _ in range(3)]
    backoff.reset()
    assert [backoff.next_s() for _ in range(3)] == first


def test_months_of_failures_do_not_overflow() -> None:
    backoff = Backoff(draw=lambda: 0.5, max_s=60.0)
    backoff.failures = 10**7
    assert backoff.next_s() == 45.0


def test_boxes_that_lost_the_same_peer_do_not_come_back_together() -> None:
    drawn = random.Random(1).random
    seconds = [Backoff(draw=drawn, first_s=10.0).next_s() for _ in range(100)]
    assert len({round(second, 1) for second in seconds}) > 30


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 200), st.floats(0.001, 100), st.floats(0.001, 1000))
def test_a_delay_is_always_within_its_bounds(
    draw: float, failures: int, first_s: float, max_s: float
) -> None:
    backoff = Backoff(draw=lambda: draw, first_s=first_s, max_s=max_s)
    backoff.failures = failures
    assert min(first_s, max_s) / 2 <= backoff.next_s() <= max_s


@pytest.mark.parametrize("count", [1, 5])
def test_failures_are_counted(count: int) -> None:
    backoff = Backoff(draw=lambda: 0.0)
    for _ in range(count):
        backoff.next_s()
    assert backoff.failures == count
