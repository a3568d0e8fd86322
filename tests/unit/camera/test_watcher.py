"""Frames to events: what is reported, and which frames are chosen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core.events.selection import Keep
from async_motion.core.events.tracker import TrackerSettings
from async_motion.core.model import (
    Detection,
    EndReason,
    Image,
    Luma,
    Reason,
    SceneChange,
)
from async_motion.errors import CameraUnavailable, ImageError
from async_motion.jpeg import encode
from tests.support.clock import BEGIN
from tests.support.records import MemoryOutbox
from tests.support.unit_bench import (
    BYTES,
    FakeDetector,
    ListSource,
    RecordingObserver,
    assert_off,
    assert_well_formed,
    in_step,
    make,
    scene,
    shape_of,
    times_of,
)
from tests.support.wait import eventually_async


async def test_one_event_of_a_file_reaches_the_outbox_in_order() -> None:
    b = make(ListSource(scene("......MMMM.........")))
    await b.run()

    # A second of pre-roll (5 frames), the opening frame, the start, the confirming frame.
    assert [shape_of(batch) for batch in b.outbox.batches] == [
        [0, 1, 2, 3, 4, 5, "start", 6],
        [7],
        [8],
        ["end"],
    ]
    opening = b.outbox.records[5]
    start, end = b.outbox.phases
    assert opening.info.captured_at == start.event.started_at == BEGIN + timedelta(seconds=1.2)
    assert opening.info.score == pytest.approx(200 / 255)
    assert opening.info.zones == ("drive",)
    assert opening.info.object_key == f"p/edge1/porch/2026/11/22/{start.event.event_id}/000005.jpg"
    assert b.outbox.records[0].info.score == 0
    assert end.event.end_reason is EndReason.QUIET
    assert end.event.ended_at == BEGIN + timedelta(seconds=2.8)
    assert b.seen.of("online", "offline", "motion", "zone", "started", "ended") == [
        ("online",),
        ("motion", True),
        ("started", start.event.event_id),
        ("zone", "drive", True),
        ("motion", False),
        ("ended", EndReason.QUIET),
        ("zone", "drive", False),
        ("offline", "the video has ended"),
    ]
    assert b.seen.of("detected") == [("detected", letter == "M") for letter in "......MMMM........."]
    assert_well_formed(b.outbox)


async def test_the_pre_roll_keeps_to_its_seconds_though_the_confirmation_takes_long() -> None:
    b = make(
        ListSource(scene("..........M.M.M...........")),
        tracking=TrackerSettings(confirm=(3, 5), off_delay_s=1.0),
        pre_s=0.4,
    )
    await b.run()
    # The opening frame (2.0 s) was confirmed at 2.8 s; only frames with motion are kept in between.
    assert times_of(b.outbox) == [1.6, 1.8, 2.0, 2.4, 2.8]
    assert shape_of(b.outbox.batches[0]) == [0, 1, 2, "start", 3, 4]


async def test_the_byte_bound_of_the_pre_roll_may_cost_the_frames_that_waited() -> None:
    b = make(ListSource(scene("......MM.......")), pre_bytes=0)
    await b.run()
    assert times_of(b.outbox) == [1.4]
    assert b.outbox.phases[0].event.started_at == BEGIN + timedelta(seconds=1.2)


@pytest.mark.parametrize(
    ("keep", "expected", "shapes"),
    [
        (Keep.FIRST, [2.0], [[0, "start"], ["end"]]),
        (Keep.BEST, [3.0], [["start"], [0, "end"]]),
        (Keep.EVERY, [1.0, 2.0, 3.0, 4.0], [[0, 1, "start"], [2], [3], ["end"]]),
    ],
)
async def test_each_policy(keep: Keep, expected: list[float], shapes: list[list[str | int]]) -> None:
    frames = scene("." * 10 + "M" * 12 + "." * 20)
    frames[15].luma[0, 0] = 255
    b = make(ListSource(frames), keep=keep, tracking=TrackerSettings(off_delay_s=1.0))
    await b.run()
    assert times_of(b.outbox) == expected
    assert [shape_of(batch) for batch in b.outbox.batches] == shapes
    assert b.outbox.phases[-1].event.peak_score == 1.0
    assert_well_formed(b.outbox)


async def test_best_may_be_a_frame_that_waited_for_the_confirmation() -> None:
    frames = scene("...MMM......")
    frames[3].luma[0, 0] = 255
    b = make(ListSource(frames), keep=Keep.BEST)
    await b.run()
    assert times_of(b.outbox) == [0.6]


async def test_the_cap_counts_the_pre_roll() -> None:
    b = make(ListSource(scene("......" + "M" * 100)), max_frames=8)
    await b.run()
    assert len(b.outbox.records) == 7
    assert times_of(b.outbox)[:3] == [0.8, 1.0, 1.2]


async def test_an_event_that_is_cut_goes_on_in_the_next_and_motion_stays_on() -> None:
    b = make(
        ListSource(scene(".....MMMMMMMMMM")), tracking=TrackerSettings(max_length_s=1.0, off_delay_s=5.0)
    )
    await b.run()
    reasons = [phase.event.end_reason for phase in b.outbox.phases]
    assert reasons == [None, EndReason.MAX_LENGTH, None, EndReason.STOPPED]
    assert b.seen.of("motion") == [("motion", True), ("motion", False)]
    # Every frame once: the next event's pre-roll excludes frames of the first.
    assert times_of(b.outbox) == [round(i * 0.2, 3) for i in range(15)]
    assert_well_formed(b.outbox)


async def test_motion_is_reported_before_any_image_is_made() -> None:
    seen: RecordingObserver | None = None

    def spying(image: Image) -> tuple[bytes, int, int]:
        assert seen is not None
        seen.calls.append(("encode",))
        return encode(image)

    b = make(ListSource(scene("...MM..")), encode_with=spying)
    seen = b.seen
    await b.run()
    assert b.seen.of("motion", "encode")[0] == ("motion", True)
    assert len(b.seen.of("encode")) == 5


async def test_motion_is_reported_while_the_spool_does_not_answer() -> None:
    source = in_step("..MM" + "." * 8)
    outbox = MemoryOutbox(gate=asyncio.Event())
    b = make(source, outbox=outbox)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: ("motion", False) in b.seen.calls)
        assert outbox.batches == []
        assert outbox.gate is not None
        outbox.gate.set()
        await b.unit.stop()
    assert shape_of(outbox.items) == [0, 1, 2, "start", 3, "end"]


async def test_frames_that_came_before_the_loss_are_judged() -> None:
    b = make(ListSource(scene("MMM"), live=True, then=CameraUnavailable("gone")))
    with pytest.raises(CameraUnavailable):
        await b.run()
    assert len(b.outbox.records) == 3


async def test_switching_detection_off_ends_the_event_at_once_and_on_begins_again() -> None:
    source = in_step("..MMMM")
    b = make(source)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: len(b.seen.of("detected")) == 6)
        b.unit.adopt({"detection": False})
        assert b.seen.of("motion")[-1] == ("motion", False)
        assert b.unit.values()["detection"] is False
        b.unit.adopt({"detection": False})
        await b.unit.snapshot()
        await b.unit.stop()
    assert [phase.event.end_reason for phase in b.outbox.phases] == [None, EndReason.DETECTION_OFF]
    assert_off(b.seen)


async def test_frames_from_before_detection_was_switched_off_are_no_pre_roll() -> None:
    b = make(in_step("...MM"), keep=Keep.ALL)
    pace = b.source.pace
    assert pace is not None
    b.seen.pace = None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        for count in range(1, 6):
            await eventually_async(lambda count=count: len(b.seen.of("detected")) == count)  # type: ignore[misc]
            if count == 3:
                b.unit.adopt({"detection": False})
                b.unit.adopt({"detection": True})
            pace.put_nowait(None)
        await b.unit.stop()
    assert times_of(b.outbox) == [0.6, 0.8]


async def test_frames_are_not_judged_while_detection_is_off_but_their_health_is() -> None:
    problems = iter([None, None, "dark", "dark", None])
    b = make(
        ListSource(scene("MMMMM")),
        detecting=False,
        health=lambda _luma, _monotonic: next(problems),
        keep=Keep.ALL,
    )
    await b.run()
    assert b.seen.of("detected") == []
    assert b.seen.of("problem") == [("problem", "dark"), ("problem", None)]
    assert b.outbox.batches == []


async def test_the_source_hears_what_the_detector_saw() -> None:
    b = make(ListSource(scene("..MM.")))
    await b.run()
    assert [at for at, _ in b.source.heard] == [frame.monotonic for frame in b.source.items]
    assert [verdict.motion for _, verdict in b.source.heard] == [False, False, True, True, False]


async def test_a_change_of_the_scene_is_told_once_and_said_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Switched(FakeDetector):
        def update(self, luma: Luma, monotonic: float) -> Detection:
            if 0.3 < monotonic < 0.7:
                return Detection(motion=False, reason=Reason.SCENE_CHANGE, scene_change=SceneChange.LIGHT)
            return super().update(luma, monotonic)

    b = make(ListSource(scene(".......")), make_detector=Switched)
    with caplog.at_level(logging.INFO):
        await b.run()
    assert b.seen.of("scene") == [("scene", SceneChange.LIGHT)]
    assert caplog.messages.count("porch: the scene has changed (light): no motion") == 1


async def test_an_event_ends_while_no_frames_come() -> None:
    now = 500.0
    slept: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        nonlocal now
        await slept.get()
        now += seconds

    source = in_step("..MMM")
    b = make(source, clock=lambda: now, sleep=sleep, tracking=TrackerSettings(off_delay_s=10.0))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: len(b.seen.of("detected")) == 5)
        for _ in range(10):
            slept.put_nowait(None)
        await eventually_async(lambda: now == 510.0)
        assert b.seen.of("motion") == [("motion", True)]
        slept.put_nowait(None)
        await eventually_async(lambda: b.seen.of("ended") == [("ended", EndReason.QUIET)])
        await b.unit.stop()
    assert b.outbox.phases[-1].event.ended_at == BEGIN + timedelta(seconds=0.8 + 10.0)
    assert_off(b.seen)


async def test_time_does_not_pass_while_a_frame_is_being_judged() -> None:
    """On a machine that is too slow, an event must not end while its next frame is being judged."""
    now = 0.0
    leave = threading.Event()

    async def sleep(seconds: float) -> None:
        nonlocal now
        await asyncio.sleep(0)
        now += seconds

    def slow(luma: Luma, monotonic: float) -> None:
        assert monotonic < 0.6 or leave.wait(30), luma.shape

    with ThreadPoolExecutor(1) as executor:
        b = make(in_step("MMMM"), executor=executor, clock=lambda: now, sleep=sleep, health=slow)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.run())
            await eventually_async(lambda: len(b.seen.of("detected")) == 3)
            begin = now
            await eventually_async(lambda: now > begin + 100)
            assert b.seen.of("motion") == [("motion", True)]
            leave.set()
            await eventually_async(lambda: len(b.seen.of("detected")) == 4)
            await b.unit.stop()


@given(
    verdicts=st.text(alphabet="MMM..s", max_size=80),
    keep=st.sampled_from(Keep),
    every_s=st.sampled_from([0.1, 0.5, 1.0]),
    max_frames=st.sampled_from([1, 2, 7, 300]),
    confirm=st.sampled_from([(1, 1), (2, 3), (3, 5)]),
    off_delay_s=st.sampled_from([0.0, 0.4, 2.0]),
    max_length_s=st.sampled_from([0.5, 3.0, 300.0]),
    pre_s=st.sampled_from([0.0, 1.0, 5.0]),
    pre_bytes=st.sampled_from([0, 2 * BYTES, 100 * BYTES]),
    bad=st.sets(st.integers(0, 40), max_size=5),
    lost=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_what_is_accepted_is_well_formed_for_every_input(
    verdicts: str,
    keep: Keep,
    every_s: float,
    max_frames: int,
    confirm: tuple[int, int],
    off_delay_s: float,
    max_length_s: float,
    pre_s: float,
    pre_bytes: int,
    bad: set[int],
    lost: bool,
) -> None:
    calls = iter(range(10**6))

    def sometimes(image: Image) -> tuple[bytes, int, int]:
        if next(calls) in bad:
            raise ImageError("cannot encode")
        return b"jpeg", image.shape[1], image.shape[0]

    b = make(
        ListSource(scene(verdicts), then=CameraUnavailable("gone") if lost else None),
        keep=keep,
        every_s=every_s,
        max_frames=max_frames,
        tracking=TrackerSettings(confirm=confirm, off_delay_s=off_delay_s, max_length_s=max_length_s),
        encode_with=sometimes,
        pre_s=pre_s,
        pre_bytes=pre_bytes,
    )
    for _ in range(2):
        with contextlib.suppress(CameraUnavailable):
            asyncio.run(b.run())
        b.source.items = scene(verdicts, begin=100.0)
    assert_well_formed(b.outbox)
    assert_off(b.seen)
    counts = Counter(record.info.event_id for record in b.outbox.records)
    most = 1 if keep in (Keep.FIRST, Keep.BEST) else max_frames
    assert all(count <= most for count in counts.values())
    if not bad:
        started = {phase.event.event_id for phase in b.outbox.phases}
        assert set(counts) == started
