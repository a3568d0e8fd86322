"""The spool's tables as SQL, the constants in their columns, migration and repair."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from async_motion.core.index import RESERVED
from async_motion.spool import codec

APPLICATION_ID = 0x616D7370  # "amsp"
VERSION = 2
"""Version 1 had no event numbers and no index. It is migrated in place when it is opened."""

RECORD, START, END, REVISION = 0, 1, 2, 3
HELD, TO_STORE, TO_ANNOUNCE, ASIDE, UNREADABLE = 0, 1, 2, 3, 4
"""States of an item. From ASIDE on, it is set aside."""
MIDDLE, PROTECTED = 0, 1
OPEN, ENDED, TOLD = 0, 1, 2
"""States of an event: open; end accepted; end announced, with some of its items left."""

ROW_BYTES = 1024
"""What an item counts in addition to its JPEG: its row, its share of the indexes, the slack of its pages."""
LINE_BYTES = 768
MAX_CLOCK = 10**11
"""Upper limit in seconds for a plausible clock value; a larger one means damage."""

_NUMBERS = """
CREATE TABLE identity (writer TEXT NOT NULL);
CREATE TABLE numbers (camera TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE index_days (
    instance TEXT NOT NULL, camera TEXT NOT NULL, day TEXT NOT NULL, version INTEGER NOT NULL,
    written INTEGER NOT NULL, PRIMARY KEY (instance, camera, day)) WITHOUT ROWID;
CREATE TABLE index_lines (
    instance TEXT NOT NULL, camera TEXT NOT NULL, day TEXT NOT NULL, event_id TEXT NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (instance, camera, day, event_id)) WITHOUT ROWID;
"""
"""The tables that version 2 added."""

_ASIDE_INDEX = f"CREATE INDEX items_aside ON items(number) WHERE state >= {ASIDE}"

_SCHEMA = f"""
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, state INTEGER NOT NULL,
    rank INTEGER NOT NULL, camera TEXT NOT NULL, event_id TEXT NOT NULL, event_number INTEGER NOT NULL,
    seq INTEGER, clock REAL NOT NULL, wall REAL NOT NULL, bytes INTEGER NOT NULL, body TEXT NOT NULL,
    stored TEXT, reason TEXT);
