"""The spool's tables against a model, with the process killed at every statement.

Hypothesis plays pipeline and delivery. Before each statement of the tables, the files are copied as SIGKILL
would leave them: all writes are in the files, with or without fsync, and the shared-memory index is not kept.
Each copy is opened as the next start would open it, and must hold either the state before the step or the
state after it. (Power loss is tested with real file systems, in tests/faults.)
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from async_motion.core.items import FrameAnnouncement, FrameUpload, SummaryUpload
from async_motion.core.model import EventPhase, MotionEvent, Record
from async_motion.spool import files
from async_motion.spool.schema import (
    ASIDE,
    END,
    HELD,
    LINE_BYTES,
    MIDDLE,
    PROTECTED,
    RECORD,
    REVISION,
    ROW_BYTES,
    START,
    TO_ANNOUNCE,
    TO_STORE,
)
from async_motion.spool.tables import Tables
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of, stored_of

pytestmark = pytest.mark.timeout(900)  # copies thousands of files, perhaps on a busy machine

SIZE = 2000
ROOM = 6 * (SIZE + ROW_BYTES)
FRESH_S = 10.0
MAX_COPIES = 60
AFTER = "after the commit"

Content = frozenset[tuple[Any, ...]]


@dataclass
class Item:
    """The model's view of an item."""

    kind: int
    event_id: str
    state: int
    seq: int = -1
    rank: int = MIDDLE
    score: float = 0.0
    size: int = ROW_BYTES
    age_from: float = 0.0

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.kind, self.event_id, self.seq, self.state)


@dataclass
class Event:
    """The model's view of an event whose end is not announced yet."""

    event: MotionEvent
    ended: bool = False
    started: bool = False
    opener: int | None = None
    best: int | None = None
    best_score: float | None = None
    lines: set[int] = field(default_factory=set)
    told: bool = False
    revise: bool = False
    no: int = 0
    summary: list[int] | None = None
    """The frames in `event.json`; None before it is stored."""
    dropped: bool = False
    """Whether its end or a revision was dropped: then `event.json` may be missing, or out of date."""


