"""Sinks of a recording's records. Each takes the records of an event in order, then its end.

    unit ──accept──▶ ScanOutbox ──▶ the events and stills of the outcome
                         ├──▶ StillsSink   {out}/{camera}/{event_id}/{seq:06d}.jpg, annotated
                         └──▶ StoreSink    the keys, metadata and event.json that the service writes

A repeat writes the same bytes to the same names. `stored_at` in `event.json` is the time of capture: about
when the service would have stored the frame live.
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
from async_motion.retrieval.images import Polygons, annotate, image_of, jpeg_of

MAX_TRIES = 7
"""Attempts at one put: with the backoff between them, about half a minute."""
PUTS_AT_ONCE = 8


class ObjectStore(Protocol):
    """The part of a store that a scan needs."""

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
        """Return an object's bytes; None if there is none."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most 1,000."""


class Sink(Protocol):
    """Takes the records and events of one recording, in order."""

    async def record(self, record: Record) -> None:
        """Take a still of the open event."""

    async def ended(self, event: MotionEvent) -> None:
        """Return once all outputs of the event are written."""


class ScanOutbox:
    """Takes the place of the spool: passes the recorder's items to the sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._stills: list[FrameInfo] = []
        self.events: list[tuple[MotionEvent, list[FrameInfo]]] = []
        """The events that have ended, with their stills."""
        self._failed: BaseException | None = None

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Pass each item to every sink. Raises a sink's error, and the same error on every later call."""
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
    """Writes annotated JPEGs, in one folder for each event."""

    def __init__(self, out: Path, zones: Polygons) -> None:
        self._out = out
        self._zones = zones

    async def record(self, record: Record) -> None:
        """Write the still with boxes, zones, score and time drawn in. Raises OSError."""
        await asyncio.to_thread(self._write, record)

    async def ended(self, event: MotionEvent) -> None:
        """Do nothing: every still is already written."""

    def _write(self, record: Record) -> None:
        info = record.info
        try:
            drawn = annotate(image_of(record.jpeg), info, self._zones)
            jpeg = jpeg_of(drawn)
        except ImageError:
            jpeg = record.jpeg
        write_file(self._out / info.camera / info.event_id / f"{info.seq:06d}.jpg", jpeg)


class StoreSink:
    """Stores frames and summaries as if the events had been live."""

    def __init__(self, store: ObjectStore, *, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._lines: list[dict[str, Any]] = []
        self._puts: list[asyncio.Task[StoredFrame]] = []
        self._slots = asyncio.Semaphore(PUTS_AT_ONCE)
        self.index_lines: list[str] = []
        """A line of the index for each event that has ended."""

    async def record(self, record: Record) -> None:
        """Begin to store the frame; first wait while `PUTS_AT_ONCE` are running."""
        await self._slots.acquire()
        self._puts.append(asyncio.create_task(self._frame(record), name=f"put[{record.info.object_key}]"))

    async def ended(self, event: MotionEvent) -> None:
        """Wait for the event's frames, then store its summary. Raises StoreUnavailable, RecordRejected."""
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
        """Cancel the running puts."""
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
    """Put an object; retry transient errors with backoff. Raises StoreUnavailable, RecordRejected."""
    # No jitter: few tasks put at a time, and a scan must be deterministic.
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
    """Cancel the tasks that still run, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # mark it as retrieved: the first error was already raised


def write_file(target: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(data)
    part.replace(target)
