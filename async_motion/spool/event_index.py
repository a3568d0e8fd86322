"""The event index in the spool: a line for each ended event, and which files are due.

A file of the index belongs to one camera and one day (UTC), and is always written whole. So the lines of a
day stay here while an event of that day may still end: each camera keeps its newest
`ceil(max_age_s / 86400) + 2` days. They are not part of `max_bytes`: a day of 1,500 events takes half a MiB.

A day is due while its `version` is greater than `written`. Both are columns, so they survive a crash.
"""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from async_motion.core import index, payloads
from async_motion.core.items import IndexDay
from async_motion.core.model import MotionEvent
from async_motion.errors import UnreadableObject

log = logging.getLogger(__name__)


class EventIndex:
    """The lines and days of one spool. Changes happen inside a transaction of the tables."""

    def __init__(self, db: sqlite3.Connection, *, writer: str, max_age_s: float) -> None:
        self._db = db
        self._writer = writer
        self._keep_days = math.ceil(max_age_s / 86400.0) + 2

    def has(self, event: MotionEvent) -> bool:
        """Return whether an event has its line."""
        return self._body(event) is not None

    def add(self, event: MotionEvent, no: int | None, frames: Sequence[Mapping[str, Any]]) -> None:
        """Add the line of an event that has ended, or replace it. `frames` are its announcements."""
        try:
            day = index.event_day(event.event_id).isoformat()
            line = index.line_of(payloads.event_summary(event, frames, writer=self._writer, no=no))
            body = index.encode_line(line, self._writer).decode()
        except (UnreadableObject, ValueError) as exc:
            log.warning("%s: event %s gets no line in the index: %s", event.camera, event.event_id, exc)
            return
        if body == self._body(event):
            return
        place = (event.instance, event.camera, day)
        if not self._open_day(place):
            log.debug("%s: %s has left the spool; its index stays as it is", event.camera, day)
            return
        self._db.execute(
            "INSERT OR REPLACE INTO index_lines VALUES (?, ?, ?, ?, ?)", (*place, event.event_id, body)
        )
        self._db.execute(
            "UPDATE index_days SET version = version + 1 WHERE instance = ? AND camera = ? AND day = ?", place
        )

    def _body(self, event: MotionEvent) -> str | None:
        row = self._db.execute(
            "SELECT body FROM index_lines WHERE instance = ? AND camera = ? AND event_id = ?",
            (event.instance, event.camera, event.event_id),
        ).fetchone()
        return row[0] if row else None

    def _open_day(self, place: tuple[str, str, str]) -> bool:
        """Add a day unless it exists. Return False for one already forgotten: its lines would be lost."""
        days = [
            day
            for (day,) in self._db.execute(
                "SELECT day FROM index_days WHERE instance = ? AND camera = ? ORDER BY day DESC", place[:2]
            ).fetchall()
        ]
        if place[2] in days:
            return True
        if len(days) >= self._keep_days and place[2] < days[-1]:
            return False
        self._db.execute("INSERT INTO index_days VALUES (?, ?, ?, 0, 0)", place)
        for old in sorted([*days, place[2]], reverse=True)[self._keep_days :]:
            self._forget_day((*place[:2], old))
        return True

    def _forget_day(self, place: tuple[str, str, str]) -> None:
        where = "WHERE instance = ? AND camera = ? AND day = ?"
        written = self._db.execute(f"SELECT version <= written FROM index_days {where}", place).fetchone()
        if written and written[0]:
            self._db.execute(f"DELETE FROM index_days {where}", place)
            self._db.execute(f"DELETE FROM index_lines {where}", place)

    # -- for delivery

    def due(self) -> list[IndexDay]:
        """Return the index files whose lines have changed since they were last stored."""
        found = []
        for instance, camera, day, version in self._db.execute(
            "SELECT instance, camera, day, version FROM index_days WHERE version > written"
            " ORDER BY instance, camera, day"
        ):
            try:
                found.append(
                    IndexDay(instance=instance, camera=camera, day=date.fromisoformat(day), version=version)
                )
            except (ValueError, TypeError) as exc:
                log.warning("spool: a day of the index cannot be read: %s", exc)
        return found

    def lines(self, day: IndexDay) -> list[str]:
        """Return the lines of an index file, in order of `event_id`."""
        rows = self._db.execute(
            "SELECT body FROM index_lines WHERE instance = ? AND camera = ? AND day = ? ORDER BY event_id",
            (day.instance, day.camera, day.day.isoformat()),
        )
        return [body for (body,) in rows]

    def mark_written(self, day: IndexDay) -> None:
        """Note that a file was stored as of `day.version`."""
        self._db.execute(
            "UPDATE index_days SET written = max(written, ?) WHERE instance = ? AND camera = ? AND day = ?",
            (day.version, day.instance, day.camera, day.day.isoformat()),
        )
