"""A camera in its own process: it may crash, leak memory or hang without effect on others or leftovers."""

# ruff: noqa: SLF001  (what the parent makes of a line that a child would not write)

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.capture.worker import parent
from async_motion.core.model import Frame
from async_motion.errors import CameraUnavailable
from tests.support import rtsp
from tests.support.capture import take
from tests.support.children import capture_processes, is_alive
from tests.support.video import make_clip, write_clip
from tests.support.wait import eventually, eventually_async

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def camera(source: str = "demo:", name: str = "porch", **changes: Any) -> CameraSource:
    return open_source(CaptureSpec(camera=name, source=source, isolation="process", **changes))


async def next_of(frames: AsyncIterator[Frame]) -> Frame:
    async with asyncio.timeout(60):
        return await anext(frames)


async def until_it_breaks(frames: AsyncIterator[Frame]) -> str:
    """Read until the connection fails; return the error's text."""
    try:
        async with asyncio.timeout(60):
            async for _ in frames:
                pass
    except CameraUnavailable as exc:
        return str(exc)
    raise AssertionError("the connection ended as if all were well")


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "SIGKILL (is the machine out of memory?)"), (signal.SIGSEGV, "SIGSEGV")],
)
async def test_a_crash_restarts_one_camera_while_another_goes_on(number: signal.Signals, words: str) -> None:
    porch, yard = camera(name="porch"), camera(name="yard")
    async with aclosing(yard.frames()) as others:
        async with aclosing(porch.frames()) as frames:
            await next_of(frames)
            await next_of(others)
            pids = capture_processes()
            assert pids.keys() == {"porch", "yard"}
            os.kill(pids["porch"], number)
            assert await until_it_breaks(frames) == f"the capture process was killed by {words}"
        async with aclosing(porch.frames()) as frames:
            kept = await next_of(frames)
        again = capture_processes()
        assert again["porch"] != pids["porch"]
        assert again["yard"] == pids["yard"]
        for _ in range(3):
            await next_of(others)
    assert (porch.counters.crashed, porch.counters.opened) == (1, 2)
    assert (yard.counters.crashed, yard.counters.opened) == (0, 1)
    await porch.aclose()
    await yard.aclose()
    assert capture_processes() == {}
    assert kept.bgr().shape == (720, 1280, 3), "a frame outlives the process that it came from"


async def test_a_reconnect_needs_no_new_process(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=1)
    source = camera(str(clip), speed="max", loop=False)
    pids = set()
    for _ in range(3):
        assert len(await take(source)) == 5
        pids |= set(capture_processes().values())
    await source.aclose()
    assert len(pids) == 1
    assert source.counters.opened == 3


async def test_a_death_between_two_connections_is_told_and_passes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=1)
    source = camera(str(clip), speed="max", loop=False)
    await take(source)
    pid = capture_processes()["porch"]
    os.kill(pid, signal.SIGSEGV)
    await eventually_async(lambda: not is_alive(pid))
    with pytest.raises(CameraUnavailable, match="killed by SIGSEGV"):
        await take(source)
    assert len(await take(source)) == 5
    await source.aclose()


async def test_more_memory_than_it_may_have_ends_the_process(tmp_path: Path) -> None:
    flat = [np.full((4096, 8192, 3), 90, np.uint8)]
    large = write_clip(tmp_path / "large.avi", flat, codec="mjpeg", pixels="yuvj420p")
    bounded = camera(str(large), process_memory=128 * 2**20, stall_timeout_s=30.0)
    with pytest.raises(CameraUnavailable) as info:
        await take(bounded)
    assert str(info.value) == ("the capture process exceeded the 128 MiB that capture.process_memory allows")
    assert bounded.counters.crashed == 1
    await bounded.aclose()
    roomy = camera(str(large), process_memory=1024 * 2**20, stall_timeout_s=30.0)
    (frame,) = await take(roomy, 1)
    assert frame.luma.shape == (4096, 8192)
    await roomy.aclose()


