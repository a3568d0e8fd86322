"""Where a recording's records go: each sink takes a record, and an event's end when all its records are in.

    unit ──accept──▶ ScanOutbox ──▶ the events and stills of the outcome
                         ├──▶ StillsSink   {out}/{camera}/{event_id}/{seq:06d}.jpg, annotated
                         └──▶ StoreSink    the keys, metadata and event.json that the service writes

A repeat writes the same bytes to the same names. `stored_at` in `event.json` is the time of capture: it is
the time at which a live camera would have stored the frame, give or take the network.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from async_motion.core import index, names, payloads
from async_motion.core.backoff import Backoff
from async_motion.core.model import EventPhase, FrameInfo, MotionEvent, Phase, Record, StoredFrame
from async_motion.errors import ImageError, StoreRefused, StoreUnavailable
from async_motion.jpeg import encode
from async_motion.retrieval.pictures import Polygons, annotate, picture_of

MAX_TRIES = 7
"""Tries of one put; with the backoff between them, about half a minute."""
PUTS_AT_ONCE = 8
QUALITY = 90
"""Of annotated stills: they are encoded a second time."""


class ObjectStore(Protocol):
    """Where objects are put, read and removed."""

    bucket: str

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Store an object; return its etag. Raises StoreUnavailable, StoreRefused, RecordRejected."""

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an object's bytes, None where there is none."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most 1,000."""


class Sink(Protocol):
    """Takes what one recording gives, in order."""

    async def record(self, record: Record) -> None:
        """Take a still of the open event."""

    async def ended(self, event: MotionEvent) -> None:
        """Return once all of an event is where it belongs."""


class ScanOutbox:
    """What the camera's recorder hands its records to."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._stills: list[FrameInfo] = []
        self.events: list[tuple[MotionEvent, list[FrameInfo]]] = []
        """The events that have ended, with their stills."""
        self._failed: BaseException | None = None

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Hand each item to every sink. Raises what a sink raises, and then always."""
        if self._failed is not None:
            raise self._failed
        try:
            for item in items:
                await self._take(item)
        except BaseException as exc:
            self._failed = exc
            raise

    async def _take(self, item: Record | EventPhase) -> None:
        if isinstance(item, Record):
            self._stills.append(item.info)
            for sink in self._sinks:
                await sink.record(item)
        elif item.phase is Phase.END:
            for sink in self._sinks:
                await sink.ended(item.event)
            self.events.append((item.event, self._stills))
            self._stills = []


class StillsSink:
    """Annotated JPEGs in a folder for each event."""

    def __init__(self, out: Path, zones: Polygons) -> None:
        self._out = out
        self._zones = zones

    async def record(self, record: Record) -> None:
        """Write the still with its boxes, zones, score and time. Raises OSError."""
        await asyncio.to_thread(self._write, record)

    async def ended(self, event: MotionEvent) -> None:
        """Do nothing: every still is written."""

    def _write(self, record: Record) -> None:
        info = record.info
        try:
            drawn = annotate(picture_of(record.jpeg), info, self._zones)
            jpeg, _, _ = encode(drawn, QUALITY)
        except ImageError:
            jpeg = record.jpeg
        write_file(self._out / info.camera / info.event_id / f"{info.seq:06d}.jpg", jpeg)


class StoreSink:
    """The store, as if the events had been live."""

    def __init__(self, store: ObjectStore, *, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._lines: list[dict[str, Any]] = []
        self._puts: list[asyncio.Task[StoredFrame]] = []
        self._slots = asyncio.Semaphore(PUTS_AT_ONCE)
        self.index_lines: list[str] = []
        """A line of the index for each event that has ended."""

    async def record(self, record: Record) -> None:
        """Begin to store the frame; wait where too many are under way."""
        await self._slots.acquire()
        self._puts.append(asyncio.create_task(self._frame(record), name=f"put[{record.info.object_key}]"))

    async def ended(self, event: MotionEvent) -> None:
        """Wait for the event's frames, then store its summary."""
        puts, self._puts = self._puts, []
        try:
            stored = [await put for put in puts]
        finally:
            await cancel_all(puts)
        summary = payloads.event_summary(
            event, [payloads.frame_payload(frame) for frame in stored], writer=None, no=None
        )
        folder = names.event_folder(self._prefix, event.instance, event.camera, event.event_id)
        body = payloads.encode(summary)
        await put_with_retries(
            self._store,
            names.event_key(folder),
            body,
            content_type="application/json",
            metadata={
                "camera": event.camera,
                "instance": event.instance,
                "event-id": event.event_id,
                "sha256": hashlib.sha256(body).hexdigest(),
            },
            tags={"camera": event.camera, "kind": "event"},
        )
        self.index_lines.append(index.encode_line(index.line_of(summary), index.SCANNED).decode())

    async def aclose(self) -> None:
        """Stop what is under way."""
        await cancel_all(self._puts)

    async def _frame(self, record: Record) -> StoredFrame:
        info = record.info
        try:
            etag = await put_with_retries(
                self._store,
                info.object_key,
                record.jpeg,
                content_type=payloads.CONTENT_TYPE,
                metadata=payloads.object_metadata(info),
                tags=payloads.object_tags(info),
            )
        finally:
            self._slots.release()
        return StoredFrame(info=info, bucket=self._store.bucket, etag=etag, stored_at=info.captured_at)


async def put_with_retries(store: ObjectStore, key: str, data: bytes, **how: Any) -> str:
    """Put an object, again after trouble that may pass. Raises StoreUnavailable, RecordRejected."""
    # Without jitter: few tasks put at a time, and nothing here may be left to chance.
    backoff = Backoff(draw=lambda: 1.0, first_s=0.5, max_s=10.0)
    while True:
        try:
            return await store.put(key, data, **how)
        except StoreRefused:
            raise
        except StoreUnavailable as exc:
            if backoff.failures + 1 >= MAX_TRIES:
                raise
            await asyncio.sleep(backoff.next_s(at_least_s=exc.retry_after_s))


async def cancel_all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs, and wait for its end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # mark it as retrieved: the first was raised


def write_file(target: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(data)
    part.replace(target)
