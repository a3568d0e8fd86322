"""The handover from reader threads to the loop: bounded, monitored, and never delaying the exit."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from async_motion.capture import CameraSource, CaptureSpec
from async_motion.capture.address import parse
from async_motion.capture.clock import PtsClock
from async_motion.capture.connect import connect
from async_motion.capture.handover import DEPTH, CaptureCounters, Handover
from async_motion.capture.source import CLOSE_GRACE_S, MAX_STUCK
from async_motion.core.model import Frame
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support.capture import read, take
from tests.support.frames import make_frame
from tests.support.wait import eventually, eventually_async

Read = Callable[[Handover, PtsClock], None]


def source(reader: Read, *, live: bool = True, open_s: float = 0.2, stall_s: float = 0.3) -> CameraSource:
    spec = CaptureSpec(camera="porch", source="demo:", open_timeout_s=open_s, stall_timeout_s=stall_s)
    return CameraSource(spec, reader, live=live)


@contextmanager
def hanging() -> Iterator[threading.Event]:
    """Yield an event that stands for a library call: it blocks until the test ends."""
    release = threading.Event()
    try:
        yield release
    finally:
        release.set()
        eventually(lambda: all(not t.name.startswith("capture[") for t in threading.enumerate()))


def test_a_lossless_source_delivers_every_frame_to_a_slow_consumer() -> None:
    def reader(handover: Handover, _clock: PtsClock) -> None:
        handover.reader_opened()
        for number in range(50):
            assert handover.reader_offer(make_frame(number))

    async def run() -> list[float]:
        seen = []
        async for one in source(reader, live=False).frames():
            await asyncio.sleep(0)
            seen.append(one.monotonic)
        return seen

    assert asyncio.run(run()) == list(range(50))


@pytest.mark.parametrize(("lossless", "patient"), [(True, False), (False, True)])
def test_a_reader_that_has_waited_long_for_its_consumer_is_not_overdue(lossless: bool, patient: bool) -> None:
    async def run() -> list[float]:
        now = 0.0
        handover = Handover(
            counters=CaptureCounters(),
            lossless=lossless,
            open_timeout_s=1.0,
            stall_timeout_s=5.0,
            monotonic=lambda: now,
        )
        handover.reader_opened()
        for number in range(DEPTH):
            handover.reader_offer(make_frame(number), patient=patient)
        now = 100.0  # the consumer was busy
        seen = [await handover.get() for _ in range(DEPTH)]
        asyncio.get_running_loop().call_soon(handover.reader_offer, make_frame(DEPTH))
        seen.append(await handover.get())
        now = 200.0
        with pytest.raises(CameraUnavailable, match="no new frame for 5 s"):
            await handover.get()
        return [frame.monotonic for frame in seen if frame is not None]

    assert asyncio.run(run()) == list(range(DEPTH + 1))


def test_a_live_source_keeps_the_newest_frames_and_counts_the_others() -> None:
    go, offered = threading.Event(), threading.Event()

    def reader(handover: Handover, _clock: PtsClock) -> None:
        handover.reader_opened()
        handover.reader_offer(make_frame(99))
        go.wait(10)
        for number in range(20):
            handover.reader_offer(make_frame(number))
        offered.set()

    porch = source(reader, stall_s=5)

    async def run() -> list[float]:
        frames = porch.frames()
        await anext(frames)
        go.set()
        offered.wait(10)  # the loop is blocked, as by slow work: nothing is fetched
        return [one.monotonic async for one in frames]

    seen = asyncio.run(run())
    assert seen == [18.0, 19.0]
    assert len(seen) == DEPTH
    assert porch.counters.dropped == 18
    assert porch.counters.frames == 3


def test_a_burst_waits_for_room() -> None:
    def reader(handover: Handover, _clock: PtsClock) -> None:
        handover.reader_opened()
        for number in range(30):
            handover.reader_offer(make_frame(number), patient=True)

    porch = source(reader, stall_s=5)
    assert len(read(porch)) == 30
    assert porch.counters.dropped == 0


@pytest.mark.parametrize("error", [CameraUnavailable("broke off"), CameraRefused("401"), KeyError("a bug")])
def test_what_the_reader_raises_is_raised_on_the_loop(error: Exception) -> None:
    def reader(handover: Handover, _clock: PtsClock) -> None:
        handover.reader_opened()
        raise error

    with pytest.raises(type(error)):
        read(source(reader))


def test_frames_that_came_before_trouble_are_delivered_first() -> None:
    def reader(handover: Handover, _clock: PtsClock) -> None:
        handover.reader_opened()
        handover.reader_offer(make_frame(1))
        raise CameraUnavailable("broke off")

    async def run() -> float:
        frames = source(reader).frames()
        first = await anext(frames)
        with pytest.raises(CameraUnavailable, match="broke off"):
            await anext(frames)
        return first.monotonic

    assert asyncio.run(run()) == 1.0


def test_opening_is_bounded_whatever_the_library_does() -> None:
    with hanging() as release:

        def reader(_handover: Handover, _clock: PtsClock) -> None:
            release.wait()

        porch = source(reader)
        started = time.monotonic()
        with pytest.raises(CameraUnavailable, match=r"did not open within 0\.2 s"):
            read(porch)
        assert time.monotonic() - started < 10


def test_a_stall_is_noticed_whatever_the_library_does() -> None:
    with hanging() as release:

        def reader(handover: Handover, _clock: PtsClock) -> None:
            handover.reader_opened()
            handover.reader_offer(make_frame(1))
            release.wait()

        porch = source(reader)
        with pytest.raises(CameraUnavailable, match=r"no new frame for 0\.3 s"):
            read(porch)
        assert porch.counters.stalls == 1


def test_stuck_threads_are_replaced_counted_and_bounded() -> None:
    with hanging() as release:

        def reader(handover: Handover, _clock: PtsClock) -> None:
            handover.reader_opened()
            release.wait()

        porch = source(reader, stall_s=0.05)

        async def run() -> None:
            for _ in range(MAX_STUCK):
                with pytest.raises(CameraUnavailable, match="no new frame"):
                    await take(porch)
            with pytest.raises(CameraUnavailable, match="hang in the video library"):
                await take(porch)
            assert porch.stuck == MAX_STUCK
            assert porch.counters.abandoned == MAX_STUCK
            release.set()
            await eventually_async(lambda: porch.stuck == 0)

        asyncio.run(run())


def test_a_stuck_thread_does_not_hold_up_a_second_camera() -> None:
    with hanging() as release:

        def stuck(handover: Handover, _clock: PtsClock) -> None:
            handover.reader_opened()
            release.wait()

        def well(handover: Handover, _clock: PtsClock) -> None:
            handover.reader_opened()
            for number in range(5):
                handover.reader_offer(make_frame(number), patient=True)

        async def run() -> int:
            async with asyncio.TaskGroup() as group:
                group.create_task(expect_stall(source(stuck)), name="stuck")
                task = group.create_task(take(source(well)), name="well")
            return len(task.result())

        async def expect_stall(porch: CameraSource) -> None:
            with pytest.raises(CameraUnavailable):
                await take(porch)

        assert asyncio.run(run()) == 5


def test_closing_is_bounded_while_the_library_hangs() -> None:
    with hanging() as release:

        def reader(handover: Handover, _clock: PtsClock) -> None:
            handover.reader_opened()
            handover.reader_offer(make_frame(1))
            release.wait()

        async def run() -> float:
            porch = source(reader, stall_s=60)
            await take(porch, 1)
            started = time.monotonic()
            await porch.aclose()
            return time.monotonic() - started

        assert asyncio.run(run()) < CLOSE_GRACE_S + 5


def test_a_cancelled_consumer_stops_its_reader() -> None:
    stopped = threading.Event()

    def reader(handover: Handover, _clock: PtsClock) -> None:
        handover.reader_opened()
        while handover.reader_wait(0.01):
            pass
        stopped.set()

    async def run() -> None:
        porch = source(reader)
        task = asyncio.create_task(take(porch), name="take")
        await eventually_async(lambda: porch.counters.opened)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stopped.is_set()

    asyncio.run(run())


def test_stamps_go_on_over_reconnects() -> None:
    def reader(handover: Handover, clock: PtsClock) -> None:
        handover.reader_opened()
        clock.anchor(0.0)
        for played in (100.0, 101.0):  # stamps ahead of real time
            stamp = clock.stamp(clock.due(played))
            one = replace(make_frame(), captured_at=stamp.captured_at, monotonic=stamp.monotonic)
            handover.reader_offer(one, patient=True)

    async def run() -> list[Frame]:
        porch = source(reader)
        return [*await take(porch), *await take(porch)]

    frames = asyncio.run(run())
    assert len(frames) == 4
    assert all(a.monotonic < b.monotonic and a.captured_at < b.captured_at for a, b in pairwise(frames))


def test_a_closed_source_cannot_be_read() -> None:
    async def run() -> None:
        porch = source(lambda handover, _clock: handover.reader_opened())
        await porch.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await take(porch)

    asyncio.run(run())


def test_a_stuck_thread_does_not_hold_up_the_exit() -> None:
    script = textwrap.dedent(
        """
        import asyncio, ctypes, os
        from async_motion.capture import CameraSource, CaptureSpec

        def reader(handover, clock):
            handover.reader_opened()
            ctypes.CDLL(None).pause()  # a library call that never comes back

        async def run():
            spec = CaptureSpec(camera="porch", source="demo:", stall_timeout_s=0.1)
            source = CameraSource(spec, reader, live=True)
            try:
                async for frame in source.frames():
                    pass
            except Exception as exc:
                print(exc)
            await source.aclose()

        asyncio.run(run())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no new frame" in done.stdout


def test_a_cut_frees_the_camera_while_its_reader_hangs() -> None:
    free = [False, True]

    async def run() -> None:
        with hanging() as release, socket.create_server(("127.0.0.1", 0)) as server:
            address = parse(f"rtsp://127.0.0.1:{server.getsockname()[1]}/s")
            spec = CaptureSpec(camera="porch", source=address.url)

            def reader(handover: Handover, _clock: PtsClock) -> None:
                with connect(address, 10.0, spec.sockets):
                    handover.reader_opened()
                    handover.reader_offer(make_frame(1))
                    release.wait()

            porch = CameraSource(spec, reader, live=True, is_free=lambda: free.pop(0))
            await take(porch, 1)
            theirs, _ = server.accept()
            with theirs:
                theirs.settimeout(30)
                assert not porch.cut(), "something else still holds it"
                assert theirs.recv(1) == b"", "its connection has ended"
                assert porch.cut()

    asyncio.run(run())
