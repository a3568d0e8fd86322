"""The spool as the event loop sees it: coroutines in front, the worker thread behind.

accept, mark_stored, … ──▶ worker (one thread, one connection) ──▶ futures, `on_work`
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from async_motion.core.items import Announcement, EventNow, IndexDay, Upload
from async_motion.core.model import EventPhase, Record, StoredFrame
from async_motion.core.options import DELAYED_AFTER_S, SPOOL_AGE_S, SPOOL_BYTES, WHEN_FULL, WhenFull
from async_motion.errors import SpoolError
from async_motion.spool import files
from async_motion.spool.leases import Leases
from async_motion.spool.stats import SpoolStats
from async_motion.spool.tables import Tables
from async_motion.spool.worker import CallKind, Worker, WorkerCall, closed

log = logging.getLogger(__name__)

T = TypeVar("T")

RECALL_PAUSES_S = (0.05, 0.2, 0.5)
"""How long to wait after each failed read of a remembered value: most failures are transient."""
SMALL_BYTES = 64 * 1024
"""A remembered value up to this size may use the space reserved for deletions."""


class Spool:
    """The durable outbox. `async with Spool(path):` opens and closes it.

    `path` may be ":memory:": the same code, nothing on the disk, and all is lost with the process.
    `max_bytes` and `max_age_s` bound the waiting items, `when_full` chooses which are dropped. From the age
    of `delayed_after_s` an item belongs to the backlog; give delivery the same value. `clock` is monotonic,
    in seconds; `wall` is Unix time.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int = SPOOL_BYTES,
        max_age_s: float = SPOOL_AGE_S,
        when_full: WhenFull = WHEN_FULL,
        delayed_after_s: float = DELAYED_AFTER_S,
        accept_timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = None if str(path) == files.MEMORY else Path(path)
        self._accept_timeout_s = accept_timeout_s
        self._callbacks: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._stats = SpoolStats(max_bytes=max_bytes)
        self._worker = Worker(
            self._path,
            make_tables=partial(
                Tables,
                max_bytes=max_bytes,
                max_age_s=max_age_s,
                when_full=when_full,
                delayed_after_s=delayed_after_s,
                clock=clock,
                wall=wall,
            ),
            max_bytes=max_bytes,
            clock=clock,
            wall=wall,
            on_stats=self._set_stats,
            on_work=self._call_back,
        )

    # -- life

    async def open(self) -> None:
        """Open the spool, recover after a crash, close interrupted events. Raises SpoolError."""
        await self._worker.start()

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Finish pending calls, and close. If the disk hangs, leave the thread after `timeout_s`."""
        if not await self._worker.stop(timeout_s):
            log.warning("spool: the disk under %s does not answer; leaving it open", self._path)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- for the cameras

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Accept `items` in this order, in one transaction; return once it is on the disk.

        Items dropped at the bounds, which may be some of these, are counted in `stats.dropped`. Raises
        SpoolError: no item is accepted. After `accept_timeout_s` the result is unknown: repeat the call.
        """
        kept = tuple(items)
        size = sum(len(item.jpeg) for item in kept if isinstance(item, Record))
        try:
            async with asyncio.timeout(self._accept_timeout_s):
                await self._call(CallKind.ACCEPT, lambda tables: tables.accept(kept), size)
        except TimeoutError as exc:
            raise SpoolError(
                f"{self._path}: the disk has not answered for {self._accept_timeout_s:g} s: check it"
            ) from exc

    async def remember(self, key: str, value: bytes | None, *, durable: bool = True) -> None:
        """Keep a value of at most a few MB across restarts; None forgets it.

        `durable`: on the disk on return. Only a value up to `SMALL_BYTES` may use the space reserved for
        deletions. Raises SpoolError.
        """
        kind = CallKind.ACCEPT if durable else CallKind.NOTE

        def note(tables: Tables) -> bool:
            # Raise no error: it would roll back the acceptances that share the transaction.
            size = len(value or b"")
            if size > SMALL_BYTES and self._path is not None and files.is_nearly_full(self._path, size):
                return False
            tables.remember(key, value)
            return True

        if not await self._call(kind, note):
            raise files.no_space(self._path or files.MEMORY)

    async def recall(self, key: str) -> bytes | None:
        """Return the value kept under `key`, or None if there is none or it cannot be read.

        A lost value must not prevent the service from starting; callers begin without it.
        """
        problem: SpoolError | None = None
        for pause_s in RECALL_PAUSES_S:
            try:
                return await self._call(CallKind.LOOK, lambda tables: tables.recall(key))
            except SpoolError as exc:
                problem = exc
                await asyncio.sleep(pause_s)
        log.warning("spool: %s cannot be read, going on without it: %s", key, problem)
        return None

    async def forget(self, prefix: str, *, but: Collection[str]) -> None:
        """Forget the values whose keys begin with `prefix`, except the keys in `but`.

        A failure is logged and the values stay; a later call forgets them.
        """
        kept = frozenset(but)
        try:
            await self._call(CallKind.NOTE, lambda tables: tables.forget(prefix, kept))
        except SpoolError as exc:
            log.warning("spool: values that are no longer needed are not deleted yet: %s", exc)

    @property
    def stats(self) -> SpoolStats:
        """The latest statistics, without a disk access."""
        return self._stats

    # -- for delivery

    def on_work(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the running event loop after every change that may have created work."""
        self._callbacks.append((asyncio.get_running_loop(), callback))

    def off_work(self, callback: Callable[[], None]) -> None:
        """Stop calling `callback`."""
        self._callbacks = [(loop, known) for loop, known in self._callbacks if known != callback]

    async def take_uploads(self, *, fresh: bool, limit: int) -> list[Upload]:
        """Lease the next items to store, with their JPEGs: fresh items or the backlog, oldest first.

        Records that cannot be read back are set aside. Raises SpoolError.
        """
        return await self._take(lambda leases: leases.take_uploads(fresh=fresh, limit=limit))

    async def take_fresh_announcements(self, limit: int) -> list[list[Announcement]]:
        """Lease the next items to announce: at most `limit` fresh items of each camera, in order."""
        return await self._take(lambda leases: leases.take_fresh_announcements(limit))

    async def take_backlog_announcements(self, limit: int) -> list[Announcement]:
        """Lease the next items of the backlog to announce, oldest first, at most `limit`."""
        return await self._take(lambda leases: leases.take_backlog_announcements(limit))

    async def _take(self, take: Callable[[Leases], T]) -> T:
        """Lease items; set aside those that cannot be read back. Raises SpoolError."""

        def look(tables: Tables) -> tuple[T, dict[int, str]]:
            return take(tables.leases), dict(tables.leases.unreadable)

        found, unreadable = await self._call(CallKind.LOOK, look)
        for number, reason in unreadable.items():
            # The caller must get the leased items. If this fails, the next take tries again.
            with contextlib.suppress(SpoolError):
                await self.set_aside(number, reason, unreadable=True)
                log.error("spool: item %d is set aside: it %s", number, reason)
        return found

    async def mark_stored(self, number: int, stored: StoredFrame | None, *, keep_jpeg: bool = False) -> None:
        """Note that a frame, or (None) an event's summary, is in the store.

        Raises SpoolError; then call it again.
        """
        await self._call(CallKind.NOTE, lambda tables: tables.mark_stored(number, stored, keep_jpeg))

    async def remove(self, numbers: Collection[int]) -> None:
        """Delete items that were announced. Raises SpoolError; then call it again."""
        await self._call(CallKind.NOTE, lambda tables: tables.remove(numbers))

    async def set_aside(self, number: int, reason: str, *, unreadable: bool = False) -> None:
        """Set aside a record that is refused or unreadable. Raises SpoolError; then call it again."""
        await self._call(
            CallKind.NOTE, lambda tables: tables.set_aside(number, reason, unreadable=unreadable)
        )

    async def restore(self, numbers: Collection[int] | None = None) -> list[int]:
        """Queue records that were set aside for delivery again (None: all). Return their numbers.

        Raises SpoolError.
        """
        return await self._call(CallKind.NOTE, lambda tables: tables.restore(numbers))

    async def restore_samples(self) -> dict[int, str]:
        """Queue for delivery the oldest record of each reason for which records were set aside.

        Return their numbers and reasons. Raises SpoolError.
        """
        return await self._call(CallKind.NOTE, lambda tables: tables.restore_samples())

    async def restore_by_reason(self, reason: str) -> list[int]:
        """Queue all records set aside for this reason. Return their numbers. Raises SpoolError."""
        return await self._call(CallKind.NOTE, lambda tables: tables.restore(None, reason))

    async def release(self, numbers: Collection[int], delay_s: float = 0.0) -> None:
        """Release leased items; they are available again after `delay_s` seconds. Raises SpoolError."""
        await self._call(CallKind.LOOK, lambda tables: tables.leases.release(numbers, delay_s))

    async def release_all(self) -> None:
        """Release every lease: a new delivery begins. Raises SpoolError."""
        await self._call(CallKind.LOOK, lambda tables: tables.leases.release_all())

    async def event_now(self, event_id: str) -> EventNow | None:
        """Return the current state of an event; None if it is unknown or its end was announced."""
        return await self._call(CallKind.LOOK, lambda tables: tables.leases.event_now(event_id))

    async def due_index(self) -> list[IndexDay]:
        """Return the index files whose lines have changed since they were last stored. Raises SpoolError."""
        return await self._call(CallKind.LOOK, lambda tables: tables.index.due())

    async def index_lines(self, day: IndexDay) -> list[str]:
        """Return the lines of an index file, in order of `event_id`. Raises SpoolError."""
        return await self._call(CallKind.LOOK, lambda tables: tables.index.lines(day))

    async def mark_indexed(self, day: IndexDay) -> None:
        """Note that an index file was stored as of `day.version`. Raises SpoolError."""
        await self._call(CallKind.NOTE, lambda tables: tables.index.mark_written(day))

    async def writer(self) -> str:
        """Return the id of this spool: six hex digits, drawn when it was created. Raises SpoolError."""
        return await self._call(CallKind.LOOK, lambda tables: tables.writer)

    async def jpeg(self, number: int) -> bytes | None:
        """Return a record's JPEG, or None if the spool no longer has it. Raises SpoolError."""
        return await self._call(CallKind.LOOK, lambda tables: tables.leases.jpeg(number))

    # -- the worker

    async def _call(self, kind: CallKind, function: Callable[[Tables], T], size: int = 0) -> T:
        if self._worker.bug is not None:
            raise self._worker.bug
        if not self._worker.running:
            raise closed(self._path)
        loop = asyncio.get_running_loop()
        call = WorkerCall(kind, function, loop.create_future(), loop, size)
        self._worker.put(call)
        try:
            result: T = await call.future
        except asyncio.CancelledError:
            # Drop a call that has not begun, so that its JPEGs are freed even while the disk hangs.
            call.function = None
            raise
        return result

    def _set_stats(self, stats: SpoolStats) -> None:
        self._stats = stats

    def _call_back(self) -> None:
        for loop, callback in self._callbacks:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(callback)
