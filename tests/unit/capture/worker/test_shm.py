"""Frames in shared memory: unchanged, not copied, no handle left open, every false message refused."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame

from async_motion.capture.clock import Stamp
from async_motion.capture.ffmpeg.frames import frame_of, luma_of, to_bgr
from async_motion.capture.worker import shm
from async_motion.capture.worker.shm import Message, attach, pack, share, unpack
from async_motion.core.model import Frame
from tests.support.frames import make_frame

DRAW = np.random.default_rng(5)
STAMP = Stamp(datetime(2026, 11, 22, 7, 31, 12, 745001, UTC), 1234.5678901)


def video_frame(pixels: str = "yuv420p", width: int = 322, height: int = 242) -> VideoFrame:
    colours = DRAW.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return VideoFrame.from_ndarray(colours, format="bgr24").reformat(format=pixels)


@contextmanager
def packed(frame: Frame) -> Iterator[tuple[Message, int]]:
    message, handle = pack(frame)
    try:
        yield message, handle
    finally:
        os.close(handle)


def passed(frame: Frame) -> Frame:
    with packed(frame) as (message, handle):
        return unpack(message, handle, camera="porch", max_pixels=10**6)


def handles_held() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped() -> int:
    """Return the number of frames that this process maps."""
    return Path("/proc/self/maps").read_text().count("/memfd:async_motion")


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuvj420p", "yuvj422p", "yuv444p", "nv12", "gray", "yuv420p10le"]
)
def test_a_frame_comes_out_as_it_went_in(pixels: str) -> None:
    decoded = video_frame(pixels)
    frame = passed(frame_of("porch", STAMP, decoded))
    assert (frame.captured_at, frame.monotonic) == STAMP
    np.testing.assert_array_equal(frame.luma, luma_of(decoded))
    np.testing.assert_array_equal(frame.bgr(), to_bgr(decoded))
    assert frame.nbytes >= frame.luma.nbytes


@pytest.mark.parametrize("height", [240, 720])
@pytest.mark.parametrize("colours", [(1, 1), (1, 2), (2, 0), (5, 2), (6, 1)])
def test_colours_keep_their_meaning(height: int, colours: tuple[int, int]) -> None:
    decoded = video_frame(height=height)
    decoded.colorspace, decoded.color_range = colours
    np.testing.assert_array_equal(passed(frame_of("porch", STAMP, decoded)).bgr(), to_bgr(decoded))


def test_an_image_that_is_colour_already_comes_with_its_luma() -> None:
    colours = DRAW.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    luma = colours[..., 1]
    frame = passed(replace(make_frame(luma=luma), bgr=lambda: colours))
    np.testing.assert_array_equal(frame.luma, luma)
    np.testing.assert_array_equal(frame.bgr(), colours)


def test_a_frame_lives_as_long_as_any_part_of_it_and_holds_no_handle() -> None:
    before, handles = mapped(), handles_held()
    frame = passed(frame_of("porch", STAMP, video_frame()))
    assert mapped() == before + 1
    assert handles_held() == handles
    luma, bgr = frame.luma[::2], frame.bgr
    del frame
    gc.collect()
    assert bgr().shape == (242, 322, 3)
    del bgr
    assert luma.mean() > 0
    assert mapped() == before + 1
    del luma
    gc.collect()
    assert mapped() == before


def test_what_is_shared_can_no_longer_be_changed() -> None:
    handle = share([b"abc", np.arange(5, dtype=np.uint8)])
    try:
        view = attach(handle, 8)
        assert bytes(view) == b"abc\0\1\2\3\4"
        assert not view.flags.writeable
        with pytest.raises(PermissionError):
            os.truncate(handle, 4)
        with pytest.raises(PermissionError):
            os.pwrite(handle, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(handle, 8, mmap.MAP_SHARED, mmap.PROT_WRITE)
    finally:
        os.close(handle)


def test_memory_that_could_change_under_its_reader_is_refused() -> None:
    handle = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    try:
        os.write(handle, b"abcd")
        with pytest.raises(ValueError, match="is not sealed"):
            attach(handle, 4)
    finally:
        os.close(handle)


def test_a_file_on_a_disk_is_not_shared_memory(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abcd")
    with (tmp_path / "x").open("rb") as file, pytest.raises(ValueError, match="is not sealed"):
        attach(file.fileno(), 4)


@pytest.mark.parametrize(
    "lie",
    [
        {"width": 10**6},
        {"width": 0},
        {"width": -322, "height": -242},
        {"height": 10**9},
        {"width": 2000, "height": 600},
        {"planes": [(242, 100)]},
        {"planes": [(242, 384), (-1, 192), (121, 192)]},
        {"planes": [(242, 384), (10**12, 192), (121, 192)]},
        {"planes": []},
        {"planes": 7},
        {"monotonic": float("nan")},
        {"monotonic": None},
        {"captured_at": float("inf")},
        {"captured_at": float("nan")},
        {"captured_at": 1e17},
        {"format": "pal8"},
        {"format": "bgr", "planes": [(242, 384), (121, 192)]},
        {"format": ["yuv420p"]},
        {"colours": (1,)},
        {"colours": (-1, 0)},
        {"colours": (10**12, 0)},
        {"colours": (2, 3)},
        {"colours": "ab"},
    ],
    ids=str,
)
def test_a_message_that_lies_is_refused(lie: dict[str, Any]) -> None:
    with packed(frame_of("porch", STAMP, video_frame())) as (message, handle):
        unpack(message, handle, camera="porch", max_pixels=10**6)
        with pytest.raises((ValueError, LookupError, TypeError, OverflowError)):
            unpack({**message, **lie}, handle, camera="porch", max_pixels=10**6)


def test_more_memory_than_a_frame_needs_is_not_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file costs the sender nothing, but its mapping would fill this process's memory."""

    def mapped(*_: object) -> None:
        raise AssertionError("it was mapped")

    with packed(frame_of("porch", STAMP, video_frame())) as (message, handle):
        monkeypatch.setattr(shm, "attach", mapped)
        large = {"planes": [(242, 2**30), (121, 192), (121, 192)]}
        with pytest.raises(ValueError, match="more memory than the frame needs"):
            unpack({**message, **large}, handle, camera="porch", max_pixels=10**6)


def test_planes_of_another_layout_make_a_wrong_frame_and_nothing_worse() -> None:
    with packed(frame_of("porch", STAMP, video_frame(width=320, height=240))) as (message, handle):
        (rows, stride), *others = message["planes"]
        assert sum(height * width for height, width in others) % stride == 0
        more = sum(height * width for height, width in others) // stride
        lie = {"planes": [(rows, stride), (more, stride)], "format": "nv12"}
        frame = unpack({**message, **lie}, handle, camera="porch", max_pixels=10**6)
        assert frame.bgr().shape == (240, 320, 3)
        with pytest.raises(ValueError, match="planes or colours"):
            unpack({**message, **lie, "format": "yuv420p"}, handle, camera="porch", max_pixels=10**6)
