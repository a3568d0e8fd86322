"""A camera fails in many ways under the service's own supervisor: the reported problem, and the recovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from async_motion.camera import supervisor
from async_motion.camera.spec import UnitSettings
from async_motion.camera.supervisor import CameraSupervisor
from async_motion.camera.unit import CameraUnit
from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.core.model import Detection, MotionEvent, Reason, SceneChange
from async_motion.jpeg import encode
from tests.support import rtsp
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.records import MemoryOutbox
from tests.support.video import crossing, make_clip, scene, write_clip
from tests.support.wait import eventually_async

STALL_S = 1.0
RETRY_S = 0.5
"""The supervisor's first delay, without jitter."""

CALM_S = 30.0
"""A stall time-out for cases that must not stall, even on a slow machine."""

LATE_S = 8.0
"""What a slow machine may add to a time limit."""


class Watch:
    """An observer that records when frames were judged, and why the camera went offline."""

    def __init__(self, source: CameraSource) -> None:
        self.source = source
        self.judged: list[float] = []
        self.verdicts: list[Detection] = []
        self.lost: list[tuple[float, str]] = []

    def camera_online(self, camera: str) -> None: ...
    def motion(self, camera: str, on: bool) -> None: ...
    def zone_motion(self, camera: str, zone: str, on: bool) -> None: ...
    def event_started(self, event: MotionEvent) -> None: ...
    def event_ended(self, event: MotionEvent) -> None: ...
    def dropped(self, camera: str, reason: str, count: int) -> None: ...
    def problem(self, camera: str, problem: str | None) -> None: ...
    def scene_changed(self, camera: str, kind: SceneChange) -> None: ...

    def camera_offline(self, _camera: str, problem: str) -> None:
        self.lost.append((time.monotonic(), problem))

    def detected(self, _camera: str, detection: Detection) -> None:
        self.judged.append(time.monotonic())
        self.verdicts.append(detection)

    async def sees(self, *, within_s: float = LATE_S) -> float:
        """Wait for frames that are newer than this call; return the time that it took, in seconds."""
        began = time.monotonic()
        await eventually_async(
            lambda: bool(self.judged) and self.judged[-1] > began, within_s=within_s, what="a frame"
        )
        return time.monotonic() - began

    async def loses(self, *, within_s: float) -> str:
        """Wait until the camera is offline; return the reported problem."""
        before = len(self.lost)
        await eventually_async(lambda: len(self.lost) > before, within_s=within_s, what="the loss")
        return self.lost[-1][1]


@asynccontextmanager
async def kept(url: str, **changes: Any) -> AsyncIterator[Watch]:
    """Run one camera as the service does."""
    values = {"fps": 15.0, "stall_timeout_s": STALL_S, "open_timeout_s": 5.0, **changes}
    source = open_source(CaptureSpec(camera="porch", source=url, **values))
    watch = Watch(source)
    with ThreadPoolExecutor(2) as executor:
        unit = CameraUnit(
            UnitSettings(instance="edge1", camera="porch"),
            source=source,
            outbox=MemoryOutbox(),
            observer=watch,
            executor=executor,
            encode=partial(encode, quality=80, max_width=None),
            draw24=lambda: 0,
        )
        keeper = CameraSupervisor("porch", unit, draw=lambda: 0.0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keeper.run(), name="keeper")
            try:
                yield watch
            finally:
                await keeper.stop()
                await source.aclose()


def serve(clip: Path, transport: str, port: int) -> Any:
    """Return a server process for `transport`, and the path of its URL."""
    if transport == "udp":
        need(rtsp.has_gstreamer(), "python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-*")
        return rtsp.gstreamer(clip, port=port), "clip"
    return rtsp.toolkit(clip.parent, port=port), f"{clip.name}/play_count_0"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_the_server_is_away_then_there_then_restarted(clip: Path, transport: str) -> None:
    port = free_port()
    server, path = serve(clip, transport, port)
    async with kept(f"rtsp://127.0.0.1:{port}/{path}", transport=transport) as watch:
        assert "nothing listens" in await watch.loses(within_s=LATE_S)
        with server:
            await watch.sees(within_s=8 * RETRY_S + LATE_S)
        await watch.loses(within_s=STALL_S + LATE_S)
        again, _ = serve(clip, transport, port)
        with again:
            await watch.sees(within_s=8 * RETRY_S + LATE_S)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_the_server_is_stopped_and_goes_on(clip: Path, transport: str) -> None:
    with ExitStack() as stack:
        port = free_port()
        started, path = serve(clip, transport, port)
        server = stack.enter_context(started)
        async with kept(f"rtsp://127.0.0.1:{port}/{path}", transport=transport) as watch:
            await watch.sees(within_s=5 + LATE_S)
            server.stop()
            said = await watch.loses(within_s=STALL_S + LATE_S)
            assert "no new frame" in said or "timed out" in said
            server.resume()
            await watch.sees(within_s=8 * RETRY_S + 5 + LATE_S)


