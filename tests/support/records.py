"""Events and records for tests, and an outbox in memory."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from async_motion.core import names
from async_motion.core.items import FrameUpload
from async_motion.core.model import (
    EndReason,
    EventPhase,
    FrameInfo,
    MotionEvent,
    Phase,
    Record,
    StoredFrame,
)
from async_motion.errors import SpoolError
from tests.support.clock import BEGIN


def make_event(camera: str = "porch", index: int = 0, **changes: Any) -> MotionEvent:
    """Return an event that began `index` seconds after BEGIN; its id depends only on the arguments."""
    started_at = BEGIN + timedelta(seconds=index)
    event = MotionEvent(
        event_id=names.event_id(started_at, zlib.crc32(camera.encode())),
        instance="edge1",
        camera=camera,
        started_at=started_at,
    )
    return replace(event, **changes)


def make_record(
    event: MotionEvent, seq: int, *, score: float = 0.1, size: int = 3000, jpeg: bytes | None = None
) -> Record:
    """Return frame `seq` of an event. Without `jpeg`, it has `size` bytes that are unique to it."""
    if jpeg is None:
        seed = f"{event.event_id}-{seq}".encode()
        jpeg = (hashlib.sha256(seed).digest() * (size // 32 + 1))[:size]
    folder = names.event_folder("", event.instance, event.camera, event.event_id)
    info = FrameInfo(
        instance=event.instance,
        camera=event.camera,
        event_id=event.event_id,
        seq=seq,
        captured_at=event.started_at + timedelta(milliseconds=200 * seq),
        object_key=names.frame_key(folder, seq),
        sha256=hashlib.sha256(jpeg).hexdigest(),
        size=len(jpeg),
        width=640,
        height=480,
        score=score,
        zones=("drive",),
        worker=event.worker,
        epoch=event.epoch,
    )
    return Record(info=info, jpeg=jpeg)


def start_of(event: MotionEvent) -> EventPhase:
    """Return an event's start."""
    return EventPhase(phase=Phase.START, event=event)


def end_of(event: MotionEvent, after_s: float = 5.0) -> EventPhase:
    """Return an event's end, `after_s` after its start."""
    ended_at = event.started_at + timedelta(seconds=after_s)
    return EventPhase(
        phase=Phase.END, event=replace(event, ended_at=ended_at, end_reason=EndReason.QUIET, peak_score=0.5)
    )


def stored_of(frame: Record | FrameUpload | FrameInfo, **changes: Any) -> StoredFrame:
    """Return a record, leased or not, as stored."""
    info = frame if isinstance(frame, FrameInfo) else frame.info
    return replace(StoredFrame(info=info, bucket="motion", etag="e", stored_at=BEGIN), **changes)


@dataclass
class MemoryOutbox:
    """An outbox that keeps what it accepts, one list for each transaction, and fails on command.

    `failures` is how many of the next calls raise SpoolError; `bug` makes the next one raise what no caller
    expects. Calls wait until `gate` is set.
    """

    batches: list[list[Record | EventPhase]] = field(default_factory=list)
    failures: int = 0
    bug: bool = False
    gate: asyncio.Event | None = None

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Accept all, or raise SpoolError."""
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
        """All that was accepted, in order."""
        return [item for batch in self.batches for item in batch]

    @property
    def records(self) -> list[Record]:
        """The accepted records."""
        return [item for item in self.items if isinstance(item, Record)]

    @property
    def phases(self) -> list[EventPhase]:
        """The accepted starts and ends of events."""
        return [item for item in self.items if isinstance(item, EventPhase)]
