"""The spool's worker: the daemon thread that owns the connection.

    queue of calls ──▶ gather: waiting calls become one transaction ──▶ answer: futures, `on_work`

Calls that change the tables and arrive together share one transaction. If it fails, acceptances with JPEGs
fail, and all others (delivery's reports, an event's end) are tried again without them: a disk too full for a
JPEG still takes these. Calls that only read run after the transaction, so that they never see a change that
may still be rolled back.

Failures
    I/O error, full disk   SpoolError to the callers; the file stays; the next call tries again
    damage                 the file is opened again, and the run goes on: events stay open, leases are kept.
                           Damage found twice sets the file aside, a new one is created, and a call that
                           only reads is answered from the new one
    a damaged row          what it describes is lost, nothing else (see `codec`)
    a bug                  every call, now and later, raises it: the service ends loudly
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from async_motion.core.rates import LogThrottle
from async_motion.errors import SpoolError
from async_motion.spool import codec, files
from async_motion.spool.housekeeping import Housekeeping
from async_motion.spool.schema import TO_ANNOUNCE, TO_STORE, ForeignDatabase, NewerDatabase
from async_motion.spool.stats import SpoolStats
from async_motion.spool.tables import Tables

log = logging.getLogger(__name__)

T = TypeVar("T")

GROUP_S = 0.002
"""How long an acceptance waits for others before it is committed."""
GROUP_BYTES = 16 * 1024 * 1024
TICK_S = 1.0
BUSY_TICK_S = 0.05
"""The time between two steps of housekeeping while there is space to return."""
RECLAIM_S = 5.0
"""How often, on a nearly full disk, all spare space is returned at once."""
PROBE_S = 5.0
"""How often, after a failure, a write tests whether records can be accepted again."""


class CallKind(Enum):
    """What a call does."""

    ACCEPT = "accept"
    """Changes the tables; on the disk when it is answered."""
    NOTE = "note"
    """Changes the tables; on the disk with a later acceptance or checkpoint."""
    LOOK = "look"


@dataclass(slots=True, eq=False)
class WorkerCall:
    """One function for the worker; None once its caller was cancelled. `size`: bytes that it adds."""

    kind: CallKind
    function: Callable[[Tables], Any] | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    size: int = 0
    result: Any = None
    error: BaseException | None = None


class FileSetAside(SpoolError):
    """The file was damaged and is set aside; a new one is in use."""


class MakeTables(Protocol):
    """Creates the tables of a connection; no number below `min_number` is given out.

    `earlier` are the tables of the same file that this run has used so far.
    """

    def __call__(self, db: sqlite3.Connection, *, min_number: int, earlier: Tables | None) -> Tables: ...


class Worker:
    """Serves calls until it is stopped. `on_stats` and `on_work` are called in its thread.

    `path` None: in memory. `on_work` is called after every change that may have created work for delivery.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        make_tables: MakeTables,
        max_bytes: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
        on_stats: Callable[[SpoolStats], None],
        on_work: Callable[[], None],
    ) -> None:
        self._path = path
        self._make_tables = make_tables
        self._max_bytes = max_bytes
        self._clock = clock
        self._wall = wall
        self._on_stats = on_stats
        self._on_work = on_work
        self._calls: queue.SimpleQueue[WorkerCall | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self.bug: Exception | None = None
        # The thread owns the attributes below.
        self._lock: files.Lock | None = None
        self._db: sqlite3.Connection | None = None
        self._tables: Tables | None = None
        self._run: Tables | None = None
        """The tables last in use on this file; None until the first ones have ended the last run's events."""
        self._housekeeping = Housekeeping(
            max_bytes=max_bytes, clock=clock, on_foreign_change=self._on_foreign_change
        )
        self._min_number = 1
        self._fsync_failed = False
        self._next_reclaim = 0.0
        self._problem: str | None = None
        self._throttle = LogThrottle(burst=20)
        self._logged = False
        """Whether the problem is logged."""
        self._next_probe = 0.0
        self._refused_bytes = 1
        """The size of the smallest acceptance that failed last."""
        self._commits = 0
        self._stats = SpoolStats(max_bytes=max_bytes)
        self._stats_at = clock()

    # -- from the loop

    @property
    def running(self) -> bool:
        """True while calls are served."""
        return self._thread is not None and not self._closed.is_set()

    async def start(self) -> None:
        """Start the thread; return once the spool is open. Raises SpoolError."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._closed.clear()
        # A daemon thread: a disk that hangs must not delay the interpreter's exit.
        opening = WorkerCall(CallKind.LOOK, None, opened, loop)
        self._thread = threading.Thread(target=self._main, args=(opening,), name="spool", daemon=True)
        self._thread.start()
        await opened

    def put(self, call: WorkerCall) -> None:
        """Queue a call; its future is resolved in its loop."""
        self._calls.put(call)

    async def stop(self, timeout_s: float) -> bool:
        """Serve the queued calls, then end. Return False if the disk does not answer within `timeout_s`."""
        if self._thread is None:
            return True
        self._calls.put(None)
        deadline = time.monotonic() + timeout_s
        while not self._closed.is_set():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        self._thread.join()
        self._thread = None
        return True

    # -- the thread

    def _main(self, opening: WorkerCall) -> None:
        try:
            self._open()
        except Exception as exc:  # noqa: BLE001  # also a bug: its caller must not wait forever
            self._close()
            self._closed.set()
            opening.error = exc
            self._answer([opening])
            return
        self._publish_stats()
        self._answer([opening])
        going_on = True
        while going_on:
            calls: list[WorkerCall] = []
            try:
                going_on = self._gather(calls)
                self._work(calls)
            except Exception as exc:
                log.exception("spool: this is a bug")
                self.bug = exc
                going_on = False
            for call in calls:
                call.error = self.bug or call.error
            self._answer(calls)
        self._close()
        self._closed.set()
        # The queue is no longer served: calls that are left must not wait forever.
        while not self._calls.empty():
            left = self._calls.get()
            if left is not None:
                left.error = self.bug or closed(self._path)
                self._answer([left])

    def _gather(self, calls: list[WorkerCall]) -> bool:
        """Collect calls; an acceptance waits `GROUP_S` for others. Return False for the last calls."""
        size = 0
        deadline: float | None = None
        soon = self._tables is not None and self._problem is None and self._housekeeping.has_work
        wait_s = BUSY_TICK_S if soon else TICK_S
        while True:
            try:
                call = self._calls.get(timeout=wait_s) if wait_s > 0 else self._calls.get_nowait()
            except queue.Empty:
                return True
            if call is None:
                return False
            calls.append(call)
            if call.kind is CallKind.LOOK and deadline is not None:
                # Answer it at once: the transaction has not begun, and a delivery slot would stay idle.
                self._look(call)
                self._answer([calls.pop()])
            size += call.size
            if call.kind is CallKind.ACCEPT and deadline is None:
                deadline = time.monotonic() + GROUP_S
            if size >= GROUP_BYTES:
                return True
            wait_s = max(0.0, deadline - time.monotonic()) if deadline is not None else 0.0

    def _work(self, calls: Sequence[WorkerCall]) -> None:
        if calls:
            self._serve(calls)
        only_looked = calls and all(call.kind is CallKind.LOOK and call.error is None for call in calls)
        if only_looked and self._clock() - self._stats_at < TICK_S:
            return  # only the ages have changed
        if self._problem is not None and time.monotonic() >= self._next_probe:
            with contextlib.suppress(SpoolError):  # it is noted as the problem
                self._past_damage(self._probe)
                self._set_problem(None)
        if self._tables is not None:
            tidy = partial(self._tidy, idle=not calls)
            with contextlib.suppress(SpoolError):  # logged, and reported in the stats
                self._past_damage(tidy)
        self._publish_stats()

    def _probe(self) -> None:
        """Write as an acceptance does. Raises SpoolError, sqlite3.Error."""
        self._next_probe = time.monotonic() + PROBE_S
        tables = self._living_tables()
        self._check_space(tables, self._refused_bytes)
        self._clear_doubts()
        with tables.transaction(durable=True):
            tables.touch()

    def _tidy(self, *, idle: bool) -> None:
        self._housekeeping.run(self._living_tables(), idle=idle)

    def _serve(self, calls: Sequence[WorkerCall]) -> None:
        writes = [call for call in calls if call.kind is not CallKind.LOOK and call.function is not None]
        if writes:
            self._write(writes)
        for call in calls:
            if call.kind is CallKind.LOOK:
                self._look(call)

    def _look(self, call: WorkerCall) -> None:
        """Answer a call that only reads; from the new file if the old one has just been set aside."""
        function = call.function
        if function is None:
            return

        def look() -> Any:
            return function(self._living_tables())

        try:
            try:
                call.result = self._past_damage(look)
            except FileSetAside:
                call.result = self._past_damage(look)
        except SpoolError as exc:
            call.error = exc

    def _write(self, calls: Sequence[WorkerCall]) -> None:
        """Run the calls in one transaction; if it fails, fail those with JPEGs and run the others alone."""
        error = self._try_write(calls)
        if error is None:
            return
        small = [call for call in calls if not call.size]
        if len(small) < len(calls) and small and self._try_write(small) is None:
            calls = [call for call in calls if call.size]
        for call in calls:
            call.error = error

    def _try_write(self, calls: Sequence[WorkerCall]) -> SpoolError | None:
        durable = any(call.kind is CallKind.ACCEPT for call in calls)
        sizes = [call.size for call in calls if call.size]
        try:
            self._past_damage(lambda: self._transact(calls, durable=durable))
        except SpoolError as exc:
            self._refused_bytes = min(sizes, default=self._refused_bytes)
            return exc
        self._commits += 1
        if sizes:  # a phase or a value needs no space for a JPEG
            self._set_problem(None)
        return None

    def _transact(self, calls: Sequence[WorkerCall], *, durable: bool) -> None:
        tables = self._living_tables()
        self._check_space(tables, sum(call.size for call in calls))
        if durable:
            self._clear_doubts()
        with tables.transaction(durable=durable):
            for call in calls:
                function = call.function  # the loop sets it to None when the caller is cancelled
                if function is not None:
                    call.result = function(tables)

    def _past_damage(self, work: Callable[[], T]) -> T:
        """Run `work`; if it finds damage, open the file again and repeat it.

        A read that fails once can look like damage, so only damage found twice sets the file aside: then
        FileSetAside is raised, and the next call uses a new file. Raises SpoolError; any but FileSetAside is
        noted as the problem.
        """
        try:
            try:
                return self._twice(work)
            except sqlite3.Error as exc:
                if files.is_damage(exc) and self._path is not None:
                    self._set_file_aside(files.DAMAGED, f"is damaged ({exc})")
                    self._open()
                    raise FileSetAside(f"{self._path}: was damaged and is set aside; retry") from exc
                if files.is_io(exc):
                    self._fsync_failed = True
                raise files.translate(self._path, exc) from exc
            except codec.Unreadable as exc:
                raise SpoolError(f"{self._path or files.MEMORY}: {exc}") from exc
        except FileSetAside:
            raise
        except SpoolError as exc:
            self._set_problem(str(exc))
            raise

    def _twice(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as exc:
            if not files.is_damage(exc) or self._path is None:
                raise
            log.warning("spool: %s: a read met damage (%s); opening it again", self._path, exc)
        self._close_db()
        self._open()
        return work()

    def _check_space(self, tables: Tables, size: int) -> None:
        """Raise SpoolError if `size` bytes would fill the disk. Raises sqlite3.Error."""
        if not size or self._path is None or not files.is_nearly_full(self._path, size):
            return
        now = time.monotonic()
        if now >= self._next_reclaim:
            # Return the space of the WAL and of spare pages to the file system first.
            self._next_reclaim = now + RECLAIM_S
            tables.checkpoint()
            tables.vacuum(tables.spare_pages())
            tables.checkpoint()
        if files.is_nearly_full(self._path, size):
            raise files.no_space(self._path)

    # -- the file

    def _open(self) -> None:
        """Open the file and tables; set aside a file that cannot be used. Raises SpoolError."""
        if self._path is not None and self._lock is None:
            self._lock = files.Lock(self._path)
        try:
            try:
                self._open_twice()
            except NewerDatabase:
                self._set_file_aside(files.NEWER, "was written by a newer version of async_motion")
                self._open_tables()
            except sqlite3.Error as exc:
                if not files.is_damage(exc) or self._path is None:
                    raise
                self._set_file_aside(files.DAMAGED, f"is damaged ({exc})")
                self._open_tables()
        except ForeignDatabase as exc:
            raise SpoolError(
                f"{self._path}: is a database of another program: choose another spool.path"
            ) from exc
        except sqlite3.Error as exc:
            raise files.translate(self._path, exc) from exc
        except OSError as exc:
            raise files.cannot_write(self._path or Path(files.MEMORY), exc) from exc

    def _open_twice(self) -> None:
        """Open the tables; try again on damage, because a read that fails once can look like it."""
        try:
            self._open_tables()
        except sqlite3.Error as exc:
            if not files.is_damage(exc) or self._path is None:
                raise
            self._open_tables()

    def _open_tables(self) -> None:
        """Open the file. The first time, end the events that the last run has left open."""
        self._db = files.connect(self._path)
        try:
            tables = self._make_tables(self._db, min_number=self._min_number, earlier=self._run)
            if self._path is not None:
                files.sync_folder(self._path)
            interrupted: list[str] = []
            with tables.transaction(durable=True):
                if self._run is None:
                    interrupted = tables.close_interrupted()
                # SQLite finds damage only where it reads, so read what every call will need.
                tables.first(TO_STORE), tables.first(TO_ANNOUNCE)
            self._housekeeping.begin(tables)
        except BaseException:
            self._close_db()
            raise
        for event_id in interrupted:
            log.info("spool: event %s was interrupted by the end of the last run; closing it", event_id)
        self._tables = self._run = tables

    def _living_tables(self) -> Tables:
        """Return the tables; open them again if an error has closed them. Raises SpoolError."""
        if self._tables is None:
            self._open()
        assert self._tables is not None
        return self._tables

    def _set_file_aside(self, why: str, words: str) -> None:
        """Rename the file, unchanged, and log it."""
        assert self._path is not None
        self._close_db()
        self._run = None
        away = files.move_away(self._path, why, self._wall)
        log.error(
            "spool: %s %s. It is kept as %s, and a new one begins. Export its records%s with: "
            "async-motion spool --path %s export DIR",
            self._path,
            words,
            away.name,
            " by that version" if why == files.NEWER else "",
            away,
        )

    def _close_db(self) -> None:
        if self._tables is not None:
            # Delivery may still report numbers of a file set aside: a new file must not reuse them.
            self._min_number = max(self._min_number, self._tables.next_number)
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None
        self._tables = None

    def _close(self) -> None:
        self._close_db()
        self._run = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _clear_doubts(self) -> None:
        """After an I/O error, write the WAL to the database and fsync it. Raises sqlite3.Error.

        A failed fsync leaves pages marked clean that are on no disk, and the next fsync does not report them.
        """
        if self._fsync_failed:
            self._fsync_failed = not self._living_tables().checkpoint()

    def _set_problem(self, problem: str | None) -> None:
        """Note why no record can be accepted; log each change, less often while it comes and goes."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem is not None:
            self._next_probe = time.monotonic() + PROBE_S
            more = self._throttle.admit(problem, time.monotonic())
            self._logged = more is not None
            if more is not None:
                log.error("spool: %s%s", problem, more)
        elif self._logged:
            log.info("spool: accepts records again")

    # -- figures

    def _on_foreign_change(self) -> None:
        self._publish_stats()  # before delivery asks for them
        self._on_work()

    def _publish_stats(self) -> None:
        tables = self._tables
        if tables is None:  # they could not be opened again: the figures stay as they were
            self._stats = replace(self._stats, problem=self._problem)
            self._on_stats(self._stats)
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
            alarm=self._alarm(tables),
            **self._waiting(tables),
        )
        self._stats_at = self._clock()
        self._on_stats(self._stats)

    def _alarm(self, tables: Tables) -> str | None:
        """Return a warning for the operator while records are accepted, or None."""
        problems = []
        if tables.counters.aside:
            with contextlib.suppress(sqlite3.Error):  # the next call finds the same error
                problems.append(f"records set aside: {tables.counters.aside} ({tables.newest_reason()})")
        if self._housekeeping.dropping:
            problems.append("records are being dropped: the spool is full, or they are too old")
        return "; ".join(problems) or None

    def _waiting(self, tables: Tables) -> dict[str, Any]:
        """Return the fields of the stats about items that wait for delivery."""
        try:
            firsts = tables.first(TO_STORE), tables.first(TO_ANNOUNCE)
            oldest = min((number for number in firsts if number is not None), default=None)
            return {
                "to_store": firsts[0] is not None,
                "to_announce": firsts[1] is not None,
                "oldest_age_s": 0.0 if oldest is None else tables.age_s(oldest),
                "backlog": oldest is not None and tables.leases.is_delayed(oldest),
            }
        except sqlite3.Error:
            # The next call finds the same error, and handles it.
            age_s = self._stats.oldest_age_s
            return {"to_store": True, "to_announce": True, "oldest_age_s": age_s, "backlog": True}

    # -- back to the loop

    def _answer(self, calls: Sequence[WorkerCall]) -> None:
        """Resolve the futures, those of one loop in one callback."""
        by_loop: dict[asyncio.AbstractEventLoop, list[WorkerCall]] = {}
        for call in calls:
            by_loop.setdefault(call.loop, []).append(call)
        for loop, its in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: its callers are gone
                loop.call_soon_threadsafe(_settle, its)
        if any(call.kind is not CallKind.LOOK for call in calls):
            self._on_work()


def closed(path: Path | None) -> SpoolError:
    """Return the error for a spool that is not open."""
    return SpoolError(f"{path or files.MEMORY}: the spool is closed")


def _settle(calls: Sequence[WorkerCall]) -> None:
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)
