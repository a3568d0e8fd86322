"""The spool as the event loop sees it: coroutines in front, one daemon thread with the connection behind.

    accept, mark_stored, … ──▶ queue ──▶ thread: all that waits becomes one transaction ──▶ futures, `on_work`

Calls that change something and arrive together share one transaction. Where it fails, the acceptances in it
fail and the notes of delivery are tried once more by themselves: a disk too full for a picture still takes a
deletion. Calls that only look run after the transaction, so that they never see what may still be rolled
back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from async_motion.core.items import EventNow, News, Upload
from async_motion.core.model import EventPhase, Record, StoredFrame
from async_motion.core.options import WhenFull
from async_motion.errors import SpoolError
from async_motion.spool import files
from async_motion.spool.leases import Leases
from async_motion.spool.schema import TO_ANNOUNCE, TO_STORE, ForeignDatabase, NewerDatabase
from async_motion.spool.tables import Tables

log = logging.getLogger(__name__)

T = TypeVar("T")

GROUP_S = 0.002
"""How long an acceptance waits for company before it is committed."""
GROUP_BYTES = 16 * 1024 * 1024
TICK_S = 1.0
SPARE_PAGES = 4 * 1024 * 1024 // files.PAGE_BYTES
"""Free pages that the file keeps for the next records."""
VACUUM_PAGES = 64
"""Free pages given back in one step: half a MiB."""
RECLAIM_S = 5.0
"""How often, on a disk that is nearly full, all that is not needed is given back at once."""
SMALL_BYTES = 64 * 1024
SUMMARY_S = 60.0
"""How often drops that go on are reported, and how long none must have happened to call it over."""


class _Kind(Enum):
    ACCEPT = "accept"
    """Changes the tables, and is promised to be on the disk."""
    NOTE = "note"
    """Changes the tables."""
    LOOK = "look"


@dataclass(slots=True, eq=False)
class _Call:
    """One function for the thread. `function` is None once nobody waits for it any more."""

    kind: _Kind
    function: Callable[[Tables], Any] | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    size: int = 0
    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStats:
    """What the spool holds. `bytes` counts JPEGs, rows and lines, as `max_bytes` does.

    `records` are those on their way, `phases` starts and ends; `set_aside` those refused for good. `dropped`
    counts since the start, by reason: `full`, `age`, `too_large` (records not yet stored), `full_stored`
    (announcements), `full_aside` (records set aside), `age_phase`. `to_store` and `to_announce` say whether
    anything is, `backlog` whether anything of it is late. `problem` is why the spool cannot take records now,
    None while it can.
    """

    records: int = 0
    phases: int = 0
    bytes: int = 0
    max_bytes: int = 0
    oldest_age_s: float = 0.0
    to_store: bool = False
    to_announce: bool = False
    backlog: bool = False
    set_aside: int = 0
    accepted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    commits: int = 0
    problem: str | None = None

    @property
    def empty(self) -> bool:
        """True when nothing is left to deliver."""
        return not self.records and not self.phases


class Spool:
    """The durable outbox. `async with Spool(path):` opens and closes it.

    `path` may be ":memory:": the same code, nothing on the disk, and all is lost with the process.
    `max_bytes` and `max_age_s` bound what waits, `when_full` chooses what goes. `fresh_s` is the age from
    which on an item belongs to the backlog; give delivery the same. `clock` counts seconds, `wall` is Unix
    time.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int = 2 * 1024**3,
        max_age_s: float = 7 * 86400.0,
        when_full: WhenFull = "drop_oldest",
        fresh_s: float = 10.0,
        accept_timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = None if str(path) == files.MEMORY else Path(path)
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._when_full: WhenFull = when_full
        self._fresh_s = fresh_s
        self._accept_timeout_s = accept_timeout_s
        self._clock = clock
        self._wall = wall
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._callbacks: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._bug: Exception | None = None
        self._stats = SpoolStats(max_bytes=max_bytes)
        self._stats_at = clock()
        # What follows belongs to the thread.
        self._lock: files.Lock | None = None
        self._db: sqlite3.Connection | None = None
        self._tables: Tables | None = None
        self._min_number = 1
        self._doubtful = False
        self._spare = 0
        self._next_reclaim = 0.0
        self._data_version = 0
        self._problem: str | None = None
        self._commits = 0
        self._reported: dict[str, int] = {}
        self._dropping_since: float | None = None
        self._last_drop = 0.0
        self._next_summary = 0.0

    # -- life

    async def open(self) -> None:
        """Open the spool, replay what a crash has left, close interrupted events. Raises SpoolError."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._closed.clear()
        self._thread = threading.Thread(
            # A daemon: a disk that hangs must not hold up the interpreter's exit.
            target=self._main,
            args=(_Call(_Kind.LOOK, None, opened, loop),),
            name="spool",
            daemon=True,
        )
        self._thread.start()
        await opened

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Finish what was asked for, and close. After `timeout_s` the thread is left to a disk that hangs."""
        if self._thread is None:
            return
        self._calls.put(None)
        deadline = time.monotonic() + timeout_s
        while not self._closed.is_set():
            if time.monotonic() > deadline:
                log.warning("spool: the disk under %s does not answer; leaving it open", self._path)
                return
            await asyncio.sleep(0.005)
        self._thread.join()
        self._thread = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- the pipeline's side

    async def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Return once all `items` are on the disk, taken in one transaction and in this order.

        At the bounds, what the policy lets go (it may be one of these) is counted in `stats.dropped`.
        Raises SpoolError: they are not accepted, or, after `accept_timeout_s`, perhaps.
        """
        kept = tuple(items)
        size = sum(len(item.jpeg) for item in kept if isinstance(item, Record))
        try:
            async with asyncio.timeout(self._accept_timeout_s):
                await self._call(_Kind.ACCEPT, lambda tables: tables.accept(kept), size)
        except TimeoutError as exc:
            raise SpoolError(
                f"{self._path}: the disk has not answered for {self._accept_timeout_s:g} s: check it"
            ) from exc

    async def remember(self, key: str, value: bytes | None, *, durable: bool = True) -> None:
        """Keep a value of at most a few MB over restarts; None forgets it. `durable`: on the disk on return.

        Only a small one may take from the room that deletions need. Raises SpoolError.
        """
        kind = _Kind.ACCEPT if durable else _Kind.NOTE

        def note(tables: Tables) -> bool:
            # No error: it would undo the acceptances that share the transaction.
            size = len(value or b"")
            if size > SMALL_BYTES and self._path is not None and files.is_nearly_full(self._path, size):
                return False
            tables.remember(key, value)
            return True

        if not await self._call(kind, note):
            raise files.no_space(self._path or files.MEMORY)

    async def recall(self, key: str) -> bytes | None:
        """Return what was kept under `key`, None for nothing. Raises SpoolError."""
        return await self._call(_Kind.LOOK, lambda tables: tables.recall(key))

    async def forget(self, prefix: str, *, but: Collection[str]) -> None:
        """Forget the values whose keys begin with `prefix`, but those under the keys named.

        Raises SpoolError.
        """
        kept = frozenset(but)
        await self._call(_Kind.NOTE, lambda tables: tables.forget(prefix, kept))

    @property
    def stats(self) -> SpoolStats:
        """What the spool holds now: cheap, no question to the disk."""
        return self._stats

    # -- delivery's side

    def on_work(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in this event loop after every change that may have made work."""
        self._callbacks.append((asyncio.get_running_loop(), callback))

    async def take_uploads(self, *, fresh: bool, limit: int) -> list[Upload]:
        """Hand out what is to be stored next of the fresh lane or of the backlog, with its bytes, oldest
        first.

        Records that cannot be read back are set aside on the way. Raises SpoolError.
        """
        return await self._take(lambda lanes: lanes.take_uploads(fresh=fresh, limit=limit))

    async def take_fresh_news(self, limit: int) -> list[list[News]]:
        """Hand out what is to be announced next: at most `limit` of each camera's fresh line, in order."""
        return await self._take(lambda lanes: lanes.take_fresh_news(limit))

    async def take_late_news(self, limit: int) -> list[News]:
        """Hand out what is to be announced next of the backlog, oldest first."""
        return await self._take(lambda lanes: lanes.take_late_news(limit))

    async def _take(self, take: Callable[[Leases], T]) -> T:
        """Hand out; set aside what cannot be read on the way. Raises SpoolError."""

        def look(tables: Tables) -> tuple[T, list[tuple[int, str]]]:
            found = take(tables.lanes)
            broken, tables.lanes.broken = tables.lanes.broken, []
            return found, broken

        found, broken = await self._call(_Kind.LOOK, look)
        for number, reason in broken:
            log.error("spool: item %d is set aside: it %s", number, reason)
            await self.set_aside(number, reason)
        return found

    async def mark_stored(self, number: int, stored: StoredFrame | None, *, keep_jpeg: bool = False) -> None:
        """Note that a frame, or (None) an event's summary, is in the store.

        Raises SpoolError: note it again.
        """
        await self._call(_Kind.NOTE, lambda tables: tables.mark_stored(number, stored, keep_jpeg))

    async def remove(self, numbers: Collection[int]) -> None:
        """Note that these are announced; they leave the spool. Raises SpoolError: note it again."""
        await self._call(_Kind.NOTE, lambda tables: tables.remove(numbers))

    async def set_aside(self, number: int, reason: str) -> None:
        """Note that a record is refused for good. Raises SpoolError: note it again."""
        await self._call(_Kind.NOTE, lambda tables: tables.set_aside(number, reason))

    async def release(self, numbers: Collection[int], delay_s: float = 0.0) -> None:
        """Give back pieces that were handed out; they come again after `delay_s`."""
        await self._call(_Kind.LOOK, lambda tables: tables.lanes.release(numbers, delay_s))

    async def release_all(self) -> None:
        """Give back whatever was handed out: a new delivery begins."""
        await self._call(_Kind.LOOK, lambda tables: tables.lanes.release_all())

    async def event_now(self, event_id: str) -> EventNow | None:
        """Return what is known of an event whose end is not announced yet."""
        return await self._call(_Kind.LOOK, lambda tables: tables.lanes.event_now(event_id))

    async def jpeg(self, number: int) -> bytes | None:
        """Return a record's bytes while the spool has them."""
        return await self._call(_Kind.LOOK, lambda tables: tables.lanes.jpeg(number))

    async def _call(self, kind: _Kind, function: Callable[[Tables], T], size: int = 0) -> T:
        if self._bug is not None:
            raise self._bug
        if self._thread is None or self._closed.is_set():
            raise self._is_closed()
        loop = asyncio.get_running_loop()
        call = _Call(kind, function, loop.create_future(), loop, size)
        self._calls.put(call)
        try:
            result: T = await call.future
        except asyncio.CancelledError:
            call.function = (
                None  # not begun: never will be, and its pictures need not wait for a hanging disk
            )
            raise
        return result

    def _is_closed(self) -> SpoolError:
        return SpoolError(f"{self._path or files.MEMORY}: the spool is closed")

    # -- the thread

    def _main(self, opening: _Call) -> None:
        try:
            self._begin()
        except SpoolError as exc:
            self._end()
            self._closed.set()
            opening.error = exc
            self._answer([opening])
            return
        self._publish_stats()
        self._answer([opening])
        going_on = True
        while going_on:
            calls: list[_Call] = []
            try:
                going_on = self._gather(calls)
                self._work(calls)
            except Exception as exc:
                # A bug. Whoever waits gets it raised, and so ends the process, which supervises us.
                log.exception("spool: this is a bug")
                self._bug = exc
                going_on = False
            for call in calls:
                call.error = self._bug or call.error
            self._answer(calls)
        self._end()
        self._closed.set()
        # Nobody comes any more, or nobody will be served: none of them may wait for ever.
        while not self._calls.empty():
            left = self._calls.get()
            if left is not None:
                left.error = self._bug or self._is_closed()
                self._answer([left])

    def _work(self, calls: Sequence[_Call]) -> None:
        if calls:
            self._serve(calls)
        only_looked = calls and all(call.kind is _Kind.LOOK and call.error is None for call in calls)
        if only_looked and self._clock() - self._stats_at < TICK_S:
            return  # nothing has changed but the time
        try:
            self._keep_house(idle=not calls)
        except sqlite3.Error as exc:
            self._on_error(exc)
        self._publish_stats()

    def _begin(self) -> None:
        """Open file and tables; move away what cannot be used. Raises SpoolError."""
        if self._path is not None and self._lock is None:
            self._lock = files.Lock(self._path)
        try:
            try:
                self._open_tables()
            except NewerDatabase:
                self._move_away(files.NEWER, "was written by a newer version of async_motion")
                self._open_tables()
            except sqlite3.Error as exc:
                if not files.is_damage(exc) or self._path is None:
                    raise
                self._move_away(files.DAMAGED, f"is damaged ({exc})")
                self._open_tables()
        except ForeignDatabase as exc:
            raise SpoolError(
                f"{self._path}: is a database of another program: choose another spool.path"
            ) from exc
        except sqlite3.Error as exc:
            raise files.translate(self._path, exc) from exc
        except OSError as exc:
            raise files.cannot_write(self._path or Path(files.MEMORY), exc) from exc

    def _open_tables(self) -> None:
        self._db = files.connect(self._path)
        self._tables = Tables(
            self._db,
            max_bytes=self._max_bytes,
            max_age_s=self._max_age_s,
            when_full=self._when_full,
            fresh_s=self._fresh_s,
            clock=self._clock,
            wall=self._wall,
            min_number=self._min_number,
        )
        if self._path is not None:
            files.sync_folder(self._path)
        with self._tables.transaction(durable=True):
            closed = self._tables.close_interrupted()
            # SQLite finds damage only where it reads: these are read all the time.
            self._tables.first(TO_STORE), self._tables.first(TO_ANNOUNCE)
        for event_id in closed:
            log.info("spool: event %s was interrupted by the end of the last run; it is closed now", event_id)
        self._data_version = self._tables.data_version()
        self._doubtful = False

    def _move_away(self, why: str, words: str) -> None:
        """Set the file aside as it is, with a line in the log."""
        assert self._path is not None
        if self._tables is not None:
            # Delivery may still report on numbers of the old file: they must not mean records of the new one.
            self._min_number = self._tables.next_number
        self._close_db()
        away = files.move_away(self._path, why, self._wall)
        log.error(
            "spool: %s %s. It is kept as %s, and a new one begins. What it holds can be had%s with: "
            "async-motion spool --path %s export DIR",
            self._path,
            words,
            away.name,
            " by that version" if why == files.NEWER else "",
            away,
        )

    def _close_db(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None
        self._tables = None

    def _end(self) -> None:
        self._close_db()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _gather(self, calls: list[_Call]) -> bool:
        """Wait for calls; give an acceptance a moment for others to join. False: these are the last ones."""
        size = 0
        deadline: float | None = None
        wait_s: float = 0.05 if self._has_spare() else TICK_S
        while True:
            try:
                call = self._calls.get(timeout=wait_s) if wait_s > 0 else self._calls.get_nowait()
            except queue.Empty:
                return True
            if call is None:
                return False
            calls.append(call)
            if call.kind is _Kind.LOOK and deadline is not None:
                # The transaction is not begun yet, and a slot of delivery's stands empty meanwhile.
                self._look(call)
                self._answer([calls.pop()])
            size += call.size
            if call.kind is _Kind.ACCEPT and deadline is None:
                deadline = time.monotonic() + GROUP_S
            if size >= GROUP_BYTES:
                return True
            wait_s = max(0.0, deadline - time.monotonic()) if deadline is not None else 0.0

    def _serve(self, calls: Sequence[_Call]) -> None:
        writes = [call for call in calls if call.kind is not _Kind.LOOK and call.function is not None]
        if writes:
            self._write(writes)
        for call in calls:
            if call.kind is _Kind.LOOK:
                self._look(call)

    def _look(self, call: _Call) -> None:
        if call.function is None:
            return
        try:
            call.result = call.function(self._living_tables())
        except sqlite3.Error as exc:
            call.error = self._on_error(exc)
        except SpoolError as exc:
            call.error = exc

    def _write(self, calls: Sequence[_Call]) -> None:
        """Do these in one transaction; in the worst case, the notes in one and the acceptances not at all."""
        error = self._try_write(calls)
        if error is None:
            return
        notes = [call for call in calls if call.kind is _Kind.NOTE]
        if len(notes) < len(calls) and notes and self._try_write(notes) is None:
            calls = [call for call in calls if call.kind is not _Kind.NOTE]
        for call in calls:
            call.error = error

    def _try_write(self, calls: Sequence[_Call]) -> SpoolError | None:
        try:
            durable = any(call.kind is _Kind.ACCEPT for call in calls)
            tables = self._living_tables()
            self._check_space(tables, sum(call.size for call in calls))
            if durable:
                self._clear_doubts()
            with tables.transaction(durable=durable):
                for call in calls:
                    if call.function is not None:
                        call.result = call.function(tables)
            self._commits += 1
        except sqlite3.Error as exc:
            return self._on_error(exc)
        except SpoolError as exc:
            self._problem_is(str(exc))
            return exc
        if durable:
            self._problem_is(None)
        return None

    def _check_space(self, tables: Tables, size: int) -> None:
        """Refuse `size` bytes that would fill the disk. Raises SpoolError, sqlite3.Error."""
        if not size or self._path is None or not files.is_nearly_full(self._path, size):
            return
        now = time.monotonic()
        if now >= self._next_reclaim:
            # What deletions have freed is of use to us, but the log, and pages kept for later, are not.
            self._next_reclaim = now + RECLAIM_S
            tables.checkpoint()
            tables.vacuum(tables.spare_pages())
            tables.checkpoint()
        if files.is_nearly_full(self._path, size):
            raise files.no_space(self._path)

    def _living_tables(self) -> Tables:
        """Return the tables; open them again if an accident closed them. Raises SpoolError."""
        if self._tables is None:
            self._begin()
        assert self._tables is not None
        return self._tables

    def _clear_doubts(self) -> None:
        """After an I/O error: write what the WAL holds to the database, and fsync that. Raises sqlite3.Error.

        A failed fsync leaves pages marked clean that are on no disk, and the next fsync says nothing of them.
        """
        if self._doubtful:
            self._doubtful = not self._living_tables().checkpoint()

    def _on_error(self, exc: sqlite3.Error) -> SpoolError:
        """Do what an error of the database asks for; return it in an operator's words."""
        if files.is_damage(exc) and self._path is not None:
            try:
                self._move_away(files.DAMAGED, f"is damaged ({exc})")
                self._begin()
            except SpoolError as further:
                self._problem_is(str(further))
                return further
            return SpoolError(f"{self._path}: was damaged and is set aside; ask again")
        if files.is_io(exc):
            self._doubtful = True
        error = files.translate(self._path, exc)
        error.__cause__ = exc
        self._problem_is(str(error))
        return error

    def _problem_is(self, problem: str | None) -> None:
        """Note why nothing can be taken; say it once for each change."""
        if problem == self._problem:
            return
        if problem is not None:
            log.error("spool: %s", problem)
        else:
            log.info("spool: takes records again")
        self._problem = problem

    # -- keeping house

    def _has_spare(self) -> bool:
        return self._tables is not None and self._problem is None and self._spare > 0

    def _keep_house(self, *, idle: bool) -> None:
        tables = self._tables
        if tables is None:
            return
        self._spare = max(0, tables.spare_pages() - SPARE_PAGES)
        if self._spare and idle:
            tables.vacuum(min(self._spare, VACUUM_PAGES))
            if self._spare <= VACUUM_PAGES:
                tables.checkpoint()  # only now does the file get shorter
        if idle:
            if tables.has_expired():
                with tables.transaction(durable=False):
                    tables.expire()
            version = tables.data_version()
            if version != self._data_version:
                # `async-motion spool retry` was here.
                self._data_version = version
                dropped, accepted = tables.counters.dropped, tables.counters.accepted
                tables.counters = tables.recount()
                tables.counters.dropped, tables.counters.accepted = dropped, accepted
                self._publish_stats()  # before it is called for
                self._call_back()
        self._report_drops(tables.counters.dropped)

    def _report_drops(self, dropped: Mapping[str, int]) -> None:
        """Say when dropping begins, how it goes on, and when it is over."""
        now = self._clock()
        new = {reason: count - self._reported.get(reason, 0) for reason, count in dropped.items()}
        new = {reason: count for reason, count in new.items() if count}
        if new:
            self._last_drop = now
        if new and self._dropping_since is None:
            self._dropping_since, self._next_summary = now, now + SUMMARY_S
            log.warning("spool: dropping records (%s); %s", _counts(new), self._fill())
            self._reported = dict(dropped)
        elif new and now >= self._next_summary:
            self._next_summary = now + SUMMARY_S
            log.warning("spool: still dropping records: %s more; %s", _counts(new), self._fill())
            self._reported = dict(dropped)
        elif self._dropping_since is not None and now - self._last_drop >= SUMMARY_S:
            log.info("spool: drops no more records; %s", self._fill())
            self._dropping_since = None

    def _fill(self) -> str:
        counters = self._tables.counters if self._tables else None
        held = counters.bytes if counters else 0
        return f"{held / 2**20:.1f} of {self._max_bytes / 2**20:.1f} MiB are used"

    def _publish_stats(self) -> None:
        tables = self._tables
        if tables is None:
            return
        counters = tables.counters
        self._stats = SpoolStats(
            records=counters.records,
            phases=counters.phases,
            bytes=counters.bytes,
            max_bytes=self._max_bytes,
            set_aside=counters.aside,
            accepted=counters.accepted,
            dropped=dict(counters.dropped),
            commits=self._commits,
            problem=self._problem,
            **self._waiting(tables),
        )
        self._stats_at = self._clock()

    def _waiting(self, tables: Tables) -> dict[str, Any]:
        """Return what stats say of the items that delivery may take."""
        try:
            firsts = tables.first(TO_STORE), tables.first(TO_ANNOUNCE)
            oldest = min((number for number in firsts if number is not None), default=None)
            return {
                "to_store": firsts[0] is not None,
                "to_announce": firsts[1] is not None,
                "oldest_age_s": 0.0 if oldest is None else tables.age_s(oldest),
                "backlog": oldest is not None and tables.lanes.is_late(oldest),
            }
        except sqlite3.Error:
            # Whoever works with the tables next meets the same error.
            age_s = self._stats.oldest_age_s
            return {"to_store": True, "to_announce": True, "oldest_age_s": age_s, "backlog": True}

    # -- back to the loop

    def _answer(self, calls: Sequence[_Call]) -> None:
        """Settle the futures, all of one loop in one go."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        for call in calls:
            by_loop.setdefault(call.loop, []).append(call)
        for loop, its in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, its)
        if any(call.kind is not _Kind.LOOK for call in calls):
            self._call_back()

    def _call_back(self) -> None:
        for loop, callback in self._callbacks:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(callback)


def _settle(calls: Sequence[_Call]) -> None:
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