async def test_media_freezes_while_the_connection_stays(units: list[rtsp.AccessUnit]) -> None:
    def script(client: rtsp.Client) -> None:
        client.play(units[:30], pace=2)
        if server.connections == 1:
            client.wait(600)
        client.play(units)

    with rtsp.Scripted(script) as server:
        async with kept(server.url) as watch:
            await watch.sees()
            assert "no new frame" in await watch.loses(within_s=2 + STALL_S + LATE_S)
            await watch.sees(within_s=RETRY_S + LATE_S)
            assert watch.source.counters.stalls >= 1


async def test_bytes_are_flipped_for_a_while(units: list[rtsp.AccessUnit]) -> None:
    over: list[float] = []

    def script(client: rtsp.Client) -> None:
        end = client.play(units[:20], pace=2)
        number = 0

        def spoil(packet: bytes) -> bytes | None:
            nonlocal number
            number += 1
            return packet[:20] + b"\x55" + packet[21:-9] + bytes(9) if number % 3 else None

        end = client.play(units[20:65], start_s=end, pace=2, spoil=spoil)
        over.append(time.monotonic())
        client.play(units[65:], start_s=end)

    with rtsp.Scripted(script) as server:
        async with kept(server.url, stall_timeout_s=CALM_S) as watch:
            await eventually_async(lambda: over, within_s=10 + LATE_S, what="clean media")
            await watch.sees(within_s=1.0 + LATE_S)  # the next keyframe
            assert watch.source.counters.corrupt > 0
        assert server.connections == 1
        assert [said for _, said in watch.lost] == ["stopped"]


async def test_the_resolution_changes(tmp_path: Path, units: list[rtsp.AccessUnit]) -> None:
    small = rtsp.access_units(make_clip(tmp_path / "small.mp4", size=(160, 120), seconds=20, fps=15, gop=15))

    def script(client: rtsp.Client) -> None:
        client.play(small, start_s=client.play(units[:30], pace=3))

    with rtsp.Scripted(script) as server:
        async with kept(server.url, stall_timeout_s=CALM_S) as watch:
            await watch.sees()
            await eventually_async(
                lambda: watch.source.counters.changed == 1, within_s=2 + LATE_S, what="the new size"
            )
            await watch.sees()
        assert server.connections == 1
        assert [said for _, said in watch.lost] == ["stopped"]


@pytest.mark.parametrize("decode", ["all", "auto"])
@pytest.mark.parametrize(
    ("codec", "encoder", "pixels", "options"),
    [
        ("h264", "libx264", "yuv420p", {}),
        ("hevc", "libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0"}),
        ("mjpeg", "mjpeg", "yuvj420p", {"huffman": "default"}),  # as RTP requires it (RFC 2435)
    ],
)
async def test_the_codec_changes_between_two_connections(
    tmp_path: Path, codec: str, encoder: str, pixels: str, options: dict[str, str], decode: str
) -> None:
    need(rtsp.has_gstreamer(), "python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-*")
    before = make_clip(tmp_path / "before.mp4", seconds=23, gop=10, start_s=3.0, length_s=20.0)
    box = crossing((320, 240), start_s=3.0, length_s=20.0)
    images = scene(seconds=23, fps=10, size=(320, 240), box=box)
    after = tmp_path / ("after.avi" if codec == "mjpeg" else "after.mp4")
    write_clip(after, images, gop=10, codec=encoder, pixels=pixels, options=options)
    port = free_port()
    async with kept(
        f"rtsp://127.0.0.1:{port}/clip", stall_timeout_s=CALM_S, open_timeout_s=CALM_S, decode=decode
    ) as watch:

        async def moves(since: int) -> None:
            await eventually_async(
                lambda: any(one.motion for one in watch.verdicts[since:]),
                within_s=8 * RETRY_S + 5 + LATE_S,
                what="motion",
            )

        with rtsp.gstreamer(before, port=port):
            await moves(0)
        await watch.loses(within_s=LATE_S)
        known = len(watch.verdicts)
        with rtsp.gstreamer(after, port=port, codec=codec):
            await moves(known)
        assert watch.source.counters.changed == (codec != "h264")
        # Another codec decodes to a different image of the same scene, so the detector learns again.
        assert (watch.verdicts[known].reason is Reason.LEARNING) == (codec != "h264")


@pytest.mark.parametrize(
    ("status", "message"),
    [("401 Unauthorized", "wrong user or password"), ("404 Not Found", "no such stream")],
)
async def test_a_refused_camera_is_read_once_its_cause_is_fixed(
    units: list[rtsp.AccessUnit], status: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = 4 * RETRY_S
    assert supervisor.REFUSED_RETRY_S[0] >= 10 * supervisor.RETRY_S[0], (
        "a camera that refuses is retried more rarely"
    )
    monkeypatch.setattr(supervisor, "REFUSED_RETRY_S", (2 * slow, 2 * slow))
    with rtsp.Scripted(lambda client: client.play(units), status=status) as server:
        async with kept(server.url, stall_timeout_s=CALM_S) as watch:
            assert message in await watch.loses(within_s=LATE_S)
            server.status = "200 OK"
            refused = watch.lost[-1][0]
            await watch.sees(within_s=slow + LATE_S)
            assert watch.judged[0] - refused >= slow
        assert server.connections == 2
