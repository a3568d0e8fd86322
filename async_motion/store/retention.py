"""A directory store with retention: a maximum age in days, a maximum size, a minimum of free space.

Whole events are removed, oldest first, with the hidden files beside their objects. With the last event of a
camera's day, its index files are removed too. Day logs are kept for `days`, and as long as any event of their
day or an earlier one; without either, for `LOG_DAYS`. An event is never removed while it may still be
written: for ten minutes after its last object, and for a day while it has no `event.json`.

The directory is measured once, at the start, in a thread; after that each put adds its size. After a put
that crosses a bound, events are removed until the bound holds again, so that `max_bytes` is exceeded only by
the events being written. If no event may be removed, a warning is logged; puts are never refused. Events may
be removed by others at any time: before the first removal of a minute, those that are gone are forgotten.

One thread at a time removes, without holding up the others: a put neither waits for a removal that another
one has begun, nor fails by one that fails.

If the wall clock leaps ahead, no event expires by age for half a day (`trusted_clock`). The newest trusted
time is noted in the store's own folder, at most once an hour; without a note, the newest event's start is
used.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from async_motion.core.day_log import DAYS
from async_motion.core.index import INDEX, VERSION, event_started
from async_motion.core.names import EVENT_ID
from async_motion.core.options import BUCKET
from async_motion.core.payloads import iso, parse_iso
from async_motion.errors import StoreUnavailable
from async_motion.store.directory import _WORK, DirectoryStore, _beside
from async_motion.store.trusted_clock import HOLD_S, TrustedClock

log = logging.getLogger(__name__)

WRITING_S: Final = 600.0
OPEN_S: Final = 86400.0
CHECK_EVERY_S: Final = 60.0
"""How often age and free space are checked; the size is checked after each put."""
NOTE_EVERY_S: Final = 3600.0
LOG_DAYS: Final = 366
_SUMMARY: Final = "event.json"
_NOTE: Final = "clock"
_MEASURE_TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The bounds of what is kept; `max_bytes` and `min_free` in bytes; None: no such bound."""

    days: int | None = None
    max_bytes: int | None = None
    min_free: int | None = None

    @property
    def is_bounded(self) -> bool:
        """True if any bound is set."""
        return (self.days, self.max_bytes, self.min_free) != (None, None, None)


@dataclass(slots=True)
class _Folder:
    """One event's folder. `written_at` is monotonic seconds, minus infinity if not written in this run."""

    size: int = 0
    has_summary: bool = False
    written_at: float = float("-inf")


class KeptDirectoryStore(DirectoryStore):
    """A DirectoryStore with bounds. Its directory belongs to one service at a time."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        keep: Retention,
        *,
        bucket: str = BUCKET,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Touch no file. `now` returns an aware time, `free` the free bytes of a path's file system."""
        super().__init__(path, bucket=bucket)
        self._keeper = _Keeper(self._path, keep, now, monotonic, free)
        self._measuring: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start measuring the directory in the background; puts do not wait for it."""
        await super().__aenter__()
        self._measuring = asyncio.create_task(self._measure(), name="measure directory")
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            with suppress(asyncio.CancelledError):
                await self._measuring
        await super().__aexit__(*failure)  # type: ignore[arg-type]  # handed on as it came

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Store as `DirectoryStore` does, then remove events until the bounds hold."""
        place = self._place(key)
        before = await self._run("size", _sizes, place)
        etag = await super().put(key, data, content_type=content_type, metadata=metadata, tags=tags)
        await self._run("count", self._keeper.count, place, before)
        if self._keeper.is_due():
            with suppress(StoreUnavailable):  # the object is stored; the thread goes on by itself
                await self._run("keep", self._keeper.enforce)
        return etag

    async def _measure(self) -> None:
        try:
            await self._run("measure", self._keeper.measure, limit_s=_MEASURE_TIMEOUT_S)
            await self._run("keep", self._keeper.enforce, limit_s=_MEASURE_TIMEOUT_S)
        except StoreUnavailable as exc:
            log.warning("%s", exc)


