"""The spool's tables as SQL, and the words for what their columns hold."""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x616D7370  # "amsp"
VERSION = 1

RECORD, START, END = 0, 1, 2
HELD, TO_STORE, TO_ANNOUNCE, ASIDE = 0, 1, 2, 3
MIDDLE, PROTECTED = 0, 1

ROW_BYTES = 1024
"""What an item counts beside its JPEG: its row, its part of the indexes, the slack of its pages."""
LINE_BYTES = 768

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
CREATE INDEX items_aside ON items(number) WHERE state = {ASIDE};
CREATE INDEX items_victim ON items(rank, number) WHERE kind = {RECORD} AND state = {TO_STORE};
CREATE INDEX items_line ON items(camera, number) WHERE state < {ASIDE};
CREATE INDEX items_clock ON items(clock);
CREATE TABLE jpegs (number INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE events (
    event_id TEXT PRIMARY KEY, number INTEGER NOT NULL, body TEXT NOT NULL, ended INTEGER NOT NULL,
    announced INTEGER NOT NULL, last_captured TEXT, opener INTEGER, best INTEGER, best_score REAL) WITHOUT
    ROWID;
CREATE TABLE lines (
    event_id TEXT NOT NULL, seq INTEGER NOT NULL, score REAL NOT NULL, object_key TEXT NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (event_id, seq)) WITHOUT ROWID;
CREATE TABLE memory (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


class ForeignDatabase(Exception):
    """The file is a database of another program."""


class NewerDatabase(Exception):
    """The file was written by a newer version of async_motion."""


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables if there are none. Raises ForeignDatabase, NewerDatabase, sqlite3.Error."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and application in (0, APPLICATION_ID):
        # One transaction: a crash in its middle leaves an empty file again.
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    elif application != APPLICATION_ID:
        raise ForeignDatabase
    elif version > VERSION:
        raise NewerDatabase
