"""The contract of every camera source: the same cases for a reader thread and a reader process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.capture.ffmpeg.frames import luma_of, to_bgr
from async_motion.core.model import Detection, Frame, Reason
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support import rtsp
from tests.support.capture import read, take
from tests.support.video import make_clip, scene, write_clip
from tests.support.wait import eventually_async

Open = Callable[..., CameraSource]

STALL_S = 1.0
LATE_S = 8.0
"""What a slow machine may add to a time limit."""


@pytest.fixture(params=["thread", "process"])
def camera(request: pytest.FixtureRequest) -> Open:
    def make(source: str | Path, **changes: Any) -> CameraSource:
        values: dict[str, Any] = {"fps": 15.0, "stall_timeout_s": STALL_S, **changes}
        return open_source(CaptureSpec(camera="porch", source=str(source), isolation=request.param, **values))

    return make


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=4, fps=15, gop=15)


@pytest.fixture(scope="module")
def units(clip: Path) -> list[rtsp.AccessUnit]:
    return rtsp.access_units(clip)


async def drain(source: CameraSource, into: list[Frame]) -> None:
    """Read one connection to its end."""
    async for frame in source.frames():
        into.append(frame)  # noqa: PERF401 - what came before trouble counts


def at_full_speed(camera: Open, path: Path, **changes: Any) -> CameraSource:
    return camera(path, **{"fps": float("inf"), "speed": "max", "loop": False, **changes})


def test_every_frame_comes_once_as_it_was_decoded(camera: Open, clip: Path) -> None:
    source = at_full_speed(camera, clip)
    assert source.live is False
    frames = read(source)
    with av.open(str(clip)) as container:
        for frame, decoded in zip(frames, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(frame.luma, luma_of(decoded))
            np.testing.assert_array_equal(frame.bgr(), to_bgr(decoded))
            assert frame.nbytes >= 320 * 240 * 3 // 2
            assert not frame.luma.flags.writeable
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([1 / 15] * 59, abs=2e-3)
    assert source.counters.as_dict() == {
        **dict.fromkeys(source.counters.as_dict(), 0),
        "opened": 1,
        "frames": 60,
    }


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"), [("mjpeg", "yuvj422p", "avi"), ("libx264", "yuv420p10le", "mp4")]
)
def test_colours_are_those_of_the_decoder_in_every_format(
    camera: Open, tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    path = write_clip(
        tmp_path / f"x.{suffix}",
        scene(seconds=0.3, fps=10, size=(322, 242), box=lambda _: None),
        codec=codec,
        pixels=pixels,
    )
    frames = read(at_full_speed(camera, path))
    with av.open(str(path)) as container:
        for frame, decoded in zip(frames, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(frame.bgr(), to_bgr(decoded))
            assert frame.luma.shape == (242, 322)


def test_frames_are_chosen_by_pts(camera: Open, clip: Path) -> None:
    frames = read(at_full_speed(camera, clip, fps=5.0))
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.2] * 19, abs=2e-3)


def test_a_slow_consumer_of_a_file_loses_nothing(camera: Open, clip: Path) -> None:
    async def run() -> int:
        source = at_full_speed(camera, clip)
        count = 0
        async for _ in source.frames():
            count += 1
            if count in (2, 30):
                await asyncio.sleep(0.3)  # the consumer is slow
        await source.aclose()
        assert source.counters.dropped == 0
        return count

    assert asyncio.run(run()) == 60


def test_a_folder_of_stills_and_the_demo(camera: Open, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((40, 60, 3), 50 * number, np.uint8))
    frames = read(at_full_speed(camera, tmp_path))
    assert [int(frame.bgr()[20, 30, 1]) for frame in frames] == [0, 50, 100]
    (frame,) = read(camera("demo:"), 1)
    assert frame.luma.shape == frame.bgr().shape[:2] == (720, 1280)
    assert abs(cv2.cvtColor(frame.bgr(), cv2.COLOR_BGR2GRAY).astype(int) - frame.luma).max() == 0


def test_causes_are_distinguished_and_show_no_secret(camera: Open, tmp_path: Path) -> None:
    with pytest.raises(CameraRefused, match="no such file"):
        read(camera(tmp_path / "none.mp4"))
    for status, message in (
        ("401 Unauthorized", "wrong user or password"),
        ("404 Not Found", "no such stream"),
    ):
        with (
            rtsp.Scripted(lambda _client: None, status=status) as server,
            pytest.raises(CameraRefused, match=message) as info,
        ):
            read(camera(server.url.replace("rtsp://", "rtsp://admin:geheim@")))
        assert "geheim" not in str(info.value)


def test_media_that_stops_is_a_stall_and_the_camera_is_read_again(
    camera: Open, units: list[rtsp.AccessUnit]
) -> None:
    def script(client: rtsp.Client) -> None:
        client.play(units[:30], pace=4)
        client.wait(600)

    async def twice(source: CameraSource) -> list[Frame]:
        frames: list[Frame] = []
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(CameraUnavailable):
                await drain(source, frames)
            assert time.monotonic() - began < 3 + STALL_S + LATE_S
        await source.aclose()
        return frames

    with rtsp.Scripted(script) as server:
        source = camera(server.url)
        frames = asyncio.run(twice(source))
    assert source.counters.opened == 2
    assert source.counters.stalls >= 1
    assert len(frames) > 10
    assert all(a.monotonic < b.monotonic and a.captured_at < b.captured_at for a, b in pairwise(frames))


def test_a_change_of_resolution(camera: Open, tmp_path: Path, units: list[rtsp.AccessUnit]) -> None:
    small = rtsp.access_units(make_clip(tmp_path / "small.mp4", size=(160, 120), seconds=3, fps=15, gop=15))

    def script(client: rtsp.Client) -> None:
        end = client.play(units[:30], pace=3)
        client.play(small, start_s=end, pace=3)

    async def run(url: str) -> list[Frame]:
        source = camera(url)
        frames: list[Frame] = []
        with suppress(CameraUnavailable):
            await drain(source, frames)
        await source.aclose()
        return frames

    with rtsp.Scripted(script) as server:
        frames = asyncio.run(run(server.url))
    assert {frame.luma.shape for frame in frames} == {(240, 320), (120, 160)}
    assert all(frame.bgr().shape[:2] == frame.luma.shape for frame in frames)


def test_damaged_frames_are_counted_and_not_shown(camera: Open, tmp_path: Path, clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    for at in range(middle, middle + 4000, 40):
        data[at] ^= 0x5A
    spoilt = tmp_path / "spoilt.mp4"
    spoilt.write_bytes(data)
    source = at_full_speed(camera, spoilt)
    frames = read(source)
    assert source.counters.corrupt > 0
    assert 10 < len(frames) < 60


@pytest.mark.parametrize("reason", [Reason.STILL, Reason.MOTION])
def test_whether_a_camera_rests_is_its_detectors_word(camera: Open, tmp_path: Path, reason: Reason) -> None:
    quiet = write_clip(
        tmp_path / "quiet.mp4",
        scene(seconds=24, fps=10, size=(320, 240), box=lambda _: None, noise=1.0),
        fps=10,
        gop=10,
    )

    async def run() -> list[Frame]:
        source = at_full_speed(camera, quiet, fps=5.0, decode="auto")
        verdict = Detection(motion=reason is Reason.MOTION, reason=reason)
        frames: list[Frame] = []
        async for frame in source.frames():
            source.judged(frame.monotonic, verdict)
            frames.append(frame)
        await source.aclose()
        return frames

    frames = asyncio.run(run())
    if reason is Reason.MOTION:
        assert len(frames) == 24 * 5
    else:
        assert len(frames) < 0.8 * 24 * 5


def test_stills_come_from_the_second_stream(
    camera: Open, tmp_path: Path, units: list[rtsp.AccessUnit]
) -> None:
    large = rtsp.access_units(make_clip(tmp_path / "large.mp4", size=(640, 480), seconds=4, fps=15, gop=15))

    async def run(url: str, record: str) -> Frame:
        source = camera(url, record_source=record, stall_timeout_s=5.0)
        frames = source.frames()
        async for frame in frames:
            if (await asyncio.to_thread(frame.bgr)).shape == (480, 640, 3):
                break
        await frames.aclose()
        await source.aclose()
        return frame

    def forever(units: list[rtsp.AccessUnit]) -> rtsp.Script:
        def play(client: rtsp.Client) -> None:
            start = 0.0
            while True:
                start = client.play(units, start_s=start)

        return play

    with rtsp.Scripted(forever(units)) as sub, rtsp.Scripted(forever(large)) as main:
        frame = asyncio.run(asyncio.wait_for(run(sub.url, main.url), 60))
    # The camera is closed: the kept frame still has its own colours.
    assert frame.bgr().shape == (240, 320, 3)


def test_closing_is_bounded_while_a_camera_says_nothing(camera: Open) -> None:
    with rtsp.Scripted(lambda client: client.wait(600)) as server:

        async def run() -> float:
            source = camera(server.url, open_timeout_s=30.0)
            opening = asyncio.create_task(take(source), name="take")
            await eventually_async(lambda: server.connections)
            began = time.monotonic()
            await source.aclose()
            opening.cancel()
            with suppress(asyncio.CancelledError, CameraUnavailable):
                await opening
            return time.monotonic() - began

        assert asyncio.run(run()) < 2 + LATE_S
