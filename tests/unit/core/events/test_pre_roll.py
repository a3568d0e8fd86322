"""The pre-roll: its bounds in seconds and bytes, and that a dropped frame is freed."""

from __future__ import annotations

import gc
import weakref
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core.events.pre_roll import PreRoll
from async_motion.core.model import Detection, Reason
from tests.support.frames import make_frame

STILL = Detection(motion=False, reason=Reason.STILL)
frame = partial(make_frame, nbytes=100)


def times(ring: PreRoll) -> list[float]:
    return [frame.monotonic for frame, _ in ring.take()]


def test_it_holds_the_seconds_before_the_newest_frame() -> None:
    ring = PreRoll(seconds=1.0, max_bytes=10**6)
    for i in range(10):
        ring.add(frame(i * 0.5), STILL, since=i * 0.5)
    assert times(ring) == [3.5, 4.0, 4.5]


def test_it_holds_the_seconds_before_the_motion_that_waits_for_its_confirmation() -> None:
    ring = PreRoll(seconds=1.0, max_bytes=10**6)
    for i in range(10):
        ring.add(frame(i * 0.5), STILL, since=min(i * 0.5, 3.0))
    assert times(ring) == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5]


def test_it_drops_the_oldest_at_its_byte_bound() -> None:
    ring = PreRoll(seconds=100.0, max_bytes=350)
    for i in range(10):
        ring.add(frame(i), STILL, since=i)
    assert ring.nbytes == 300
    assert times(ring) == [7, 8, 9]
    assert ring.nbytes == 0


def test_a_frame_larger_than_the_ring_is_not_held() -> None:
    ring = PreRoll(seconds=100.0, max_bytes=350)
    ring.add(frame(0), STILL, since=0)
    ring.add(frame(1, nbytes=351), STILL, since=1)
    assert len(ring) == 0
    assert ring.nbytes == 0


def test_zero_bytes_hold_nothing() -> None:
    ring = PreRoll(seconds=1.0, max_bytes=0)
    ring.add(frame(0), STILL, since=0)
    assert ring.take() == []


def test_nothing_keeps_a_frame_alive_that_has_left() -> None:
    ring = PreRoll(seconds=100.0, max_bytes=250)
    alive = []
    for i in range(50):
        one = frame(i)
        alive.append(weakref.ref(one.luma))
        ring.add(one, STILL, since=i)
        del one
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 2
    ring.clear()
    gc.collect()
    assert not any(ref() is not None for ref in alive)


@given(
    st.floats(0, 10),
    st.integers(0, 1000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 400), st.floats(0, 5)), max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_both_bounds_hold_after_every_frame(
    seconds: float, max_bytes: int, walk: list[tuple[float, int, float]]
) -> None:
    ring = PreRoll(seconds=seconds, max_bytes=max_bytes)
    now = 0.0
    for gap, nbytes, held in walk:
        now += gap
        before = len(ring)
        ring.add(frame(now, nbytes=nbytes), STILL, since=now - held)
        assert len(ring) <= before + 1
        assert 0 <= ring.nbytes <= max_bytes
        copy = ring.take()
        assert sum(one.nbytes for one, _ in copy) <= max_bytes
        assert all(one.monotonic >= now - held - seconds for one, _ in copy)
        assert [one.monotonic for one, _ in copy] == sorted(one.monotonic for one, _ in copy)
        for one, detection in copy:
            ring.add(one, detection, since=now - held)
