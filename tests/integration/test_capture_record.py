"""The main stream: stills come from it at the right moment; without it everything goes on."""

# ruff: noqa: SLF001  (the main stream, which a source keeps to itself)

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.core.model import Frame, Image
from async_motion.errors import SettingsError
from tests.support import rtsp
from tests.support.capture import take
from tests.support.http_camera import HttpCamera, Visit
from tests.support.ports import free_port
from tests.support.video import make_clip, remuxed, scene, write_clip
from tests.support.wait import eventually_async

SMALL, LARGE = (320, 240), (1280, 960)
FPS = 10


def number_of(image: Image) -> float:
    """Return the box's position as a share of its path: both streams show the same scene."""
    blue, red = image[..., 0].astype(int), image[..., 2].astype(int)
    columns = np.flatnonzero(((red - blue) > 120).mean(axis=0) > 0.1)
    return float(columns.mean()) / image.shape[1] if len(columns) else -1.0


def clip(path: Path, size: tuple[int, int], *, gop: int) -> list[rtsp.AccessUnit]:
    """Write the scene in one size: a box moves to the right, repeatedly."""
    width, height = size
    side = width // 10

    def box(at_s: float) -> tuple[int, int, int, int]:
        along = (at_s % 8.0) / 8.0
        return int(along * (width - side)), height // 3, side, height // 3

    write_clip(path, scene(seconds=16, fps=FPS, size=size, box=box), fps=FPS, gop=gop)
    return rtsp.access_units(path)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]]:
    folder = tmp_path_factory.mktemp("clips")
    return clip(folder / "small.mp4", SMALL, gop=10), clip(folder / "large.mp4", LARGE, gop=20)


class Playback:
    """Plays a stream as a camera does: in real time, for every client."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def script(self, units: list[rtsp.AccessUnit], *, delay_s: float = 0.0) -> rtsp.Script:
        def play(client: rtsp.Client) -> None:
            now = time.monotonic() - self.began
            first = int(now * FPS) % len(units)
            while not units[first].key:
                first = (first - 1) % len(units)
            start = now - (now * FPS - int(now * FPS)) / FPS - (int(now * FPS) % len(units) - first) / FPS
            # Send the frames since the last keyframe at once, as many servers do.
            for step in range(10_000):
                due = start + step / FPS
                client.wait(max(0.0, self.began + due + delay_s - time.monotonic()))
                unit = units[(first + step) % len(units)]
                client.send(rtsp.AccessUnit(unit.nals, due, key=unit.key))

        return play


def camera(url: str, record: str, **changes: Any) -> CameraSource:
    values: dict[str, Any] = {"fps": 5.0, "stall_timeout_s": 2.0, "decode": "all", **changes}
    return open_source(CaptureSpec(camera="porch", source=url, record_source=record, **values))


async def once_recorded(source: CameraSource, count: int) -> list[tuple[Frame, Image]]:
    """Return `count` (frame, BGR image), from the first image in full resolution on."""
    kept: list[tuple[Frame, Image]] = []
    async for frame in source.frames():
        image = await asyncio.to_thread(frame.bgr)
        if kept or image.shape[1] == LARGE[0]:
            kept.append((frame, image))
        if len(kept) == count:
            break
    await source.aclose()
    return kept


@pytest.mark.parametrize("delay_s", [0.0, 0.3])
def test_stills_are_full_resolution_frames_of_the_same_moment(
    streams: tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]], delay_s: float
) -> None:
    small, large = streams
    playback = Playback()
    with (
        rtsp.Scripted(playback.script(small)) as sub,
        rtsp.Scripted(playback.script(large, delay_s=delay_s)) as main,
    ):
        kept = asyncio.run(once_recorded(camera(sub.url, main.url), 10))
    assert all(image.shape == (LARGE[1], LARGE[0], 3) for _, image in kept)
    # The streams' delays differ by `delay_s`, which cannot be measured here; apart from that they match.
    for frame, image in kept:
        apart = abs(number_of(image) - number_of_luma(frame))
        assert min(apart, 0.9 - apart) <= 0.9 / 8.0 * (delay_s + 1.5 / FPS)


def number_of_luma(frame: Frame) -> float:
    """Return the box's position in the sub-stream: the brightest block in the luma of its rows."""
    rows = frame.luma[90:150].astype(int)
    bright = np.flatnonzero((rows > 190).mean(axis=0) > 0.8)
    return float(bright.mean()) / int(rows.shape[1])