class SpoolMachine(RuleBasedStateMachine):
    """One spool with room for a few records, two cameras."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-", dir=_fast_folder()))
        self.path = self.folder / "spool.db"
        self.clock = Clock()
        self.items: dict[int, Item] = {}
        self.events: dict[str, Event] = {}
        self.current: dict[str, MotionEvent] = {}
        self.numbers: Counter[str] = Counter()
        self.indexed: set[str] = set()
        self.next_seq: Counter[str] = Counter()
        self.made = 0
        self.number = 0
        self.leased: set[int] = set()
        self.copies: list[Path] = []
        self.watching = False
        self.db: sqlite3.Connection | None = None

    @initialize(when_full=st.sampled_from(["drop_oldest", "drop_newest"]))
    def begin(self, when_full: Any) -> None:
        self.when_full = when_full
        self.open()

    def teardown(self) -> None:
        if self.db is not None:
            self.db.close()
        shutil.rmtree(self.folder)

    def open(self, earlier: Tables | None = None) -> None:
        self.db = files.connect(self.path)
        self.db.set_trace_callback(self.copy)
        # A WAL of three pages, so that checkpoints also happen in the middle of steps.
        self.db.execute("PRAGMA wal_autocheckpoint = 3")
        self.tables = self.new_tables(self.db, earlier)

    def new_tables(self, db: sqlite3.Connection, earlier: Tables | None = None) -> Tables:
        return Tables(
            db,
            max_bytes=ROOM,
            max_age_s=1000.0,
            when_full=self.when_full,
            delayed_after_s=FRESH_S,
            clock=self.clock,
            wall=self.clock.wall,
            earlier=earlier,
        )

    # -- the crashes

    def copy(self, statement: str) -> None:
        """Copy the files as SIGKILL would leave them."""
        if not self.watching or (len(self.copies) >= MAX_COPIES and statement != AFTER):
            return
        target = self.folder / f"crash{len(self.copies)}" / "spool.db"
        target.parent.mkdir()
        for ending in ("", "-wal"):
            part = self.path.with_name(self.path.name + ending)
            if part.exists():
                shutil.copyfile(part, target.with_name(target.name + ending))
        self.copies.append(target)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run the step in a transaction; then check what a crash at each statement would have left."""
        before = self.content(self.tables_db())
        self.watching = True
        with self.tables.transaction(durable=True):
            yield
        self.copy(AFTER)
        self.watching = False
        after = self.content(self.tables_db())
        seen_after = False
        for path in self.copies:
            db = files.connect(path)
            try:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                found = self.content(db)
                assert found in (before, after), "a crash left a part of a step"
                # Committed data never disappears again.
                assert not seen_after or found == after
                seen_after = seen_after or found == after
                self.check_recovery(db)
            finally:
                db.close()
            shutil.rmtree(path.parent)
        assert seen_after
        self.copies.clear()

    def check_recovery(self, db: sqlite3.Connection) -> None:
        """Open the copy as the next start does: no event is open, and the counters are right."""
        tables = self.new_tables(db)
        with tables.transaction(durable=True):
            tables.close_interrupted()
        assert db.execute("SELECT count(*) FROM events WHERE NOT ended").fetchone() == (0,)
        dropped = tables.counters.dropped
        tables.counters.dropped, recount = Counter(), tables.recount()
        assert tables.counters == recount
        assert dropped.keys() <= {"full", "full_aside", "full_stored", "unreadable_phase"}

    def tables_db(self) -> sqlite3.Connection:
        assert self.db is not None
        return self.db

    @staticmethod
    def content(db: sqlite3.Connection) -> Content:
        rows = db.execute(
            "SELECT kind, event_id, coalesce(seq, -1), state, rank, bytes,"
            " number IN (SELECT number FROM jpegs) FROM items"
        ).fetchall()
        rows += db.execute("SELECT 'event', event_id, ended, announced, opener, best FROM events").fetchall()
        rows += db.execute("SELECT 'line', event_id, seq FROM lines").fetchall()
        rows += db.execute("SELECT 'memory', key, value FROM memory").fetchall()
        rows += db.execute("SELECT 'number', camera, last FROM numbers").fetchall()
        rows += db.execute("SELECT 'index', event_id, body FROM index_lines").fetchall()
        rows += db.execute("SELECT 'due', camera, day, version, written FROM index_days").fetchall()
        return frozenset(rows)

    # -- the pipeline

    def event_of(self, camera: str) -> MotionEvent | None:
        return self.current.get(camera)

    @rule(
        camera=st.sampled_from(["porch", "yard"]),
        frames=st.integers(0, 3),
        scores=st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=3, max_size=3),
    )
    def start(self, camera: str, frames: int, scores: list[float]) -> None:
        if camera in self.current:
            return
        self.made += 1
        event = make_event(camera, self.made)
        self.current[camera] = event
        records = [make_record(event, seq, score=scores[seq], size=SIZE) for seq in range(frames)]
        self.next_seq[event.event_id] = frames
        self.accept([*records, start_of(event)])

    @rule(camera=st.sampled_from(["porch", "yard"]), score=st.sampled_from([0.1, 0.3, 0.6, 0.95]))
    def frame(self, camera: str, score: float) -> None:
        event = self.current.get(camera)
        if event is None:
            return
        seq = self.next_seq[event.event_id]
        self.next_seq[event.event_id] += 1
        self.accept([make_record(event, seq, score=score, size=SIZE)])

    @rule(camera=st.sampled_from(["porch", "yard"]))
    def end(self, camera: str) -> None:
        event = self.current.pop(camera, None)
        if event is not None:
            self.accept([end_of(event)])

    @rule(camera=st.sampled_from(["porch", "yard"]))
    def command(self, camera: str) -> None:
        """Accept a snapshot on command: a record without an event."""
        self.made += 1
        self.accept([make_record(make_event(camera, self.made), 0, size=SIZE)])

    @rule()
    def too_large(self) -> None:
        self.made += 1
        event = make_event("porch", self.made)
        self.accept([make_record(event, 0, size=ROOM)])
        assert all(item.event_id != event.event_id for item in self.items.values())

    @rule(value=st.binary(max_size=20))
    def remember(self, value: bytes) -> None:
        with self.step():
            self.tables.remember("detector", value)
        assert self.tables.recall("detector") == value

    def accept(self, items: list[Record | EventPhase]) -> None:
        self.number = self.tables.next_number
        with self.step():
            self.tables.accept(items)
        self.model_accept(items)

    # -- the model of acceptance

    def model_accept(self, items: list[Record | EventPhase]) -> None:
        for item in items:
            if isinstance(item, EventPhase) and item.phase.value == "start":
                self.model_event(item.event)
        for index, item in enumerate(items):
            following = items[index + 1] if index + 1 < len(items) else None
            if isinstance(item, Record):
                self.model_record(item, opens=isinstance(following, EventPhase))
            else:
                self.model_phase(item)
        self.model_expire()

    def model_event(self, event: MotionEvent) -> Event:
        if event.event_id not in self.events:
            self.numbers[event.camera] += 1
            self.events[event.event_id] = Event(event, no=self.numbers[event.camera])
        return self.events[event.event_id]

    def model_record(self, record: Record, *, opens: bool) -> None:
        info = record.info
        event = self.events.get(info.event_id)
        item = Item(
            RECORD,
            info.event_id,
            TO_STORE,
            info.seq,
            PROTECTED,
            info.score,
            SIZE + ROW_BYTES,
            self.clock.seconds,
        )
        best = False
        if event is not None:
            opens = opens or (event.opener is None and info.seq == 0 and event.started)
            best = event.best_score is None or info.score > event.best_score
            item.rank = PROTECTED if opens or best else MIDDLE
        if len(record.jpeg) > SIZE or not self.model_room(item.size, item.rank):
            return
        number = self.take_number()
        self.items[number] = item
        if event is not None:
            if opens:
                event.opener = number
            if best:
                if event.best is not None and event.best != event.opener and event.best in self.items:
                    self.items[event.best].rank = MIDDLE
                event.best, event.best_score = number, info.score

    def take_number(self) -> int:
        """Return the next item's number."""
        self.number += 1
        return self.number - 1

    def model_phase(self, item: EventPhase) -> None:
        event_id = item.event.event_id
        kind = START if item.phase.value == "start" else END
        event = self.model_event(item.event)
        if kind == START:
            event.started = True
        else:
            event.ended = True
        self.model_room(ROW_BYTES, PROTECTED)
        number = self.take_number()
        self.items[number] = Item(kind, event_id, HELD, rank=PROTECTED, age_from=self.clock.seconds)
        self.settle()

    def bytes(self) -> int:
        lines = sum(len(event.lines) for event in self.events.values())
        return sum(item.size for item in self.items.values()) + lines * LINE_BYTES

    def model_room(self, size: int, rank: int) -> bool:
        def candidates(match: Callable[[Item], bool]) -> list[int]:
            return [n for n, item in sorted(self.items.items()) if match(item) and n not in self.leased]

        while self.bytes() + size > ROOM:
            middle = candidates(lambda i: i.kind == RECORD and i.state == TO_STORE and i.rank == MIDDLE)
            protected = candidates(lambda i: i.kind == RECORD and i.state == TO_STORE and i.rank == PROTECTED)
            stored = candidates(lambda i: i.kind == RECORD and i.state == TO_ANNOUNCE)
            kept = [n for n in stored if self.items[n].size > ROW_BYTES]
            oldest = self.when_full == "drop_oldest"
            if aside := candidates(lambda i: i.state == ASIDE):
                self.forget(aside[0])
            elif kept:
                self.items[kept[0]].size = ROW_BYTES
            elif middle and oldest:
                self.forget(middle[0])
            elif middle and rank == PROTECTED:
                self.forget(middle[-1])
            elif protected and oldest and rank == PROTECTED:
                self.forget(protected[0])
            elif stored and oldest and rank == PROTECTED:
                self.forget(stored[0])
            else:
                return False
        return True

    def model_expire(self) -> None:
        for number, item in sorted(self.items.items(), key=lambda pair: (pair[1].age_from, pair[0])):
            if item.age_from < self.clock.seconds - 1000.0 and number not in self.leased:
                self.drop(number)

    def drop(self, number: int) -> None:
        item = self.items[number]
        if item.kind in (END, REVISION):
            self.events[item.event_id].dropped = True
        self.forget(number)

    def forget(self, number: int) -> None:
        item = self.items.pop(number)
        self.leased.discard(number)
        if item.kind == END:
            self.events[item.event_id].told = True
            self.indexed.add(item.event_id)
        self.settle()

    def settle(self) -> None:
        """Advance the items that nothing blocks."""
        for number, item in self.items.items():
            if item.state != HELD:
                continue
            others = [
                (n, o)
                for n, o in self.items.items()
                if o.event_id == item.event_id and o.state != ASIDE and n != number
            ]
            if item.kind == START and not any(o.kind == RECORD and n < number for n, o in others):
                item.state = TO_ANNOUNCE
            if item.kind == END and not others:
                item.state = TO_STORE
        for event_id, event in list(self.events.items()):
            if not event.told:
                continue
            left = [item for item in self.items.values() if item.event_id == event_id]
            if event.revise and not any(i.kind == RECORD and i.state != ASIDE for i in left):
                event.revise = False
                revision = Item(REVISION, event_id, TO_STORE, rank=PROTECTED, age_from=self.clock.seconds)
                self.items[self.take_number()] = revision
            elif not left:
                assert event.dropped or event.summary == sorted(event.lines)
                del self.events[event_id]

    # -- delivery

    @rule(fresh=st.booleans(), limit=st.integers(1, 4))
    def take_and_store(self, fresh: bool, limit: int) -> None:
        uploads = self.tables.leases.take_uploads(fresh=fresh, limit=limit)
        assert self.tables.leases.unreadable == {}
        expected = [
            n for n, item in sorted(self.items.items()) if item.state == TO_STORE and n not in self.leased
        ]
        numbers = [upload.number for upload in uploads]
        assert numbers == sorted(numbers)
        assert set(numbers) <= set(expected)
        self.leased.update(numbers)
        for upload in uploads:
            assert upload.delayed == (not fresh)
            assert upload.age_s < FRESH_S or not fresh
            stored = None
            if isinstance(upload, FrameUpload):
                item = self.items[upload.number]
                assert (upload.info.event_id, upload.info.seq) == (item.event_id, item.seq)
                stored = stored_of(upload)
            else:
                assert [line["seq"] for line in upload.lines] == sorted(
                    self.events[upload.event.event_id].lines
                )
            if upload.number % 5 == 0 and stored is not None:
                continue  # stays leased until the next crash or release
            with self.step():
                self.tables.mark_stored(upload.number, stored, keep_jpeg=upload.number % 2 == 0)
            item = self.items[upload.number]
            self.leased.discard(upload.number)
            if isinstance(upload, SummaryUpload):
                self.indexed.add(item.event_id)
                self.events[item.event_id].summary = [line["seq"] for line in upload.lines]
            if item.kind == REVISION:
                self.forget(upload.number)
                continue
            item.state = TO_ANNOUNCE
            if stored is not None:
                if upload.number % 2:
                    item.size = ROW_BYTES
                if item.event_id in self.events:
                    event = self.events[item.event_id]
                    event.revise = event.revise or (item.seq not in event.lines and self.is_summarized(event))
                    event.lines.add(item.seq)

    def is_summarized(self, event: Event) -> bool:
        """Return whether an event's `event.json` may exist."""
        mine = [i for i in self.items.values() if i.event_id == event.event.event_id and i.kind == END]
        return event.told or any(item.state != HELD for item in mine)

    @rule()
    def take_and_announce(self) -> None:
        batches = self.tables.leases.take_fresh_announcements(3)
        batches.append(self.tables.leases.take_backlog_announcements(3))
        for batch in batches:
            for news in batch:
                item = self.items[news.number]
                assert item.state == TO_ANNOUNCE
                assert news.number not in self.leased
                if isinstance(news, FrameAnnouncement):
                    assert news.stored.info.seq == item.seq
                    assert news.has_jpeg == (item.size > ROW_BYTES)
                elif item.kind == END:
                    assert news.frames_stored == len(self.events[item.event_id].lines)
                    rest = [
                        o for n, o in self.items.items() if o.event_id == item.event_id and n != news.number
                    ]
                    assert all(other.state == ASIDE for other in rest)
            numbers = [news.number for news in batch]
            assert numbers == sorted(numbers)
            with self.step():
                self.tables.remove(numbers)
            for number in numbers:
                self.forget(number)

    @rule()
    def refuse(self) -> None:
        for upload in self.tables.leases.take_uploads(fresh=False, limit=1):
            with self.step():
                self.tables.set_aside(upload.number, "refused")
            if self.items[upload.number].kind == RECORD:
                self.items[upload.number].state = ASIDE
                self.settle()
            else:
                self.drop(upload.number)

    @rule()
    def restore(self) -> None:
        with self.step():
            restored = self.tables.restore(None)
        aside = [number for number, item in self.items.items() if item.state == ASIDE]
        assert restored == sorted(aside)
        for number in aside:
            self.items[number].state = TO_STORE
            self.items[number].age_from = self.clock.seconds

    @rule()
    def give_back(self) -> None:
        self.tables.leases.release_all()
        self.leased.clear()

    # -- time and restarts

    @rule(seconds=st.sampled_from([1.0, 11.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule()
    def expire(self) -> None:
        with self.step():
            self.tables.expire()
        self.model_expire()
        assert not self.tables.has_expired()

    @rule()
    def vacuum(self) -> None:
        before = self.content(self.tables_db())
        self.tables.vacuum(2)
        self.tables.checkpoint()
        assert self.content(self.tables_db()) == before

    @rule()
    def open_again(self) -> None:
        """Open the file again after a failed read: the run goes on."""
        counters = self.tables.counters
        self.tables_db().close()
        self.open(earlier=self.tables)
        assert self.tables.counters == counters

    @precondition(lambda self: self.db is not None)
    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        """Restart: after a clean end, or from the files as a kill leaves them."""
        if clean:
            self.tables_db().close()
        else:
            kept = self.folder / "kept"
            kept.mkdir()
            for ending in ("", "-wal"):
                part = self.path.with_name(self.path.name + ending)
                if part.exists():
                    shutil.copyfile(part, kept / part.name)
            self.tables_db().close()
            for part in self.folder.glob("spool.db*"):
                part.unlink()
            for part in kept.iterdir():
                part.rename(self.folder / part.name)
            kept.rmdir()
        self.leased.clear()
        self.open()
        self.number = self.tables.next_number
        with self.step():
            self.tables.close_interrupted()
        for event_id, event in list(self.events.items()):
            if not event.ended:
                self.current.pop(event.event.camera, None)
                self.model_phase(end_of(event.event))
                assert event_id in self.events

    # -- invariants

    @invariant()
    def the_tables_are_as_the_model(self) -> None:
        if self.db is None:
            return
        rows = self.db.execute(
            "SELECT number, kind, event_id, coalesce(seq, -1), state, rank, bytes FROM items"
        )
        found = {row[0]: row[1:] for row in rows}
        expected = {
            number: (item.kind, item.event_id, item.seq, item.state, item.rank, item.size)
            for number, item in self.items.items()
        }
        assert found == expected
        jpegs = {n for (n,) in self.db.execute("SELECT number FROM jpegs")}
        assert jpegs == {n for n, item in self.items.items() if item.size > ROW_BYTES}
        events = {e for (e,) in self.db.execute("SELECT event_id FROM events")}
        assert events == set(self.events)

    @invariant()
    def the_numbers_have_no_gap(self) -> None:
        if self.db is None:
            return
        found = dict(self.db.execute("SELECT event_id, no FROM events"))
        assert found == {event_id: event.no for event_id, event in self.events.items()}
        assert dict(self.db.execute("SELECT camera, last FROM numbers")) == dict(self.numbers)

    @invariant()
    def the_index_has_each_event_that_was_told(self) -> None:
        if self.db is not None:
            rows = self.db.execute("SELECT event_id FROM index_lines")
            assert {event_id for (event_id,) in rows} == self.indexed

    @invariant()
    def the_counters_are_right(self) -> None:
        if self.db is None:
            return
        counters, recount = self.tables.counters.copy(), self.tables.recount()
        recount.dropped, recount.accepted = counters.dropped, counters.accepted
        assert counters == recount
        assert counters.bytes == self.bytes()

    @invariant()
    def the_bound_holds(self) -> None:
        """Check that records never exceed the bound; phases and index lines may, independently."""
        if self.bytes() <= ROOM:
            return
        records = [item for item in self.items.values() if item.kind == RECORD]
        assert sum(item.size for item in records) <= ROOM


def _fast_folder() -> str | None:
    """Return a folder in memory for thousands of copies, if the machine has one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    derandomize=True,  # the same steps in every run; remove it and raise max_examples to search further
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
