"""One camera, from its source to the spool. A unit shares no state with another.

    source ──▶ DropOldestQueue ──▶ detector ──▶ tracker ──▶ policy ──▶ Backlog ──▶ encoder ──▶ outbox
     capture[camera]           ╰─────────── run: the watch ───────────╯        ╰── keep[camera] ──╯
                               (executor)                                       (executor)

- The watch decides, and never waits for the encoder or the disk (for a file it does, and loses nothing).
  Motion is reported the moment that it is known, before any picture is made.
- Order is kept: frames are judged in the order of capture and accepted in that order. The start of an event
  is accepted in one transaction with its pre-roll and its opening frame, right behind the latter; its end
  comes after all its frames.
- Every way out of `run` ends an open event: the end is accepted by the outbox (within `settle_s`) and motion
  OFF is reported. A phase that the outbox could not take is owed, and goes ahead of what is accepted next.
- The outbox may fail (a full disk): the pictures are counted as lost, the camera and detection go on.
- A thread cannot be cancelled: whoever is cancelled waits for its own work in the executor first, so that a
  detector is never used twice at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar, get_args, runtime_checkable

from async_motion.camera.queues import Backlog, DropOldestQueue, Job
from async_motion.core import names
from async_motion.core.detection.detector import TRUSTED_S, Detector, DetectorSettings
from async_motion.core.detection.sensitivity import Sensitivity
from async_motion.core.events.pre_roll import Judged, PreRoll
from async_motion.core.events.scene_changes import SceneChanges
from async_motion.core.events.selection import Choice, PolicySettings, Selection
from async_motion.core.events.tracker import Change, Tracker, TrackerSettings, ZoneChange
from async_motion.core.model import (
    Detection,
    EndReason,
    EventPhase,
    Frame,
    FrameInfo,
    Image,
    Luma,
    MotionEvent,
    Phase,
    Reason,
    Record,
    SceneChange,
)
from async_motion.errors import CameraUnavailable, FrameShapeError, ImageError, SpoolError

log = logging.getLogger(__name__)

T = TypeVar("T")

STALE_S = TRUSTED_S
"""A background that has not been looked at for so long is not trusted after a gap without a doubt."""

_TICK_S = 1.0
_MAX_OWED = 64
_NOT_JUDGED = Detection(motion=False, reason=Reason.STILL)


class Source(Protocol):
    """One camera's source of frames; it lives across connections, and its owner closes it."""

    @property
    def live(self) -> bool:
        """True: the newest frame wins. False (a file at full speed): the reader waits for us."""

    def frames(self) -> AsyncIterator[Frame]:
        """Yield the frames of one connection. Ends with a file. Raises CameraUnavailable, CameraRefused."""

    def judged(self, monotonic: float, detection: Detection) -> None:
        """Hear the verdict on the frame of time `monotonic`; what is decoded may depend on it. Quick."""


