"""The camera unit: a list of frames in, accepted items out, and nothing left open on any way out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import hashlib
import json
import logging
import random
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from async_motion.camera.unit import STALE_S, CameraUnit, Encode, Health, Learned, UnitSettings
from async_motion.core import names
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.events.selection import Keep, PolicySettings
from async_motion.core.events.tracker import TrackerSettings
from async_motion.core.model import (
    Detection,
    EndReason,
    EventPhase,
    Frame,
    Image,
    Luma,
    MotionEvent,
    Phase,
    Reason,
    Record,
    SceneChange,
)
from async_motion.errors import CameraRefused, CameraUnavailable, FrameShapeError, ImageError, SpoolError
from async_motion.jpeg import encode
from tests.support.wait import eventually_async

BEGIN = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)
BYTES = 1000
"""What each frame of these tests claims to cost."""


def make_frame(at: float, *, moving: bool = False, shape: tuple[int, int] = (16, 16)) -> Frame:
    """Return a frame whose brightest pixel says whether something moves."""
    luma = np.zeros(shape, np.uint8)
    luma[0, 0] = 200 if moving else 0
    return Frame(
        camera="porch",
        captured_at=BEGIN + timedelta(seconds=at),
        monotonic=at,
        luma=luma,
        bgr=lambda: np.zeros((*shape, 3), np.uint8),
        nbytes=BYTES,
    )


def scene(verdicts: str, *, fps: float = 5.0, begin: float = 0.0) -> list[Frame]:
    """Return a frame for each letter: M for motion, anything else for none."""
    return [make_frame(begin + i / fps, moving=letter == "M") for i, letter in enumerate(verdicts)]


class FakeDetector:
    """Reads the verdict from the picture; the score is the pixel's value."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self.shape: tuple[int, ...] | None = None
        self.breaks_at: int | None = None

    def update(self, luma: Luma, monotonic: float) -> Detection:
        del monotonic
        if luma[0, 0] == self.breaks_at:
            raise ZeroDivisionError
        if self.shape not in (None, luma.shape):
            raise FrameShapeError("another shape")
        self.shape = luma.shape
        if not luma[0, 0]:
            return Detection(motion=False, reason=Reason.STILL)
        return Detection(motion=True, reason=Reason.MOTION, score=float(luma[0, 0]) / 255, zones=("drive",))


