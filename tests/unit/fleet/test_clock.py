"""The clock of leases also counts while the machine is suspended."""

from __future__ import annotations

import time

import pytest

from async_motion.fleet import clock


def test_it_does_not_run_backwards() -> None:
    first = clock.boottime()
    assert clock.boottime() >= first


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux only")
def test_it_is_the_clock_that_counts_suspend() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.boottime() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_such_a_clock_the_monotonic_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_CLOCK", None)
    before = time.monotonic()
    assert before <= clock.boottime() <= time.monotonic()