class Outbox(Protocol):
    """Where accepted records are durable."""

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Return once all are durable, in one transaction. Raises SpoolError."""


class Observer(Protocol):
    """Who is told what happens. Every call is synchronous and must not block."""

    def camera_online(self, camera: str) -> None: ...
    def camera_offline(self, camera: str, problem: str) -> None: ...
    def motion(self, camera: str, on: bool) -> None: ...
    def zone_motion(self, camera: str, zone: str, on: bool) -> None: ...
    def detected(self, camera: str, detection: Detection) -> None: ...
    def scene_changed(self, camera: str, kind: SceneChange) -> None: ...
    def event_started(self, event: MotionEvent) -> None: ...
    def event_ended(self, event: MotionEvent) -> None: ...
    def dropped(self, camera: str, reason: str, count: int) -> None: ...
    def problem(self, camera: str, problem: str | None) -> None: ...


class Judge(Protocol):
    """A detector for one camera and one shape of picture."""

    def update(self, luma: Luma, monotonic: float) -> Detection:
        """Return the verdict on the next frame. Raises FrameShapeError when the shape changes."""


@runtime_checkable
class Learned(Protocol):
    """A detector whose knowledge of the scene another can take over."""

    def state(self) -> bytes:
        """Return what was learned; empty before the first frame."""

    @classmethod
    def restore(cls, settings: DetectorSettings, state: bytes, *, away_s: float = 0.0) -> Judge:
        """Return a detector that knows it, `away_s` later. Raises ValueError where it cannot be used."""


Encode = Callable[[Image], tuple[bytes, int, int]]
"""BGR picture -> (JPEG, width, height). Blocks. Raises ImageError."""

Health = Callable[[Luma, float], str | None]
"""(luma, monotonic) -> what is wrong with the picture, or None. Pure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """One camera's settings, and its bounds.

    `pre_s` and `pre_bytes` bound the pre-roll. `depth` is how many frames may wait for the detector,
    `backlog_bytes` what the frames that wait for the encoder may cost beside a pre-roll, `settle_s` how long
    the way out of `run` waits for the outbox.
    """

    instance: str
    camera: str
    prefix: str = ""
    detecting: bool = True
    detection: DetectorSettings = field(default_factory=DetectorSettings)
    tracking: TrackerSettings = field(default_factory=TrackerSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    pre_s: float = 1.0
    pre_bytes: int = 64 << 20
    depth: int = 4
    backlog_bytes: int = 64 << 20
    settle_s: float = 5.0


class CameraUnit:
    """Walk one camera's frames from its source to the outbox.

    `executor` runs detection and, unless `encoder` is given, encoding. With many cameras give one: a picture
    from a second stream may wait for its packets, and must not hold up detection. `draw24` returns 24 random
    bits for an event's id. `detector` is one that knows the scene already, made for `settings.detection`.
    `clock` is the monotonic clock and `sleep` waits on it: both matter only while no frames come.
    """

    def __init__(
        self,
        settings: UnitSettings,
        *,
        source: Source,
        outbox: Outbox,
        observer: Observer,
        executor: Executor,
        encode: Encode,
        draw24: Callable[[], int],
        encoder: Executor | None = None,
        health: Health | None = None,
        make_detector: Callable[[DetectorSettings], Judge] = Detector,
        detector: Judge | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._camera = settings.camera
        self._source = source
        self._outbox = outbox
        self._observer = observer
        self._executor = executor
        self._encoder = encoder or executor
        self._encode = encode
        self._draw24 = draw24
        self._health = health
        self._make_detector = make_detector
        self._clock = clock
        self._sleep = sleep

        self._detecting = settings.detecting
        self._detection = settings.detection
        self._detector = detector or make_detector(settings.detection)
        self._judged_by = settings.detection
        """The settings that the detector was made with: others come into force with the next frame."""
        self._codec = ""
        """How the frames that it has seen were encoded."""
        self._tracker = Tracker(
            settings.tracking, instance=settings.instance, camera=settings.camera, make_id=self._new_id
        )
        self._changes = SceneChanges()
        self._ring = PreRoll(seconds=settings.pre_s, max_bytes=settings.pre_bytes)
        self._waiting = DropOldestQueue(settings.depth)
        self._backlog = self._new_backlog()

        self._capturing: asyncio.Task[None] | None = None
        self._running = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._stopping = False
        self._lost: CameraUnavailable | None = None
        self._online = False
        self._motion_on = False
        self._problem: str | None = None
        self._newest: Frame | None = None
        self._judging = False
        self._judged: Judged | None = None
        self._last_monotonic = math.inf
        """The last judged frame's time, none yet: later than all; and what `clock` said then."""
        self._judged_at = 0.0
        self._at_detector = asyncio.Lock()
        self._taught_at: datetime | None = None
        """When the last frame was taken that `learned` has not told of."""
        self._resumed = True
        """Nothing was judged since the camera came back or detection was switched on."""

        self._selection: Selection | None = None
        self._event_id = ""
        self._seq = 0
        """The next frame's place within the event that is being kept."""
        self._at_work: Job | None = None
        self._held: Record | None = None
        """The best frame so far of that event, where the policy keeps one frame, known at the end."""
        self._owed: list[EventPhase] = []
        self._spool_well = True
        self._encoder_well = True

    # The life of a connection

    async def run(self) -> None:
        """Walk one connection.

        Returns when the video has ended or `stop` was called. Raises CameraUnavailable when the camera is
        lost: call again, after a while. What has been learned lives on, an event does not.
        """
        if self._running:
            raise RuntimeError(f"{self._camera}: run was called twice at once")
        if self._stopping:
            return
        self._enter()
        reason, why = EndReason.INTERRUPTED, "failed"
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep(), name=f"keep[{self._camera}]")
                ticking = tasks.create_task(self._tick(), name=f"tick[{self._camera}]")
                self._capturing = tasks.create_task(self._capture(), name=f"capture[{self._camera}]")
                # A callback, because a task that is cancelled before its first step has no `finally`.
                self._capturing.add_done_callback(lambda _: self._waiting.close())
                await self._watch()
                reason, why = self._outcome()
                self._end_event(reason)
                ticking.cancel()
                self._backlog.close()
                await asyncio.wait([keeping], timeout=self._settings.settle_s)
                keeping.cancel()
        except asyncio.CancelledError:
            reason, why = EndReason.STOPPED, "stopped"
            raise
        finally:
            await self._leave(reason, why)
        if self._lost is not None and not self._stopping:
            raise self._lost

    async def stop(self) -> None:
        """Stop the capture, let what is queued reach the spool, and return when `run` has ended.

        After that `run` returns at once.
        """
        self._stopping = True
        if self._capturing is not None:
            self._capturing.cancel()
        await self._ended.wait()

    async def _capture(self) -> None:
        try:
            async with _closing(self._source.frames()) as frames:
                async for frame in frames:
                    if not self._online:
                        self._online = True
                        self._observer.camera_online(self._camera)
                        height, width = frame.luma.shape
                        log.info("%s: watching, pictures of %dx%d", self._camera, width, height)
                    self._newest = frame
                    dropped = self._waiting.put(frame)
                    if dropped:
                        self._observer.dropped(self._camera, "too_slow", dropped)
                    if not self._source.live:
                        await self._waiting.room()
        except CameraUnavailable as exc:
            self._lost = exc

    def _enter(self) -> None:
        self._running = True
        self._ended.clear()
        self._lost = None
        self._resumed = True
        self._waiting = DropOldestQueue(self._settings.depth)
        self._backlog = self._new_backlog()

    def _outcome(self) -> tuple[EndReason, str]:
        """Return why the capture has ended, for the event and for people."""
        if self._lost is not None:
            return EndReason.CAMERA_LOST, str(self._lost)
        return EndReason.STOPPED, "stopped" if self._stopping else "the video has ended"

    async def _leave(self, reason: EndReason, why: str) -> None:
        """Bring `run` to an end, whatever the reason: no event stays open, no frame is held."""
        try:
            self._end_event(reason)
            self._ring.clear()
            self._newest = self._judged = None
            self._online = False
            self._observer.camera_offline(self._camera, why)
            await self._settle()
        finally:
            self._capturing = None
            self._running = False
            self._ended.set()

    async def _settle(self) -> None:
        """Give up the pictures that still wait, and let the outbox accept the phases that do."""
        items: list[Record | EventPhase] = []
        given_up = 0
        unfinished = [self._at_work] if self._at_work is not None else []
        self._at_work = None
        for job in [*unfinished, *self._backlog.drain()]:
            given_up += len(job.stills)
            items += self._with_held(job)
        if given_up:
            self._observer.dropped(self._camera, "spool", given_up)
        if not (items or self._owed):
            return
        try:
            async with asyncio.timeout(self._settings.settle_s):
                await self._accept(items)
        except TimeoutError:
            log.warning("%s: the spool does not answer: the end of an event waits", self._camera)

    # Frames to events

    async def _watch(self) -> None:
        while (frame := await self._waiting.get()) is not None:
            self._judging = True
            try:
                await self._judge(frame)
            finally:
                self._judging = False
            if not self._source.live:
                await self._backlog.room()
            elif dropped := self._backlog.trim():
                self._observer.dropped(self._camera, "too_slow", dropped)

    async def _judge(self, frame: Frame) -> None:
        async with self._at_detector:
            before, self._codec = self._codec, frame.codec
            if before and before != frame.codec:
                log.info("%s: the stream is now %s: learning anew", self._camera, frame.codec)
                self._detector, self._judged_by = self._make_detector(self._detection), self._detection
            detector = self._detector if self._detecting else None
            settings, away_s = (
                self._detection,
                frame.monotonic - self._last_monotonic if self._resumed else 0.0,
            )
            used, detection, problem = await _finish(
                self._executor, self._look, detector, frame, settings, away_s
            )
            if used is not None:
                self._detector, self._judged_by = used, settings
                self._taught_at = frame.captured_at
        if problem != self._problem:
            self._problem = problem
            self._observer.problem(self._camera, problem)
        if detection is None or not self._detecting:
            return
        self._resumed = False
        self._judged = (frame, detection)
        self._last_monotonic = frame.monotonic
        self._judged_at = self._clock()
        self._source.judged(frame.monotonic, detection)
        self._observer.detected(self._camera, detection)
        if (kind := self._changes.update(detection)) is not None:
            log.info("%s: the scene has changed (%s): no motion", self._camera, kind)
            self._observer.scene_changed(self._camera, kind)
        changes = self._tracker.update(frame.captured_at, frame.monotonic, detection)
        self._follow(changes, frame, detection)

    def _look(
        self, detector: Judge | None, frame: Frame, settings: DetectorSettings, away_s: float
    ) -> tuple[Judge | None, Detection | None, str | None]:
        """Return (the detector that was used, detection, picture's problem). Blocks.

        It is another than `detector` where that did not fit the settings in force, or the picture, or has
        seen nothing for the `away_s` before this frame, which are too many to be trusted.
        """
        problem = self._health(frame.luma, frame.monotonic) if self._health is not None else None
        if detector is None:
            return None, None, problem
        if settings != self._judged_by or away_s > STALE_S:
            detector = self._heir(detector, settings, max(away_s, 0.0))
        try:
            return detector, detector.update(frame.luma, frame.monotonic), problem
        except FrameShapeError:
            height, width = frame.luma.shape
            log.info("%s: the picture is now %dx%d: learning anew", self._camera, width, height)
            detector = self._make_detector(settings)
            return detector, detector.update(frame.luma, frame.monotonic), problem

    def _heir(self, detector: Judge, settings: DetectorSettings, away_s: float) -> Judge:
        """Return a detector for `settings` that knows what `detector` knew, where it can. Blocks."""
        if isinstance(detector, Learned) and (state := detector.state()):
            try:
                return detector.restore(settings, state, away_s=away_s)
            except ValueError as exc:
                log.debug("%s: what was learned cannot be taken over: %s", self._camera, exc)
        return self._make_detector(settings)

    def _follow(self, changes: list[Change], frame: Frame, detection: Detection) -> None:
        """Act on what the tracker said of this frame."""
        self._report(changes)
        event = self._tracker.event
        if event is None:
            since = self._tracker.held_since
            self._ring.add(frame, detection, since=frame.monotonic if since is None else since)
        elif self._selection is None:
            self._open(event, [*self._ring.take(), (frame, detection)])
        else:
            choice = self._selection.choose(frame.monotonic, detection.score, motion=detection.motion)
            if choice is not Choice.SKIP:
                hold = choice is Choice.HOLD
                self._backlog.put(Job(event=event, stills=[(frame, detection)], hold=hold))

    def _report(self, changes: list[Change]) -> None:
        """Say what changed: motion first, for a light does not wait for a picture."""
        on = self._tracker.event is not None
        if on != self._motion_on:
            self._motion_on = on
            self._observer.motion(self._camera, on)
        for change in changes:
            if isinstance(change, ZoneChange):
                self._observer.zone_motion(self._camera, change.zone, change.on)
                continue
            event = change.event
            if change.phase is Phase.START:
                log.info(
                    "%s: motion started, score %.4f, event %s", self._camera, event.peak_score, event.event_id
                )
                self._observer.event_started(event)
            else:
                assert event.ended_at is not None
                length_s = (event.ended_at - event.started_at).total_seconds()
                log.info(
                    "%s: motion ended after %.1f s (%s), event %s",
                    self._camera,
                    length_s,
                    event.end_reason,
                    event.event_id,
                )
                self._observer.event_ended(event)
                self._selection = None
                self._backlog.put(Job(event=event, phase=change))

    def _open(self, event: MotionEvent, judged: list[Judged]) -> None:
        """Choose from the frames that led to an event, the newest last, and hand over its start."""
        started = self._tracker.started
        assert started is not None
        earliest = started - self._settings.pre_s
        before = [one for one in judged if earliest <= one[0].monotonic < started]
        # The byte bound may have cost the frames that were held back; the newest has motion and is here.
        after = [one for one in judged if one[0].monotonic >= started] or judged[-1:]
        opening = next(frame for frame, detection in after if detection.motion)
        selection = self._selection = Selection(self._settings.policy, opening.monotonic)

        kept = [before[place] for place in selection.pre_roll([frame.monotonic for frame, _ in before])]
        before_phase = len(kept) + 1
        held: Judged | None = None
        for frame, detection in after:
            choice = selection.choose(frame.monotonic, detection.score, motion=detection.motion)
            if choice is Choice.KEEP:
                kept.append((frame, detection))
            elif choice is Choice.HOLD:
                held = (frame, detection)
        phase = EventPhase(phase=Phase.START, event=event)
        self._backlog.put(Job(event=event, stills=kept, phase=phase, before_phase=before_phase))
        if held is not None:
            self._backlog.put(Job(event=event, stills=[held], hold=True))

    def _end_event(self, reason: EndReason) -> None:
        """End an open event, and let the tracker begin as new."""
        self._report(self._tracker.close(reason))
        self._ring.clear()

    async def _tick(self) -> None:
        """Let an event end while no frames come; a file at full speed has no time but its own."""
        while True:
            await self._sleep(_TICK_S)
            if self._source.live and not self._judging and not self._waiting and not self._resumed:
                silent_s = self._clock() - self._judged_at
                self._report(self._tracker.tick(self._last_monotonic + silent_s))

    # Pictures to records

    async def _keep(self) -> None:
        while (job := await self._backlog.get()) is not None:
            self._at_work = job
            items = await self._items(job)
            self._at_work = None
            await self._accept(items)

    async def _items(self, job: Job) -> list[Record | EventPhase]:
        """Make the records of a job; return them with its phase in its place."""
        if job.event.event_id != self._event_id:
            self._event_id = job.event.event_id
            self._seq = 0
            self._held = None
        items: list[Record | EventPhase] = []
        for place, (frame, detection) in enumerate(job.stills):
            if job.phase is not None and place == job.before_phase:
                items.append(job.phase)
            try:
                record = await self._record(frame, detection, self._event_id, self._seq)
            except (ImageError, CameraUnavailable) as exc:
                self._not_encoded(exc)
                continue
            self._encoder_well = True
            if job.hold:
                self._held = record
            else:
                self._seq += 1
                items.append(record)
        if job.phase is not None and job.before_phase >= len(job.stills):
            items += self._with_held(job)
        return items

    def _with_held(self, job: Job) -> list[Record | EventPhase]:
        """Return the phase of a job, the end of an event behind its held frame."""
        if job.phase is None:
            return []
        held, self._held = self._held, None
        ours = held is not None and held.info.event_id == job.event.event_id
        return (
            [held, job.phase] if ours and held is not None and job.phase.phase is Phase.END else [job.phase]
        )

    async def _record(self, frame: Frame, detection: Detection, event_id: str, seq: int) -> Record:
        """Make a frame's JPEG and all that is said of it. Raises ImageError."""
        jpeg, width, height, sha256 = await _finish(self._encoder, self._make_jpeg, frame)
        settings = self._settings
        folder = names.event_folder(settings.prefix, settings.instance, self._camera, event_id)
        info = FrameInfo(
            instance=settings.instance,
            camera=self._camera,
            event_id=event_id,
            seq=seq,
            captured_at=frame.captured_at,
            object_key=names.frame_key(folder, seq),
            sha256=sha256,
            size=len(jpeg),
            width=width,
            height=height,
            score=detection.score,
            boxes=detection.boxes,
            zones=detection.zones,
        )
        return Record(info=info, jpeg=jpeg)

    def _make_jpeg(self, frame: Frame) -> tuple[bytes, int, int, str]:
        """Blocks."""
        jpeg, width, height = self._encode(frame.bgr())
        return jpeg, width, height, hashlib.sha256(jpeg).hexdigest()

    def _not_encoded(self, exc: Exception) -> None:
        self._observer.dropped(self._camera, "encode", 1)
        level = logging.WARNING if self._encoder_well else logging.DEBUG
        log.log(level, "%s: a picture is lost: %s", self._camera, exc)
        self._encoder_well = False

    async def _accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Hand items to the outbox, behind the phases that it still owes us. Never raises SpoolError."""
        batch = [*self._owed, *items]
        if not batch:
            return
        # Owed until the outbox has said yes, so that a cancellation in between loses no phase.
        self._owed = [item for item in batch if isinstance(item, EventPhase)][-_MAX_OWED:]
        try:
            await self._outbox.accept(batch)
        except SpoolError as exc:
            lost = sum(isinstance(item, Record) for item in items)
            if lost:
                self._observer.dropped(self._camera, "spool", lost)
            if self._spool_well:
                log.warning("%s: the spool takes nothing, pictures are lost: %s", self._camera, exc)
            self._spool_well = False
            return
        self._owed = []
        if not self._spool_well:
            log.info("%s: the spool takes pictures again", self._camera)
        self._spool_well = True

    # Commands

    async def snapshot(self) -> None:
        """Accept the newest frame, moving or not, as a lone record with an event id of its own.

        Returns once it is durable. Raises CameraUnavailable without a picture, ImageError, SpoolError.
        """
        frame = self._newest
        if frame is None:
            raise CameraUnavailable("there is no picture yet")
        judged = self._judged
        detection = judged[1] if judged is not None and judged[0] is frame else _NOT_JUDGED
        record = await self._record(frame, detection, self._new_id(frame.captured_at), 0)
        await self._outbox.accept([record])

    async def picture(self) -> bytes | None:
        """Return the newest frame as a JPEG; None without one. Raises ImageError."""
        frame = self._newest
        if frame is None:
            return None
        jpeg, _, _, _ = await _finish(self._encoder, self._make_jpeg, frame)
        return jpeg

    async def look(self, work: Callable[[Image], T]) -> T | None:
        """Return what `work` makes of the newest frame's colours, in an executor; None without a frame.

        Raises ImageError, CameraUnavailable.
        """
        frame = self._newest
        if frame is None:
            return None
        return await _finish(self._encoder, lambda: work(frame.bgr()))

    async def learned(self) -> tuple[bytes, datetime] | None:
        """Return what the detector knows, and when its last frame was taken; None where nothing is new."""
        async with self._at_detector:
            detector, taught_at = self._detector, self._taught_at
            if taught_at is None or not isinstance(detector, Learned):
                return None
            state = await _finish(self._executor, detector.state)
            self._taught_at = None
        return (state, taught_at) if state else None

    def values(self) -> dict[str, bool | str | float | None]:
        """Return the settings in force, by their names in `names.SETTINGS`.

        `threshold` is in grey levels, None where the sensitivity gives it; `min_area` is a share, 0..1.
        """
        return {
            "detection": self._detecting,
            "sensitivity": self._detection.sensitivity,
            "threshold": self._detection.threshold,
            "min_area": self._detection.min_area,
        }

    def set_detection(self, on: bool) -> None:
        """Switch detection; an open event ends at once. Frames are still captured, for snapshots."""
        if on == self._detecting:
            return
        self._detecting = on
        self._resumed = True
        self._end_event(EndReason.DETECTION_OFF)

    def set_sensitivity(self, sensitivity: str) -> None:
        """Change the sensitivity. Raises ValueError."""
        self.adopt({"sensitivity": sensitivity})

    def set_threshold(self, threshold: float | None) -> None:
        """Set the threshold in grey levels, 0..255; None: from the sensitivity. Raises ValueError."""
        self.adopt({"threshold": threshold})

    def set_min_area(self, share: float) -> None:
        """Set the smallest area that counts, as a share of the picture, 0..1. Raises ValueError."""
        self.adopt({"min_area": share})

    def adopt(self, values: Mapping[str, bool | str | float | None]) -> None:
        """Change any of these settings at once. Raises ValueError, and then changes none."""
        detection = self._detection
        for setting, value in values.items():
            detection = _with(detection, setting, value)
        # The next frame finds a detector that fits: this one may be at work now, in the executor.
        self._detection = detection

    # Small parts

    def _new_id(self, started_at: datetime) -> str:
        return names.event_id(started_at, self._draw24())

    def _new_backlog(self) -> Backlog:
        return Backlog(self._settings.pre_bytes + self._settings.backlog_bytes)


def _with(detection: DetectorSettings, setting: str, value: bool | str | float | None) -> DetectorSettings:
    """Return `detection` with one setting changed. Raises ValueError for what cannot be."""
    match setting, value:
        case "sensitivity", str():
            for known in get_args(Sensitivity):
                if value == known:
                    return dataclasses.replace(detection, sensitivity=known)
            raise ValueError(f"sensitivity: expected one of {', '.join(get_args(Sensitivity))}")
        case "threshold", int() | float() | None:
            if value is not None and not 0 <= value <= 255:
                raise ValueError("threshold: expected 0 to 255")
            return dataclasses.replace(detection, threshold=value)
        case "min_area", int() | float():
            if not 0 <= value <= 1:
                raise ValueError("min_area: expected a share from 0 to 1")
            return dataclasses.replace(detection, min_area=value)
        case _:
            raise ValueError(f"{setting}: {value!r}: expected sensitivity, threshold or min_area")


async def _finish(executor: Executor, work: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in an executor; a caller that is cancelled waits until it is done."""
    future = asyncio.get_running_loop().run_in_executor(executor, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio does not complain
        raise


@asynccontextmanager
async def _closing(frames: AsyncIterator[Frame]) -> AsyncIterator[AsyncIterator[Frame]]:
    """Close the source's generator with us, not when the garbage collector comes by."""
    try:
        yield frames
    finally:
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()