def test_without_the_second_stream_stills_come_from_the_first(
    streams: tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]], caplog: pytest.LogCaptureFixture
) -> None:
    small, _ = streams
    playback = Playback()
    record = f"rtsp://me:geheim@127.0.0.1:{free_port()}/cam"
    with rtsp.Scripted(playback.script(small)) as sub, caplog.at_level(logging.INFO):

        async def run() -> list[Image]:
            source = camera(sub.url, record)
            frames = await take(source, 3)
            images = [await asyncio.to_thread(frame.bgr) for frame in frames]
            await source.aclose()
            return images

        images = asyncio.run(run())
    assert all(image.shape == (240, 320, 3) for image in images)
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "stills come from the watched stream" in warnings[0]
    assert "geheim" not in caplog.text


def test_the_second_stream_comes_back_by_itself(
    streams: tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]], caplog: pytest.LogCaptureFixture
) -> None:
    small, large = streams
    playback = Playback()
    main = rtsp.Scripted(lambda client: client.play(large[:5]))  # closes soon, the first time
    with main, rtsp.Scripted(playback.script(small)) as sub, caplog.at_level(logging.INFO):

        async def run() -> None:
            source = camera(sub.url, main.url)
            async for frame in source.frames():
                image = await asyncio.to_thread(frame.bgr)
                if main.connections and image.shape[1] == SMALL[0]:
                    main.script = playback.script(large)
                if main.connections > 1 and image.shape[1] == LARGE[0]:
                    break
            await source.aclose()

        asyncio.run(asyncio.wait_for(run(), 60))
    assert "stills have its resolution again" in caplog.text


def test_a_frame_that_is_older_than_the_ring_keeps_its_own_colours(
    streams: tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]],
) -> None:
    small, large = streams
    playback = Playback()
    with rtsp.Scripted(playback.script(small)) as sub, rtsp.Scripted(playback.script(large)) as main:

        async def run() -> Image:
            source = camera(sub.url, main.url, ring_seconds=1.0)
            old: Frame | None = None
            async for frame in source.frames():
                image = await asyncio.to_thread(frame.bgr)
                if old is None and image.shape[1] == LARGE[0]:
                    old = frame
                if old is not None and frame.monotonic - old.monotonic > 6:
                    break
            assert old is not None
            image = await asyncio.to_thread(old.bgr)
            await source.aclose()
            return image

        assert asyncio.run(run()).shape == (240, 320, 3)


def test_closing_drops_the_packets(streams: tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]]) -> None:
    small, large = streams
    playback = Playback()
    with rtsp.Scripted(playback.script(small)) as sub, rtsp.Scripted(playback.script(large)) as main:

        async def run() -> None:
            source = camera(sub.url, main.url)
            kept = await once_recorded(source, 1)
            assert kept
            record = source._record
            assert record is not None
            await eventually_async(lambda: record.nbytes == 0)

        asyncio.run(run())


def test_only_a_stream_can_be_the_second_source(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="record_source"):
        camera("rtsp://127.0.0.1/x", str(tmp_path / "x.mp4"))


def test_a_main_stream_that_its_container_turns_is_turned(
    streams: tuple[list[rtsp.AccessUnit], list[rtsp.AccessUnit]], tmp_path: Path
) -> None:
    def turn(stream: Any) -> None:
        stream.set_display_rotation(90)

    clip = make_clip(tmp_path / "large.mp4", seconds=8, fps=FPS, size=(640, 480), gop=10)
    data = remuxed(clip, tmp_path / "turned.mkv", turn).read_bytes()

    def answer(visit: Visit) -> None:
        visit.send(b"HTTP/1.0 200 OK\r\nContent-Type: video/x-matroska\r\n\r\n")
        for start in range(0, len(data), 8192):
            visit.send(data[start : start + 8192])
            visit.wait(8 * 8192 / len(data))
        visit.wait(60)

    async def shape(source: CameraSource) -> tuple[int, ...]:
        image = np.zeros((0, 0, 3), np.uint8)
        async for frame in source.frames():
            image = await asyncio.to_thread(frame.bgr)
            if image.shape != (SMALL[1], SMALL[0], 3):
                break
        await source.aclose()
        return image.shape

    with rtsp.Scripted(Playback().script(streams[0])) as sub, HttpCamera(answer) as main:
        assert asyncio.run(shape(camera(sub.url, main.url))) == (640, 480, 3)
