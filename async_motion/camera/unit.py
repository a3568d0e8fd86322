"""One camera, from its source to the spool: the life of a connection. A unit shares no state with another.

    source ──▶ DropOldestQueue ──▶ Watcher ──▶ Backlog ──▶ Recorder ──▶ outbox
     capture[camera]           ╰─ run ──────╯          ╰─ keep[camera] ──╯
                               (executor)              (encoder's executor)

- The watcher never waits for the encoder or the disk. (For a file it does, and loses nothing.)
- Every exit from `run` ends an open event: the outbox accepts the end (within `settle_s`), and motion OFF is
  reported.
- The outbox may fail (a full disk): frames are counted as lost; capture and detection continue.
- A thread cannot be cancelled: a cancelled task first waits for its own work in the executor, so that no two
  threads use one detector.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from async_motion.camera.detector_host import DetectorHost, FrameDetector, Health, MakeDetector
from async_motion.camera.queues import DropOldestQueue
from async_motion.camera.recorder import Encode, Recorder, RecordOutbox
from async_motion.camera.spec import UnitSettings
from async_motion.camera.watcher import EventObserver, Watcher
from async_motion.core import commands
from async_motion.core.commands import Value
from async_motion.core.detection.detector import Detector
from async_motion.core.detection.working_image import Plane
from async_motion.core.model import Detection, EndReason, Frame, Image, Luma, Reason
from async_motion.errors import CameraUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

_TICK_S = 1.0
_NOT_JUDGED = Detection(motion=False, reason=Reason.STILL)


class Source(Protocol):
    """One camera's source of frames. It outlives connections; its owner closes it."""

    @property
    def live(self) -> bool:
        """True: the oldest waiting frame is dropped. False (a file at full speed): the reader waits."""

    def frames(self) -> AsyncIterator[Frame]:
        """Yield the frames of one connection. Ends with a file. Raises CameraUnavailable, CameraRefused."""

    def judged(self, monotonic: float, detection: Detection) -> None:
        """Receive the verdict on the frame of time `monotonic`; decoding may depend on it. Must not block."""


Viewer = Callable[[Frame, Detection], None]
"""Called with each judged frame and its verdict, for live viewers. Must not block."""


class Observer(EventObserver, Protocol):
    """Receives what happens. Every call is synchronous and must not block."""

    def camera_online(self, camera: str) -> None: ...
    def camera_offline(self, camera: str, problem: str) -> None: ...
    def dropped(self, camera: str, reason: str, count: int) -> None: ...


