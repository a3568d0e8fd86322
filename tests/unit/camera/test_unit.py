"""The life of a connection: every exit closes everything."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from async_motion.core.events.selection import Keep
from async_motion.core.model import (
    EndReason,
    Frame,
    Image,
)
from async_motion.errors import CameraRefused, CameraUnavailable
from async_motion.jpeg import encode
from tests.support.clock import BEGIN
from tests.support.records import MemoryOutbox
from tests.support.unit_bench import (
    BYTES,
    Bench,
    ListSource,
    assert_off,
    assert_well_formed,
    judged_frame,
    make,
    scene,
)
from tests.support.wait import eventually_async


async def test_from_live_video_the_newest_frames_win_and_the_loss_is_counted() -> None:
    b = make(ListSource(scene("." * 20), live=True), depth=4)
    await b.run()
    assert len(b.seen.of("detected")) == 4
    assert b.seen.count("too_slow") == 16


async def test_from_a_file_nothing_is_lost() -> None:
    b = make(ListSource(scene("...MMMM" * 30)), depth=1, pre_bytes=3 * BYTES, backlog_bytes=0)
    await b.run()
    assert len(b.seen.of("detected")) == 210
    assert b.seen.of("dropped") == []
    assert_well_formed(b.outbox)


async def test_a_lost_camera_ends_its_event_and_the_next_run_begins_as_new() -> None:
    b = make(ListSource(scene("...MM"), then=CameraUnavailable("closed the stream")))
    with pytest.raises(CameraUnavailable, match="closed the stream"):
        await b.run()
    assert b.outbox.phases[-1].event.end_reason is EndReason.CAMERA_LOST
    assert b.seen.of("motion")[-1] == ("motion", False)
    assert b.seen.of("offline") == [("offline", "closed the stream")]
    assert b.source.closed == 1

    b.source.items = scene("M..MM.......", begin=10.0)
    with pytest.raises(CameraUnavailable):
        await b.run()
    # One motion frame before the loss and one after it do not confirm each other.
    assert b.outbox.phases[2].event.started_at == BEGIN + timedelta(seconds=10.6)
    assert len(b.detectors) == 1, "what was learned lives on"
    assert_well_formed(b.outbox)
    assert_off(b.seen)


async def test_a_connection_that_ends_well_forgets_how_the_last_one_was_lost() -> None:
    b = make(ListSource(scene(".."), then=CameraUnavailable("gone")))
    with pytest.raises(CameraUnavailable):
        await b.run()
    b.source.then = None
    await b.run()
    assert b.seen.of("offline") == [("offline", "gone"), ("offline", "the video has ended")]


async def test_a_camera_that_cannot_be_opened_is_offline_with_its_problem() -> None:
    b = make(ListSource([], then=CameraRefused("wrong user or password (401)")))
    with pytest.raises(CameraRefused):
        await b.run()
    assert b.seen.calls == [("offline", "wrong user or password (401)")]
    assert b.outbox.batches == []


async def test_stop_lets_queued_frames_reach_the_spool_and_ends_the_event() -> None:
    b = make(ListSource(scene("...MMMM"), live=True, stay=True), depth=10)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        await b.unit.stop()
        assert running.done()
    assert len(b.seen.of("detected")) == 7
    assert len(b.outbox.records) == 7
    assert b.outbox.phases[-1].event.end_reason is EndReason.STOPPED
    assert b.seen.of("offline") == [("offline", "stopped")]
    assert b.source.closed == 1
    assert_off(b.seen)

    await b.run()
    assert b.source.closed == 1, "after stop run returns at once"


async def test_stop_before_the_first_run_and_in_its_first_moment() -> None:
    b = make(ListSource(scene("..."), stay=True))
    await b.unit.stop()
    await b.run()
    assert b.seen.calls == []

    b = make(ListSource(scene("..."), live=True, stay=True))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await asyncio.sleep(0)  # `run` has started, its tasks have not
        await b.unit.stop()
    assert b.seen.calls == [("offline", "stopped")]


async def test_a_unit_runs_once_at_a_time() -> None:
    b = make(ListSource([], stay=True))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await b.run()
        await b.unit.stop()


async def test_a_bug_comes_out_and_the_event_is_closed_as_interrupted() -> None:
    frames = scene("...MMMM")
    frames[5].luma[0, 0] = 13
    b = make(ListSource(frames))
    b.detectors[0].breaks_at = 13
    with pytest.raises(ExceptionGroup) as caught:
        await b.run()
    assert caught.group_contains(ZeroDivisionError)
    assert b.outbox.phases[-1].event.end_reason is EndReason.INTERRUPTED
    assert_off(b.seen)


@pytest.mark.parametrize("where", ["source", "outbox", "encoder"])
async def test_a_bug_anywhere_comes_out_and_leaves_nothing_running(where: str) -> None:
    def broken(_image: Image) -> tuple[bytes, int, int]:
        raise ZeroDivisionError

    b = make(
        ListSource(scene("...MMMM"), then=ZeroDivisionError() if where == "source" else None),
        encode_with=broken if where == "encoder" else None,
        outbox=MemoryOutbox(bug=where == "outbox"),
        depth=1,
        backlog_bytes=0,
        pre_bytes=0,
    )
    with pytest.raises(ExceptionGroup) as caught:
        await b.run()
    assert caught.group_contains(ZeroDivisionError)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [phase.event.end_reason for phase in b.outbox.phases] == [None, EndReason.INTERRUPTED]
    assert b.seen.of("offline") == [("offline", "failed")]
    assert_off(b.seen)


async def test_a_cancelled_caller_waits_for_its_thread() -> None:
    """Otherwise the next connection would use the same detector at the same time."""
    entered, leave = threading.Event(), threading.Event()

    def slow(image: Image) -> tuple[bytes, int, int]:
        entered.set()
        assert leave.wait(30)
        return encode(image)

    with ThreadPoolExecutor(2) as executor:
        b = make(ListSource(scene("..MM"), stay=True), executor=executor, encode_with=slow)
        running = asyncio.create_task(b.run())
        await eventually_async(entered.is_set)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=0.05)
        assert not done
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert_off(b.seen)
    assert b.seen.of("offline") == [("offline", "stopped")]


@pytest.mark.parametrize("keep", [Keep.ALL, Keep.BEST])
def test_a_cancellation_at_any_step_closes_the_event(keep: Keep) -> None:
    """The loop takes the same steps in every run: cancel one run at each of them."""
    cancelled = started = 0
    for step in range(1000):
        b = make(ListSource(scene("..MMM.M" + "." * 9 + "MM")), keep=keep)

        async def main(b: Bench = b, step: int = step) -> bool:
            running = asyncio.create_task(b.run())
            for _ in range(step):
                await asyncio.sleep(0)
            if running.done():
                return False
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return True

        if not asyncio.run(main()):
            break
        cancelled += 1
        started += bool(b.outbox.phases)
        assert_off(b.seen)
        assert len(b.outbox.phases) == 2 * len(b.seen.of("started"))
        assert_well_formed(b.outbox)
    assert cancelled > 20
    assert started > 20


async def test_no_more_frames_are_alive_than_the_bounds_allow() -> None:
    alive: list[weakref.ref[NDArray[np.uint8]]] = []
    most = 0

    def count() -> int:
        return sum(ref() is not None for ref in alive)

    class Fresh(Sequence[Frame]):
        """Create each frame on access, and keep none."""

        def __len__(self) -> int:
            return 400

        def __getitem__(self, place: Any) -> Any:
            nonlocal most
            if place >= len(self):
                raise IndexError
            frame = judged_frame(place / 5, moving=place % 100 > 60)
            alive.append(weakref.ref(frame.luma))
            most = max(most, count())
            return frame

    b = make(ListSource(Fresh()), depth=2, pre_bytes=5 * BYTES, backlog_bytes=BYTES)
    await b.run()
    gc.collect()
    assert len(b.outbox.records) > 150
    assert count() <= 1
    # The pre-roll ring, the backlog with the job in progress, two queued, then the newest and those in use.
    assert most <= 5 + 6 + 2 + 4


async def test_cameras_share_nothing_but_the_executor() -> None:
    with ThreadPoolExecutor(2) as executor:
        benches = [
            make(ListSource(scene("." * i + "MMMM" + "." * 12)), executor=executor, camera=f"cam{i}")
            for i in range(8)
        ]
        broken = make(ListSource(scene("MM"), then=CameraUnavailable("gone")), executor=executor, camera="x")
        async with asyncio.TaskGroup() as tasks:
            for b in benches:
                tasks.create_task(b.run())
            with pytest.raises(CameraUnavailable):
                await broken.run()
    for i, b in enumerate(benches):
        assert_well_formed(b.outbox)
        assert {record.info.camera for record in b.outbox.records} == {f"cam{i}"}
        assert b.outbox.phases[0].event.started_at == BEGIN + timedelta(seconds=i / 5)
