"""Video files: every frame once, at the file's own rate and times, for any content."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from async_motion.capture import CaptureSpec, open_source
from async_motion.errors import CameraRefused
from tests.support.capture import read
from tests.support.video import make_clip, remuxed, scene, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=4, fps=10, gop=10)


def spec(path: Path, **changes: Any) -> CaptureSpec:
    values = {"fps": float("inf"), "speed": "max", "loop": False, "decode": "all", **changes}
    return CaptureSpec(camera="porch", source=str(path), **values)


def test_every_frame_comes_once_at_full_speed(clip: Path) -> None:
    source = open_source(spec(clip))
    assert source.live is False
    frames = read(source)
    assert len(frames) == 40
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.1] * 39, abs=1e-4)
    labels = [(after.captured_at - before.captured_at).total_seconds() for before, after in pairwise(frames)]
    # The two clocks are read one after the other.
    assert labels == pytest.approx([0.1] * 39, abs=5e-3)
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


def test_frames_are_chosen_by_pts(clip: Path) -> None:
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
    # A frame is stamped with the time it was due, not with the time the decoder returned it.
    assert all(frame.monotonic <= time.monotonic() for frame in frames)


def test_a_loop_goes_on_where_it_ended(clip: Path) -> None:
    frames = read(open_source(spec(clip, loop=True)), 100)
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.1] * 99, abs=1e-3)
    assert np.array_equal(frames[3].luma, frames[83].luma)


def test_keyframes_alone(clip: Path) -> None:
    every = read(open_source(spec(clip)))
    keys = read(open_source(spec(clip, decode="keyframes")))
    assert len(keys) == 4
    assert [frame.monotonic - keys[0].monotonic for frame in keys] == pytest.approx([0, 1, 2, 3], abs=1e-4)
    for number, frame in enumerate(keys):
        assert np.array_equal(frame.luma, every[number * 10].luma)


def test_frames_that_are_reordered_come_in_their_order(tmp_path: Path) -> None:
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
    images = scene(seconds=1, fps=10, size=(160, 120))
    path = write_clip(tmp_path / name, images, fps=10, gop=5, codec=codec, pixels=pixels)
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


def test_corrupt_frames_are_dropped_until_the_next_keyframe(tmp_path: Path) -> None:
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
    # Every delivered frame equals the one that was filmed: no smeared frame passes.
    lumas = {frame.luma.tobytes() for frame in good}
    assert all(frame.luma.tobytes() in lumas for frame in frames)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "not a video"), (b"hello, world\n" * 500, "not a video")],
)
def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CameraRefused, match=message):
        read(open_source(spec(path)))


def test_a_file_without_frames_does_not_spin(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "x.h264", seconds=1)
    data = path.read_bytes()
    path.write_bytes(data[:1000])
    with pytest.raises(CameraRefused):
        read(open_source(spec(path, loop=True)))


def test_a_frame_that_is_too_large_is_refused(clip: Path) -> None:
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


def leaping(folder: Path, *, by: float) -> Path:
    """Return a transport stream whose PTS jump by `by` seconds in the middle."""
    clip = make_clip(folder / "plain.mp4", seconds=4, fps=10, gop=10)
    first = remuxed(clip, folder / "first.ts", pts=lambda at: at + 100.0)
    second = remuxed(clip, folder / "second.ts", pts=lambda at: at + 104.0 + by)
    both = folder / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    return both


@pytest.mark.parametrize("by", [7200.0, 40.0, -50.0])
@pytest.mark.parametrize("decode", ["all", "auto"])
def test_a_recording_whose_times_jump_plays_on(tmp_path: Path, by: float, decode: str) -> None:
    frames = read(open_source(spec(leaping(tmp_path, by=by), decode=decode)))
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert max(gaps) < 1.5
    assert len(frames) >= 78
    assert frames[-1].monotonic - frames[0].monotonic == pytest.approx(7.9, abs=1.5)


def test_a_recording_with_a_frame_every_few_seconds_keeps_its_times(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "plain.mp4", seconds=1, fps=10, gop=1)
    slow = remuxed(clip, tmp_path / "slow.mkv", pts=lambda at: at * 80)
    frames = read(open_source(spec(slow)))
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([8.0] * 9, abs=0.01)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_rotated_recording_is_seen_as_a_person_sees_it(
    tmp_path: Path, degrees: int, isolation: str
) -> None:
    image = np.full((120, 160, 3), 100, np.uint8)
    image[:40, :40] = (30, 60, 250)  # upper left, as coded
    clip = write_clip(tmp_path / "plain.mp4", [image] * 5)
    path = remuxed(clip, tmp_path / "turned.mp4", lambda stream: stream.set_display_rotation(degrees))
    frame = read(open_source(spec(path, isolation=isolation)))[0]
    seen = np.rot90(image, degrees // 90)  # both FFmpeg and numpy turn counterclockwise
    assert frame.luma.shape == seen.shape[:2]
    assert np.abs(frame.bgr().astype(int) - seen).mean() < 6
    bright = np.unravel_index(np.argmin(cv2.blur(frame.luma, (21, 21))), frame.luma.shape)
    expected = np.unravel_index(np.argmin(cv2.blur(luma_like(seen), (21, 21))), seen.shape[:2])
    assert np.abs(np.subtract(bright, expected)).max() < 25


def luma_like(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_pixels_that_are_not_square_are_stretched_in_stills(tmp_path: Path, isolation: str) -> None:
    path = write_clip(tmp_path / "wide.mp4", scene(seconds=1, fps=10, size=(176, 288)), sar=(24, 11))
    frame = read(open_source(spec(path, isolation=isolation)))[0]
    assert frame.luma.shape == (288, 176), "areas are shares: nothing is stretched for detection"
    assert frame.bgr().shape == (288, 384, 3)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p"])
def test_black_and_white_are_those_of_the_scene_in_limited_and_in_full_range(
    tmp_path: Path, pixels: str
) -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, 80:] = 255
    path = write_clip(tmp_path / "range.mp4", [image] * 5, pixels=pixels)
    seen = read(open_source(spec(path)))[0].bgr()
    assert seen[:, :60].max() <= 8
    assert seen[:, 100:].min() >= 247


def test_an_empty_packet_in_the_middle_ends_nothing(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "x.avi", scene(seconds=3, fps=10, size=(160, 120)), codec="mjpeg", pixels="yuvj420p"
    )
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for number, data in enumerate(packets):
            packet = av.Packet(b"" if number == 10 else data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 10), stream
            target.mux(packet)
    assert len(read(open_source(spec(path)))) == 29
