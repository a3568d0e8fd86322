"""Upload from the spool to the store: frames, and the summaries of events that have ended."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from async_motion.core import names, payloads
from async_motion.core.items import FrameUpload, SummaryUpload, Upload
from async_motion.core.model import StoredFrame
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.delivery.dispatch import Bell, Slots, share_of
from async_motion.delivery.protocols import Outbox, Store
from async_motion.delivery.rejections import SUSPECT_S, Rejections
from async_motion.delivery.retries import Figures, Retries
from async_motion.delivery.snapshots import Snapshots
from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable

log = logging.getLogger(__name__)

_MIB = 1024 * 1024

TRIED = 4
"""A trial chooses one of this many fresh items, and as many of the backlog."""


class Uploader:
    """Uploads leased items, `concurrency` at a time, at most `backlog_share` of them from the backlog.

    While there is no backlog, `concurrency / 2` items are leased ahead, so that the next upload begins as
    soon as one is stored. Memory is bounded by `2.5 * concurrency` JPEGs: leased ahead, being stored, and
    stored but not yet noted in the spool.
    """

    def __init__(
        self,
        spool: Outbox,
        store: Store,
        *,
        breaker: CircuitBreaker,
        retries: Retries,
        snapshots: Snapshots,
        figures: Figures,
        bell: Bell,
        idle_bell: Bell,
        prefix: str,
        concurrency: int,
        backlog_share: float,
        delayed_after_s: float,
        put_timeout_s: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._spool = spool
        self._store = store
        self._breaker = breaker
        self._retries = retries
        self._snapshots = snapshots
        self._figures = figures
        self._bell = bell
        self._idle_bell = idle_bell
        self._prefix = prefix
        self._concurrency = max(1, concurrency)
        self._delayed_after_s = delayed_after_s
        self._put_timeout_s = put_timeout_s
        self._clock = clock
        self._now = now
        # One slot is reserved for fresh items, so that the backlog never blocks them at any share.
        self._backlog_slots = min(self._concurrency - 1, share_of(self._concurrency, backlog_share))
        self._ahead = max(1, self._concurrency // 2)
        self._slots = Slots()
        self._ready: deque[Upload] = deque()
        self._in_memory = 0
        self._rejections = Rejections(clock)
        self._on_stored: list[Callable[[StoredFrame], None]] = []

    def on_stored(self, callback: Callable[[StoredFrame], None]) -> None:
        """Call `callback` in the event loop for each frame that the store has confirmed."""
        self._on_stored.append(callback)

    @property
    def busy(self) -> bool:
        """True while an upload, or its note in the spool, is in progress."""
        return self._in_memory > 0

    # -- starting

    async def start(self, tasks: asyncio.TaskGroup) -> int:
        """Lease uploads and start them while there are free slots; return how many. Raises SpoolError."""
        if not self._spool.stats.to_store:
            return 0
        # Items that wait for the spool's note still hold their JPEGs: if it fails, lease no more.
        slots = min(self._concurrency - self._slots.all, 2 * self._concurrency - self._in_memory)
        slots -= len(self._ready)
        if self._breaker.half_open:
            if not self._slots.all and slots > 0:
                await self._lease_trial()
            suspects = self._rejections.clear_suspects() if not (self._ready or self._slots.all) else []
            if suspects:
                # There is no other record to try: try the suspects again, after the breaker's wait.
                await self._release(suspects)
                await self._blame(self._rejections.reason or "")
        elif self._spool.stats.backlog:
            before = len(self._ready)
            await self._lease(fresh=False, limit=min(slots, self._backlog_slots - self._slots.backlog))
            await self._lease(fresh=True, limit=slots - (len(self._ready) - before))
            if not self._ready and not self._slots.all and slots > 0:
                # The backlog has no slot of its own: it uses one that no fresh item needs.
                await self._lease(fresh=False, limit=1)
        else:
            await self._lease(fresh=True, limit=slots + self._ahead)
        if self._breaker.open:  # it has opened during the leases
            return await self._release_ready()
        return self._begin_ready(tasks)

    async def _lease(self, *, fresh: bool, limit: int) -> None:
        if limit > 0:
            self._ready.extend(await self._spool.take_uploads(fresh=fresh, limit=limit))

    async def _lease_trial(self) -> None:
        """Lease one item for a trial, a different one each time: the first may itself be the cause."""
        await self._lease(fresh=True, limit=TRIED)
        await self._lease(fresh=False, limit=TRIED)
        if self._ready:
            chosen = self._ready[self._breaker.trials % len(self._ready)]
            self._ready.remove(chosen)
            await self._release_ready()
            self._ready.append(chosen)

    async def _release_ready(self) -> int:
        """Release items that are leased but not started: none may start while the breaker is open."""
        numbers = [item.number for item in self._ready]
        self._ready.clear()
        await self._release(numbers)
        return len(numbers)

    def _begin_ready(self, tasks: asyncio.TaskGroup) -> int:
        begun = 0
        while (
            self._ready
            and self._slots.all < (1 if self._breaker.half_open else self._concurrency)
            and self._in_memory < 2 * self._concurrency
        ):
            item = self._ready.popleft()
            self._slots.add(1, backlog=item.delayed)
            self._in_memory += 1
            begun += 1
            tasks.create_task(self._upload(item, tasks), name=f"upload {item.number}")
        return begun

    # -- uploading

    async def _upload(self, item: Upload, tasks: asyncio.TaskGroup) -> None:
        try:
            if isinstance(item, FrameUpload):
                await self._store_frame(item, tasks)
            else:
                await self._store_summary(item)
        finally:
            self._in_memory -= 1
            self._bell.ring()
            self._idle_bell.ring()

    async def _store_frame(self, item: FrameUpload, tasks: asyncio.TaskGroup) -> None:
        info = item.info
        started = self._clock()
        try:
            etag = await self._put(
                item,
                info.object_key,
                item.jpeg,
                content_type=payloads.CONTENT_TYPE,
                metadata=payloads.object_metadata(info, writer=item.writer, no=item.no),
                tags=payloads.object_tags(info),
            )
        except RecordRejected as exc:
            await self._rejected(item, exc)
            return
        except StoreUnavailable as exc:
            await self._retry(item, exc)
            return
        suspects = self._rejections.stored()
        self._breaker.record_success()
        self._begin_ready(tasks)
        await self._release(suspects)
        self._figures.upload_s.append(self._clock() - started)
        self._figures.counts["stored"] += 1
        self._figures.counts["stored_bytes"] += info.size
        self._figures.counts["repeats"] += self._retries.failed_before(item.number)
        await self._retries.delivered(item.number)
        age_s = item.age_s + self._clock() - started
        stored = StoredFrame(
            info=info,
            bucket=self._store.bucket,
            etag=etag,
            stored_at=self._now(),
            delayed=item.delayed or age_s > self._delayed_after_s,
            writer=item.writer,
            no=item.no,
        )
        keep = self._snapshots.is_candidate(item)
        await self._retries.insist(lambda: self._spool.mark_stored(item.number, stored, keep_jpeg=keep))
        size_kib = info.size // 1024
        log.info("%s: stored %s (%d KiB, score %.3f)", info.camera, info.object_key, size_kib, info.score)
        for callback in self._on_stored:
            callback(stored)

    async def _rejected(self, item: FrameUpload, rejection: RecordRejected) -> None:
        """Set a record aside or, if the store rejects every record, keep it and open the breaker."""
        reason = rejection.reason
        row = self._rejections.add(item.number, reason)
        if row is None:
            log.error("%s: %s is set aside: %s", item.info.camera, item.info.object_key, reason)
            self._figures.counts["set_aside"] += 1
            self._retries.set_aside(item.number)
            await self._retries.insist(lambda: self._spool.set_aside(item.number, reason))
            return
        if row:
            log.info("store: rejects every frame alike; %d that were set aside are delivered later", len(row))
            await self._retries.insist(lambda: self._spool.restore(row))
        await self._release([item.number], SUSPECT_S)
        if not (self._breaker.half_open and self._rejections.trial_goes_on()):
            await self._blame(reason)

    async def _blame(self, reason: str) -> None:
        self._figures.counts["retries"] += 1
        self._breaker.record_failure(StoreRefused(f"every frame is rejected: {reason}"))
        await self._release_ready()

    async def _release(self, numbers: list[int], delay_s: float = 0.0) -> None:
        if numbers:
            await self._retries.insist(lambda: self._spool.release(numbers, delay_s))

    async def _retry(self, item: Upload, error: StoreUnavailable) -> None:
        self._breaker.record_failure(error)
        await self._release_ready()
        await self._retries.release(item.number, error, self._breaker)

    async def _store_summary(self, item: SummaryUpload) -> None:
        event = item.event
        if item.lines:
            folder = str(item.lines[0]["object_key"]).rpartition("/")[0] + "/"
        else:
            folder = names.event_folder(self._prefix, event.instance, event.camera, event.event_id)
        summary = payloads.event_summary(event, item.lines, writer=item.writer, no=item.no)
        body = payloads.encode(summary)
        try:
            await self._put(
                item,
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
        except RecordRejected as exc:
            # The frames are stored and announced; the end of their event must still be announced.
            log.error("%s: event %s gets no summary: %s", event.camera, event.event_id, exc)
        except StoreUnavailable as exc:
            await self._retry(item, exc)
            return
        if not self._rejections.blames_store:
            # Otherwise only a frame may close it: a summary may pass a size limit that frames do not.
            self._breaker.record_success()
        self._retries.succeeded(item.number)
        await self._retries.insist(lambda: self._spool.mark_stored(item.number, None))

    async def _put(self, item: Upload, key: str, data: bytes, **how: Any) -> str:
        """Put an object and free the item's slot, so that the next need not wait for the spool's note."""
        limit_s = self._put_timeout_s * max(1, -(-len(data) // _MIB))
        try:
            async with asyncio.timeout(limit_s):
                return await self._store.put(key, data, **how)
        except TimeoutError as exc:
            raise StoreUnavailable(f"no answer within {limit_s:g} s") from exc
        finally:
            self._slots.add(-1, backlog=item.delayed)
            self._bell.ring()
