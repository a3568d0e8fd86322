"""Luma without a copy, colours preserved, frames at an even rate."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from fractions import Fraction

import av
import av.video.format
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.clock import Stamp
from async_motion.capture.ffmpeg.frames import PLANAR_LUMA, FramePicker, frame_of, luma_of, to_bgr
from async_motion.errors import CameraRefused
from tests.support.video import ground


def decoded(image: np.ndarray, pixels: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pixels, threads=1)


def addresses(plane: av.video.plane.VideoPlane) -> range:
    return range(plane.buffer_ptr, plane.buffer_ptr + plane.buffer_size)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "gray"])
@pytest.mark.parametrize("width", [64, 50, 322])
def test_luma_is_a_view_of_the_decoders_plane(pixels: str, width: int) -> None:
    frame = decoded(ground(width, 48), pixels)
    luma = luma_of(frame)
    assert luma.shape == (48, width)
    assert luma.ctypes.data in addresses(frame.planes[0])
    assert not luma.flags.writeable
    plane = frame.planes[0]
    data = np.frombuffer(bytes(plane), np.uint8)
    assert all(
        np.array_equal(luma[row], data[row * plane.line_size : row * plane.line_size + width])
        for row in range(48)
    )


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuyv422", "rgb24", "bgra", "pal8", "gray10le"])
def test_other_formats_are_converted(pixels: str) -> None:
    image = ground(64, 48)
    luma = luma_of(decoded(image, pixels if pixels != "pal8" else "rgb8"))
    expected = luma_of(decoded(image, "gray")).astype(int)
    assert luma.dtype == np.uint8
    assert np.abs(luma.astype(int) - expected).mean() < 8  # limited range: 16..235


def test_every_planar_format_that_is_listed_exists() -> None:
    for name in PLANAR_LUMA:
        assert av.VideoFormat(name, 64, 48).components[0].is_luma


def test_luma_outlives_the_decoders_frame() -> None:
    frame = decoded(ground(64, 48), "yuv420p")
    luma = luma_of(frame)
    kept = luma.copy()
    del frame
    np.testing.assert_array_equal(luma, kept)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (50, 48), (1280, 720)])
def test_colour_comes_back(width: int, height: int) -> None:
    image = np.full((height, width, 3), (40, 180, 90), np.uint8)
    source = av.VideoFrame.from_ndarray(image, format="bgr24")
    # A stream that declares no colour space is BT.709 from 720 lines on, BT.601 below.
    frame = source.reformat(format="yuv420p", dst_colorspace=1 if height >= 720 else 5, threads=1)
    frame.colorspace = 2
    colour = to_bgr(frame)
    assert colour.shape == image.shape
    assert np.abs(colour.astype(int) - image).max() <= 3


@pytest.mark.parametrize(("height", "usual"), [(48, 5), (720, 1)])
@pytest.mark.parametrize("space", [3, 8, 10, 14, 200])
def test_a_colour_space_that_cannot_be_converted_is_taken_for_the_usual_one(
    space: int, height: int, usual: int
) -> None:
    named, deep = decoded(ground(64, height), "yuv420p"), decoded(ground(64, height), "yuv420p10le")
    named.colorspace = deep.colorspace = usual
    expected, luma = to_bgr(named), luma_of(deep)
    named.colorspace = deep.colorspace = space
    np.testing.assert_array_equal(to_bgr(named), expected)
    np.testing.assert_array_equal(luma_of(deep), luma)


def test_a_frame_says_what_it_costs_and_gives_its_colours_to_two_threads() -> None:
    frame = decoded(ground(320, 240), "yuv420p")
    made = frame_of("porch", Stamp(datetime(2026, 1, 1, tzinfo=UTC), 1.0), frame)
    assert made.nbytes == 320 * 240 * 3 // 2
    images: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: images.append(made.bgr())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 4
    assert all(np.array_equal(image, images[0]) for image in images)


@pytest.mark.parametrize(
    ("rate", "fps", "expected"),
    [(25, 5, 50), (30, 5, 50), (12, 5, 50), (10, 10, 100), (4, 5, 40), (15, 7, 70)],
)
def test_frames_are_picked_at_the_pace_that_was_asked_for(rate: int, fps: float, expected: int) -> None:
    picker = FramePicker(fps)
    picked = [number / rate for number in range(rate * 10) if picker.wants(float(Fraction(number, rate)))]
    assert abs(len(picked) - expected) <= 1
    gaps = np.diff(picked)
    assert gaps.max() <= 1 / fps + 1 / rate + 1e-9


def test_after_a_gap_there_is_no_burst() -> None:
    picker = FramePicker(5)
    assert picker.wants(0.0)
    assert picker.wants(60.0)
    assert not picker.wants(60.04)
    assert not picker.wants(60.08)
    assert picker.wants(60.2)


@pytest.mark.parametrize("rate", [9, 12.5, 15, 20, 25, 29.97, 30])
@pytest.mark.parametrize("first_s", [2.0, 2.13, 7.9])
def test_after_a_gap_the_frames_are_those_without_it(rate: float, first_s: float) -> None:
    # `auto` shows a keyframe now and then, then every frame.
    every, some = FramePicker(5), FramePicker(5)
    times = [100.0 + number / rate for number in range(round(30 * rate))]
    picked = {at for at in times if every.wants(at)}
    shown = [at for at in times if at < 101 or at >= 100 + first_s]
    keyframe = next(at for at in shown if at >= 101)
    assert {at for at in shown if some.wants(at)} == (picked | {keyframe}) & set(shown)


def test_time_that_jumps_back_does_not_blind() -> None:
    picker = FramePicker(5)
    assert picker.wants(1000.0)
    assert picker.wants(3.0)


@given(st.floats(0.1, 100), st.lists(st.floats(0, 1), max_size=200))
def test_never_more_than_asked_for(fps: float, gaps: list[float]) -> None:
    picker = FramePicker(fps)
    times = np.cumsum([0.0, *gaps])
    picked = [at for at in times if picker.wants(float(at))]
    assert len(picked) <= (times[-1] * fps) * 1.001 + 2


def test_every_frame_when_no_pace_is_asked_for() -> None:
    picker = FramePicker(float("inf"))
    assert all(picker.wants(number / 25) for number in range(50))


def test_every_pixel_format_is_shown_or_refused() -> None:
    """A stream chooses its pixel format, and on some formats FFmpeg's scaler aborts the process."""
    shown: set[str] = set()
    refused: set[str] = set()
    for name in sorted(av.video.format.names):  # type: ignore[attr-defined] # not in the stubs
        try:
            frame = av.VideoFrame(64, 48, name)
        except ValueError:
            continue  # a hardware decoder's format
        for convert in (luma_of, to_bgr):
            try:
                assert convert(frame).shape[:2] == (48, 64)
                shown.add(name)
            except CameraRefused:
                refused.add(name)
    assert {"yuv420p", "yuv420p10le", "gray16be", "rgb24", "pal8", "p010le"} <= shown
    assert len(shown) > 4 * len(refused)
