"""The PTS clock: stamps follow the camera's clock, tied to ours, never backwards, never in the future."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.clock import DRIFT, TICK_S, Floor, PtsClock
from tests.support.clock import Clock

FPS = 10


def pts_clock(ours: Clock, floor: Floor | None = None) -> PtsClock:
    return PtsClock(monotonic=ours, wall=ours.wall, floor=floor or Floor())


def errors(said: Callable[[int, float], float], *, seconds: int = 60, held_back: int = 0) -> list[float]:
    """Return how late each frame of a live stream is stamped, in seconds.

    `said(number, at)` is the PTS of frame `number`, captured at second `at`.
    The decoder holds back `held_back` frames.
    """
    ours = Clock()
    clock = pts_clock(ours)
    waiting: deque[tuple[float, float]] = deque()
    late = []
    for number in range(seconds * FPS):
        pts = said(number, number / FPS)
        clock.arrived(pts)
        waiting.append((ours(), pts))
        if len(waiting) > held_back:
            captured, of = waiting.popleft()
            stamp = clock.stamp(clock.time_of(of))
            assert stamp.monotonic <= ours() + TICK_S, "the future"
            late.append(stamp.monotonic - captured)
        ours.sleep(1 / FPS)
    return late


def test_a_burst_is_stamped_with_the_times_at_which_it_was_captured() -> None:
    ours = Clock()
    clock = pts_clock(ours)
    clock.arrived(0.0)
    clock.stamp(clock.time_of(0.0))
    ours.sleep(3.0)  # a stall in the network, then a burst
    stamps = []
    for pts in (1.0, 2.0, 3.0):
        clock.arrived(pts)
        stamps.append(clock.stamp(clock.time_of(pts)).monotonic)
    assert stamps == pytest.approx([1001.0, 1002.0, 1003.0], abs=0.01)


def test_what_piled_up_before_the_first_packet_is_known_after_the_last() -> None:
    ours = Clock()
    clock = pts_clock(ours)
    for pts in (0.0, 0.4, 0.8):  # all had arrived before the first read
        clock.arrived(pts)
    assert clock.time_of(0.0) == pytest.approx(1000.0 - 0.8)
    assert clock.stamp(clock.time_of(0.8)).captured_at == ours.now()


def test_a_slow_crystal_is_followed() -> None:
    ours = Clock()
    clock = pts_clock(ours)
    slow = 1 - DRIFT / 2
    for second in range(3600):
        clock.arrived(second * slow)
        ours.sleep(1.0)
    clock.arrived(3600 * slow)
    assert clock.time_of(3600 * slow) == pytest.approx(ours(), abs=0.01)


def test_jitter_does_not_move_the_stamps() -> None:
    ours = Clock()
    clock = pts_clock(ours)
    stamps = []
    for number in range(100):
        late = 0.15 if number % 3 else 0.0
        ours.sleep(late)
        clock.arrived(number * 0.2)
        stamps.append(clock.stamp(clock.time_of(number * 0.2)).monotonic)
        ours.sleep(0.2 - late)
    gaps = [after - before for before, after in pairwise(stamps)]
    assert max(gaps) < 0.202
    assert min(gaps) > 0.198


@pytest.mark.parametrize("jump", [-3600.0, -2.0, 5000.0])
def test_a_camera_that_sets_its_clock_begins_a_new_era(jump: float) -> None:
    late = errors(lambda _, at: at + (jump if at > 20 else 0.0))
    assert max(map(abs, late)) < 0.01


@pytest.mark.parametrize("held_back", [0, 3])
@pytest.mark.parametrize("by", [37600.0, -37600.0, 3.0])
def test_one_wrong_packet_is_forgotten(by: float, held_back: int) -> None:
    late = errors(lambda number, at: at + (by if number == 60 else 0.0), held_back=held_back)
    assert max(map(abs, late)) < 0.2


@pytest.mark.parametrize("held_back", [0, 3])
def test_wrong_packets_again_and_again_do_no_harm(held_back: int) -> None:
    late = errors(lambda number, at: at + (37600.0 if number % 20 == 19 else 0.0), held_back=held_back)
    assert max(map(abs, late)) < 0.2


def test_a_small_mistake_does_not_stay_the_minimum() -> None:
    late = errors(lambda number, at: at + (0.8 if number == 60 else 0.0))
    assert abs(late[-1]) < 0.35
    assert min(late) > -0.9


@pytest.mark.parametrize("rate", [0.84, 0.5, 0.95, 1.2])
def test_a_clock_that_runs_at_another_rate_is_followed(rate: float) -> None:
    late = errors(lambda _, at: at * rate)
    assert max(map(abs, late)) < 3.0
    assert max(map(abs, late[-300:])) < 0.3
    # No gap long enough to end an event, and no frames faster than real time.
    gaps = [0.1 + after - before for before, after in pairwise(late)]
    assert max(gaps) < 1.0


def test_pts_that_stand_still_have_the_time_of_their_arrival() -> None:
    late = errors(lambda _, at: min(at, 10.0))
    assert min(late) > -1.3
    assert max(map(abs, late[150:])) < 0.01


def test_a_new_connection_goes_on_after_the_last_stamp_of_the_one_before() -> None:
    ours = Clock()
    floor = Floor()
    before = pts_clock(ours, floor)
    before.anchor(0.0)
    last = before.stamp(before.due(30.0))  # a file's stamp, ahead of the clock
    after = pts_clock(ours, floor)
    after.arrived(7.0)
    first = after.stamp(after.time_of(7.0))
    assert first.monotonic > last.monotonic
    assert first.captured_at > last.captured_at


def test_labels_follow_a_wall_clock_that_was_a_day_ahead() -> None:
    ours = Clock()
    clock = pts_clock(ours)
    clock.anchor(0.0)
    wrong = clock.stamp(clock.due(0.0))
    ours.ahead_s -= 86400
    ours.sleep(1.0)
    right = clock.stamp(clock.due(1.0))
    assert right.captured_at.timestamp() == pytest.approx(ours.wall(), abs=0.01)
    assert right.monotonic > wrong.monotonic


def test_labels_stand_when_the_wall_clock_is_corrected_a_little() -> None:
    ours = Clock()
    clock = pts_clock(ours)
    clock.anchor(0.0)
    before = clock.stamp(clock.due(0.0))
    ours.ahead_s -= 2
    ours.sleep(1.0)
    assert clock.stamp(clock.due(1.0)).captured_at > before.captured_at


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(-5000, 5000)), min_size=1, max_size=40))
def test_stamps_never_run_backwards_and_never_ahead(steps: list[tuple[float, float]]) -> None:
    ours = Clock()
    floor = Floor()
    clock = pts_clock(ours, floor)
    latest = None
    for number, (seconds, pts) in enumerate(steps):
        ours.sleep(seconds)
        if number % 7 == 6:
            clock = pts_clock(ours, floor)
        clock.arrived(pts)
        assert clock.time_of(pts) <= ours()
        stamp = clock.stamp(clock.time_of(pts))
        assert stamp.monotonic <= ours() + len(steps) * TICK_S
        if latest is not None:
            assert stamp.monotonic > latest.monotonic
            assert stamp.captured_at > latest.captured_at
        latest = stamp


def test_a_clock_without_a_pts_refuses() -> None:
    with pytest.raises(ValueError, match="no PTS yet"):
        pts_clock(Clock()).time_of(1.0)