@pytest.mark.parametrize("early", [False, True], ids=["", "before it is asked"])
async def test_a_bug_ends_its_process_alone_and_says_where(
    early: bool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(spec: CaptureSpec) -> parent.Child:
        child = start(spec)
        child.process.wait(60)
        return child

    start = parent.Child
    if early:
        monkeypatch.setattr(parent, "Child", late)
    spec = CaptureSpec(camera="porch", source="demo:", isolation="process")
    object.__setattr__(spec, "fps", "rtsp://admin:geheim@host")  # a value that cannot be sent to the reader
    source = open_source(spec)
    with pytest.raises(CameraUnavailable, match="exited with code 1"):
        await take(source)
    await source.aclose()
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("porch: a bug in capture: TypeError at spec.py:")
    assert capfd.readouterr().err == ""


HOSTILE = """
import json, os, socket, sys
import numpy as np
from datetime import UTC, datetime
from av.video.frame import VideoFrame
from async_motion.capture.clock import Stamp
from async_motion.capture.ffmpeg.frames import frame_of
from async_motion.capture.worker.shm import pack

control = socket.socket(fileno=0)
control.recv(65536)
control.send(json.dumps({"is": "ready"}).encode())
control.recv(65536)
control.send(json.dumps({"is": "opened"}).encode())
image = np.zeros((24, 32, 3), np.uint8)
stamp = Stamp(datetime.now(UTC), 1e18)
frame, handle = pack(frame_of("porch", stamp, VideoFrame.from_ndarray(image, format="bgr24")))
lie = eval(sys.argv[1])
socket.send_fds(control, [json.dumps(lie).encode()], [handle] if lie["is"] == "frame" else [])
while control.recv(65536):
    pass
"""
"""A child that sends what it should not."""


@pytest.mark.parametrize(
    "lie",
    [
        '{"is": "waits", "seconds": 1e9}',
        '{"is": "waits", "seconds": float("inf")}',
        '{"is": "waits", "seconds": float("nan")}',
        '{"is": "frame", "patient": False, **frame}',
    ],
    ids=["waits", "waits for ever", "waits for nothing", "shows the future"],
)
async def test_a_child_that_would_hide_a_stall_is_replaced(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken_over(command: list[str], **more: Any) -> Any:
        return start([command[0], "-c", HOSTILE, lie], **more)

    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", taken_over)
    source = camera("rtsp://192.0.2.1/cam")
    with pytest.raises(CameraUnavailable, match=r"sent a malformed message \(ValueError\); replacing it"):
        await take(source)
    assert (source.counters.crashed, source.counters.stalls, source.counters.frames) == (1, 0, 0)
    await source.aclose()


def test_what_a_child_says_is_one_line_of_text(caplog: pytest.LogCaptureFixture) -> None:
    text = "all is well\r\nERROR porch: forged\x1b[2J" + "x" * 10**6
    with caplog.at_level(logging.INFO):
        parent._repeat({"name": "async_motion.capture.readers.video", "level": logging.INFO, "text": text})
    (record,) = caplog.records
    assert record.getMessage().startswith("all is well  ERROR porch: forged [2Jx")
    assert len(record.getMessage()) == parent.MAX_TEXT


async def test_a_short_time_to_open_begins_when_the_process_is_up() -> None:
    source = camera(open_timeout_s=0.5, stall_timeout_s=5.0)
    assert len(await take(source, 1)) == 1
    await source.aclose()


async def test_a_process_that_hangs_is_killed_counted_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    source = camera(stall_timeout_s=1.0)
    async with aclosing(source.frames()) as frames:
        await next_of(frames)
        pid = capture_processes()["porch"]
        os.kill(pid, signal.SIGSTOP)
        assert await until_it_breaks(frames) == "no new frame for 1 s"
    assert not is_alive(pid)
    assert (source.counters.stalls, source.counters.abandoned, source.stuck) == (1, 1, 0)
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING] == [
        "porch: the capture process hangs in the video library: killed"
    ]
    assert len(await take(source, 2)) == 2
    await source.aclose()


async def test_closing_is_bounded_while_the_process_hangs() -> None:
    source = camera(stall_timeout_s=300.0)
    reading = asyncio.create_task(take(source), name="reading")
    await eventually_async(lambda: source.counters.frames)
    pid = capture_processes()["porch"]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    await source.aclose()
    assert time.monotonic() - began < 10
    assert not is_alive(pid)
    reading.cancel()
    with suppress(asyncio.CancelledError, CameraUnavailable):
        await reading


async def test_closing_while_the_process_is_started_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(spec: CaptureSpec) -> parent.Child:
        begun.set()
        assert go_on.wait(60)
        return start(spec)

    start = parent.Child
    monkeypatch.setattr(parent, "Child", slowly)
    # Give the child time to end by itself, so that it is not killed.
    monkeypatch.setattr(parent, "STOP_GRACE_S", 60.0)
    source = camera()
    reading = asyncio.create_task(take(source), name="reading")
    await eventually_async(begun.is_set)
    await source.aclose()
    go_on.set()
    await reading
    await eventually_async(lambda: all("porch" not in one.name for one in threading.enumerate()))
    assert capture_processes() == {}


async def test_no_handles_left_is_trouble_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    source = camera()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - not a folder on a disk
    monkeypatch.setattr(os, "pipe", refused)
    with pytest.raises(CameraUnavailable, match="cannot be started: Too many open files"):
        await take(source)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    monkeypatch.undo()
    assert len(await take(source, 1)) == 1
    await source.aclose()


PARENT = """
import asyncio, sys
from async_motion.capture import CaptureSpec, open_source

async def main():
    async def watch(name):
        source = open_source(CaptureSpec(camera=name, source="demo:", isolation="process"))
        async for _ in source.frames():
            print(name, flush=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch("porch"), name="porch")
        tasks.create_task(watch("yard"), name="yard")

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_no_process_outlives_a_killed_service(stopped: bool) -> None:
    before = set(Path("/dev/shm").iterdir())
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        seen: set[str] = set()
        while seen != {"porch", "yard"}:
            seen.add(parent.stdout.readline().strip())
        pids = list(capture_processes(parent.pid).values())
        assert len(pids) == 2
        if stopped:
            # A frozen process cannot end by itself.
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
    finally:
        parent.kill()
        parent.communicate()
    eventually(lambda: not any(is_alive(pid) for pid in pids), what="the children's end")
    assert [path for path in set(Path("/dev/shm").iterdir()) - before if "async_motion" in path.name] == []


async def test_no_secret_is_in_the_process_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNC_MOTION__MINIO__SECRET_KEY", "geheim-1")
    monkeypatch.setenv("MINIO_SECRET_KEY", "geheim-2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim-3")
    monkeypatch.setenv("SOMETHING_ELSE", "geheim-4")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        source = camera(f"rtsp://admin:geheim-5@127.0.0.1:{mute.getsockname()[1]}/cam", open_timeout_s=60.0)
        reading = asyncio.create_task(take(source), name="reading")
        connection, _ = await asyncio.to_thread(mute.accept)
        with connection:
            place = Path("/proc") / str(capture_processes()["porch"])
            seen = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
            assert b"async_motion.capture.worker.child" in seen
            assert b"PYTHONPATH" in seen
            assert b"geheim" not in seen
        await source.aclose()
        reading.cancel()
        with suppress(asyncio.CancelledError, CameraUnavailable):
            await reading


async def test_what_a_child_logs_is_logged_here_and_shows_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    units = rtsp.access_units(make_clip(tmp_path / "clip.mp4", seconds=2))
    with rtsp.Scripted(lambda client: client.play(units)) as server, caplog.at_level(logging.INFO):
        source = camera(server.url.replace("rtsp://", "rtsp://admin:geheim@"))
        assert len(await take(source, 2)) == 2
        await source.aclose()
    shown = f"rtsp://***@127.0.0.1:{server.port}/…"  # a path may hold a password too
    assert f"porch: {shown} is h264 320x240" in [one.getMessage() for one in caplog.records]
    assert "geheim" not in caplog.text


async def test_hardware_that_is_not_there_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=1)
    source = camera(str(clip), speed="max", loop=False, hwaccel="cuda")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert len(await take(source)) == 5
    await source.aclose()
    warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].name == "async_motion.capture.readers.video"
    assert "hwaccel cuda" in warnings[0].getMessage()


async def test_restarts_leak_neither_handles_nor_threads() -> None:
    """Set `ASYNC_MOTION_TEST_RESTARTS=50` for the long test."""
    source = camera()

    async def held() -> tuple[int, int]:
        await eventually_async(lambda: all("porch" not in one.name for one in threading.enumerate()))
        return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - not a folder on a disk

    async def crash() -> None:
        async with aclosing(source.frames()) as frames:
            await next_of(frames)
            os.kill(capture_processes()["porch"], signal.SIGKILL)
            await until_it_breaks(frames)

    await crash()
    before = await held()
    for _ in range(int(os.environ.get("ASYNC_MOTION_TEST_RESTARTS", "4"))):
        await crash()
        assert await held() == before
    await source.aclose()
    assert source.counters.crashed == source.counters.opened
