"""Chosen frames to records: encode them, and pass them to the outbox in order.

- Records are accepted in the order of capture. The start of an event is accepted in one transaction with its
  pre-roll and its opening frame, right after the latter; its end comes after all its frames.
- The outbox may fail (a full disk): its frames are counted as lost. A phase that it did not accept is *owed*,
  and goes first in the next transaction.
- An image that cannot be encoded is counted and leaves no gap in `seq`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from async_motion.camera.offload import offload
from async_motion.camera.queues import Backlog, Job
from async_motion.camera.spec import UnitSettings
from async_motion.core import names
from async_motion.core.model import Detection, EventPhase, Frame, FrameInfo, Image, Phase, Record
from async_motion.errors import CameraUnavailable, ImageError, SpoolError

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_OWED = 64
"""The most phases owed to an outbox that fails."""

Encode = Callable[[Image], tuple[bytes, int, int]]
"""BGR image -> (JPEG, width, height). Blocks. Raises ImageError."""

OnDropped = Callable[[str, int], None]
"""(reason, number of frames lost)"""


class RecordOutbox(Protocol):
    """Durable storage for accepted records."""

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Write all in one transaction; return once they are durable. Raises SpoolError."""


class Recorder:
    """Make records of the frames that one camera's events keep.

    `executor` runs the encoder. `on_dropped` is called for lost frames, with the reason `encode` or `spool`.
    """

    def __init__(
        self,
        settings: UnitSettings,
        *,
        outbox: RecordOutbox,
        executor: Executor,
        encode: Encode,
        on_dropped: OnDropped,
    ) -> None:
        self._settings = settings
        self._camera = settings.camera
        self._outbox = outbox
        self._executor = executor
        self._encode = encode
        self._on_dropped = on_dropped
        self.backlog = self._new_backlog()

        self._event_id = ""
        self._seq = 0
        """The next frame's place within the event that is being recorded."""
        self._at_work: Job | None = None
        self._held: Record | None = None
        """The event's best frame so far, where the policy keeps only the best."""
        self._owed: list[EventPhase] = []
        self._spool_well = True
        self._encoder_well = True

    def reconfigure(self, settings: UnitSettings, encode: Encode) -> None:
        """Apply other settings to the frames encoded from now on."""
        self._settings = settings
        self._encode = encode

    def begin(self) -> None:
        """Start a connection with an empty backlog."""
        self.backlog = self._new_backlog()

    async def run(self) -> None:
        """Record the jobs of the backlog, until it is closed and empty."""
        while (job := await self.backlog.get()) is not None:
            self._at_work = job
            items = await self._items(job)
            self._at_work = None
            await self._accept(items)

    async def settle(self) -> None:
        """Drop the frames that still wait, and pass the waiting phases to the outbox."""
        items: list[Record | EventPhase] = []
        given_up = 0
        unfinished = [self._at_work] if self._at_work is not None else []
        self._at_work = None
        for job in [*unfinished, *self.backlog.drain()]:
            given_up += len(job.stills)
            items += self._with_held(job)
        if given_up:
            self._on_dropped("spool", given_up)
        if not (items or self._owed):
            return
        try:
            async with asyncio.timeout(self._settings.settle_s):
                await self._accept(items)
        except TimeoutError:
            log.warning("%s: the spool does not answer; the end of an event waits for it", self._camera)

    async def snapshot(self, frame: Frame, detection: Detection, event_id: str) -> None:
        """Accept a frame as a record without an event; return once it is durable.

        Raises CameraUnavailable without an image, ImageError, SpoolError.
        """
        await self._outbox.accept([await self._record(frame, detection, event_id, 0)])

    async def jpeg(self, frame: Frame) -> bytes:
        """Return a frame's JPEG. Raises ImageError, CameraUnavailable."""
        jpeg, _, _, _ = await offload(self._executor, self._make_jpeg, frame)
        return jpeg

    async def look(self, frame: Frame, work: Callable[[Image], T]) -> T:
        """Return what `work` makes of a frame's image. Raises ImageError, CameraUnavailable."""
        return await offload(self._executor, lambda: work(frame.bgr()))

    async def _items(self, job: Job) -> list[Record | EventPhase]:
        """Return the records of a job, with its phase at its position."""
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
        """Return the phase of a job, preceded at the end of an event by its held frame."""
        if job.phase is None:
            return []
        held, self._held = self._held, None
        if held is None or held.info.event_id != job.event.event_id or job.phase.phase is not Phase.END:
            return [job.phase]
        return [held, job.phase]

    async def _record(self, frame: Frame, detection: Detection, event_id: str, seq: int) -> Record:
        """Return a frame's record: JPEG and metadata. Raises ImageError."""
        jpeg, width, height, sha256 = await offload(self._executor, self._make_jpeg, frame)
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
            worker=settings.worker,
            epoch=settings.epoch,
        )
        return Record(info=info, jpeg=jpeg)

    def _make_jpeg(self, frame: Frame) -> tuple[bytes, int, int, str]:
        """Blocks."""
        jpeg, width, height = self._encode(frame.bgr())
        return jpeg, width, height, hashlib.sha256(jpeg).hexdigest()

    def _not_encoded(self, exc: Exception) -> None:
        self._on_dropped("encode", 1)
        level = logging.WARNING if self._encoder_well else logging.DEBUG
        log.log(level, "%s: frame lost: %s", self._camera, exc)
        self._encoder_well = False

    async def _accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Pass items to the outbox, after the owed phases. Never raises SpoolError."""
        batch = [*self._owed, *items]
        if not batch:
            return
        # Owed until the outbox has accepted them, so that a cancellation in between loses no phase.
        self._owed = [item for item in batch if isinstance(item, EventPhase)][-_MAX_OWED:]
        try:
            await self._outbox.accept(batch)
        except SpoolError as exc:
            lost = sum(isinstance(item, Record) for item in items)
            if lost:
                self._on_dropped("spool", lost)
            if self._spool_well:
                log.warning("%s: the spool accepts no records, frames are lost: %s", self._camera, exc)
            self._spool_well = False
            return
        self._owed = []
        if not self._spool_well:
            log.info("%s: the spool accepts records again", self._camera)
        self._spool_well = True

    def _new_backlog(self) -> Backlog:
        return Backlog(self._settings.pre_bytes + self._settings.backlog_bytes)
