"""Leases: which fresh items and backlog items delivery may process next. Only reads the tables.

Leases exist in memory only: after a crash nothing is leased.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from async_motion.core.items import (
    Announcement,
    EventNow,
    FrameAnnouncement,
    FrameUpload,
    PhaseAnnouncement,
    SummaryUpload,
    Upload,
)
from async_motion.core.model import EventPhase, Phase, Record, StoredFrame
from async_motion.spool import codec
from async_motion.spool.schema import ASIDE, HELD, RECORD, ROW_BYTES, START, TO_ANNOUNCE, TO_STORE, TOLD

CACHE_BYTES = 8 * 1024 * 1024
MAX_STORED = 256

_NO = "(SELECT no FROM events WHERE events.event_id = items.event_id)"
"""An item's event's number; NULL for a frame without an event."""

_ANNOUNCEMENT = f"number, kind, state, event_id, event_number, clock, bytes, body, stored, {_NO}"

Lines = tuple[Mapping[str, Any], ...]
"""The announcements of an event's stored frames, in the order of capture."""


class Leases:
    """Which items are fresh, which are delayed, and which are leased to delivery.

    An item accepted in this run is fresh up to the age of `delayed_after_s`; `clock` is the spool's own, in
    seconds. Numbers from `next_number` on are of this run. The oldest records, which are delivered first,
    stay in memory up to `CACHE_BYTES`, so that they need not be read back from the disk. So do `MAX_STORED`
    stored frames that wait to be announced, and the lines of a leased summary: they need not be parsed.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        writer: str,
        delayed_after_s: float,
        clock: Callable[[], float],
        next_number: int,
    ) -> None:
        self._db = db
        self._writer = writer
        self._delayed_after_s = delayed_after_s
        self._clock = clock
        self._next_number = next_number
        self.unreadable: dict[int, str] = {}
        """Leased items that cannot be read back, with the reason: the caller sets them aside."""
        self._leased: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._cameras: dict[str, int] = {}
        self._batches: dict[str, list[int]] = {}
        """For each camera, the numbers of its last leased batch of fresh announcements."""
        self._cache: dict[int, Record] = {}
        self._cache_bytes = 0
        self._stored: dict[int, StoredFrame] = {}
        self._lines: dict[int, Lines] = {}
        self._began: dict[str, float] = {}
        """When each event of this run began, by the spool's clock."""

    def follow(self, db: sqlite3.Connection, writer: str) -> None:
        """Continue on another connection to the same file."""
        self._db, self._writer = db, writer

    # -- what the tables report

    def added(
        self, first: int, next_number: int, cameras: Collection[str], records: Mapping[int, Record]
    ) -> None:
        """Note that the items from `first` up to, not including, `next_number` were accepted now.

        `cameras` are theirs; `records` are the records among them, by number.
        """
        self._marks.append((self._clock(), first))
        self._next_number = next_number
        self._cameras.update(dict.fromkeys(cameras, next_number - 1))
        for number, record in records.items():
            if self._cache_bytes + len(record.jpeg) <= CACHE_BYTES:
                self._cache[number] = record
                self._cache_bytes += len(record.jpeg)

    def event_opened(self, event_id: str, ago_s: float) -> None:
        """Note that an event began `ago_s` seconds before now."""
        self._began[event_id] = self._clock() - ago_s

    def event_closed(self, event_id: str) -> None:
        """Note that an event has no items left."""
        self._began.pop(event_id, None)

    def done(self, numbers: Collection[int]) -> None:
        """End the leases of items whose result delivery has reported."""
        self._leased.difference_update(numbers)
        for number in numbers:
            self._not_before.pop(number, None)
            self.unreadable.pop(number, None)
            self._stored.pop(number, None)
            self._lines.pop(number, None)
            self._uncache(number)

    def stored(self, frames: Mapping[int, StoredFrame]) -> None:
        """Note that these frames were stored now."""
        for number, frame in frames.items():
            if len(self._stored) < MAX_STORED:
                self._stored[number] = frame

    def _uncache(self, number: int) -> Record | None:
        """Remove a record from memory and return it; None if it is not there."""
        record = self._cache.pop(number, None)
        self._cache_bytes -= len(record.jpeg) if record else 0
        return record

    # -- leasing

    def is_delayed(self, number: int) -> bool:
        """Return whether an item belongs to the backlog now."""
        return number < self._first_fresh()

    def is_leased(self, number: int) -> bool:
        """Return whether delivery is working on this item."""
        return number in self._leased

    def release(self, numbers: Collection[int], delay_s: float = 0.0) -> None:
        """Release the leases of these items; they are available again after `delay_s` seconds."""
        self._leased.difference_update(numbers)
        for number in numbers:
            self._not_before.pop(number, None)
            self._lines.pop(number, None)
        if delay_s > 0:
            self._not_before.update(dict.fromkeys(numbers, self._clock() + delay_s))

    def release_all(self) -> None:
        """Release every lease: a new delivery begins."""
        self._leased.clear()
        self._not_before.clear()
        self._lines.clear()

    def _first_fresh(self) -> int:
        """Return the number from which items are fresh."""
        young = self._clock() - self._delayed_after_s
        while self._marks and self._marks[0][0] <= young:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else self._next_number

    def _is_available(self, number: int) -> bool:
        if number in self._leased:
            return False
        until = self._not_before.get(number)
        if until is None:
            return True
        if until > self._clock():
            return False
        del self._not_before[number]
        return True

    @contextmanager
    def _leasing(self) -> Iterator[set[int]]:
        """Lease the numbers that the caller adds to the set: all, or none if a read fails."""
        numbers: set[int] = set()
        try:
            yield numbers
        except sqlite3.Error:
            for number in numbers:
                self.unreadable.pop(number, None)
            raise
        self._leased |= numbers

    def _note_unreadable(self, number: int, exc: codec.Unreadable) -> None:
        self.unreadable[number] = f"cannot be read back from the spool: {exc}"

    # -- uploads

    def take_uploads(self, *, fresh: bool, limit: int) -> list[Upload]:
        """Lease the next items to store, oldest first, at most `limit`.

        An item that cannot be read back is leased, noted in `unreadable` and skipped. Raises sqlite3.Error;
        then nothing is leased.
        """
        found: list[Upload] = []
        rows = self._db.execute(
            f"SELECT number, kind, event_id, event_number, clock, body, {_NO} FROM items"
            f" WHERE state = {TO_STORE} AND number {'>=' if fresh else '<'} ? ORDER BY number",
            (self._first_fresh(),),
        )
        with self._leasing() as leased, closing(rows):
            for row in rows:
                if len(found) >= limit:
                    break
                if not self._is_available(row[0]):
                    continue
                leased.add(row[0])
                try:
                    found.append(self._upload(row, delayed=not fresh))
                except codec.Unreadable as exc:
                    self._note_unreadable(row[0], exc)
        return found

    def _upload(self, row: tuple[Any, ...], *, delayed: bool) -> Upload:
        number, kind, event_id, event_number, clock, body, no = row
        age_s = self._clock() - clock
        if kind != RECORD:
            lines = self._lines[number] = self._read_lines(event_id)
            return SummaryUpload(
                number=number,
                delayed=delayed,
                age_s=age_s,
                writer=self._writer,
                no=no,
                event=codec.load_event(body),
                lines=lines,
            )
        record = self._uncache(number) or self._read(number, body)
        return FrameUpload(
            number=number,
            event_number=event_number,
            delayed=delayed,
            age_s=age_s,
            writer=self._writer,
            no=no,
            info=record.info,
            jpeg=record.jpeg,
        )

    def _read(self, number: int, body: str) -> Record:
        """Read a record back. Raises Unreadable."""
        info, jpeg = codec.load_info(body), self.jpeg(number)
        if jpeg is None or hashlib.sha256(jpeg).hexdigest() != info.sha256:
            raise codec.Unreadable("its bytes are not those that were accepted")
        return Record(info=info, jpeg=jpeg)

    # -- announcements

    def take_fresh_announcements(self, limit: int) -> list[list[Announcement]]:
        """Lease the next items to announce: for each camera its fresh items in order, at most `limit`.

        An item that is not stored yet, or is leased, blocks later items of its camera, even once delayed.
        A phase that waits for frames of the backlog is skipped. Raises sqlite3.Error; then nothing is leased.
        """
        first_fresh = self._first_fresh()
        batches: dict[str, list[Announcement]] = {}
        with self._leasing() as leased:
            for camera, last in list(self._cameras.items()):
                if last < first_fresh:
                    del self._cameras[camera]
                    self._batches.pop(camera, None)
                elif self._leased.isdisjoint(self._batches.get(camera, ())):
                    batch = self._batch(camera, first_fresh, limit, leased)
                    if batch:
                        batches[camera] = batch
        for camera, batch in batches.items():
            self._batches[camera] = [item.number for item in batch]
        return list(batches.values())

    def _batch(self, camera: str, first_fresh: int, limit: int, leased: set[int]) -> list[Announcement]:
        batch: list[Announcement] = []
        rows = self._db.execute(
            f"SELECT {_ANNOUNCEMENT} FROM items WHERE camera = ? AND number >= ? AND state < {ASIDE}"
            " ORDER BY number",
            (camera, first_fresh),
        )
        with closing(rows):
            for row in rows:
                number, kind, state = row[:3]
                if kind != RECORD and state == HELD and not batch:
                    continue
                if state != TO_ANNOUNCE or not self._is_available(number) or len(batch) >= limit:
                    break
                leased.add(number)
                try:
                    batch.append(self._announcement(row, delayed=False))
                except codec.Unreadable as exc:
                    self._note_unreadable(number, exc)
                    break
        return batch

    def take_backlog_announcements(self, limit: int) -> list[Announcement]:
        """Lease the next items of the backlog to announce, oldest first, at most `limit`.

        Raises sqlite3.Error; then nothing is leased.
        """
        batch: list[Announcement] = []
        rows = self._db.execute(
            f"SELECT {_ANNOUNCEMENT} FROM items WHERE state = {TO_ANNOUNCE} AND number < ? ORDER BY number",
            (self._first_fresh(),),
        )
        with self._leasing() as leased, closing(rows):
            for row in rows:
                if len(batch) >= limit:
                    break
                if not self._is_available(row[0]):
                    continue
                leased.add(row[0])
                try:
                    batch.append(self._announcement(row, delayed=True))
                except codec.Unreadable as exc:
                    self._note_unreadable(row[0], exc)
        return batch

    def _announcement(self, row: tuple[Any, ...], *, delayed: bool) -> Announcement:
        number, kind, _, event_id, event_number, clock, size, body, text, no = row
        age_s = self._clock() - clock
        if kind == RECORD:
            stored = self._stored.get(number) or codec.load_stored(text)
            return FrameAnnouncement(
                number=number,
                event_number=event_number,
                delayed=delayed,
                age_s=age_s,
                stored=replace(stored, writer=self._writer, no=no),
                has_jpeg=size > ROW_BYTES,
                lasted_s=self._since_start(event_id, clock),
            )
        frames_stored, best = self._stored_so_far(event_id)
        phase = EventPhase(phase=Phase.START if kind == START else Phase.END, event=codec.load_event(body))
        return PhaseAnnouncement(
            number=number,
            delayed=delayed,
            age_s=age_s,
            writer=self._writer,
            no=no,
            phase=phase,
            frames_stored=frames_stored,
            best_frame=best,
            lasted_s=self._since_start(event_id, clock),
        )

    def _since_start(self, event_id: str, at: float) -> float | None:
        """Return how long an event had lasted at `at` on the spool's clock; None for an earlier run's."""
        began = self._began.get(event_id)
        return None if began is None else max(0.0, at - began)

    # -- looking

    def lines(self, number: int, event_id: str) -> Lines:
        """Return the lines of an event, whose summary is item `number`. Raises Unreadable."""
        leased = self._lines.get(number)
        # A record that was set aside may have been stored since the lease.
        if leased is not None and len(leased) == self._count_lines(event_id):
            return leased
        return self._read_lines(event_id)

    def _read_lines(self, event_id: str) -> Lines:
        rows = self._db.execute("SELECT body FROM lines WHERE event_id = ? ORDER BY seq", (event_id,))
        return tuple(codec.load_line(body) for (body,) in rows.fetchall())

    def _count_lines(self, event_id: str) -> int:
        found = self._db.execute("SELECT count(*) FROM lines WHERE event_id = ?", (event_id,)).fetchone()
        return int(found[0])

    def _stored_so_far(self, event_id: str) -> tuple[int, str | None]:
        """Return how many frames of an event are stored, and the key of the best of them."""
        best = self._db.execute(
            "SELECT object_key FROM lines WHERE event_id = ? ORDER BY score DESC, seq LIMIT 1", (event_id,)
        ).fetchone()
        return self._count_lines(event_id), best[0] if best else None

    def event_now(self, event_id: str) -> EventNow | None:
        """Return the current state of an event; None if it is unknown or unreadable, or its end announced."""
        row = self._db.execute(
            f"SELECT body, announced, no FROM events WHERE event_id = ? AND ended < {TOLD}", (event_id,)
        ).fetchone()
        event = codec.readable_event(row[0]) if row is not None else None
        if event is None:
            return None
        frames_stored, best = self._stored_so_far(event_id)
        return EventNow(
            writer=self._writer,
            no=row[2],
            event=event,
            announced=bool(row[1]),
            frames_stored=frames_stored,
            best_frame=best,
        )

    def jpeg(self, number: int) -> bytes | None:
        """Return a record's JPEG, or None if the spool no longer has it."""
        row = self._db.execute("SELECT jpeg FROM jpegs WHERE number = ?", (number,)).fetchone()
        return bytes(row[0]) if row else None
