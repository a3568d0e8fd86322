"""Handing out: what delivery may do next, of the fresh lane and of the backlog. Only looks at the tables.

Who has what in his hands is known in memory alone: after a crash nobody has anything.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from async_motion.core.items import (
    EventNow,
    FrameAnnouncement,
    FrameUpload,
    News,
    PhaseAnnouncement,
    SummaryUpload,
    Upload,
)
from async_motion.core.model import EventPhase, Phase, Record
from async_motion.spool import codec
from async_motion.spool.schema import ASIDE, END, HELD, RECORD, ROW_BYTES, START, TO_ANNOUNCE, TO_STORE

WARM_BYTES = 8 * 1024 * 1024

_NEWS = "number, kind, state, event_id, event_number, clock, bytes, body, stored"


class Leases:
    """What is fresh, what is late, and what of it is in delivery's hands.

    `fresh_s` is the age up to which an item accepted in this run is fresh; `clock` is the spool's own.
    Numbers from `next_number` on are of this run. Records stay in memory while `WARM_BYTES` has room, so that
    what is delivered soon is not read back from the disk: those that came first, since they also go first.
    """

    def __init__(
        self, db: sqlite3.Connection, *, fresh_s: float, clock: Callable[[], float], next_number: int
    ) -> None:
        self._db = db
        self._fresh_s = fresh_s
        self._clock = clock
        self._next_number = next_number
        self.broken: list[tuple[int, str]] = []
        """What could not be handed out because it cannot be read, and why: set it aside."""
        self._leased: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._cameras: dict[str, int] = {}
        self._batches: dict[str, list[int]] = {}
        """Of each camera, what was last handed out of its fresh line."""
        self._warm: dict[int, Record] = {}
        self._warm_bytes = 0

    def added(
        self, first: int, next_number: int, cameras: Collection[str], records: Mapping[int, Record]
    ) -> None:
        """Note that the items from `first` up to `next_number` were accepted now, for these cameras.

        `records` are those among them, by number.
        """
        self._marks.append((self._clock(), first))
        self._next_number = next_number
        self._cameras.update(dict.fromkeys(cameras, next_number - 1))
        for number, record in records.items():
            if self._warm_bytes + len(record.jpeg) <= WARM_BYTES:
                self._warm[number] = record
                self._warm_bytes += len(record.jpeg)

    def _cool(self, number: int) -> Record | None:
        """Return a record that is in memory, and keep it no longer."""
        record = self._warm.pop(number, None)
        self._warm_bytes -= len(record.jpeg) if record else 0
        return record

    def is_late(self, number: int) -> bool:
        """Say whether an item belongs to the backlog by now."""
        return number < self._floor()

    def is_leased(self, number: int) -> bool:
        """Say whether delivery has this in its hands."""
        return number in self._leased

    def release(self, numbers: Collection[int], delay_s: float = 0.0) -> None:
        """Let these pieces be handed out again, after `delay_s`."""
        self._leased.difference_update(numbers)
        if delay_s > 0:
            self._not_before.update(dict.fromkeys(numbers, self._clock() + delay_s))

    def release_all(self) -> None:
        """Let everything be handed out again: there is a new delivery."""
        self._leased.clear()
        self._not_before.clear()

    def done(self, numbers: Collection[int]) -> None:
        """Note that delivery has reported the fate of these."""
        self._leased.difference_update(numbers)
        for number in numbers:
            self._not_before.pop(number, None)
            self._cool(number)

    def _floor(self) -> int:
        """Return the number from which on items are fresh."""
        young = self._clock() - self._fresh_s
        while self._marks and self._marks[0][0] <= young:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else self._next_number

    def _is_free(self, number: int) -> bool:
        if number in self._leased:
            return False
        until = self._not_before.get(number)
        if until is None:
            return True
        if until > self._clock():
            return False
        del self._not_before[number]
        return True

    def take_uploads(self, *, fresh: bool, limit: int) -> list[Upload]:
        """Hand out what is to be stored next, oldest first, at most `limit` pieces.

        What cannot be read back is noted in `broken` and passed by.
        """
        found: list[Upload] = []
        rows = self._db.execute(
            "SELECT number, kind, event_id, event_number, clock, body FROM items"
            f" WHERE state = {TO_STORE} AND number {'>=' if fresh else '<'} ? ORDER BY number",
            (self._floor(),),
        )
        for row in rows:
            if len(found) >= limit:
                break
            if self._is_free(row[0]):
                try:
                    found.append(self._upload(row, late=not fresh))
                except codec.Unreadable as exc:
                    self._note_broken(row[0], exc)
        rows.close()
        self._leased.update(item.number for item in found)
        return found

    def _upload(self, row: tuple[Any, ...], *, late: bool) -> Upload:
        number, kind, event_id, event_number, clock, body = row
        age_s = self._clock() - clock
        if kind == END:
            rows = self._db.execute("SELECT body FROM lines WHERE event_id = ? ORDER BY seq", (event_id,))
            lines = tuple(codec.load_line(line) for (line,) in rows)
            return SummaryUpload(
                number=number, late=late, age_s=age_s, event=codec.load_event(body), lines=lines
            )
        record = self._cool(number) or self._read(number, body)
        return FrameUpload(
            number=number,
            event_number=event_number,
            late=late,
            age_s=age_s,
            info=record.info,
            jpeg=record.jpeg,
        )

    def _read(self, number: int, body: str) -> Record:
        """Read a record back. Raises Unreadable."""
        info, jpeg = codec.load_info(body), self.jpeg(number)
        if jpeg is None or hashlib.sha256(jpeg).hexdigest() != info.sha256:
            raise codec.Unreadable("its bytes are not those that were accepted")
        return Record(info=info, jpeg=jpeg)

    def _note_broken(self, number: int, exc: codec.Unreadable) -> None:
        self._leased.add(number)
        self.broken.append((number, f"cannot be read back from the spool: {exc}"))

    def take_fresh_news(self, limit: int) -> list[list[News]]:
        """Hand out what is to be announced next of each camera's fresh line, in its order, `limit` for each.

        A line stands still before what is not stored yet or is in somebody's hands, also when that has become
        late meanwhile. A phase that waits for frames of the backlog is passed by.
        """
        floor = self._floor()
        batches: list[list[News]] = []
        for camera, last in list(self._cameras.items()):
            if last < floor:
                del self._cameras[camera]
                self._batches.pop(camera, None)
                continue
            if not self._leased.isdisjoint(self._batches.get(camera, ())):
                continue
            batch: list[News] = []
            rows = self._db.execute(
                f"SELECT {_NEWS} FROM items WHERE camera = ? AND number >= ? AND state < {ASIDE}"
                " ORDER BY number",
                (camera, floor),
            )
            for row in rows:
                number, kind, state = row[:3]
                if kind != RECORD and state == HELD and not batch:
                    continue
                if state != TO_ANNOUNCE or not self._is_free(number) or len(batch) >= limit:
                    break
                try:
                    batch.append(self._news(row, late=False))
                except codec.Unreadable as exc:
                    self._note_broken(number, exc)
                    break
            rows.close()
            if batch:
                self._batches[camera] = [item.number for item in batch]
                self._leased.update(self._batches[camera])
                batches.append(batch)
        return batches

    def take_late_news(self, limit: int) -> list[News]:
        """Hand out what is to be announced next of the backlog, oldest first."""
        batch: list[News] = []
        rows = self._db.execute(
            f"SELECT {_NEWS} FROM items WHERE state = {TO_ANNOUNCE} AND number < ? ORDER BY number",
            (self._floor(),),
        )
        for row in rows:
            if len(batch) >= limit:
                break
            if self._is_free(row[0]):
                try:
                    batch.append(self._news(row, late=True))
                except codec.Unreadable as exc:
                    self._note_broken(row[0], exc)
        rows.close()
        self._leased.update(item.number for item in batch)
        return batch

    def _news(self, row: tuple[Any, ...], *, late: bool) -> News:
        number, kind, _, event_id, event_number, clock, size, body, stored = row
        age_s = self._clock() - clock
        if kind == RECORD:
            return FrameAnnouncement(
                number=number,
                event_number=event_number,
                late=late,
                age_s=age_s,
                stored=codec.load_stored(stored),
                has_jpeg=size > ROW_BYTES,
            )
        frames_stored, best = self._stored_so_far(event_id)
        phase = EventPhase(phase=Phase.START if kind == START else Phase.END, event=codec.load_event(body))
        return PhaseAnnouncement(
            number=number, late=late, age_s=age_s, phase=phase, frames_stored=frames_stored, best_frame=best
        )

    def _stored_so_far(self, event_id: str) -> tuple[int, str | None]:
        """Return how many frames of an event are stored, and the key of the best of them."""
        count = self._db.execute("SELECT count(*) FROM lines WHERE event_id = ?", (event_id,)).fetchone()[0]
        best = self._db.execute(
            "SELECT object_key FROM lines WHERE event_id = ? ORDER BY score DESC, seq LIMIT 1", (event_id,)
        ).fetchone()
        return count, best[0] if best else None

    def event_now(self, event_id: str) -> EventNow | None:
        """Return what is known of an event, None where there is none or its end is announced."""
        row = self._db.execute(
            "SELECT body, announced FROM events WHERE event_id = ?", (event_id,)
        ).fetchone()
        if row is None:
            return None
        frames_stored, best = self._stored_so_far(event_id)
        return EventNow(
            event=codec.load_event(row[0]),
            announced=bool(row[1]),
            frames_stored=frames_stored,
            best_frame=best,
        )

    def jpeg(self, number: int) -> bytes | None:
        """Return a record's bytes if they are still here."""
        row = self._db.execute("SELECT jpeg FROM jpegs WHERE number = ?", (number,)).fetchone()
        return bytes(row[0]) if row else None
