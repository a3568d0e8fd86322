"""Real RTSP and its failures: the frames, the reported errors, and the time limits."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.core.model import Frame
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support import rtsp
from tests.support.capture import read, take
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.video import make_clip
from tests.support.wait import eventually_async

STALL_S = 1.0
LATE_S = 8.0
"""What a slow machine may add to a time limit below."""


def camera(url: str, **changes: Any) -> CameraSource:
    values = {"fps": 15.0, "stall_timeout_s": STALL_S, "open_timeout_s": 10.0, "decode": "all", **changes}
    return open_source(CaptureSpec(camera="porch", source=url, **values))


async def drain(frames: AsyncIterator[Frame], into: list[Frame] | None = None) -> None:
    """Read until the connection fails."""
    async for frame in frames:
        if into is not None:
            into.append(frame)


def looks_like_the_clip(frames: list[Frame]) -> None:
    assert all(frame.luma.shape == (240, 320) for frame in frames)
    assert all(before.monotonic < after.monotonic for before, after in pairwise(frames))
    assert all(before.captured_at < after.captured_at for before, after in pairwise(frames))
    assert 30 < np.mean(frames[-1].luma) < 220
    assert frames[-1].bgr().shape == (240, 320, 3)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("login", [None, "bob:p@ss word"])
def test_gstreamer(clip: Path, transport: str, login: str | None) -> None:
    need(rtsp.has_gstreamer(), "python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-*")
    who = "bob:p%40ss%20word@" if login else ""
    with rtsp.gstreamer(clip, login=login) as server:
        source = camera(f"rtsp://{who}127.0.0.1:{server.port}/clip", transport=transport)
        frames = read(source, 30)
    looks_like_the_clip(frames)
    assert source.counters.corrupt == 0
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert np.median(gaps) == pytest.approx(1 / 15, abs=0.01)


def test_the_server_from_pip(clip: Path) -> None:
    with rtsp.toolkit(clip.parent) as server:
        frames = read(camera(f"rtsp://127.0.0.1:{server.port}/{clip.name}"), 30)
    looks_like_the_clip(frames)


def test_the_wrong_password_and_the_wrong_name_are_distinguished(clip: Path) -> None:
    need(rtsp.has_gstreamer(), "python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-*")
    with rtsp.gstreamer(clip, login="bob:right") as server:
        with pytest.raises(CameraRefused, match="wrong user or password") as wrong:
            read(camera(f"rtsp://bob:wr0ng@127.0.0.1:{server.port}/clip"))
        with pytest.raises(CameraRefused, match="no such stream"):
            read(camera(f"rtsp://bob:right@127.0.0.1:{server.port}/other"))
    assert "wr0ng" not in str(wrong.value)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        ("401 Unauthorized", CameraRefused, "wrong user or password"),
        ("403 Forbidden", CameraRefused, "403"),
        ("404 Not Found", CameraRefused, "no such stream"),
        ("400 Bad Request", CameraRefused, "400"),
        ("453 Not Enough Bandwidth", CameraRefused, "4xx"),
        ("500 Internal Server Error", CameraUnavailable, "5xx"),
        ("503 Service Unavailable", CameraUnavailable, "5xx"),
    ],
)
def test_what_a_camera_answers_is_reported(status: str, error: type[Exception], message: str) -> None:
    with (
        rtsp.Scripted(lambda _client: None, status=status) as server,
        pytest.raises(error, match=message) as info,
    ):
        read(camera(server.url.replace("rtsp://", "rtsp://admin:geheim@")))
    assert "geheim" not in str(info.value)
    assert isinstance(info.value, CameraRefused) == (error is CameraRefused)


def test_no_server_listens_on_the_port() -> None:
    with pytest.raises(CameraUnavailable, match="nothing listens"):
        read(camera(f"rtsp://127.0.0.1:{free_port()}/cam"))


def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(CameraUnavailable):
            read(camera(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/cam", open_timeout_s=1.0))
        assert time.monotonic() - started < 1.0 + 1.0 + LATE_S


def test_a_stopped_server_is_noticed_and_its_return_too(clip: Path) -> None:
    async def run(server: rtsp.Server) -> float:
        source = camera(f"rtsp://127.0.0.1:{server.port}/{clip.name}/play_count_0")
        await take(source, 5)
        stalled = 0.0
        frames = source.frames()
        await anext(frames)
        server.stop()
        began = time.monotonic()
        with pytest.raises(CameraUnavailable):
            await drain(frames)
        stalled = time.monotonic() - began
        server.resume()
        assert len(await take(source, 5)) == 5
        await source.aclose()
        return stalled

    with rtsp.toolkit(clip.parent) as server:
        assert asyncio.run(run(server)) < STALL_S + LATE_S


def test_media_that_stops_while_the_connection_stays_open(units: list[rtsp.AccessUnit]) -> None:
    def script(client: rtsp.Client) -> None:
        client.play(units[:30], pace=4)
        client.wait(600)

    with rtsp.Scripted(script) as server:
        source = camera(server.url)
        started = time.monotonic()
        with pytest.raises(CameraUnavailable, match="no new frame"):
            read(source)
        assert time.monotonic() - started < 2 + STALL_S + LATE_S
    assert source.counters.frames > 5
    assert source.counters.stalls == 1


def test_a_camera_that_repeats_one_frame_with_one_time(units: list[rtsp.AccessUnit]) -> None:
    def script(client: rtsp.Client) -> None:
        end = client.play(units[:30], pace=4)
        while True:
            client.send(rtsp.AccessUnit(units[0].nals, end, key=True))
            client.wait(0.05)

    with rtsp.Scripted(script) as server:
        source = camera(server.url)
        with pytest.raises(CameraUnavailable, match="no new frame"):
            read(source)
    assert source.counters.stalls == 1


def test_a_server_that_hangs_up_is_read_again(units: list[rtsp.AccessUnit]) -> None:
    async def run(source: CameraSource) -> list[Frame]:
        frames: list[Frame] = []
        for _ in range(3):
            with pytest.raises(CameraUnavailable):
                await drain(source.frames(), frames)
        await source.aclose()
        return frames

    with rtsp.Scripted(lambda client: client.play(units[:25], pace=5)) as server:
        source = camera(server.url)
        frames = asyncio.run(run(source))
        assert server.connections == 3
    looks_like_the_clip(frames)
    assert source.counters.opened == 3


def test_a_change_of_resolution(tmp_path: Path, units: list[rtsp.AccessUnit]) -> None:
    small = rtsp.access_units(make_clip(tmp_path / "small.mp4", size=(160, 120), seconds=3, fps=15, gop=15))

    def script(client: rtsp.Client) -> None:
        end = client.play(units[:30], pace=3)
        client.play(small, start_s=end, pace=3)
        client.wait(600)

    with rtsp.Scripted(script) as server:
        source = camera(server.url)

        async def run() -> set[tuple[int, int]]:
            shapes = set()
            async for frame in source.frames():
                shapes.add(frame.luma.shape)
                if frame.luma.shape == (120, 160):
                    break
            await source.aclose()
            return shapes

        assert asyncio.run(run()) == {(240, 320), (120, 160)}
    assert source.counters.changed == 1


def test_flipped_bytes_are_survived_and_smears_are_not_shown(units: list[rtsp.AccessUnit]) -> None:
    draw = np.random.default_rng(3)
    clean = {bytes(nal) for unit in units for nal in unit.nals}
    assert clean

    def spoil(packet: bytes) -> bytes | None:
        dice = draw.random()
        if dice < 0.02:
            return None
        if dice < 0.04:
            at = int(draw.integers(12, len(packet)))
            return packet[:at] + bytes([packet[at] ^ 0x55]) + packet[at + 1 :]
        return packet

    def script(client: rtsp.Client) -> None:
        client.play(units[:450], pace=6, spoil=spoil)

    with rtsp.Scripted(script) as server:
        source = camera(server.url, fps=float("inf"))
        with pytest.raises(CameraUnavailable):
            read(source)
    assert source.counters.corrupt > 5
    assert source.counters.frames > 20


def test_garbage_instead_of_media() -> None:
    draw = np.random.default_rng(5)

    def script(client: rtsp.Client) -> None:
        while True:
            nal = bytes([0x65]) + draw.bytes(2000)
            client.send(rtsp.AccessUnit([nal], time.monotonic(), key=True))
            client.wait(0.02)

    with rtsp.Scripted(script) as server:
        started = time.monotonic()
        with pytest.raises(CameraUnavailable):
            read(camera(server.url, open_timeout_s=2.0))
        assert time.monotonic() - started < 2 * 2.0 + 4 * STALL_S + 1 + LATE_S


def held() -> tuple[int, int]:
    """Return how many file descriptors and threads this process has."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - just a count


def test_many_reconnects_leave_nothing_behind(units: list[rtsp.AccessUnit]) -> None:
    async def run(source: CameraSource) -> tuple[int, int]:
        for _ in range(3):
            await take(source, 2)
        before = held()
        for _ in range(12):
            await take(source, 2)
        # The server's threads run in this process too; they end when they notice that the client is gone.
        await eventually_async(lambda: held()[0] <= before[0] + 1, what="no more file handles than before")
        await eventually_async(lambda: held()[1] <= before[1] + 1, what="no more threads than before")
        await source.aclose()
        return held()

    with rtsp.Scripted(lambda client: client.play(units[:200], pace=10)) as server:
        asyncio.run(run(camera(server.url)))
        assert server.connections == 15
