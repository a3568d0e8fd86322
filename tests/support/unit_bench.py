"""A camera unit with fakes around it: a list of frames in, accepted items and reports out."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from async_motion.camera.detector_host import Health
from async_motion.camera.recorder import Encode
from async_motion.camera.spec import UnitSettings
from async_motion.camera.unit import CameraUnit
from async_motion.core.detection.detector import DetectorSettings
from async_motion.core.events.selection import Keep, PolicySettings
from async_motion.core.events.tracker import TrackerSettings
from async_motion.core.model import (
    Detection,
    EventPhase,
    Frame,
    Luma,
    MotionEvent,
    Phase,
    Reason,
    Record,
    SceneChange,
)
from async_motion.errors import FrameShapeError
from async_motion.jpeg import encode
from tests.support.clock import BEGIN
from tests.support.frames import make_frame
from tests.support.records import MemoryOutbox

BYTES = 1000
"""The memory that each frame of these tests claims."""


def judged_frame(at: float, *, moving: bool = False, shape: tuple[int, int] = (16, 16)) -> Frame:
    """Return a frame whose first pixel encodes the verdict of FakeDetector."""
    luma = np.zeros(shape, np.uint8)
    luma[0, 0] = 200 if moving else 0
    return make_frame(at, luma=luma, nbytes=BYTES)


def scene(verdicts: str, *, fps: float = 5.0, begin: float = 0.0) -> list[Frame]:
    """Return a frame for each letter: M for motion, anything else for none."""
    return [judged_frame(begin + i / fps, moving=letter == "M") for i, letter in enumerate(verdicts)]


class FakeDetector:
    """Reads the verdict from the frame; the score is the pixel's value."""

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
    """Runs the work in the caller's thread, so that tests are deterministic."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001  # as an executor does
            future.set_exception(exc)
        return future


@dataclass
class ListSource:
    """Yields the given frames; then ends, raises or waits forever.

    With `pace` it is a live camera in step with the unit: each frame comes once the previous one was judged.
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


class RecordingObserver:
    """An observer that records all calls."""

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
    seen: RecordingObserver
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
    seen = RecordingObserver()
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
    """Return a live camera that does not end, in step with the unit that judges its frames."""
    return ListSource(scene(verdicts), live=True, stay=True, pace=asyncio.Queue())


def shape_of(batch: Sequence[Record | EventPhase]) -> list[str | int]:
    """Return the seq of each record and the name of each phase."""
    return [item.info.seq if isinstance(item, Record) else item.phase.value for item in batch]


def times_of(outbox: MemoryOutbox) -> list[float]:
    """Return the capture times of the accepted frames, in seconds of the scene."""
    return [round((record.info.captured_at - BEGIN).total_seconds(), 3) for record in outbox.records]


def assert_well_formed(outbox: MemoryOutbox) -> None:
    """Assert for each event: one start, right after the opening frame; rising seqs; one end, at the end."""
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


def assert_off(seen: RecordingObserver) -> None:
    """Assert that motion and zones alternated between ON and OFF, and are OFF."""
    for kind in ("motion", "zone"):
        states = [call[-1] for call in seen.of(kind)]
        assert states == [True, False] * (len(states) // 2)
    assert len(seen.of("started")) == len(seen.of("ended"))
