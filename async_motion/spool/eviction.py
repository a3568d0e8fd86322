"""Choose which items leave the spool at its bounds, and in which order. `tables` deletes them.

Bytes: records set aside are dropped first, then the JPEGs kept of stored frames, then waiting records from
the middle of events. For a new record that is protected (it opens an event, or is its best frame so far),
protected records follow, then the announcements of stored frames. `drop_newest` keeps waiting records: it
drops the newest from the middle of events, and only for a protected one.

Age: items accepted more than `max_age_s` ago are dropped, oldest first.

A leased item is never chosen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from async_motion.core.options import WhenFull
from async_motion.spool.schema import ASIDE, MIDDLE, PROTECTED, RECORD, ROW_BYTES, TO_ANNOUNCE, TO_STORE

MAX_EXPIRED = 256
"""How many items expire in one transaction, to keep it short."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item without its description."""

    number: int
    kind: int
    state: int
    event_id: str
    bytes: int


ITEM_COLUMNS = "number, kind, state, event_id, bytes"
"""The columns of an `ItemRow`, in its order."""


class Eviction:
    """Chooses victims. `clock` is the spool's own, in seconds; `is_leased` takes an item's number."""

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        when_full: WhenFull,
        max_age_s: float,
        clock: Callable[[], float],
        is_leased: Callable[[int], bool],
    ) -> None:
        self._db = db
        self._when_full = when_full
        self._max_age_s = max_age_s
        self._clock = clock
        self._is_leased = is_leased

    def victims(self, rank: int) -> Iterator[tuple[ItemRow, str | None]]:
        """Yield each victim for a new item of `rank`, with its drop reason, or None to drop only its JPEG.

        The caller deletes each victim before it requests the next.
        """
        waiting = f"kind = {RECORD} AND state = {TO_STORE} AND rank ="
        stored = f"kind = {RECORD} AND state = {TO_ANNOUNCE}"
        steps: list[tuple[str, str | None]] = [
            (f"state >= {ASIDE} ORDER BY number", "full_aside"),
            (f"{stored} AND bytes > {ROW_BYTES} ORDER BY number", None),
        ]
        if self._when_full == "drop_oldest":
            steps.append((f"{waiting} {MIDDLE} ORDER BY number", "full"))
        elif rank == PROTECTED:
            steps.append((f"{waiting} {MIDDLE} ORDER BY number DESC", "full"))
        if self._when_full == "drop_oldest" and rank == PROTECTED:
            steps.append((f"{waiting} {PROTECTED} ORDER BY number", "full"))
            steps.append((f"{stored} ORDER BY number", "full_stored"))
        for where, reason in steps:
            for row in self._search(where):
                yield row, reason

    def _search(self, where: str) -> Iterator[ItemRow]:
        """Yield the matching rows that are not leased, one query for each: the caller deletes in between."""
        skipped = 0
        while True:
            found = self._db.execute(
                f"SELECT {ITEM_COLUMNS} FROM items WHERE {where} LIMIT 1 OFFSET ?", (skipped,)
            ).fetchone()
            if found is None:
                return
            if self._is_leased(found[0]):
                skipped += 1
            else:
                yield ItemRow(*found)

    def expired(self) -> list[ItemRow]:
        """Return the items that are too old and not leased, among the `MAX_EXPIRED` oldest items."""
        rows = self._db.execute(
            f"SELECT {ITEM_COLUMNS} FROM items WHERE clock < ? ORDER BY clock LIMIT {MAX_EXPIRED}",
            (self._clock() - self._max_age_s,),
        ).fetchall()
        return [row for row in (ItemRow(*found) for found in rows) if not self._is_leased(row.number)]
