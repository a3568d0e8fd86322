"""The spool's tables and every change to them: synchronous, one connection, no thread and no loop.

    items    one row for each record (its description) and each event's start and end, in order of acceptance
    jpegs    the records' JPEGs, in a table of their own so that a scan of items does not read them
    events   one row for each event until its end is announced and none of its items is left: its description,
             its number, its protected frames
    lines    one row for each stored frame of these events: the lines of `event.json`
    memory   small values by key: runtime settings, what the detectors have learned
    identity, numbers        the id of this spool (`writer`), and the last number of an event of each camera
    index_days, index_lines  the event index (see `event_index`)

The states of an item; one that is announced or dropped leaves the tables:

    record           TO_STORE ───put───▶ TO_ANNOUNCE ───published───▶ (gone)
                        ├──refused──▶ ASIDE ───tried again──▶ TO_STORE
                        └──cannot be read back──▶ UNREADABLE
    start   HELD ──no earlier record of the event left──▶ TO_ANNOUNCE ──▶ (gone)
    end     HELD ──no record and no start left──▶ TO_STORE ──event.json put──▶ TO_ANNOUNCE ──▶ (gone)
    revision  (made after the end, for a record stored late)  TO_STORE ──event.json put──▶ (gone)

An event and its lines leave the tables with the last of its items.

Invariants, each held by tests/unit/spool/test_model.py with a crash at every statement:
  1. An item exists exactly from its acceptance to `(gone)` above; a record in TO_STORE has its JPEG in
     `jpegs`.
  2. `events` has a row exactly for the events of which a phase was accepted, until their end and all their
     items are gone. Each has its number; the numbers of a camera have no gap.
  3. A phase in HELD has an item of its event before it that is neither gone nor set aside.
  4. `Counters` equals a recount of the tables.
  5. `bytes` exceeds `max_bytes` by at most the size of leased items, phases and lines.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from async_motion.core import payloads
from async_motion.core.model import (
    EndReason,
    EventPhase,
    FrameInfo,
    MotionEvent,
    Phase,
    Record,
    StoredFrame,
)
from async_motion.core.options import WhenFull
from async_motion.spool import codec, schema
from async_motion.spool.event_index import EventIndex
from async_motion.spool.eviction import ITEM_COLUMNS, Eviction, ItemRow
from async_motion.spool.leases import Leases
from async_motion.spool.schema import (
    ASIDE,
    END,
    ENDED,
    HELD,
    LINE_BYTES,
    MIDDLE,
    OPEN,
    PROTECTED,
    RECORD,
    REVISION,
    ROW_BYTES,
    START,
    TO_ANNOUNCE,
    TO_STORE,
    TOLD,
    UNREADABLE,
)

log = logging.getLogger(__name__)

MAX_CONFIRM_S = 120.0
"""An event is accepted at most this long after its first motion; a longer time is a wrong clock."""
GRACE_S = 3600.0
"""Items of an earlier run are kept at least this long, even if the wall clock makes them too old."""


@dataclass(slots=True)
class Counters:
    """What the tables hold. `records` are not delivered yet, `aside` are set aside."""

    records: int = 0
    phases: int = 0
    aside: int = 0
    lines: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    accepted: int = 0

    def copy(self) -> Counters:
        return replace(self, dropped=Counter(self.dropped))

    def continue_from(self, other: Counters) -> None:
        """Take over what counts since the start, and is in no table."""
        self.dropped, self.accepted = other.dropped, other.accepted


class Tables:
    """One open spool. Every change happens inside `transaction`; `leases` gives out work outside of it.

    The spool's own clock counts seconds, never goes backwards, and continues across restarts; `wall` is Unix
    time, and only a label. From the age of `delayed_after_s` an item belongs to the backlog.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        max_bytes: int,
        max_age_s: float,
        when_full: WhenFull,
        delayed_after_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        min_number: int = 1,
        earlier: Tables | None = None,
    ) -> None:
        """Take over `db`, in autocommit mode; create the schema if there is none.

        No number below `min_number` is given out. `earlier` are the tables of the same file in this run: its
        clock, leases and counts continue. Raises ForeignDatabase, NewerDatabase, sqlite3.Error.
        """
        self._db = db
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._wall = wall
        self._full: bool | None = None
        schema.prepare(db)
        if mended := schema.mend(db):
            log.error("spool: %d rows are damaged; what cannot be read is set aside", mended)
        self.writer = str(db.execute("SELECT writer FROM identity").fetchone()[0])
        self.clock: Callable[[], float] = self._start_clock(clock, wall) if earlier is None else earlier.clock
        last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
        self.next_number = max(min_number, (last[0] if last else 0) + 1)
        self.counters = self.recount()
        if earlier is None:
            self.leases = Leases(
                db,
                writer=self.writer,
                delayed_after_s=delayed_after_s,
                clock=self.clock,
                next_number=self.next_number,
            )
        else:
            self.counters.continue_from(earlier.counters)
            self.leases = earlier.leases
            self.leases.follow(db, self.writer)
        self._eviction = Eviction(
            db,
            when_full=when_full,
            max_age_s=max_age_s,
            clock=self.clock,
            is_leased=self.leases.is_leased,
        )
        self.index = EventIndex(db, writer=self.writer, max_age_s=max_age_s)
        self._released: list[int] = []
        self._cameras: set[str] = set()
        self._new: dict[int, Record] = {}
        self._stored: dict[int, StoredFrame] = {}

    # -- opening

    def _start_clock(self, clock: Callable[[], float], wall: Callable[[], float]) -> Callable[[], float]:
        """Return the spool's clock, which continues from the youngest item.

        Only the wall clock measures the time since then, and it may have been wrong then or now. So that
        time counts, but expires nothing at once: items that it makes too old get another `GRACE_S`. A wall
        clock that went backwards counts as zero.
        """
        oldest, youngest = self._db.execute("SELECT min(clock), max(clock) FROM items").fetchone()
        begin = 0.0
        if youngest is not None:
            (accepted,) = self._db.execute(
                "SELECT max(wall) FROM items WHERE clock = ?", (youngest,)
            ).fetchone()
            away_s = max(0.0, wall() - accepted)
            latest = oldest + self._max_age_s - min(GRACE_S, self._max_age_s / 10)
            begin = max(youngest, min(youngest + away_s, latest))
        opened = clock()
        return lambda: begin + clock() - opened

    def close_interrupted(self) -> list[str]:
        """End every event that the last run left open, as of its last known frame. Return their ids."""
        closed: list[str] = []
        for event_id, body, last_captured in self._db.execute(
            f"SELECT event_id, body, last_captured FROM events WHERE ended = {OPEN} ORDER BY number"
        ).fetchall():
            event = codec.readable_event(body)
            if event is None:
                log.warning("spool: event %s cannot be read back: its frames are announced alone", event_id)
                self._delete_event(event_id)
                continue
            ended_at = event.started_at
            if last_captured:
                with contextlib.suppress(codec.Unreadable):
                    ended_at = max(ended_at, codec.load_time(last_captured))
            event = replace(event, ended_at=ended_at, end_reason=EndReason.INTERRUPTED)
            self._accept_phase(EventPhase(phase=Phase.END, event=event))
            closed.append(event_id)
        return closed

    def recount(self) -> Counters:
        """Return new counters from the tables. Scans all items, but not their JPEGs."""
        counters = Counters()
        for kind, state, count, size in self._db.execute(
            "SELECT kind, state, count(*), sum(bytes) FROM items GROUP BY kind, state"
        ):
            counters.bytes += size
            if state >= ASIDE:
                counters.aside += count
            elif kind == RECORD:
                counters.records += count
            else:
                counters.phases += count
        counters.lines = self._db.execute("SELECT count(*) FROM lines").fetchone()[0]
        counters.bytes += counters.lines * LINE_BYTES
        return counters

    # -- transactions

    @contextlib.contextmanager
    def transaction(self, *, durable: bool) -> Iterator[None]:
        """Run the body in one transaction: all changes or none, in memory as well.

        `durable`: on the disk when this returns. Otherwise the changes survive SIGKILL but not power loss:
        they reach the disk with the next durable transaction, in order.
        """
        before, next_number = self.counters.copy(), self.next_number
        self._released.clear()
        self._cameras.clear()
        self._stored.clear()
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
            self.leases.added(next_number, self.next_number, self._cameras, self._new)
            self._new.clear()
        self.leases.done(self._released)
        self.leases.stored(self._stored)

    def _synchronise(self, *, full: bool) -> None:
        """Set `synchronous` of later commits: `full` fsyncs each, otherwise a later one does."""
        if full is not self._full:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full

    # -- acceptance

    def accept(self, items: Sequence[Record | EventPhase]) -> None:
        """Accept `items` in their order; drop others to keep the bounds.

        A frame or phase that was accepted before is ignored: a caller that got no answer may repeat the
        call.
        """
        for item in items:
            # Open events first: their records may come before the start.
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
        self.expire()

    def _open_event(self, event: MotionEvent) -> None:
        """Insert an event's row with the next number of its camera, unless it exists."""
        if self._db.execute("SELECT 1 FROM events WHERE event_id = ?", (event.event_id,)).fetchone():
            return
        last = self._db.execute("SELECT last FROM numbers WHERE camera = ?", (event.camera,)).fetchone()
        no = (last[0] if last else 0) + 1
        self._db.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (event.camera, no))
        self._db.execute(
            f"INSERT INTO events VALUES (?, ?, ?, {OPEN}, 0, NULL, NULL, NULL, NULL, ?, 0)",
            (event.event_id, self.next_number, codec.dump_event(event), no),
        )
        # The labels agree with the clocks now; later, the wall clock may have been set.
        ago_s = self._wall() - event.started_at.timestamp()
        self.leases.event_opened(event.event_id, ago_s if 0 < ago_s < MAX_CONFIRM_S else 0.0)

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
            # A frame without an event, such as a snapshot on command.
            self._add_record(record, PROTECTED, self._number_without_event(info.camera))
            return
        event_number, body, last_captured, opener, best, best_score = row
        known = codec.readable_event(body)
        event = known or _event_of(info)
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
        grown = replace(
            event,
            peak_score=max(event.peak_score, info.score),
            zones=event.zones + tuple(zone for zone in info.zones if zone not in event.zones),
        )
        self._db.execute(
            "UPDATE events SET body = ?, last_captured = ?, opener = ?, best = ?, best_score = ?"
            " WHERE event_id = ?",
            (
                body if grown == known else codec.dump_event(grown),
                max(last_captured, captured) if isinstance(last_captured, str) else captured,
                opener,
                best,
                best_score,
                info.event_id,
            ),
        )

    def _started(self, event_id: str) -> bool:
        """Return whether an event's start was accepted before: then the next record opens it."""
        row = self._db.execute(
            "SELECT announced OR EXISTS"
            f" (SELECT 1 FROM items WHERE items.event_id = events.event_id AND kind = {START})"
            " FROM events WHERE event_id = ?",
            (event_id,),
        ).fetchone()
        return bool(row and row[0])

    def _number_without_event(self, camera: str) -> int:
        """Return the event number of a frame without an event: one less than its camera's open event.

        With a higher one, the frame would stay the camera's snapshot until the next event.
        """
        for number, body in self._db.execute("SELECT number, body FROM events WHERE ended = 0"):
            event = codec.readable_event(body)
            if event is not None and event.camera == camera:
                return int(number) - 1
        return self.next_number

    def _add_record(self, record: Record, rank: int, event_number: int) -> int | None:
        """Insert a record if there is room. Return its number, or None if it was dropped."""
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
            self._db.execute(f"UPDATE events SET ended = {ENDED} WHERE event_id = ?", (event.event_id,))
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
                self.clock(),
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
        """Drop items by the policy until `size` bytes fit. Return whether they do."""
        if self.counters.bytes + size <= self._max_bytes:
            return True
        if size > self._max_bytes:
            return False
        for row, reason in self._eviction.victims(rank):
            if reason is None:
                self._shed(row)
            else:
                self._drop(row, reason)
            if self.counters.bytes + size <= self._max_bytes:
                return True
        return False

    def expire(self) -> None:
        """Drop items older than `max_age_s`, oldest first, at most `MAX_EXPIRED` at once."""
        for row in self._eviction.expired():
            self._drop(row, "age" if row.kind == RECORD else "age_phase")

    def has_expired(self) -> bool:
        """Return whether any item is too old and can be dropped now."""
        return bool(self._eviction.expired())

    def _shed(self, row: ItemRow) -> None:
        """Drop the JPEG of a frame that is already stored."""
        self._db.execute("DELETE FROM jpegs WHERE number = ?", (row.number,))
        self._db.execute("UPDATE items SET bytes = ? WHERE number = ?", (ROW_BYTES, row.number))
        self.counters.bytes += ROW_BYTES - row.bytes

    def _drop(self, row: ItemRow, reason: str) -> None:
        self.counters.dropped[reason] += 1
        self._forget(row)

    # -- the fate of items

    def _row(self, number: int) -> ItemRow | None:
        found = self._db.execute(f"SELECT {ITEM_COLUMNS} FROM items WHERE number = ?", (number,)).fetchone()
        return ItemRow(*found) if found else None

    def mark_stored(self, number: int, stored: StoredFrame | None, keep_jpeg: bool) -> None:
        """Note that the store has confirmed a frame (`stored`) or an event's summary (None)."""
        self._released.append(number)
        row = self._row(number)
        if row is None or row.state != TO_STORE:
            return
        if stored is None:
            self._add_to_index(row, again=True)
            if row.kind == REVISION:
                self._forget(row)
            else:
                self._db.execute("UPDATE items SET state = ? WHERE number = ?", (TO_ANNOUNCE, number))
            return
        self._stored[number] = stored
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
        if added:
            # A record set aside, stored once its event's summary was due: `event.json` is due again.
            self._db.execute(
                f"UPDATE events SET revise = 1 WHERE event_id = ?1 AND ended != {OPEN} AND NOT EXISTS"
                f" (SELECT 1 FROM items WHERE event_id = ?1 AND kind = {END} AND state = {HELD})",
                (info.event_id,),
            )

    def _add_to_index(self, row: ItemRow, *, again: bool) -> None:
        """Add the index line of the event of this END or REVISION; `again`: replace an existing line."""
        body, no = self._db.execute(
            "SELECT items.body, events.no FROM items LEFT JOIN events USING (event_id)"
            " WHERE items.number = ?",
            (row.number,),
        ).fetchone()
        try:
            event = codec.load_event(body)
            if not again and self.index.has(event):
                return
            self.index.add(event, no, self.leases.lines(row.number, row.event_id))
        except codec.Unreadable as exc:
            log.warning("spool: event %s gets no line in the index: %s", row.event_id, exc)

    def remove(self, numbers: Collection[int]) -> None:
        """Delete items that were announced."""
        for number in numbers:
            self._released.append(number)
            row = self._row(number)
            if row is not None:
                self._forget(row)

    def set_aside(self, number: int, reason: str, *, unreadable: bool = False) -> None:
        """Set aside a record that is refused or cannot be read back; drop an unreadable phase."""
        self._released.append(number)
        row = self._row(number)
        if row is None or row.state >= ASIDE:
            return
        if row.kind != RECORD:
            self._drop(row, "unreadable_phase")
            return
        state = UNREADABLE if unreadable else ASIDE
        self._db.execute("UPDATE items SET state = ?, reason = ? WHERE number = ?", (state, reason, number))
        self.counters.records -= 1
        self.counters.aside += 1
        self._settle(row.event_id)

    def _forget(self, row: ItemRow) -> None:
        """Delete an item, and advance the phases that waited for it."""
        if row.kind == END:
            self._add_to_index(row, again=False)
            self._db.execute(
                f"UPDATE events SET ended = {TOLD}, body = (SELECT body FROM items WHERE number = ?)"
                " WHERE event_id = ?",
                (row.number, row.event_id),
            )
        self._db.execute("DELETE FROM items WHERE number = ?", (row.number,))
        self._db.execute("DELETE FROM jpegs WHERE number = ?", (row.number,))
        self._released.append(row.number)
        self._stored.pop(row.number, None)
        self.counters.bytes -= row.bytes
        if row.state >= ASIDE:
            self.counters.aside -= 1
        elif row.kind == RECORD:
            self.counters.records -= 1
        else:
            self.counters.phases -= 1
        if row.kind == START:
            self._db.execute("UPDATE events SET announced = 1 WHERE event_id = ?", (row.event_id,))
        self._settle(row.event_id)

    def _settle(self, event_id: str) -> None:
        """Advance the phases of an event that no longer wait for another of its items."""
        for number, kind in self._db.execute(
            f"SELECT number, kind FROM items WHERE event_id = ? AND kind > {RECORD} AND state = {HELD}"
            " ORDER BY kind",
            (event_id,),
        ).fetchall():
            if kind == START and not self._has_record(event_id, before=number):
                self._db.execute("UPDATE items SET state = ? WHERE number = ?", (TO_ANNOUNCE, number))
            elif kind == END and not self._has_record(event_id) and not self._has_start(event_id):
                self._db.execute("UPDATE items SET state = ? WHERE number = ?", (TO_STORE, number))
        told = self._db.execute(
            f"SELECT number, body, revise FROM events WHERE event_id = ? AND ended = {TOLD}", (event_id,)
        ).fetchone()
        if told is not None:
            self._settle_told(event_id, *told)

    def _settle_told(self, event_id: str, event_number: int, body: str, revise: int) -> None:
        """Queue a revision of the summary of an event in TOLD; delete the event once it has no items left."""
        if revise and not self._has_record(event_id):
            try:
                camera = codec.load_event(body).camera
            except codec.Unreadable as exc:
                log.warning("spool: event %s keeps its first summary: %s", event_id, exc)
            else:
                self._insert(
                    REVISION, TO_STORE, PROTECTED, camera, event_id, event_number, None, ROW_BYTES, body
                )
                self.counters.phases += 1
            self._db.execute("UPDATE events SET revise = 0 WHERE event_id = ?", (event_id,))
        if self._db.execute("SELECT 1 FROM items WHERE event_id = ? LIMIT 1", (event_id,)).fetchone() is None:
            self._delete_event(event_id)

    def _delete_event(self, event_id: str) -> None:
        lines = self._db.execute("DELETE FROM lines WHERE event_id = ?", (event_id,)).rowcount
        self._db.execute("DELETE FROM events WHERE event_id = ?", (event_id,))
        self.leases.event_closed(event_id)
        self.counters.lines -= lines
        self.counters.bytes -= lines * LINE_BYTES

    def _has_record(self, event_id: str, before: int | None = None) -> bool:
        """Return whether a record of the event is on its way; with `before`, one with a smaller number."""
        # `ORDER BY seq` uses the index, so that the first match ends the search: an event may have thousands.
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

    def restore(self, numbers: Collection[int] | None, reason: str | None = None) -> list[int]:
        """Queue records that were set aside for delivery again: these, or (None) all, or those of `reason`.

        Return their numbers. Records without a JPEG stay set aside. Their age starts from zero, or they
        might expire at once.
        """
        found = [
            number
            for number, why in self._db.execute(
                f"SELECT number, reason FROM items WHERE state = {ASIDE}"
                " AND number IN (SELECT number FROM jpegs) ORDER BY number"
            ).fetchall()
            if (numbers is None or number in numbers) and (reason is None or why == reason)
        ]
        self._db.executemany(
            f"UPDATE items SET state = {TO_STORE}, reason = NULL, clock = ? WHERE number = ?",
            [(self.clock(), number) for number in found],
        )
        self.counters.aside -= len(found)
        self.counters.records += len(found)
        return found

    def restore_samples(self) -> dict[int, str]:
        """Queue the oldest record of each reason for delivery. Return their numbers and reasons."""
        rows = self._db.execute(
            f"SELECT min(number), reason FROM items WHERE state = {ASIDE}"
            " AND number IN (SELECT number FROM jpegs) GROUP BY reason"
        ).fetchall()
        samples = {number: str(reason or "") for number, reason in rows}
        self.restore(samples.keys())
        return samples

    def newest_reason(self) -> str | None:
        """Return the reason of the newest record that was set aside, or None."""
        row = self._db.execute(
            f"SELECT reason FROM items WHERE state >= {ASIDE} ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return str(row[0] or "") if row else None

    # -- looking

    def first(self, state: int) -> int | None:
        """Return the smallest number of the items in `state` (TO_STORE or TO_ANNOUNCE), or None."""
        # Uses the state's own index: a scan by number would first pass thousands that were set aside.
        found: int | None = self._db.execute(
            f"SELECT min(number) FROM items WHERE state = {int(state)}"
        ).fetchone()[0]
        return found

    def age_s(self, number: int) -> float:
        """Return the age of an item in seconds, 0 if it does not exist."""
        row = self._db.execute("SELECT clock FROM items WHERE number = ?", (number,)).fetchone()
        return max(0.0, self.clock() - row[0]) if row else 0.0

    # -- memory

    def remember(self, key: str, value: bytes | None) -> None:
        """Keep a value; None forgets it."""
        if value is None:
            self._db.execute("DELETE FROM memory WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (key, value))

    def forget(self, prefix: str, but: Collection[str]) -> None:
        """Forget the values whose keys begin with `prefix`, except the keys in `but`."""
        for (key,) in self._db.execute(
            "SELECT key FROM memory WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
        ).fetchall():
            if key not in but:
                self._db.execute("DELETE FROM memory WHERE key = ?", (key,))

    def recall(self, key: str) -> bytes | None:
        """Return the value kept under `key`, or None."""
        row = self._db.execute("SELECT value FROM memory WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        return row[0] if isinstance(row[0], bytes) else str(row[0]).encode()

    # -- space

    def touch(self) -> None:
        """Write a row that keeps its value, to see whether the disk takes it."""
        self._db.execute("UPDATE identity SET writer = writer")

    def spare_pages(self) -> int:
        """Return how many pages of the file are free."""
        return int(self._db.execute("PRAGMA freelist_count").fetchone()[0])

    def vacuum(self, pages: int) -> None:
        """Return up to `pages` free pages to the file system. Outside of a transaction."""
        self._synchronise(full=False)
        # This pragma frees one page per step, and `execute` runs only one step.
        self._db.executescript(f"PRAGMA incremental_vacuum({pages})")

    def checkpoint(self) -> bool:
        """Write the WAL to the database, fsync it, truncate the WAL. Return False if a reader prevents it."""
        self._synchronise(full=True)
        busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def data_version(self) -> int:
        """Return a number that changes when another process has changed the tables."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])


def _event_of(info: FrameInfo) -> MotionEvent:
    """Return what a frame tells about its event, whose row cannot be read back."""
    return MotionEvent(
        event_id=info.event_id,
        instance=info.instance,
        camera=info.camera,
        started_at=info.captured_at,
        worker=info.worker,
        epoch=info.epoch,
    )