class _Keeper:
    """The bookkeeping, and the blocking half."""

    def __init__(
        self,
        root: Path,
        keep: Retention,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        free: Callable[[Path], int],
    ) -> None:
        self._root = root
        self._keep = keep
        self._now = now
        self._monotonic = monotonic
        self._free = free
        self._enforcing = threading.Lock()
        self._lock = threading.Lock()
        """Guards what puts change too, and is never held while the disk is asked."""
        self._folders: dict[Path, _Folder] = {}
        self._total = 0
        self._measured = False
        self._checked_at = float("-inf")
        self._stuck = False
        self._failed = False
        self._left: set[Path] = set()
        """The folders that could not be removed, so that each is logged once."""
        self._clock: TrustedClock | None = None
        self._trusts = True
        self._noted_at = float("-inf")
        self._swept_at = float("-inf")
        self._dated: set[Path] = set()
        """The folders of day logs and of indexes, whose files are named after their day."""
        self._dated_from = ""
        """The day (YYYYMMDD) before which none of these files is kept."""

    def count(self, place: Path, before: int) -> None:
        """Add a put: its object and its metadata file, which had `before` bytes before it."""
        if not EVENT_ID.fullmatch(place.parent.name):
            with self._lock:
                self._dated.update(folder for folder in place.parents if folder.name in (DAYS, INDEX))
            return
        added = _sizes(place) - before
        with self._lock:
            known = self._folders.setdefault(place.parent, _Folder())
            self._total += added
            known.size += added
            known.has_summary |= place.name == _SUMMARY
            known.written_at = self._monotonic()

    def is_due(self) -> bool:
        """Return whether the bounds must be checked now."""
        over = self._keep.max_bytes is not None and self._total > self._keep.max_bytes
        return self._measured and (over or self._monotonic() - self._checked_at >= CHECK_EVERY_S)

    def measure(self) -> None:
        """Measure the existing events. Blocks until the whole directory is read."""
        for folder in _folders(self._root):
            if folder.name in (DAYS, INDEX):
                with self._lock:
                    self._dated.add(folder)
                continue
            try:
                files = list(folder.iterdir())
            except OSError:
                continue  # removed meanwhile, or not ours
            size = sum(map(_size, files))
            with self._lock:
                known = self._folders.setdefault(folder, _Folder())
                if known.written_at == float("-inf"):
                    self._total += size - known.size
                    known.size = size
                known.has_summary |= any(file.name == _SUMMARY for file in files)
        self._measured = True

    def enforce(self) -> None:
        """Remove the oldest events until the bounds hold. Return at once if another thread does so."""
        if not self._enforcing.acquire(blocking=False):
            return
        try:
            self._checked_at = self._monotonic()
            self._look_at_the_clock()
            self._remove_oldest()
            self._remove_dated()
            self._failed = False
        except OSError as exc:
            if not self._failed:
                log.warning("%s: retention is held up: %s", self._root, exc.strerror or exc)
            self._failed = True
        finally:
            self._enforcing.release()

    def _remove_oldest(self) -> None:
        oldest = [(folder.name, str(folder), folder) for folder in self._known()]
        heapq.heapify(oldest)
        while oldest and self._is_over(oldest[0][0]):
            if self._forget_gone():
                continue
            _, _, folder = heapq.heappop(oldest)
            if self._may_go(folder):
                self._try_to_remove(folder)
        stuck = self._keep.max_bytes is not None and self._total > self._keep.max_bytes
        if stuck and not self._stuck:
            log.warning("%s: %d bytes of open events are over directory.keep", self._root, self._total)
        self._stuck = stuck

    def _known(self) -> list[Path]:
        with self._lock:
            return list(self._folders)

    def _forget(self, folder: Path) -> None:
        with self._lock:
            self._total -= self._folders.pop(folder).size

    def _is_over(self, event: str) -> bool:
        """Return whether any bound is crossed, given the oldest event's id."""
        keep = self._keep
        if keep.max_bytes is not None and self._total > keep.max_bytes:
            return True
        if keep.min_free is not None and self._free(self._root) < keep.min_free:
            return True
        if keep.days is None or not self._trusts:
            return False
        return (self._now() - event_started(event)).total_seconds() > keep.days * 86400

    def _forget_gone(self) -> bool:
        """Forget the folders that others have removed; return whether there were any. Once a minute."""
        if self._checked_at - self._swept_at < CHECK_EVERY_S:
            return False
        self._swept_at = self._checked_at
        gone = [folder for folder in self._known() if _is_gone(folder)]
        for folder in gone:
            self._forget(folder)
        return bool(gone)

    def _may_go(self, folder: Path) -> bool:
        known = self._folders.get(folder)
        if known is None or self._monotonic() - known.written_at < WRITING_S:
            return False
        if known.has_summary:
            return True
        return self._trusts and (self._now() - event_started(folder.name)).total_seconds() > OPEN_S

    def _look_at_the_clock(self) -> None:
        """Update whether the wall clock is trusted; log each change."""
        now = self._now()
        if self._clock is None:
            self._clock = TrustedClock(self._noted())
        trusts = self._clock.trusts(now, self._checked_at)
        if trusts != self._trusts:
            if trusts:
                log.info("%s: the clock is trusted again", self._root)
            else:
                log.warning(
                    "%s: the clock jumped to %s; nothing is removed by age for %g h",
                    self._root,
                    iso(now),
                    HOLD_S / 3600,
                )
        self._trusts = trusts
        if trusts and self._checked_at - self._noted_at >= NOTE_EVERY_S:
            self._noted_at = self._checked_at
            with suppress(OSError):
                (self._root / _WORK).mkdir(parents=True, exist_ok=True)
                (self._root / _WORK / _NOTE).write_text(iso(now), encoding="ascii")

    def _noted(self) -> datetime | None:
        """Return the newest time that was trusted before, or None if it is unknown."""
        with suppress(OSError, ValueError):
            return parse_iso((self._root / _WORK / _NOTE).read_text(encoding="ascii"))
        newest = max((folder.name for folder in self._known()), default=None)
        return None if newest is None else event_started(newest)

    def _try_to_remove(self, folder: Path) -> None:
        """Remove an event. One that cannot be removed is left alone: it must not stop puts or retention."""
        try:
            self._remove(folder)
        except OSError as exc:
            if folder not in self._left:
                self._left.add(folder)
                log.warning("%s: cannot be removed: %s", folder, exc.strerror)

    def _remove(self, folder: Path) -> None:
        with suppress(FileNotFoundError):
            # Remove the summary last: after a crash, an event half removed still has its summary.
            for path in sorted(folder.iterdir(), key=lambda path: path.name == _SUMMARY):
                path.unlink(missing_ok=True)
        self._forget(folder)
        day = folder.parent
        with suppress(OSError):
            folder.rmdir()
            day.rmdir()
            self._remove_index(day)
            day.parent.rmdir()
            day.parent.parent.rmdir()

    def _remove_index(self, day: Path) -> None:
        """Remove the index files of a camera's day that has no events left."""
        camera = day.parents[2]
        index = camera.parent / INDEX / str(VERSION) / camera.name / day.parent.parent.name / day.parent.name
        for file in list(index.glob(f"{day.name}.*.jsonl.gz")):
            file.unlink(missing_ok=True)
            _beside(file).unlink(missing_ok=True)

    def _remove_dated(self) -> None:
        """Remove day logs and indexes of days that are over and have no events; at most once a day."""
        since = self._keeps_from()
        if since is None or since == self._dated_from:
            return
        with self._lock:
            dated = list(self._dated)
        for folder in dated:
            for file in list(folder.rglob("*/*/*.jsonl.gz")):
                if f"{file.parts[-3]}{file.parts[-2]}{file.name[:2]}" < since:
                    _remove_dated_file(file)
        self._dated_from = since

    def _keeps_from(self) -> str | None:
        """Return the day (YYYYMMDD) before which no day log is kept; None if that cannot be known."""
        oldest = min((folder.name[:8] for folder in self._known()), default=None)
        if oldest is not None and self._keep.days is None:
            return oldest
        if not self._trusts:
            return None
        days = LOG_DAYS if self._keep.days is None else self._keep.days
        since = f"{self._now().astimezone(UTC) - timedelta(days=days):%Y%m%d}"
        return since if oldest is None else min(since, oldest)


def _is_gone(folder: Path) -> bool:
    """Return whether a folder no longer exists; one that cannot be looked at is kept."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _remove_dated_file(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
        _beside(file).unlink(missing_ok=True)
        file.parent.rmdir()
        file.parent.parent.rmdir()


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders of events, day logs and indexes below `root`, of all prefixes and instances."""
    for at, folders, _ in os.walk(root):
        if Path(at) == root:
            folders[:] = [name for name in folders if name != _WORK]
        ours = [
            name for name in folders if name in (INDEX, DAYS) or (EVENT_ID.fullmatch(name) and _is_date(name))
        ]
        folders[:] = [name for name in folders if name not in ours]
        yield from (Path(at, name) for name in ours)


def _is_date(event: str) -> bool:
    try:
        event_started(event)
    except ValueError:
        return False
    return True


def _sizes(place: Path) -> int:
    """Return the bytes of an object and its metadata file."""
    return _size(place) + _size(_beside(place))


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 for one that is not there or cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
