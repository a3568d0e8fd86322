"""The spool's tables and every change to them: synchronous, one connection, no thread and no loop.

    items    one row for each record (its description) and each event's start and end, in order of acceptance
    jpegs    the records' bytes, apart, so that a walk over items reads no pictures
    events   one row for each event whose end is not announced yet: what is known of it, what protects its
             frames
    lines    one row for each stored frame of these events: what `event.json` will say
    memory   small values by key: runtime settings, what the detectors have learned

An item's walk (`state`); whatever is announced or dropped leaves the tables:

    record           TO_STORE ───put───▶ TO_ANNOUNCE ───published───▶ (gone)
                        └──refused for good──▶ ASIDE ───retry──▶ TO_STORE
    start   HELD ──no earlier record of the event left──▶ TO_ANNOUNCE ──▶ (gone)
    end     HELD ──no record and no start left──▶ TO_STORE ──event.json put──▶ TO_ANNOUNCE ──▶ (gone, and with
                                                                              it the event and its lines)

Invariants, each held by tests/unit/test_spool_model.py with a crash at every statement:
  1. An item exists exactly from its acceptance to its end as drawn; a record in TO_STORE has its bytes in
     `jpegs`.
  2. `events` has a row exactly for the events of which a phase was accepted and whose end is not gone.
  3. A phase in HELD has something of its event before it, that is not gone and not aside.
  4. `Counters` equals what a recount of the tables gives.
  5. `bytes` exceeds `max_bytes` by no more than what is being handed out right now, phases, and lines.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from async_motion.core import payloads
from async_motion.core.model import EndReason, EventPhase, MotionEvent, Phase, Record, StoredFrame
from async_motion.core.options import WhenFull
from async_motion.spool import codec, schema
from async_motion.spool.leases import Leases
from async_motion.spool.schema import (
    ASIDE,
    END,
    HELD,
    LINE_BYTES,
    MIDDLE,
    PROTECTED,
    RECORD,
    ROW_BYTES,
    START,
    TO_ANNOUNCE,
    TO_STORE,
)

GRACE_S = 3600.0
"""How long, at least, what an earlier run has left is kept, whatever the wall clock says of its age."""


@dataclass(slots=True)
class Counters:
    """What the tables hold. `records` are those on their way, `aside` those set aside."""

    records: int = 0
    phases: int = 0
    aside: int = 0
    lines: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    accepted: int = 0

    def copy(self) -> Counters:
        return replace(self, dropped=Counter(self.dropped))


@dataclass(frozen=True, slots=True)
class _Row:
    """An item without its description."""

    number: int
    kind: int
    state: int
    event_id: str
    bytes: int


class Tables:
    """One open spool. Every change happens inside `transaction`; `lanes` hands out, outside of it.

    `clock` is the spool's own clock (seconds, never backwards, going on over restarts); `wall` is Unix time
    and only a label. `fresh_s` is the age up to which an item accepted in this run is fresh.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        max_bytes: int,
        max_age_s: float,
        when_full: WhenFull,
        fresh_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        min_number: int = 1,
    ) -> None:
        """Take over `db`, in autocommit mode; make the schema where there is none.

        `min_number`: no smaller number is given out. Raises ForeignDatabase, NewerDatabase, sqlite3.Error.
        """
        self._db = db
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._when_full = when_full
        self._wall = wall
        self._full: bool | None = None
        schema.prepare(db)
        self._clock = self._start_clock(clock, wall)
        last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
        self.next_number = max(min_number, (last[0] if last else 0) + 1)
        self.counters = self.recount()
        self.lanes = Leases(db, fresh_s=fresh_s, clock=self._clock, next_number=self.next_number)
        self._released: list[int] = []
        self._cameras: set[str] = set()
        self._new: dict[int, Record] = {}

    # -- opening

    def _start_clock(self, clock: Callable[[], float], wall: Callable[[], float]) -> Callable[[], float]:
        """Return the spool's clock: it goes on from the youngest item.

        The time since then is known by the wall clock alone, which may have been wrong then or be wrong now.
        So it counts, but it ends nothing by itself: what it would make too old has another `GRACE_S` to be
        delivered. A wall clock that went backwards counts as no time.
        """
        oldest, youngest = self._db.execute("SELECT min(clock), max(clock) FROM items").fetchone()
        begin = 0.0
        if youngest is not None:
            (accepted,) = self._db.execute(
                "SELECT max(wall) FROM items WHERE clock = ?", (youngest,)
            ).fetchone()
            away_s = max(0.0, wall() - accepted)
            most = oldest + self._max_age_s - min(GRACE_S, self._max_age_s / 10)
            begin = max(youngest, min(youngest + away_s, most))
        opened = clock()
        return lambda: begin + clock() - opened

    def close_interrupted(self) -> list[str]:
        """End every event that the last run left open, as of its last known frame. Return their ids."""
        rows = self._db.execute("SELECT event_id, body, last_captured FROM events WHERE ended = 0").fetchall()
        for _, body, last_captured in rows:
            event = codec.load_event(body)
            ended_at = payloads.parse_iso(last_captured) if last_captured else event.started_at
            event = replace(event, ended_at=max(ended_at, event.started_at), end_reason=EndReason.INTERRUPTED)
            self._accept_phase(EventPhase(phase=Phase.END, event=event))
        return [row[0] for row in rows]

    def recount(self) -> Counters:
        """Count the tables. Walks over all items, not over their bytes."""
        counters = Counters()
        for kind, state, count, size in self._db.execute(
            "SELECT kind, state, count(*), sum(bytes) FROM items GROUP BY kind, state"
        ):
            counters.bytes += size
            if state == ASIDE:
                counters.aside += count
            elif kind == RECORD:
                counters.records += count
            else:
                counters.phases += count
        counters.lines = self._db.execute("SELECT count(*) FROM lines").fetchone()[0]
        counters.bytes += counters.lines * LINE_BYTES
        return counters

    # -- transactions

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[None]:
        """Make the changes inside one transaction: all or none, also in memory.

        `durable`: on the disk when this returns. Otherwise the changes survive the process, not the power:
        they reach the disk with the next durable ones, never out of order.
        """
        before, next_number = self.counters.copy(), self.next_number
        self._released.clear()
        self._cameras.clear()
        self._synchronise(full=durable)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.counters = before
            self._new.clear()
            raise
        if self.next_number > next_number:
            self.lanes.added(next_number, self.next_number, self._cameras, self._new)
            self._new.clear()
        self.lanes.done(self._released)

    def _synchronise(self, *, full: bool) -> None:
        """Have each commit from now on on the disk when it returns, or (not `full`) with a later one."""
        if full is not self._full:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full

    # -- acceptance

    def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Take these in, in their order; make room for them as the bounds demand.

        A frame or a phase that is already here is left alone, so that a caller who did not hear our answer
        may ask again.
        """
        for item in items:
            # First, so that the records before a start know their event.
            if isinstance(item, EventPhase) and item.phase is Phase.START:
                self._open_event(item.event)
        opener: Record | None = None
        openers: dict[str, Record] = {}
        for item in items:
            if isinstance(item, Record):
                opener = item
            elif item.phase is Phase.START and opener and opener.info.event_id == item.event.event_id:
                openers[item.event.event_id] = opener
        for item in items:
            if isinstance(item, Record):
                self._accept_record(item, openers.get(item.info.event_id) is item)
            else:
                self._accept_phase(item)
        self._expire()

    def _open_event(self, event: MotionEvent) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, 0, 0, NULL, NULL, NULL, NULL)",
            (event.event_id, self.next_number, codec.dump_event(event)),
        )

    def _accept_record(self, record: Record, opens: bool) -> None:
        info = record.info
        known = self._db.execute(
            f"SELECT 1 FROM items WHERE event_id = ? AND seq = ? AND kind = {RECORD}",
            (info.event_id, info.seq),
        ).fetchone()
        if known:
            return
        row = self._db.execute(
            "SELECT number, body, last_captured, opener, best, best_score FROM events WHERE event_id = ?",
            (info.event_id,),
        ).fetchone()
        if row is None:
            # A frame without an event, as a snapshot on command is: the only one of its kind.
            self._add_record(record, PROTECTED, self.next_number)
            return
        event_number, body, last_captured, opener, best, best_score = row
        event = codec.load_event(body)
        opens = opens or (opener is None and info.seq == 0 and self._started(info.event_id))
        is_best = best_score is None or info.score > best_score
        rank = PROTECTED if opens or is_best else MIDDLE
        number = self._add_record(record, rank, event_number)
        if number is not None and opens:
            opener = number
        if number is not None and is_best:
            if best not in (None, opener):
                self._db.execute("UPDATE items SET rank = ? WHERE number = ?", (MIDDLE, best))
            best, best_score = number, info.score
        captured = payloads.iso(info.captured_at)
        event = replace(
            event,
            peak_score=max(event.peak_score, info.score),
            zones=event.zones + tuple(zone for zone in info.zones if zone not in event.zones),
        )
        self._db.execute(
            "UPDATE events SET body = ?, last_captured = ?, opener = ?, best = ?, best_score = ?"
            " WHERE event_id = ?",
            (
                codec.dump_event(event),
                max(last_captured or captured, captured),
                opener,
                best,
                best_score,
                info.event_id,
            ),
        )

    def _started(self, event_id: str) -> bool:
        """Say whether an event's start was accepted before: then the next record is the one that opens it."""
        row = self._db.execute(
            "SELECT announced OR EXISTS"
            f" (SELECT 1 FROM items WHERE items.event_id = events.event_id AND kind = {START})"
            " FROM events WHERE event_id = ?",
            (event_id,),
        ).fetchone()
        return bool(row and row[0])

    def _add_record(self, record: Record, rank: int, event_number: int) -> int | None:
        """Insert a record if there is room. Return its number, or None for one dropped."""
        size = len(record.jpeg) + ROW_BYTES
        if not self._make_room(size, rank):
            self.counters.dropped["too_large" if size > self._max_bytes else "full"] += 1
            return None
        number = self._insert(
            RECORD,
            TO_STORE,
            rank,
            record.info.camera,
            record.info.event_id,
            event_number,
            record.info.seq,
            size,
            codec.dump_info(record.info),
        )
        self._db.execute("INSERT INTO jpegs VALUES (?, ?)", (number, record.jpeg))
        self._new[number] = record
        self.counters.records += 1
        self.counters.accepted += 1
        return number

    def _accept_phase(self, item: EventPhase) -> None:
        event = item.event
        kind = END if item.phase is Phase.END else START
        self._open_event(event)
        number, announced, ended = self._db.execute(
            "SELECT number, announced, ended FROM events WHERE event_id = ?", (event.event_id,)
        ).fetchone()
        if ended or (kind == START and (announced or self._started(event.event_id))):
            return
        if kind == END:
            self._db.execute("UPDATE events SET ended = 1 WHERE event_id = ?", (event.event_id,))
        self._make_room(ROW_BYTES, PROTECTED)
        self._insert(
            kind,
            HELD,
            PROTECTED,
            event.camera,
            event.event_id,
            number,
            None,
            ROW_BYTES,
            codec.dump_event(event),
        )
        self.counters.phases += 1
        self._settle(event.event_id)

    def _insert(
        self,
        kind: int,
        state: int,
        rank: int,
        camera: str,
        event_id: str,
        event_number: int,
        seq: int | None,
        size: int,
        body: str,
    ) -> int:
        number = self.next_number
        self._db.execute(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (
                number,
                kind,
                state,
                rank,
                camera,
                event_id,
                event_number,
                seq,
                self._clock(),
                self._wall(),
                size,
                body,
            ),
        )
        self.next_number += 1
        self.counters.bytes += size
        self._cameras.add(camera)
        return number

    # -- bounds

    def _make_room(self, size: int, rank: int) -> bool:
        """Drop what the policy says until `size` bytes fit. Say whether they do.

        What goes first: records set aside, bytes kept of frames already stored, then waiting records from the
        middle of events, then (for a newcomer that is protected itself) those that open an event or are its
        best, then the announcements of stored frames. Frames in the hands of delivery are left alone.
        """
        if self.counters.bytes + size <= self._max_bytes:
            return True
        if size > self._max_bytes:
            return False
        for row, reason in self._victims(rank):
            if reason is None:
                self._shed(row)
            else:
                self._drop(row, reason)
            if self.counters.bytes + size <= self._max_bytes:
                return True
        return False

    def _victims(self, rank: int) -> Iterator[tuple[_Row, str | None]]:
        """Yield what may go, with the reason by which it is counted; None: its bytes alone."""
        waiting = f"kind = {RECORD} AND state = {TO_STORE} AND rank ="
        stored = f"kind = {RECORD} AND state = {TO_ANNOUNCE}"
        steps: list[tuple[str, str | None]] = [
            (f"state = {ASIDE} ORDER BY number", "full_aside"),
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

    def _search(self, where: str) -> Iterator[_Row]:
        """Yield the rows that match, one by one, without those in delivery's hands.

        Each is looked for anew: the caller deletes while it walks.
        """
        skipped = 0
        while True:
            found = self._db.execute(
                f"SELECT number, kind, state, event_id, bytes FROM items WHERE {where} LIMIT 1 OFFSET ?",
                (skipped,),
            ).fetchone()
            if found is None:
                return
            if self.lanes.is_leased(found[0]):
                skipped += 1
            else:
                yield _Row(*found)

    def _expire(self) -> None:
        """Drop what is older than `max_age_s`, oldest first, at most some hundred at once."""
        before = self._clock() - self._max_age_s
        for found in self._db.execute(
            "SELECT number, kind, state, event_id, bytes FROM items WHERE clock < ? ORDER BY clock LIMIT 256",
            (before,),
        ).fetchall():
            row = _Row(*found)
            if not self.lanes.is_leased(row.number):
                self._drop(row, "age" if row.kind == RECORD else "age_phase")

    def expire(self) -> bool:
        """Drop what is too old; say whether there was something. In a transaction."""
        before = self.counters.records + self.counters.phases + self.counters.aside
        self._expire()
        return self.counters.records + self.counters.phases + self.counters.aside < before

    def has_expired(self) -> bool:
        """Say whether something is too old and can be dropped now."""
        before = self._clock() - self._max_age_s
        rows = self._db.execute(
            "SELECT number FROM items WHERE clock < ? ORDER BY clock LIMIT 256", (before,)
        )
        return any(not self.lanes.is_leased(number) for (number,) in rows)

    def _shed(self, row: _Row) -> None:
        """Let the bytes of a frame go that the store has already."""
        self._db.execute("DELETE FROM jpegs WHERE number = ?", (row.number,))
        self._db.execute("UPDATE items SET bytes = ? WHERE number = ?", (ROW_BYTES, row.number))
        self.counters.bytes += ROW_BYTES - row.bytes

    def _drop(self, row: _Row, reason: str) -> None:
        self.counters.dropped[reason] += 1
        self._forget(row)

    # -- what becomes of the pieces

    def _row(self, number: int) -> _Row | None:
        found = self._db.execute(
            "SELECT number, kind, state, event_id, bytes FROM items WHERE number = ?", (number,)
        ).fetchone()
        return _Row(*found) if found else None

    def mark_stored(self, number: int, stored: StoredFrame | None, keep_jpeg: bool) -> None:
        """Note that the store has confirmed a frame (`stored`) or an event's summary (None)."""
        self._released.append(number)
        row = self._row(number)
        if row is None or row.state != TO_STORE:
            return
        if stored is None:
            self._db.execute("UPDATE items SET state = ? WHERE number = ?", (TO_ANNOUNCE, number))
            return
        text = codec.dump_stored(stored)
        size = row.bytes if keep_jpeg else ROW_BYTES
        self._db.execute(
            "UPDATE items SET state = ?, stored = ?, bytes = ? WHERE number = ?",
            (TO_ANNOUNCE, text, size, number),
        )
        if not keep_jpeg:
            self._db.execute("DELETE FROM jpegs WHERE number = ?", (number,))
        self.counters.bytes += size - row.bytes
        info = stored.info
        added = self._db.execute(
            "INSERT OR IGNORE INTO lines SELECT event_id, ?, ?, ?, ? FROM events WHERE event_id = ?",
            (info.seq, info.score, info.object_key, text, info.event_id),
        ).rowcount
        self.counters.lines += added
        self.counters.bytes += added * LINE_BYTES

    def remove(self, numbers: Collection[int]) -> None:
        """Note that these pieces are announced: they are done."""
        for number in numbers:
            self._released.append(number)
            row = self._row(number)
            if row is not None:
                self._forget(row)

    def set_aside(self, number: int, reason: str) -> None:
        """Note that a record is refused for good, or cannot be read. A phase that cannot be read goes."""
        self._released.append(number)
        row = self._row(number)
        if row is None or row.state == ASIDE:
            return
        if row.kind != RECORD:
            self._drop(row, "unreadable_phase")
            return
        self._db.execute("UPDATE items SET state = ?, reason = ? WHERE number = ?", (ASIDE, reason, number))
        self.counters.records -= 1
        self.counters.aside += 1
        self._settle(row.event_id)

    def _forget(self, row: _Row) -> None:
        """Delete an item, and let go what waited for it."""
        self._db.execute("DELETE FROM items WHERE number = ?", (row.number,))
        self._db.execute("DELETE FROM jpegs WHERE number = ?", (row.number,))
        self._released.append(row.number)
        self.counters.bytes -= row.bytes
        if row.state == ASIDE:
            self.counters.aside -= 1
        elif row.kind == RECORD:
            self.counters.records -= 1
        else:
            self.counters.phases -= 1
        if row.kind == START:
            self._db.execute("UPDATE events SET announced = 1 WHERE event_id = ?", (row.event_id,))
        if row.kind == END:
            lines = self._db.execute("DELETE FROM lines WHERE event_id = ?", (row.event_id,)).rowcount
            self._db.execute("DELETE FROM events WHERE event_id = ?", (row.event_id,))
            self.counters.lines -= lines
            self.counters.bytes -= lines * LINE_BYTES
        else:
            self._settle(row.event_id)

    def _settle(self, event_id: str) -> None:
        """Let an event's phases go on that nothing of their event holds back any more."""
        for number, kind in self._db.execute(
            f"SELECT number, kind FROM items WHERE event_id = ? AND kind > {RECORD} AND state = {HELD}"
            " ORDER BY kind",
            (event_id,),
        ).fetchall():
            if kind == START and not self._has_record(event_id, before=number):
                self._db.execute("UPDATE items SET state = ? WHERE number = ?", (TO_ANNOUNCE, number))
            elif kind == END and not self._has_record(event_id) and not self._has_start(event_id):
                self._db.execute("UPDATE items SET state = ? WHERE number = ?", (TO_STORE, number))

    def _has_record(self, event_id: str, before: int | None = None) -> bool:
        """Say whether a record of the event is on its way; with `before`, one of a smaller number."""
        # In the order of `seq`, so that the first one tells: an event may have thousands.
        found = self._db.execute(
            f"SELECT 1 FROM items WHERE event_id = ? AND kind = {RECORD} AND state < {ASIDE}"
            " AND number < ? ORDER BY seq LIMIT 1",
            (event_id, self.next_number if before is None else before),
        ).fetchone()
        return found is not None

    def _has_start(self, event_id: str) -> bool:
        found = self._db.execute(
            f"SELECT 1 FROM items WHERE event_id = ? AND kind > {RECORD} AND kind = {START}", (event_id,)
        ).fetchone()
        return found is not None

    # -- looking

    def first(self, state: int) -> int | None:
        """Return the smallest number in TO_STORE or TO_ANNOUNCE, None for none."""
        # By its own index: behind thousands that were set aside, a walk in order would take its time.
        found: int | None = self._db.execute(
            f"SELECT min(number) FROM items WHERE state = {int(state)}"
        ).fetchone()[0]
        return found

    def age_s(self, number: int) -> float:
        """Return the age of an item, 0 where there is none."""
        row = self._db.execute("SELECT clock FROM items WHERE number = ?", (number,)).fetchone()
        return max(0.0, self._clock() - row[0]) if row else 0.0

    # -- memory

    def remember(self, key: str, value: bytes | None) -> None:
        """Keep a value; None forgets it."""
        if value is None:
            self._db.execute("DELETE FROM memory WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (key, value))

    def forget(self, prefix: str, but: Collection[str]) -> None:
        """Forget the values whose keys begin with `prefix`, but those under the keys named."""
        for (key,) in self._db.execute(
            "SELECT key FROM memory WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
        ).fetchall():
            if key not in but:
                self._db.execute("DELETE FROM memory WHERE key = ?", (key,))

    def recall(self, key: str) -> bytes | None:
        """Return what was kept under `key`."""
        row = self._db.execute("SELECT value FROM memory WHERE key = ?", (key,)).fetchone()
        return bytes(row[0]) if row else None

    # -- space

    def spare_pages(self) -> int:
        """Return how many pages of the file are free."""
        return int(self._db.execute("PRAGMA freelist_count").fetchone()[0])

    def vacuum(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system. Outside of a transaction."""
        self._synchronise(full=False)
        # This pragma frees a page for each step, and `execute` steps once.
        self._db.executescript(f"PRAGMA incremental_vacuum({pages})")

    def checkpoint(self) -> bool:
        """Write the log to the database, fsync that, empty the log. False: a reader is in the way."""
        self._synchronise(full=True)
        busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def data_version(self) -> int:
        """Return a number that changes when another process has changed the tables."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])
