"""The bound on the bytes a source may send without completing a frame."""

from __future__ import annotations

from async_motion.capture.meter import MAX_FRAME_BYTES, MAX_OPENING_BYTES, ByteMeter


def test_bytes_are_bounded_from_one_frame_to_the_next() -> None:
    meter = ByteMeter()
    assert meter.count(MAX_OPENING_BYTES)
    meter.reset()
    assert meter.count(MAX_FRAME_BYTES)
    assert not meter.count(1)
    assert meter.problem == "sends more than 32 MiB without completing a frame"
    meter.reset()
    assert meter.count(MAX_FRAME_BYTES)