class InlineExecutor(Executor):
    """Runs the work in the caller: every run of a test takes the same steps."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


@dataclass
class ListSource:
    """Yields what it was given; then ends, raises or waits for ever.

    With `pace` it is a live camera in step with us: each frame comes once the one before was judged.
    """

    items: Sequence[Frame]
    live: bool = False
    then: Exception | None = None
    stay: bool = False
    pace: asyncio.Queue[None] | None = None
    closed: int = 0
    heard: list[tuple[float, Detection]] = field(default_factory=list)

    def judged(self, monotonic: float, detection: Detection) -> None:
        self.heard.append((monotonic, detection))

    async def frames(self) -> AsyncIterator[Frame]:
        try:
            for frame in self.items:
                yield frame
                if self.pace is not None:
                    await self.pace.get()
            if self.then is not None:
                raise self.then
            if self.stay:
                await asyncio.Event().wait()
        finally:
            self.closed += 1


@dataclass
class MemoryOutbox:
    """Remembers what it accepted, a list for each transaction."""

    batches: list[list[Record | EventPhase]] = field(default_factory=list)
    failures: int = 0
    """How many of the next acceptances fail."""
    gate: asyncio.Event | None = None
    bug: bool = False
    """The first acceptance fails in a way that nobody expects."""

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.bug:
            self.bug = False
            raise ZeroDivisionError
        if self.failures:
            self.failures -= 1
            raise SpoolError("disk full")
        self.batches.append(list(items))

    @property
    def items(self) -> list[Record | EventPhase]:
        return [item for batch in self.batches for item in batch]

    @property
    def records(self) -> list[Record]:
        return [item for item in self.items if isinstance(item, Record)]

    @property
    def phases(self) -> list[EventPhase]:
        return [item for item in self.items if isinstance(item, EventPhase)]


class Recorder:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.pace: asyncio.Queue[None] | None = None

    def camera_online(self, _camera: str) -> None:
        self.calls.append(("online",))

    def camera_offline(self, _camera: str, problem: str) -> None:
        self.calls.append(("offline", problem))

    def motion(self, _camera: str, on: bool) -> None:
        self.calls.append(("motion", on))

    def zone_motion(self, _camera: str, zone: str, on: bool) -> None:
        self.calls.append(("zone", zone, on))

    def detected(self, _camera: str, detection: Detection) -> None:
        self.calls.append(("detected", detection.motion))
        if self.pace is not None:
            self.pace.put_nowait(None)

    def scene_changed(self, _camera: str, kind: SceneChange) -> None:
        self.calls.append(("scene", kind))

    def event_started(self, event: MotionEvent) -> None:
        self.calls.append(("started", event.event_id))

    def event_ended(self, event: MotionEvent) -> None:
        self.calls.append(("ended", event.end_reason))

    def dropped(self, _camera: str, reason: str, count: int) -> None:
        self.calls.append(("dropped", reason, count))

    def problem(self, _camera: str, problem: str | None) -> None:
        self.calls.append(("problem", problem))

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in kinds]

    def count(self, reason: str) -> int:
        return sum(call[2] for call in self.of("dropped") if call[1] == reason)


@dataclass
class Bench:
    """A unit with fakes around it."""

    unit: CameraUnit
    source: ListSource
    outbox: MemoryOutbox
    seen: Recorder
    detectors: list[FakeDetector]
    made: list[Frame] = field(default_factory=list)

    async def run(self) -> None:
        await self.unit.run()


def make(
    source: ListSource,
    *,
    keep: Keep = Keep.ALL,
    every_s: float = 1.0,
    max_frames: int = 300,
    tracking: TrackerSettings | None = None,
    outbox: MemoryOutbox | None = None,
    encode_with: Encode | None = None,
    executor: Executor | None = None,
    encoder: Executor | None = None,
    health: Health | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    make_detector: Callable[[DetectorSettings], FakeDetector] = FakeDetector,
    detector: FakeDetector | None = None,
    **settings: Any,
) -> Bench:
    outbox = outbox or MemoryOutbox()
    seen = Recorder()
    seen.pace = source.pace
    detectors: list[FakeDetector] = []

    def remembered(chosen: DetectorSettings) -> FakeDetector:
        detectors.append(make_detector(chosen))
        return detectors[-1]

    unit = CameraUnit(
        UnitSettings(
            **{
                "instance": "edge1",
                "camera": "porch",
                "prefix": "p/",
                "tracking": tracking or TrackerSettings(off_delay_s=1.0),
                "policy": PolicySettings(keep=keep, every_s=every_s, max_frames=max_frames),
                **settings,
            }
        ),
        source=source,
        outbox=outbox,
        observer=seen,
        executor=executor or InlineExecutor(),
        encode=encode_with or partial(encode, quality=85),
        draw24=partial(random.Random(7).getrandbits, 24),
        make_detector=remembered,
        detector=detector,
        encoder=encoder,
        health=health,
        clock=clock,
        sleep=sleep,
    )
    return Bench(unit, source, outbox, seen, detectors)


def in_step(verdicts: str) -> ListSource:
    """Return a live camera that stays, in step with the unit that judges its frames."""
    return ListSource(scene(verdicts), live=True, stay=True, pace=asyncio.Queue())


def shape_of(batch: Sequence[Record | EventPhase]) -> list[str | int]:
    """Return the seq of each record and the name of each phase."""
    return [item.info.seq if isinstance(item, Record) else item.phase.value for item in batch]


def times_of(outbox: MemoryOutbox) -> list[float]:
    """Return when the accepted frames were captured, in seconds of the scene."""
    return [round((record.info.captured_at - BEGIN).total_seconds(), 3) for record in outbox.records]


def assert_well_formed(outbox: MemoryOutbox) -> None:
    """Each event: its start once, right behind the opening frame; rising frames; its end once, and last."""
    open_event: str | None = None
    next_seq: dict[str, int] = {}
    latest: dict[str, datetime] = {}
    keys: set[str] = set()
    ended: set[str] = set()
    for item in outbox.items:
        if isinstance(item, EventPhase):
            event_id = item.event.event_id
            if item.phase is Phase.START:
                assert open_event is None
                open_event = event_id
            else:
                assert item.phase is Phase.END
                assert open_event == event_id
                open_event = None
                ended.add(event_id)
            continue
        info = item.info
        assert info.event_id not in ended
        assert info.seq == next_seq.get(info.event_id, 0)
        next_seq[info.event_id] = info.seq + 1
        assert info.captured_at > latest.get(info.event_id, datetime.min.replace(tzinfo=UTC))
        latest[info.event_id] = info.captured_at
        assert info.object_key not in keys
        keys.add(info.object_key)
        assert info.size == len(item.jpeg)
        assert info.sha256 == hashlib.sha256(item.jpeg).hexdigest()
    assert open_event is None


def assert_off(seen: Recorder) -> None:
    """Motion and zones were switched ON and OFF in turn, and are OFF."""
    for kind in ("motion", "zone"):
        states = [call[-1] for call in seen.of(kind)]
        assert states == [True, False] * (len(states) // 2)
    assert len(seen.of("started")) == len(seen.of("ended"))


# One event, from the source to the outbox


async def test_one_event_of_a_file_reaches_the_outbox_in_order() -> None:
    b = make(ListSource(scene("......MMMM.........")))
    await b.run()

    # A second of pre-roll at 5 frames a second, the opening frame, the start, the confirming frame.
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
    # The opening frame at 2.0 s waited until 2.8 s; of the frames between only those with motion are kept.
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
    # Every frame once: the next event has no pre-roll of frames that belong to the first.
    assert times_of(b.outbox) == [round(i * 0.2, 3) for i in range(15)]
    assert_well_formed(b.outbox)


async def test_motion_is_reported_before_any_picture_is_made() -> None:
    seen: Recorder | None = None

    def spying(picture: Image) -> tuple[bytes, int, int]:
        assert seen is not None
        seen.calls.append(("encode",))
        return encode(picture)

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


# Too much to do


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


async def test_pictures_that_the_encoder_cannot_keep_up_with_go_and_the_opening_stays() -> None:
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


async def test_another_codec_starts_a_new_detector() -> None:
    frames = [replace(frame, codec="h264" if i < 3 else "hevc") for i, frame in enumerate(scene("......"))]
    b = make(ListSource(frames))
    await b.run()
    assert len(b.detectors) == 2
    assert len(b.seen.of("detected")) == 6


# Ways out of run


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


async def test_what_a_cancellation_gave_up_is_given_up_once() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(picture: Image) -> tuple[bytes, int, int]:
        entered.set()
        assert leave.wait(30)
        return encode(picture)

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


async def test_frames_that_came_before_the_loss_are_judged() -> None:
    b = make(ListSource(scene("MMM"), live=True, then=CameraUnavailable("gone")))
    with pytest.raises(CameraUnavailable):
        await b.run()
    assert len(b.outbox.records) == 3


async def test_a_camera_that_cannot_be_opened_is_offline_with_its_problem() -> None:
    b = make(ListSource([], then=CameraRefused("wrong user or password (401)")))
    with pytest.raises(CameraRefused):
        await b.run()
    assert b.seen.calls == [("offline", "wrong user or password (401)")]
    assert b.outbox.batches == []


async def test_a_long_absence_makes_the_background_worthless() -> None:
    b = make(ListSource(scene("...")))
    await b.run()
    b.source.items = scene("...", begin=0.4 + STALE_S)
    await b.run()
    assert len(b.detectors) == 1
    b.source.items = scene("...", begin=1.0 + 2 * STALE_S)
    await b.run()
    assert len(b.detectors) == 2


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
        await asyncio.sleep(0)  # run has begun, its tasks have not
        await b.unit.stop()
    assert b.seen.calls == [("offline", "stopped")]


async def test_a_unit_runs_once_at_a_time() -> None:
    b = make(ListSource([], stay=True))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="twice"):
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
    def broken(_picture: Image) -> tuple[bytes, int, int]:
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


async def test_who_is_cancelled_waits_for_its_thread() -> None:
    """Else the next connection would use the same detector at the same time."""
    entered, leave = threading.Event(), threading.Event()

    def slow(picture: Image) -> tuple[bytes, int, int]:
        entered.set()
        assert leave.wait(30)
        return encode(picture)

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
    """The loop takes the same steps each time: one run for each step at which it can be cancelled."""
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


async def test_an_outbox_that_never_answers_holds_nobody_up_and_gets_the_phases_later() -> None:
    outbox = MemoryOutbox(gate=asyncio.Event())
    b = make(ListSource(scene("..MMM"), then=CameraUnavailable("gone")), outbox=outbox, settle_s=0.01)
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


# Trouble with the spool and the encoder


async def test_a_spool_in_trouble_costs_pictures_but_neither_the_camera_nor_a_phase(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "async_motion.camera.unit")
    outbox = MemoryOutbox(failures=3)
    b = make(ListSource(scene("..MMMMMM" + "." * 10)), outbox=outbox)
    await b.run()
    # The opening with four frames, then two frames by themselves.
    assert b.seen.count("spool") == 6
    assert shape_of(outbox.items) == ["start", 6, 7, "end"]
    assert b.seen.of("motion") == [("motion", True), ("motion", False)]
    told = [record.message for record in caplog.records if "spool" in record.message]
    assert told == [
        "porch: the spool takes nothing, pictures are lost: disk full",
        "porch: the spool takes pictures again",
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


async def test_a_picture_that_cannot_be_encoded_is_counted_and_leaves_no_hole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = iter(range(100))

    def failing(picture: Image) -> tuple[bytes, int, int]:
        if next(calls) in (1, 2):
            raise ImageError("cannot encode")
        return encode(picture)

    caplog.set_level(logging.INFO, "async_motion.camera.unit")
    b = make(ListSource(scene("..MMMM")), encode_with=failing)
    await b.run()
    assert shape_of(b.outbox.items) == [0, "start", 1, 2, 3, "end"]
    assert b.seen.count("encode") == 2
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert_well_formed(b.outbox)


async def test_an_event_none_of_whose_pictures_can_be_encoded_still_has_its_phases() -> None:
    def failing(picture: Image) -> tuple[bytes, int, int]:
        raise ImageError(f"cannot encode {picture.shape}")

    for keep in Keep:
        b = make(ListSource(scene("..MMMM")), encode_with=failing, keep=keep)
        await b.run()
        assert shape_of(b.outbox.items) == ["start", "end"]


async def test_a_picture_that_the_camera_cannot_give_any_more_is_only_that() -> None:
    def gone() -> Image:
        raise CameraUnavailable("not in the ring any more")

    frames = scene("..MMMM")
    frames[3] = dataclasses.replace(frames[3], bgr=gone)
    b = make(ListSource(frames))
    await b.run()
    assert b.seen.count("encode") == 1
    assert len(b.outbox.records) == 5


# What changes while it runs


async def test_a_change_of_shape_starts_a_new_detector() -> None:
    small, large = scene("..MM"), [make_frame(0.8 + i / 5, moving=i > 1, shape=(32, 32)) for i in range(4)]
    b = make(ListSource([*small, *large]))
    await b.run()
    assert [detector.shape for detector in b.detectors] == [(16, 16), (32, 32)]
    assert len(b.seen.of("detected")) == 8
    assert len(b.outbox.phases) == 2, "the event goes on"


async def test_switching_detection_off_ends_the_event_at_once_and_on_begins_anew() -> None:
    source = in_step("..MMMM")
    b = make(source)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: len(b.seen.of("detected")) == 6)
        b.unit.set_detection(False)
        assert b.seen.of("motion")[-1] == ("motion", False)
        assert b.unit.values()["detection"] is False
        b.unit.set_detection(False)
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
                b.unit.set_detection(False)
                b.unit.set_detection(True)
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


async def test_a_snapshot_needs_no_detection() -> None:
    b = make(ListSource(scene("M"), live=True, stay=True), detecting=False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        await b.unit.snapshot()
        await b.unit.stop()
    (record,) = b.outbox.records
    assert (record.info.score, record.info.boxes, record.info.zones) == (0.0, (), ())


async def test_settings_change_while_it_runs_and_a_new_detector_takes_them() -> None:
    b = make(ListSource(scene("..")), detection=DetectorSettings(min_area=0.01))
    assert b.unit.values() == {
        "detection": True,
        "sensitivity": "medium",
        "threshold": None,
        "min_area": 0.01,
    }
    assert tuple(b.unit.values()) == names.SETTINGS
    b.unit.set_sensitivity("high")
    b.unit.set_threshold(12.5)
    b.unit.set_min_area(0.5)
    assert b.unit.values() == {
        "detection": True,
        "sensitivity": "high",
        "threshold": 12.5,
        "min_area": 0.5,
    }
    b.unit.set_threshold(None)
    await b.run()
    assert [detector.settings for detector in b.detectors[1:]] == [
        DetectorSettings(sensitivity="high", min_area=0.5)
    ], "one for all changes"
    assert b.detectors[-1].shape == (16, 16)
    assert b.detectors[0].shape is None


async def test_several_settings_change_at_once_or_none() -> None:
    b = make(ListSource(scene("..")))
    b.unit.adopt({"sensitivity": "low", "threshold": None, "min_area": 0.01})
    with pytest.raises(ValueError, match="min_area: expected a share"):
        b.unit.adopt({"sensitivity": "high", "min_area": 1.5})
    with pytest.raises(ValueError, match="detection: False: expected sensitivity, threshold or min_area"):
        b.unit.adopt({"sensitivity": "high", "detection": False})
    assert b.unit.values()["sensitivity"] == "low"
    await b.run()
    assert [detector.settings for detector in b.detectors[1:]] == [
        DetectorSettings(sensitivity="low", min_area=0.01)
    ]


class LearnedDetector(FakeDetector):
    """One that another can learn from: knows how many frames were seen, and by which thresholds."""

    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__(settings)
        self.judged_by: list[float | None] = []
        self.threads: set[str] = set()
        self.torn = False
        self.away_s = 0.0

    def update(self, luma: Luma, monotonic: float) -> Detection:
        self.judged_by.append(self.settings.threshold)
        self.threads.add(threading.current_thread().name)
        return super().update(luma, monotonic)

    def state(self) -> bytes:
        self.threads.add(threading.current_thread().name)
        return b"torn" if self.torn else json.dumps(self.judged_by).encode() if self.judged_by else b""

    @classmethod
    def restore(cls, settings: DetectorSettings, state: bytes, *, away_s: float = 0.0) -> LearnedDetector:
        heir = cls(settings)
        heir.away_s = away_s
        heir.judged_by = json.loads(state)
        return heir


async def retuned(*thresholds: float | None, torn: bool = False) -> tuple[CameraUnit, list[FakeDetector]]:
    """Set each threshold after one more frame; return the unit, and the detectors that were made anew."""
    source = in_step("." * (len(thresholds) + 1))
    pace = source.pace
    assert pace is not None
    with ThreadPoolExecutor(1, thread_name_prefix="work") as executor:
        b = make(source, executor=executor, make_detector=LearnedDetector)
        b.seen.pace = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.run())
            for count, threshold in enumerate(thresholds, start=1):
                await eventually_async(lambda count=count: len(b.seen.of("detected")) == count)  # type: ignore[misc]
                detector = b.unit._detector
                assert isinstance(detector, LearnedDetector)
                detector.torn = torn
                b.unit.set_threshold(threshold)
                pace.put_nowait(None)
            await eventually_async(lambda: len(b.seen.of("detected")) == len(thresholds) + 1)
            await b.unit.stop()
    return b.unit, b.detectors


async def test_a_change_of_thresholds_does_not_cost_what_was_learned() -> None:
    unit, made = await retuned(20.0, 20.0, 30.0)
    detector = unit._detector
    assert isinstance(detector, LearnedDetector)
    assert detector.judged_by == [None, 20.0, 20.0, 30.0]
    assert detector.threads == {"work_0"}, "never from the loop: it may be at work"
    assert len(made) == 1


async def test_what_cannot_be_taken_over_is_learned_anew() -> None:
    unit, made = await retuned(20.0, torn=True)
    assert unit._detector is made[-1]
    assert [detector.settings.threshold for detector in made] == [None, 20.0]


async def test_thresholds_changed_while_detection_is_off_hold_when_it_is_on_again() -> None:
    b = make(in_step("...."), make_detector=LearnedDetector)
    pace = b.source.pace
    assert pace is not None
    b.seen.pace = None
    b.unit.set_detection(False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        b.unit.set_threshold(20.0)
        pace.put_nowait(None)
        b.unit.set_detection(True)
        for _ in range(3):
            pace.put_nowait(None)
        await eventually_async(lambda: b.seen.of("detected"))
        await b.unit.stop()
    detector = b.unit._detector
    assert isinstance(detector, LearnedDetector)
    assert set(detector.judged_by) == {20.0}


async def test_what_was_learned_is_told_once_with_the_time_of_its_last_frame() -> None:
    b = make(ListSource(scene("....")), make_detector=LearnedDetector)
    assert await b.unit.learned() is None
    await b.run()
    assert await b.unit.learned() == (b"[null, null, null, null]", BEGIN + timedelta(seconds=0.6))
    assert await b.unit.learned() is None
    b.source.items = scene(".", begin=1.0)
    await b.run()
    assert await b.unit.learned() == (b"[null, null, null, null, null]", BEGIN + timedelta(seconds=1.0))
    plain = make(ListSource(scene("....")))
    await plain.run()
    assert await plain.unit.learned() is None, "a detector that has nothing to hand on"


async def test_after_a_long_absence_the_detector_is_told_how_long_it_was() -> None:
    b = make(ListSource(scene("...")), make_detector=LearnedDetector)
    await b.run()
    b.source.items = scene("...", begin=0.4 + STALE_S)
    await b.run()
    detector = b.unit._detector
    assert isinstance(detector, LearnedDetector)
    assert detector.away_s == 0.0
    b.source.items = scene("...", begin=1.0 + 2 * STALE_S)
    await b.run()
    heir = b.unit._detector
    assert isinstance(heir, LearnedDetector)
    assert heir.away_s == pytest.approx(STALE_S + 0.2)
    assert len(heir.judged_by) == 9


async def test_a_unit_takes_over_a_detector_that_knows_the_scene() -> None:
    knowing = LearnedDetector(DetectorSettings())
    b = make(ListSource(scene("..")), make_detector=LearnedDetector, detector=knowing)
    await b.run()
    assert b.detectors == []
    assert len(knowing.judged_by) == 2


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


def test_the_real_detector_hands_on_what_it_has_learned() -> None:
    luma = np.random.default_rng(1).integers(0, 255, (90, 160), np.uint8)
    detector: object = Detector(DetectorSettings())
    assert isinstance(detector, Detector)
    for number in range(30):
        detector.update(luma, number / 5)
    assert isinstance(detector, Learned)
    heir = detector.restore(DetectorSettings(sensitivity="high"), detector.state())
    assert heir.update(luma, 6.0).reason is Reason.STILL
    assert Detector(DetectorSettings()).update(luma, 6.0).reason is Reason.LEARNING


async def test_the_newest_frame_can_be_looked_at() -> None:
    b = make(ListSource(scene("."), live=True, stay=True))
    assert await b.unit.look(lambda picture: picture.shape) is None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        assert await b.unit.look(lambda picture: picture.shape) == (16, 16, 3)
        await b.unit.stop()
    assert await b.unit.look(lambda picture: picture.shape) is None


async def test_values_that_cannot_be_meant_are_refused() -> None:
    b = make(ListSource([]))
    before = b.unit.values()
    with pytest.raises(ValueError, match="low, medium, high"):
        b.unit.set_sensitivity("extreme")
    for threshold in (-1.0, 256.0, float("nan")):
        with pytest.raises(ValueError, match="0 to 255"):
            b.unit.set_threshold(threshold)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="0 to 1"):
            b.unit.set_min_area(share)
    assert b.unit.values() == before


# Snapshots


async def test_a_snapshot_is_a_lone_record_with_an_id_of_its_own() -> None:
    source = in_step("...MMM")
    b = make(source)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: len(b.outbox.records) == 6)
        await b.unit.snapshot()
        await b.unit.snapshot()
        assert await b.unit.picture() is not None
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
    with pytest.raises(CameraUnavailable, match="no picture"):
        await b.unit.snapshot()
    await b.run()
    with pytest.raises(CameraUnavailable, match="no picture"):
        await b.unit.snapshot()
    assert await b.unit.picture() is None


async def test_a_snapshot_that_the_spool_refuses_says_so() -> None:
    b = make(ListSource(scene(".."), live=True, stay=True), outbox=MemoryOutbox(failures=1))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        with pytest.raises(SpoolError):
            await b.unit.snapshot()
        await b.unit.stop()


# Time without frames


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
    """On a machine that is too slow an event must not end before its next frame was looked at."""
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


# Memory, and more than one camera


async def test_no_more_frames_are_alive_than_the_bounds_allow() -> None:
    alive: list[weakref.ref[NDArray[np.uint8]]] = []
    most = 0

    def count() -> int:
        return sum(ref() is not None for ref in alive)

    class Fresh(Sequence[Frame]):
        """Makes each frame when it is asked for, and keeps none."""

        def __len__(self) -> int:
            return 400

        def __getitem__(self, place: Any) -> Any:
            nonlocal most
            if place >= len(self):
                raise IndexError
            frame = make_frame(place / 5, moving=place % 100 > 60)
            alive.append(weakref.ref(frame.luma))
            most = max(most, count())
            return frame

    b = make(ListSource(Fresh()), depth=2, pre_bytes=5 * BYTES, backlog_bytes=BYTES)
    await b.run()
    gc.collect()
    assert len(b.outbox.records) > 150
    assert count() <= 1
    # The ring, the backlog with the job at work, two waiting, the newest, those in hand.
    assert most <= 5 + 6 + 2 + 4


async def test_a_picture_that_is_slow_to_come_does_not_hold_up_detection() -> None:
    leave = threading.Event()

    def slow(picture: Image) -> tuple[bytes, int, int]:
        assert leave.wait(30)
        return encode(picture)

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as encoder:
        b = make(in_step("MM" + "." * 10), executor=executor, encoder=encoder, encode_with=slow)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.run())
            await eventually_async(lambda: ("motion", False) in b.seen.calls)
            leave.set()
            await b.unit.stop()
    assert shape_of(b.outbox.items) == [0, "start", 1, "end"]


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


# Everything at once


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

    def sometimes(picture: Image) -> tuple[bytes, int, int]:
        if next(calls) in bad:
            raise ImageError("cannot encode")
        return b"jpeg", picture.shape[1], picture.shape[0]

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