class CameraUnit:
    """Process one camera's frames from its source to the outbox.

    `executor` runs detection and, unless `encoder` is given, encoding. With many cameras pass an `encoder`:
    an image from the main stream may wait for its packets, and must not delay detection. `draw24` returns 24
    random bits for an event's id. `detector` has a learned state already and was made for
    `settings.detection`. `clock` is the monotonic clock and `sleep` waits on it: both matter only while no
    frames come.
    """

    def __init__(
        self,
        settings: UnitSettings,
        *,
        source: Source,
        outbox: RecordOutbox,
        observer: Observer,
        executor: Executor,
        encode: Encode,
        draw24: Callable[[], int],
        encoder: Executor | None = None,
        viewer: Viewer | None = None,
        health: Health | None = None,
        is_placeholder: Callable[[Luma], bool] | None = None,
        make_detector: MakeDetector = Detector,
        detector: FrameDetector | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._camera = settings.camera
        self._source = source
        self._observer = observer
        self._viewer = viewer
        self._sleep = sleep
        self._recorder = Recorder(
            settings,
            outbox=outbox,
            executor=encoder or executor,
            encode=encode,
            on_dropped=partial(observer.dropped, settings.camera),
        )
        self._host = DetectorHost(
            settings.camera,
            settings.detection,
            executor=executor,
            make_detector=make_detector,
            detector=detector,
            health=health,
            is_placeholder=is_placeholder,
        )
        self._watcher = Watcher(
            settings,
            host=self._host,
            observer=observer,
            record=lambda job: self._recorder.backlog.put(job),  # noqa: PLW0108  # the recorder comes later
            on_judged=self._judged,
            draw24=draw24,
            clock=clock,
        )
        self._waiting = DropOldestQueue(settings.depth)
        self._capturing: asyncio.Task[None] | None = None
        self._running = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._stopping = False
        self._lost: CameraUnavailable | None = None
        self._online = False
        self._newest: Frame | None = None
        self.pixels = 0
        """How many pixels of the watched stream were captured: what the camera costs grows with them."""

    async def run(self) -> None:
        """Run one connection.

        Returns when the video has ended or `stop` was called. Raises CameraUnavailable when the camera is
        lost: call again, after a while. The learned background survives; an open event ends.
        """
        if self._running:
            raise RuntimeError(f"{self._camera}: run is already running")
        if self._stopping:
            return
        self._enter()
        reason, why = EndReason.INTERRUPTED, "failed"
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._recorder.run(), name=f"keep[{self._camera}]")
                ticking = tasks.create_task(self._tick(), name=f"tick[{self._camera}]")
                self._capturing = tasks.create_task(self._capture(), name=f"capture[{self._camera}]")
                # A callback, because a task that is cancelled before its first step has no `finally`.
                self._capturing.add_done_callback(lambda _: self._waiting.close())
                await self._watch()
                reason, why = self._outcome()
                self._watcher.end_event(reason)
                ticking.cancel()
                self._recorder.backlog.close()
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
        """Stop the capture, let queued frames reach the spool, and return when `run` has ended.

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
                        log.info("%s: watching, frames of %dx%d", self._camera, width, height)
                    self._newest = frame
                    self.pixels += frame.luma.size
                    dropped = self._waiting.put(frame)
                    if dropped:
                        self._observer.dropped(self._camera, "too_slow", dropped)
                    if not self._source.live:
                        await self._waiting.room()
        except CameraUnavailable as exc:
            self._lost = exc

    async def _watch(self) -> None:
        backlog = self._recorder.backlog
        while (frame := await self._waiting.get()) is not None:
            await self._watcher.judge(frame)
            if not self._source.live:
                await backlog.room()
            elif dropped := backlog.trim():
                self._observer.dropped(self._camera, "too_slow", dropped)

    def _judged(self, frame: Frame, detection: Detection) -> None:
        self._source.judged(frame.monotonic, detection)
        if self._viewer is not None:
            self._viewer(frame, detection)

    async def _tick(self) -> None:
        """Let an event end while no frames come. Not for a file at full speed, whose only time is its own."""
        while True:
            await self._sleep(_TICK_S)
            if self._source.live and not self._waiting:
                self._watcher.tick()

    def _enter(self) -> None:
        self._running = True
        self._ended.clear()
        self._lost = None
        self._waiting = DropOldestQueue(self._settings.depth)
        self._watcher.begin()
        self._recorder.begin()

    def _outcome(self) -> tuple[EndReason, str]:
        """Return why the capture has ended, for the event and for people."""
        if self._lost is not None:
            return EndReason.CAMERA_LOST, str(self._lost)
        return EndReason.STOPPED, "stopped" if self._stopping else "the video has ended"

    async def _leave(self, reason: EndReason, why: str) -> None:
        """Clean up after `run`: no event stays open, no frame is held."""
        try:
            self._watcher.end_event(reason)
            self._watcher.leave()
            self._newest = None
            self._online = False
            self._observer.camera_offline(self._camera, why)
            await self._recorder.settle()
        finally:
            self._capturing = None
            self._running = False
            self._ended.set()

    # Commands

    async def snapshot(self) -> None:
        """Accept the newest frame, moving or not, as a lone record with an event id of its own.

        Returns once it is durable. Raises CameraUnavailable without a frame, ImageError, SpoolError.
        """
        frame = self._newest
        if frame is None:
            raise CameraUnavailable("there is no frame yet")
        detection = self._watcher.verdict_on(frame) or _NOT_JUDGED
        await self._recorder.snapshot(frame, detection, self._watcher.new_id(frame.captured_at))

    async def newest_jpeg(self) -> bytes | None:
        """Return the newest frame as a JPEG; None without one. Raises ImageError, CameraUnavailable."""
        frame = self._newest
        return None if frame is None else await self._recorder.jpeg(frame)

    async def look(self, work: Callable[[Image], T]) -> T | None:
        """Return what `work` makes of the newest frame's image, in an executor; None without a frame.

        Raises ImageError, CameraUnavailable.
        """
        frame = self._newest
        return None if frame is None else await self._recorder.look(frame, work)

    async def learned(self) -> tuple[bytes, datetime] | None:
        """Return the learned state and the capture time of its last frame; None without a new frame."""
        return await self._host.learned()

    async def maps(self) -> Mapping[str, Plane]:
        """Return the detector's learned planes, by name: (h, w) uint8 at its working size."""
        return await self._host.maps()

    def values(self) -> Mapping[str, Value]:
        """Return the settings in force, by the names in `commands.SETTINGS`.

        `threshold` is in grey levels, None where the sensitivity gives it; `min_area` is a share, 0..1.
        """
        detection = self._host.settings
        return {
            "detection": self._watcher.detecting,
            "sensitivity": detection.sensitivity,
            "threshold": detection.threshold,
            "min_area": detection.min_area,
        }

    def reconfigure(self, settings: UnitSettings, encode: Encode) -> None:
        """Apply other settings, between two frames; an open event continues.

        `detecting` stays as it is where old and new settings agree: a command may have switched it since.
        """
        before, self._settings = self._settings, settings
        self._host.settings = settings.detection
        self._watcher.reconfigure(settings)
        self._recorder.reconfigure(settings, encode)
        if settings.detecting != before.detecting:
            self._watcher.switch(settings.detecting)

    def adopt(self, values: Mapping[str, Value]) -> None:
        """Change several settings at once. On ValueError none is changed.

        Detection off ends an open event at once; frames are still captured, for snapshots.
        """
        changes = commands.checked(values)
        detecting = changes.pop("detection", self._watcher.detecting)
        self._host.adopt(changes)
        self._watcher.switch(detecting)


@asynccontextmanager
async def _closing(frames: AsyncIterator[Frame]) -> AsyncIterator[AsyncIterator[Frame]]:
    """Close the source's generator here, not when the garbage collector runs."""
    try:
        yield frames
    finally:
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()
