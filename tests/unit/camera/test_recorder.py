"""Chosen frames to records: order, losses, and phases that the spool still has to accept."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from async_motion.core import names
from async_motion.core.events.selection import Keep
from async_motion.core.events.tracker import TrackerSettings
from async_motion.core.model import (
    Image,
    Phase,
)
from async_motion.errors import CameraUnavailable, ImageError, SpoolError
from async_motion.jpeg import encode
from tests.support.clock import BEGIN
from tests.support.records import MemoryOutbox
from tests.support.unit_bench import (
    BYTES,
    ListSource,
    assert_off,
    assert_well_formed,
    in_step,
    make,
    scene,
    shape_of,
    times_of,
)
from tests.support.wait import eventually_async


async def test_images_that_the_encoder_cannot_keep_up_with_go_and_the_opening_stays() -> None:
    source = in_step("......" + "M" * 40 + "." * 10)
    outbox = MemoryOutbox(gate=asyncio.Event())
    b = make(source, outbox=outbox, pre_bytes=6 * BYTES, backlog_bytes=4 * BYTES)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: ("motion", False) in b.seen.calls)
        assert outbox.gate is not None
        outbox.gate.set()
        await b.unit.stop()
    assert_well_formed(outbox)
    assert len(outbox.records) + b.seen.count("too_slow") == 45
    assert b.seen.count("too_slow") > 20
    assert times_of(outbox)[:6] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]


async def test_what_a_cancellation_gave_up_is_given_up_once() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(image: Image) -> tuple[bytes, int, int]:
        entered.set()
        assert leave.wait(30)
        return encode(image)

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as encoder:
        b = make(in_step("..MM"), executor=executor, encoder=encoder, encode_with=slow)
        running = asyncio.create_task(b.run())
        await eventually_async(entered.is_set)
        running.cancel()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert shape_of(b.outbox.items) == ["start", "end"]
        assert b.seen.count("spool") == 4
        b.source.items, b.source.stay = [], False
        await b.run()
    assert shape_of(b.outbox.items) == ["start", "end"]
    assert b.seen.count("spool") == 4


async def test_an_outbox_that_never_answers_delays_nothing_and_gets_the_phases_later() -> None:
    outbox = MemoryOutbox(gate=asyncio.Event())
    b = make(ListSource(scene("..MMM"), then=CameraUnavailable("gone")), outbox=outbox, settle_s=1.0)
    with pytest.raises(CameraUnavailable):
        await b.run()
    assert outbox.batches == []
    assert_off(b.seen)
    assert outbox.gate is not None
    outbox.gate.set()
    b.source.items = scene("..MM", begin=10)
    with pytest.raises(CameraUnavailable):
        await b.run()
    assert shape_of(outbox.items) == ["start", "end", 0, 1, 2, "start", 3, "end"]


async def test_a_spool_in_trouble_costs_frames_but_neither_the_camera_nor_a_phase(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "async_motion.camera.recorder")
    outbox = MemoryOutbox(failures=3)
    b = make(ListSource(scene("..MMMMMM" + "." * 10)), outbox=outbox)
    await b.run()
    # Lost: the four frames of the opening, then two single frames.
    assert b.seen.count("spool") == 6
    assert shape_of(outbox.items) == ["start", 6, 7, "end"]
    assert b.seen.of("motion") == [("motion", True), ("motion", False)]
    told = [record.message for record in caplog.records if "spool" in record.message]
    assert told == [
        "porch: the spool accepts no records, frames are lost: disk full",
        "porch: the spool accepts records again",
    ]


async def test_phases_owed_are_bounded() -> None:
    outbox = MemoryOutbox(failures=10**6)
    b = make(
        ListSource(scene("MM." * 100)),
        outbox=outbox,
        tracking=TrackerSettings(off_delay_s=0.0, confirm=(1, 1)),
        pre_s=0.0,
    )
    await b.run()
    outbox.failures = 0
    b.source.items = []
    await b.run()
    assert len(outbox.phases) == 64
    assert outbox.phases[-1].phase is Phase.END


async def test_an_image_that_cannot_be_encoded_is_counted_and_leaves_no_hole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = iter(range(100))

    def failing(image: Image) -> tuple[bytes, int, int]:
        if next(calls) in (1, 2):
            raise ImageError("cannot encode")
        return encode(image)

    caplog.set_level(logging.INFO, "async_motion.camera.recorder")
    b = make(ListSource(scene("..MMMM")), encode_with=failing)
    await b.run()
    assert shape_of(b.outbox.items) == [0, "start", 1, 2, 3, "end"]
    assert b.seen.count("encode") == 2
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert_well_formed(b.outbox)


async def test_an_event_none_of_whose_images_can_be_encoded_still_has_its_phases() -> None:
    def failing(image: Image) -> tuple[bytes, int, int]:
        raise ImageError(f"cannot encode {image.shape}")

    for keep in Keep:
        b = make(ListSource(scene("..MMMM")), encode_with=failing, keep=keep)
        await b.run()
        assert shape_of(b.outbox.items) == ["start", "end"]


async def test_a_frame_that_the_camera_no_longer_has_costs_nothing_else() -> None:
    def gone() -> Image:
        raise CameraUnavailable("not in the ring any more")

    frames = scene("..MMMM")
    frames[3] = dataclasses.replace(frames[3], bgr=gone)
    b = make(ListSource(frames))
    await b.run()
    assert b.seen.count("encode") == 1
    assert len(b.outbox.records) == 5


async def test_a_snapshot_needs_no_detection() -> None:
    b = make(ListSource(scene("M"), live=True, stay=True), detecting=False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        await b.unit.snapshot()
        await b.unit.stop()
    (record,) = b.outbox.records
    assert (record.info.score, record.info.boxes, record.info.zones) == (0.0, (), ())


async def test_the_newest_frame_can_be_looked_at() -> None:
    b = make(ListSource(scene("."), live=True, stay=True))
    assert await b.unit.look(lambda image: image.shape) is None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        assert await b.unit.look(lambda image: image.shape) == (16, 16, 3)
        await b.unit.stop()
    assert await b.unit.look(lambda image: image.shape) is None


async def test_a_snapshot_is_a_lone_record_with_an_id_of_its_own() -> None:
    source = in_step("...MMM")
    b = make(source)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: len(b.outbox.records) == 6)
        await b.unit.snapshot()
        await b.unit.snapshot()
        assert await b.unit.newest_jpeg() is not None
        await b.unit.stop()
    event_id = b.outbox.phases[0].event.event_id
    first, second = [record.info for record in b.outbox.records if record.info.event_id != event_id]
    assert first.event_id != second.event_id
    assert names.EVENT_ID.fullmatch(first.event_id)
    assert first.seq == second.seq == 0
    assert first.captured_at == BEGIN + timedelta(seconds=1)
    assert first.score > 0, "the newest frame was judged already"
    assert len(b.outbox.phases) == 2


async def test_a_snapshot_needs_a_camera() -> None:
    b = make(ListSource(scene("..")))
    with pytest.raises(CameraUnavailable, match="no frame yet"):
        await b.unit.snapshot()
    await b.run()
    with pytest.raises(CameraUnavailable, match="no frame yet"):
        await b.unit.snapshot()
    assert await b.unit.newest_jpeg() is None


async def test_a_snapshot_that_the_spool_refuses_says_so() -> None:
    b = make(ListSource(scene(".."), live=True, stay=True), outbox=MemoryOutbox(failures=1))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        with pytest.raises(SpoolError):
            await b.unit.snapshot()
        await b.unit.stop()


async def test_an_image_that_is_slow_to_come_does_not_hold_up_detection() -> None:
    leave = threading.Event()

    def slow(image: Image) -> tuple[bytes, int, int]:
        assert leave.wait(30)
        return encode(image)

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as encoder:
        b = make(in_step("MM" + "." * 10), executor=executor, encoder=encoder, encode_with=slow)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.run())
            await eventually_async(lambda: ("motion", False) in b.seen.calls)
            leave.set()
            await b.unit.stop()
    assert shape_of(b.outbox.items) == [0, "start", 1, "end"]
