"""Publish from the spool to the subscribers: announcements of stored frames, and the phases of events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from async_motion.core import payloads
from async_motion.core.items import Announcement, FrameAnnouncement, PhaseAnnouncement
from async_motion.core.model import FrameInfo, MotionEvent, Phase
from async_motion.core.names import Topics
from async_motion.core.options import SLOWEST_BYTES_PER_S
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.delivery.dispatch import Bell, Slots, share_of
from async_motion.delivery.protocols import Outbox, PublishingBroker, Store
from async_motion.delivery.retries import MAX_REMEMBERED, Figures, Retries
from async_motion.delivery.snapshots import Snapshots
from async_motion.errors import (
    BrokerNotReady,
    BrokerUnavailable,
    RecordRejected,
    SpoolError,
    StoreUnavailable,
    TransientError,
)

log = logging.getLogger(__name__)

BATCH = 16
"""Announcements in one leased batch, of one camera or of the backlog."""
PUBLISHES = 16
"""Concurrent publishes; with more, a broker is no faster."""
TRIED = 4
"""A trial chooses one of this many items of the backlog and the first fresh item of each camera."""


IsCurrent = Callable[[str, int], bool]
"""Takes (camera, epoch); returns whether this worker holds that lease now."""


class BoundedPublish:
    """Publishes to the broker: at most `PUBLISHES` concurrently.

    Each has `timeout_s`, and the time that a link of `SLOWEST_BYTES_PER_S` needs for all of them.
    """

    def __init__(self, broker: PublishingBroker, timeout_s: float) -> None:
        self._broker = broker
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(PUBLISHES)
        self._bytes = 0

    async def __call__(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1. Raises BrokerUnavailable, BrokerRefused."""
        async with self._slots:
            self._bytes += len(payload)
            allowed_s = self._timeout_s + self._bytes / SLOWEST_BYTES_PER_S
            try:
                async with asyncio.timeout(allowed_s):
                    await self._broker.publish(topic, payload, retain=retain)
            except TimeoutError as exc:
                raise BrokerUnavailable(f"no answer within {allowed_s:.0f} s") from exc
            finally:
                self._bytes -= len(payload)