CREATE UNIQUE INDEX items_frame ON items(event_id, seq) WHERE kind = {RECORD};
CREATE INDEX items_phase ON items(event_id) WHERE kind > {RECORD};
CREATE INDEX items_to_store ON items(number) WHERE state = {TO_STORE};
CREATE INDEX items_to_announce ON items(number) WHERE state = {TO_ANNOUNCE};
{_ASIDE_INDEX};
CREATE INDEX items_victim ON items(rank, number) WHERE kind = {RECORD} AND state = {TO_STORE};
CREATE INDEX items_line ON items(camera, number) WHERE state < {ASIDE};
CREATE INDEX items_clock ON items(clock);
CREATE TABLE jpegs (number INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE events (
    event_id TEXT PRIMARY KEY, number INTEGER NOT NULL, body TEXT NOT NULL, ended INTEGER NOT NULL,
    announced INTEGER NOT NULL, last_captured TEXT, opener INTEGER, best INTEGER, best_score REAL,
    no INTEGER, revise INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE lines (
    event_id TEXT NOT NULL, seq INTEGER NOT NULL, score REAL NOT NULL, object_key TEXT NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (event_id, seq)) WITHOUT ROWID;
CREATE TABLE memory (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
{_NUMBERS}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


class ForeignDatabase(Exception):
    """The file is a database of another program."""


class NewerDatabase(Exception):
    """The file was written by a newer version of async_motion."""


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables if there are none; migrate those of an older version, in one transaction.

    Raises ForeignDatabase, NewerDatabase, sqlite3.Error.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and application in (0, APPLICATION_ID):
        # One transaction: a crash in the middle leaves the file empty.
        db.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} INSERT INTO identity VALUES ('{draw_writer()}'); COMMIT;"
        )
    elif application != APPLICATION_ID:
        raise ForeignDatabase
    elif version > VERSION:
        raise NewerDatabase
    elif version < VERSION:
        _migrate(db)


_IS_KIND = f"typeof(kind) = 'integer' AND kind BETWEEN {RECORD} AND {REVISION}"
_IS_STATE = f"typeof(state) = 'integer' AND state BETWEEN {HELD} AND {UNREADABLE}"
_IS_CLOCK = f"typeof(clock) IN ('real', 'integer') AND clock BETWEEN -{MAX_CLOCK} AND {MAX_CLOCK}"
_IS_WALL = f"typeof(wall) IN ('real', 'integer') AND wall BETWEEN 0 AND {MAX_CLOCK}"
_IS_ROW = (
    f"{_IS_KIND} AND {_IS_STATE} AND {_IS_CLOCK} AND {_IS_WALL}"
    " AND typeof(bytes) = 'integer' AND bytes >= 0 AND typeof(event_number) = 'integer'"
)
_MEND = f"""UPDATE items SET
    clock = CASE WHEN {_IS_CLOCK} THEN clock ELSE 0.0 END,
    wall = CASE WHEN {_IS_WALL} THEN wall ELSE 0.0 END,
    bytes = {ROW_BYTES} + coalesce((SELECT length(jpeg) FROM jpegs WHERE jpegs.number = items.number), 0),
    event_number = CASE WHEN typeof(event_number) = 'integer' THEN event_number ELSE number END,
    state = CASE WHEN {_IS_KIND} AND {_IS_STATE} THEN state ELSE {UNREADABLE} END,
    kind = CASE WHEN {_IS_KIND} THEN kind ELSE {RECORD} END,
    reason = coalesce(reason, 'its row is damaged')
    WHERE NOT ({_IS_ROW})"""


def mend(db: sqlite3.Connection) -> int:
    """Repair columns with impossible values; return how many rows were damaged.

    SQLite checks its pages, not their content: after damage a number may be text, or out of range. Items
    keep their order; those whose kind or state is lost are set aside. Lines without an event are deleted. If
    a camera's last event number is lost, the spool gets a new id and numbers events from 1 again. Raises
    sqlite3.Error.
    """
    items = db.execute(f"SELECT count(*) FROM items WHERE NOT ({_IS_ROW})").fetchone()[0]
    bad_numbers = "SELECT count(*) FROM numbers WHERE typeof(last) != 'integer' OR last < 0"
    numbers = db.execute(bad_numbers).fetchone()[0]
    orphans = "lines WHERE event_id NOT IN (SELECT event_id FROM events)"
    lines = db.execute(f"SELECT count(*) FROM {orphans}").fetchone()[0]
    if items or numbers or lines:
        with _transaction(db):
            db.execute(_MEND)
            db.execute(f"DELETE FROM {orphans}")
            if numbers:
                for table in ("identity", "numbers", "index_days", "index_lines"):
                    db.execute(f"DELETE FROM {table}")
                _begin_numbers(db)
    return int(items + numbers + lines)


def renew(db: sqlite3.Connection) -> None:
    """Give a copy of a spool its own id and event numbers: the original may still run and number events.

    Index files that the original has written stay the original's. Lines that it had not written yet stay
    due, without an event number. Raises sqlite3.Error.
    """
    with _transaction(db):
        written = "(SELECT instance, camera, day FROM index_days WHERE version <= written)"
        db.execute(f"DELETE FROM index_lines WHERE (instance, camera, day) IN {written}")
        db.execute("DELETE FROM index_days WHERE version <= written")
        for *place, body in db.execute("SELECT * FROM index_lines").fetchall():
            where = "WHERE instance = ? AND camera = ? AND day = ? AND event_id = ?"
            try:
                line = json.dumps({**json.loads(body), "no": None}, separators=(",", ":"))
            except (TypeError, ValueError):
                db.execute(f"DELETE FROM index_lines {where}", place)
            else:
                db.execute(f"UPDATE index_lines SET body = ? {where}", [line, *place])
        db.execute("DELETE FROM identity")
        db.execute("DELETE FROM numbers")
        db.execute("UPDATE events SET no = NULL")
        _begin_numbers(db)


def draw_writer() -> str:
    """Return the id of a new spool: six hex digits, not one that the index reserves."""
    while True:
        writer = secrets.token_hex(3)
        if writer not in RESERVED:
            return writer


def _migrate(db: sqlite3.Connection) -> None:
    """Migrate version 1 to version 2."""
    with _transaction(db):
        db.execute("ALTER TABLE events ADD COLUMN no INTEGER")
        db.execute("ALTER TABLE events ADD COLUMN revise INTEGER NOT NULL DEFAULT 0")
        db.execute("DROP INDEX IF EXISTS items_aside")
        db.execute(_ASIDE_INDEX)
        for statement in filter(str.strip, _NUMBERS.split(";")):
            db.execute(statement)
        _begin_numbers(db)
        db.execute(f"PRAGMA user_version = {VERSION}")


def _begin_numbers(db: sqlite3.Connection) -> None:
    """Draw the spool's id, and number its events in order of acceptance."""
    db.execute("INSERT INTO identity VALUES (?)", (draw_writer(),))
    last: Counter[str] = Counter()
    for event_id, body in db.execute("SELECT event_id, body FROM events ORDER BY number").fetchall():
        event = codec.readable_event(body)
        if event is None:
            continue  # handled when the event is closed
        last[event.camera] += 1
        db.execute("UPDATE events SET no = ? WHERE event_id = ?", (last[event.camera], event_id))
    db.executemany("INSERT INTO numbers VALUES (?, ?)", last.items())


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run the body in one transaction; roll it back on any exception."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
