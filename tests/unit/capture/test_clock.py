"""The pts clock: stamps follow the camera's own time, tied to ours, and never run backwards."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.clock import DRIFT, Floor, PtsClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


class Hands:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.monotonic_s = 1000.0
        self.wall_s = NOON

    def move(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds

    def clock(self, floor: Floor | None = None) -> PtsClock:
        return PtsClock(monotonic=lambda: self.monotonic_s, wall=lambda: self.wall_s, floor=floor or Floor())


def test_a_burst_is_stamped_with_the_times_at_which_it_was_filmed() -> None:
    hands = Hands()
    clock = hands.clock()
    clock.arrived(0.0)
    clock.stamp(0.0)
    hands.move(3.0)  # a stall on the way, then everything at once
    stamps = []
    for pts in (1.0, 2.0, 3.0):
        clock.arrived(pts)
        stamps.append(clock.stamp(pts).monotonic)
    assert stamps == pytest.approx([1001.0, 1002.0, 1003.0], abs=0.01)


def test_what_piled_up_before_the_first_packet_is_known_after_the_last() -> None:
    hands = Hands()
    clock = hands.clock()
    for pts in (0.0, 0.4, 0.8):  # all of them lay there when we first looked
        clock.arrived(pts)
    assert clock.stamp(0.0).monotonic == pytest.approx(1000.0 - 0.8)
    assert clock.stamp(0.8).captured_at == datetime.fromtimestamp(NOON, UTC)


def test_a_slow_camera_clock_is_followed() -> None:
    hands = Hands()
    clock = hands.clock()
    slow = 1 - DRIFT / 2
    for second in range(3600):
        clock.arrived(second * slow)
        hands.move(1.0)
    clock.arrived(3600 * slow)
    assert clock.stamp(3600 * slow).monotonic == pytest.approx(hands.monotonic_s, abs=0.01)


def test_jitter_does_not_move_the_stamps() -> None:
    hands = Hands()
    clock = hands.clock()
    stamps = []
    for number in range(100):
        late = 0.15 if number % 3 else 0.0
        hands.move(late)
        clock.arrived(number * 0.2)
        stamps.append(clock.stamp(number * 0.2).monotonic)
        hands.move(0.2 - late)
    gaps = [after - before for before, after in pairwise(stamps)]
    assert max(gaps) < 0.202
    assert min(gaps) > 0.198


@pytest.mark.parametrize("jump", [-3600.0, -2.0, 5000.0])
def test_a_camera_that_sets_its_clock_is_tied_anew(jump: float) -> None:
    hands = Hands()
    clock = hands.clock()
    clock.arrived(100.0)
    first = clock.stamp(100.0)
    hands.move(0.2)
    assert clock.arrived(100.2 + jump)
    second = clock.stamp(100.2 + jump)
    assert second.monotonic - first.monotonic == pytest.approx(0.2, abs=0.01)


def test_time_that_stands_still_is_told() -> None:
    hands = Hands()
    clock = hands.clock()
    assert clock.arrived(5.0)
    hands.move(1.0)
    assert not clock.arrived(5.0)
    assert clock.arrived(5.1)


def test_a_new_connection_goes_on_after_the_last_stamp_of_the_one_before() -> None:
    hands = Hands()
    floor = Floor()
    before = hands.clock(floor)
    before.arrived(0.0)
    last = before.stamp(30.0)  # a stamp that ran ahead
    after = hands.clock(floor)
    after.arrived(7.0)
    first = after.stamp(7.0)
    assert first.monotonic > last.monotonic
    assert first.captured_at > last.captured_at


def test_labels_follow_a_wall_clock_that_was_a_day_ahead() -> None:
    hands = Hands()
    clock = hands.clock()
    clock.anchor(0.0)
    wrong = clock.stamp(0.0)
    hands.wall_s -= 86400
    hands.move(1.0)
    right = clock.stamp(1.0)
    assert right.captured_at.timestamp() == pytest.approx(NOON - 86400 + 1, abs=0.01)
    assert right.monotonic > wrong.monotonic


def test_labels_stand_when_the_wall_clock_is_corrected_a_little() -> None:
    hands = Hands()
    clock = hands.clock()
    clock.anchor(0.0)
    before = clock.stamp(0.0)
    hands.wall_s -= 2
    hands.move(1.0)
    assert clock.stamp(1.0).captured_at > before.captured_at


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(-5000, 5000)), min_size=1, max_size=40))
def test_stamps_never_run_backwards(steps: list[tuple[float, float]]) -> None:
    hands = Hands()
    floor = Floor()
    clock = hands.clock(floor)
    latest = None
    for number, (seconds, pts) in enumerate(steps):
        hands.move(seconds)
        if number % 7 == 6:
            clock = hands.clock(floor)
        clock.arrived(pts)
        stamp = clock.stamp(pts)
        if latest is not None:
            assert stamp.monotonic > latest.monotonic
            assert stamp.captured_at > latest.captured_at
        latest = stamp


def test_an_untied_clock_refuses() -> None:
    with pytest.raises(ValueError, match="never tied"):
        Hands().clock().stamp(1.0)
