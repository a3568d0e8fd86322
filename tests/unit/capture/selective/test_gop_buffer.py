"""The ring keeps whole GOPs, the newest, within its bounds."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.ffmpeg.decoding import VideoPacket
from async_motion.capture.selective.gop_buffer import GopBuffer


class Packet:
    """The attributes of a packet that the ring reads."""

    def __init__(self, size: int, *, key: bool) -> None:
        self.size = size
        self.is_keyframe = key


def packet(size: int = 10, *, key: bool = False) -> VideoPacket:
    return cast(VideoPacket, Packet(size, key=key))


def filled(*, groups: int, length: int = 4, max_bytes: int = 10_000, max_seconds: float = 100.0) -> GopBuffer:
    ring = GopBuffer(max_bytes=max_bytes, max_seconds=max_seconds)
    for number in range(groups * length):
        ring.add(number / length, packet(key=number % length == 0))
    return ring


def test_nothing_is_kept_before_the_first_keyframe() -> None:
    ring = GopBuffer(max_bytes=1000, max_seconds=10)
    assert not ring.add(0.0, packet())
    assert ring.add(0.1, packet(key=True))
    assert ring.add(0.2, packet())
    current = ring.current()
    assert current is not None
    assert [kept.at for kept in current.packets] == [0.1, 0.2]


def test_gops_are_found_by_time() -> None:
    ring = filled(groups=3)
    group = ring.gop_of(1.6)
    assert group is not None
    assert group.start == 1.0
    assert ring.gop_of(-0.1) is None
    assert ring.gop_of(99.0) is ring.current()


def test_old_gops_go_as_a_whole_and_the_required_seconds_stay() -> None:
    ring = filled(groups=50, max_seconds=3.0)
    oldest = ring.gop_of(ring.newest - 3.0)
    assert oldest is not None
    assert len(ring) <= 5


def test_the_bound_in_bytes() -> None:
    ring = filled(groups=50, max_bytes=100)
    assert ring.nbytes <= 100
    assert ring.current() is not None


def test_a_gop_that_is_larger_than_the_bound_is_dropped() -> None:
    ring = GopBuffer(max_bytes=100, max_seconds=100)
    ring.add(0.0, packet(key=True))
    kept = [ring.add(number / 10, packet(30)) for number in range(1, 6)]
    assert kept == [True, True, True, False, False]
    assert ring.nbytes == 0
    assert ring.add(1.0, packet(key=True))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 400), st.floats(0, 2)), max_size=200),
    st.integers(1, 2000),
    st.floats(0.1, 20),
)
def test_the_bounds_always_hold(steps: list[tuple[bool, int, float]], max_bytes: int, seconds: float) -> None:
    ring = GopBuffer(max_bytes=max_bytes, max_seconds=seconds)
    at = 0.0
    for key, size, gap in steps:
        at += gap
        ring.add(at, packet(size, key=key))
        assert ring.nbytes <= max_bytes
        current = ring.current()
        assert (current is None) == (len(ring) == 0) == (ring.nbytes == 0)
        if current is not None:
            assert current.packets[0].packet.is_keyframe
            first = ring.gop_of(at)
            assert first is current
    ring.clear()
    assert ring.nbytes == 0
    assert ring.newest == pytest.approx(float("-inf"))