class Publisher:
    """Announces leased items: each camera's fresh ones in order, and the backlog beside them.

    `presign_s` is the lifetime of the links in announcements, None for no links. `store_breaker` records
    links that could not be made. `is_current` returns whether a fleet's lease on a camera (its epoch) is
    held: frames accepted under another lease are announced as delayed, through `publish_as_worker`, without a
    snapshot.
    """

    def __init__(
        self,
        spool: Outbox,
        store: Store,
        *,
        publish: BoundedPublish,
        publish_as_worker: BoundedPublish,
        is_current: IsCurrent,
        breaker: CircuitBreaker,
        store_breaker: CircuitBreaker,
        retries: Retries,
        snapshots: Snapshots,
        figures: Figures,
        bell: Bell,
        idle_bell: Bell,
        topics: Topics,
        backlog_share: float,
        delayed_after_s: float,
        update_every_s: float,
        presign_s: float | None,
        link_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._store = store
        self._publish = publish
        self._publish_as_worker = publish_as_worker
        self._is_current = is_current
        self._breaker = breaker
        self._store_breaker = store_breaker
        self._retries = retries
        self._snapshots = snapshots
        self._figures = figures
        self._bell = bell
        self._idle_bell = idle_bell
        self._topics = topics
        self._delayed_after_s = delayed_after_s
        self._update_every_s = update_every_s
        self._presign_s = presign_s
        self._link_timeout_s = link_timeout_s
        self._clock = clock
        self._backlog_batches = max(1, share_of(PUBLISHES // 2, backlog_share))
        self._batches = Slots()
        self._updated: dict[str, float] = {}

    @property
    def busy(self) -> bool:
        """True while a batch is being announced."""
        return self._batches.all > 0

    # -- starting

    async def start(self, tasks: asyncio.TaskGroup) -> int:
        """Lease announcements and start a task for each batch; return how many. Raises SpoolError."""
        if not self._spool.stats.to_announce:
            return 0
        # Taken before the spool computes each item's age, to which the time since then is added.
        leased_at = self._clock()
        if self._breaker.half_open:
            batches = await self._lease_trial() if not self.busy else []
        else:
            batches = [(batch, False) for batch in await self._spool.take_fresh_announcements(BATCH)]
            if self._batches.backlog < self._backlog_batches and self._spool.stats.backlog:
                batches += await self._lease_backlog(batches)
        for batch, backlog in batches:
            self._batches.add(1, backlog=backlog)
            announcing = self._announce(batch, backlog=backlog, leased_at=leased_at)
            tasks.create_task(announcing, name=f"announce {batch[0].number}")
        return len(batches)

    async def _lease_backlog(
        self, fresh: Sequence[tuple[list[Announcement], bool]]
    ) -> list[tuple[list[Announcement], bool]]:
        """Lease a batch of the backlog. Raises SpoolError; then `fresh` is released."""
        try:
            batch = await self._spool.take_backlog_announcements(BATCH)
        except SpoolError:
            await self._release([item for batch, _ in fresh for item in batch])
            raise
        return [(batch, True)] if batch else []

    async def _lease_trial(self) -> list[tuple[list[Announcement], bool]]:
        """Lease one announcement for a trial, a different one each time. Raises SpoolError."""
        found = [(batch, False) for batch in await self._spool.take_fresh_announcements(1)]
        try:
            found += [([item], True) for item in await self._spool.take_backlog_announcements(TRIED)]
        except SpoolError:
            if not found:
                raise
        if not found:
            return []
        chosen = found.pop(self._breaker.trials % len(found))
        await self._release([item for batch, _ in found for item in batch])
        return [chosen]

    async def _release(self, items: Sequence[Announcement]) -> None:
        numbers = [item.number for item in items]
        if numbers:
            await self._retries.insist(lambda: self._spool.release(numbers))

    # -- announcing

    async def _announce(self, batch: Sequence[Announcement], *, backlog: bool, leased_at: float) -> None:
        """Announce a batch in its order; after a failure, release the rest."""
        done: list[int] = []
        try:
            for item in batch:
                try:
                    if isinstance(item, FrameAnnouncement):
                        await self._announce_frame(item, leased_at)
                    else:
                        await self._announce_phase(item)
                except TransientError as exc:
                    breaker = self._breaker_of(exc)
                    self._record(exc)
                    await self._release(
                        [other for other in batch if other.number not in (*done, item.number)]
                    )
                    await self._retries.release(item.number, exc, breaker)
                    break
                done.append(item.number)
                self._retries.succeeded(item.number)
            await self._retries.insist(lambda: self._spool.remove(done))
        except asyncio.CancelledError:
            with contextlib.suppress(SpoolError):
                await self._spool.remove(done)
            raise
        finally:
            self._batches.add(-1, backlog=backlog)
            self._bell.ring()
            self._idle_bell.ring()

    async def _announce_frame(self, item: FrameAnnouncement, leased_at: float) -> None:
        info = item.stored.info
        url = await self._link(info.object_key)
        if self._holds(info) and self._snapshots.is_due(item):
            await self._snapshots.show(item, self._announcement(item, leased_at, url))
        # Check the lease as late as possible: from here on, only a free slot is waited for.
        held = self._holds(info)
        publish = self._publish if held else self._publish_as_worker
        await publish(self._topics.frame(info.camera), self._announcement(item, leased_at, url, held=held))
        self._breaker.record_success()
        self._figures.counts["announced"] += 1
        self._figures.counts["repeats"] += self._retries.failed_before(item.number)
        if not held:
            return
        try:
            await self._announce_update(info, item.lasted_s)
        except TransientError as exc:
            # The frame is announced. The next update, or the end, replaces this one.
            self._record(exc)

    def _holds(self, of: FrameInfo | MotionEvent) -> bool:
        """Return whether the lease under which this was accepted is still held; always, without a fleet."""
        return of.epoch is None or self._is_current(of.camera, of.epoch)

    def _announcement(
        self, item: FrameAnnouncement, leased_at: float, url: str | None, *, held: bool = True
    ) -> bytes:
        age_s = item.age_s + self._clock() - leased_at
        delayed = not held or item.delayed or age_s > self._delayed_after_s
        return payloads.encode(payloads.frame_payload(replace(item.stored, delayed=delayed, url=url)))

    async def _announce_update(self, info: FrameInfo, lasted_s: float | None) -> None:
        """Publish an event's update if its start is announced, and none was sent within `update_every_s`.

        `lasted_s`: how long the event had lasted when the frame was accepted, None if unknown.
        """
        last = self._updated.get(info.event_id)
        if last is not None and self._clock() - last < self._update_every_s:
            return
        try:
            known = await self._spool.event_now(info.event_id)
        except SpoolError:
            return  # the spool has logged it; the next update replaces this one
        # Our own note of the start is newer than the spool's, which is made once for a whole batch.
        if known is None or not (known.announced or last is not None):
            return
        self._note_update(info.event_id)
        # `captured_at` is a label, which jumps with the wall clock: used only without a better clock.
        until = info.captured_at
        if lasted_s is not None:
            until = known.event.started_at + timedelta(seconds=lasted_s)
        payload = payloads.event_payload(
            Phase.UPDATE,
            known.event,
            now=until,
            frames_stored=known.frames_stored,
            best_frame=known.best_frame,
            writer=known.writer,
            no=known.no,
            bucket=self._store.bucket,
            url=await self._link(known.best_frame),
        )
        await self._publish(self._topics.event(info.camera), payloads.encode(payload))

    async def _announce_phase(self, item: PhaseAnnouncement) -> None:
        event = item.phase.event
        url = await self._link(item.best_frame)
        held = self._holds(event)
        payload = payloads.event_payload(
            item.phase.phase,
            event,
            now=event.started_at + timedelta(seconds=item.lasted_s or 0.0),
            frames_stored=item.frames_stored,
            best_frame=item.best_frame,
            writer=item.writer,
            no=item.no,
            bucket=self._store.bucket,
            url=url,
            delayed=not held or item.delayed,
        )
        publish = self._publish if held else self._publish_as_worker
        await publish(self._topics.event(event.camera), payloads.encode(payload))
        self._breaker.record_success()
        if item.phase.phase is Phase.END:
            self._updated.pop(event.event_id, None)
        else:
            self._note_update(event.event_id)

    def _note_update(self, event_id: str) -> None:
        self._updated[event_id] = self._clock()
        if len(self._updated) > MAX_REMEMBERED:  # events whose end was dropped at the spool's bounds
            self._updated.pop(next(iter(self._updated)))

    async def _link(self, key: str | None) -> str | None:
        """Return a presigned link to an object; None without a key or if links are off.

        Raises StoreUnavailable.
        """
        if key is None or self._presign_s is None:
            return None
        try:
            async with asyncio.timeout(self._link_timeout_s):
                return await self._store.link(key, self._presign_s)
        except TimeoutError as exc:
            raise StoreUnavailable(f"no link within {self._link_timeout_s:g} s") from exc
        except RecordRejected as exc:
            log.debug("%s: no link: %s", key, exc)
            return None

    def _record(self, error: TransientError) -> None:
        """Record a failure with its peer's breaker, unless it concerns one camera of a fleet only."""
        breaker = self._breaker_of(error)
        # A trial needs an outcome: the next one takes another camera's item.
        if not (isinstance(error, BrokerNotReady) and breaker.closed):
            breaker.record_failure(error)

    def _breaker_of(self, error: TransientError) -> CircuitBreaker:
        return self._store_breaker if isinstance(error, StoreUnavailable) else self._breaker
