"""When the wall clock is trusted to decide which events are old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from async_motion.store.trusted_clock import HOLD_S, TrustedClock

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_a_clock_that_runs_is_trusted() -> None:
    for noted in (None, AT, later(-3600)):
        clock = TrustedClock(noted)
        assert all(clock.trusts(later(s), s) for s in range(0, 10 * 86400, 60))


def test_a_jump_ahead_is_not_trusted_until_it_has_lasted() -> None:
    clock = TrustedClock(AT)
    assert clock.trusts(AT, 0)
    year = 365 * 86400
    assert not clock.trusts(later(year + 60), 60)
    assert not clock.trusts(later(year + HOLD_S), HOLD_S)
    assert clock.trusts(later(year + 60 + HOLD_S), 60 + HOLD_S)


def test_a_jump_that_is_corrected_costs_nothing() -> None:
    clock = TrustedClock(AT)
    assert clock.trusts(AT, 0)
    assert not clock.trusts(later(365 * 86400), 60)
    assert clock.trusts(later(120), 120)


def test_at_the_start_it_is_held_against_what_was_noted() -> None:
    assert TrustedClock(later(-20 * 3600)).trusts(AT, 5000)
    clock = TrustedClock(later(-40 * 86400))
    assert not clock.trusts(AT, 5000)
    assert clock.trusts(later(HOLD_S), 5000 + HOLD_S)


def test_a_second_jump_begins_the_wait_again() -> None:
    clock = TrustedClock(AT)
    assert clock.trusts(AT, 0)
    assert not clock.trusts(later(86400), 60)
    assert not clock.trusts(later(2 * 86400), HOLD_S)
    assert not clock.trusts(later(2 * 86400 + 100), 100 + HOLD_S)


def test_a_clock_behind_what_was_noted_removes_too_little_and_is_trusted() -> None:
    assert TrustedClock(later(86400 * 30)).trusts(AT, 0)
