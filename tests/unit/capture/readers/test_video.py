"""Video files: every frame once, at their own pace, with the camera's own times, whatever is in them."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from async_motion.capture import CaptureSpec, open_source
from async_motion.errors import CameraRefused
from tests.support.capture import read
from tests.support.video import make_clip, scene, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=4, fps=10, gop=10)


def spec(path: Path, **changes: Any) -> CaptureSpec:
    values = {"fps": float("inf"), "speed": "max", "loop": False, "decode": "all", **changes}
    return CaptureSpec(camera="porch", source=str(path), **values)


def test_every_picture_comes_once_at_full_speed(clip: Path) -> None:
    source = open_source(spec(clip))
    assert source.live is False
    frames = read(source)
    assert len(frames) == 40
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.1] * 39, abs=1e-4)
    labels = [(after.captured_at - before.captured_at).total_seconds() for before, after in pairwise(frames)]
    assert labels == pytest.approx([0.1] * 39, abs=1e-4)
    assert source.counters.dropped == source.counters.corrupt == 0


def test_luma_and_colour_show_what_was_filmed(clip: Path) -> None:
    frames = read(open_source(spec(clip)))
    moving = frames[22]
    assert moving.luma.shape == (240, 320)
    colour = moving.bgr()
    assert colour.shape == (240, 320, 3)
    x = int((2.2 - 1.5) / 1.5 * (320 - 48)) + 24
    assert colour[120, x] == pytest.approx((40, 220, 240), abs=25)
    expected = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY).astype(float)
    assert abs(moving.luma.astype(float) * 255 / 219 - 16 * 255 / 219 - expected).mean() < 4


def test_frames_are_chosen_by_media_time(clip: Path) -> None:
    frames = read(open_source(spec(clip, fps=5.0)))
    assert len(frames) == 20
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.2] * 19, abs=1e-4)


def test_real_speed_takes_real_time(clip: Path) -> None:
    started = time.monotonic()
    source = open_source(spec(clip, speed="real", fps=5.0))
    assert source.live is True
    frames = read(source)
    assert time.monotonic() - started >= 3.5
    assert frames
    # A frame is stamped with when it was due, not with when the decoder let it go.
    assert all(frame.monotonic <= time.monotonic() for frame in frames)


def test_a_loop_goes_on_where_it_ended(clip: Path) -> None:
    frames = read(open_source(spec(clip, loop=True)), 100)
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.1] * 99, abs=1e-3)
    assert np.array_equal(frames[3].luma, frames[83].luma)


def test_key_pictures_alone(clip: Path) -> None:
    every = read(open_source(spec(clip)))
    keys = read(open_source(spec(clip, decode="keyframes")))
    assert len(keys) == 4
    assert [frame.monotonic - keys[0].monotonic for frame in keys] == pytest.approx([0, 1, 2, 3], abs=1e-4)
    for number, frame in enumerate(keys):
        assert np.array_equal(frame.luma, every[number * 10].luma)


def test_pictures_that_are_reordered_come_in_their_order(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "b.mp4", options={"bf": "3", "tune": "film", "preset": "veryfast"}, gop=10, seconds=4
    )
    frames = read(open_source(spec(path)))
    assert len(frames) == 40
    assert all(before.monotonic < after.monotonic for before, after in pairwise(frames))
    keys = read(open_source(spec(path, decode="keyframes")))
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("x.mkv", "libx264", "yuv420p"),
        ("x.avi", "mjpeg", "yuvj420p"),
        ("x.mkv", "ffv1", "yuv422p"),
        ("x.mkv", "mpeg4", "yuv420p"),
        ("x.ts", "libx264", "yuv420p"),
        ("x.h264", "libx264", "yuv420p"),
        ("x.mp4", "libx264", "yuv444p"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    pictures = scene(seconds=1, fps=10, size=(160, 120))
    path = write_clip(tmp_path / name, pictures, fps=10, gop=5, codec=codec, pixels=pixels)
    frames = read(open_source(spec(path)))
    assert len(frames) == 10
    assert {frame.codec for frame in frames} == {codec.removeprefix("lib").replace("x264", "h264")}
    assert all(before.monotonic < after.monotonic for before, after in pairwise(frames))


def test_a_change_of_resolution_comes_through(tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / f"{width}.h264", scene(seconds=1, fps=10, size=(width, height)), gop=10)
        for width, height in ((320, 240), (160, 120))
    ]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read(open_source(spec(both)))
    assert {frame.luma.shape for frame in frames} == {(240, 320), (120, 160)}
    assert frames[-1].bgr().shape == (120, 160, 3)


def test_corrupt_pictures_are_let_go_until_the_next_key_picture(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "good.h264", seconds=4, fps=10, gop=20, noise=4)
    data = bytearray(path.read_bytes())
    broken = tmp_path / "broken.h264"
    middle = len(data) // 4  # in the first GOP
    data[middle : middle + 3000] = bytes(3000)
    broken.write_bytes(data)
    good, source = read(open_source(spec(path))), open_source(spec(broken))
    frames = read(source)
    assert source.counters.corrupt > 0
    assert 20 <= len(frames) < 40
    # What is delivered is as it was filmed: no smear passes.
    pictures = {frame.luma.tobytes() for frame in good}
    assert all(frame.luma.tobytes() in pictures for frame in frames)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "not a video"), (b"hello, world\n" * 500, "not a video")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CameraRefused, match=message):
        read(open_source(spec(path)))


def test_a_file_without_pictures_does_not_spin(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "x.h264", seconds=1)
    data = path.read_bytes()
    path.write_bytes(data[:1000])
    with pytest.raises(CameraRefused):
        read(open_source(spec(path, loop=True)))


def test_a_picture_that_is_too_large_is_refused(clip: Path) -> None:
    source = open_source(spec(clip, max_pixels=320 * 240 // 4))
    with pytest.raises(CameraRefused):
        read(source)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{clip}'\n",
    ],
)
def test_a_playlist_is_not_followed(tmp_path: Path, clip: Path, playlist: str) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(playlist.format(clip=clip))
    with pytest.raises(CameraRefused):
        read(open_source(spec(path)))
