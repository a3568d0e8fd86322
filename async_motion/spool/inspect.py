"""Inspect a spool for `async-motion spool`: list it, retry records that were set aside, export frames.

All functions work beside the running service, which notices within a second, and on files that were set
aside. They block: call them from a command, not from the event loop.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from async_motion.core.model import FrameInfo
from async_motion.errors import SpoolError
from async_motion.spool import codec, files
from async_motion.spool.schema import (
    APPLICATION_ID,
    ASIDE,
    RECORD,
    ROW_BYTES,
    TO_STORE,
    VERSION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingItems:
    """What waits for one camera: records for the store, stored frames for the broker, event phases."""

    camera: str
    to_store: int
    to_announce: int
    phases: int
    bytes: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A record that was set aside, and the reason."""

    number: int
    info: FrameInfo
    accepted_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolReport:
    """The contents of a spool. `file_bytes` is the size of the database and its WAL on the disk."""

    path: Path
    file_bytes: int
    waiting: tuple[WaitingItems, ...]
    aside: tuple[Aside, ...]
    set_aside_spools: tuple[Path, ...]
    """Whole spools that were set aside as damaged or newer, beside this one."""

    @property
    def records(self) -> int:
        """How many records are not delivered yet."""
        return sum(w.to_store + w.to_announce for w in self.waiting)


def look(path: Path) -> SpoolReport:
    """Return what waits in the spool at `path` and what was set aside. Raises SpoolError."""
    with opened(path) as db:
        waiting = [
            WaitingItems(
                camera=camera,
                to_store=to_store,
                to_announce=to_announce,
                phases=phases,
                bytes=size,
                oldest_at=datetime.fromtimestamp(oldest, UTC),
            )
            for camera, to_store, to_announce, phases, size, oldest in db.execute(
                f"SELECT camera, sum(kind = {RECORD} AND state = {TO_STORE}),"
                f" sum(kind = {RECORD} AND state > {TO_STORE}), sum(kind > {RECORD}), sum(bytes), min(wall)"
                f" FROM items WHERE state < {ASIDE} GROUP BY camera ORDER BY camera"
            )
        ]
        aside = list(_set_aside(db))
    parts = [path, path.with_name(path.name + "-wal")]
    others = sorted(
        other
        for why in (files.DAMAGED, files.NEWER)
        for other in path.parent.glob(f"{path.name}.{why}-*")
        if not other.name.endswith(("-wal", "-shm", "-journal"))
    )
    return SpoolReport(
        path=path,
        file_bytes=sum(part.stat().st_size for part in parts if part.exists()),
        waiting=tuple(waiting),
        aside=tuple(aside),
        set_aside_spools=tuple(others),
    )


def _set_aside(db: sqlite3.Connection) -> Iterator[Aside]:
    """Yield the records that were set aside, except those whose description cannot be read."""
    for number, body, wall, reason in db.execute(
        f"SELECT number, body, wall, reason FROM items WHERE state >= {ASIDE} ORDER BY number"
    ):
        try:
            info = codec.load_info(body)
        except codec.Unreadable:
            continue
        accepted_at = datetime.fromtimestamp(wall, UTC)
        yield Aside(number=number, info=info, accepted_at=accepted_at, reason=reason or "")


def read_jpeg(path: Path, number: int) -> bytes | None:
    """Return the JPEG of a record that was set aside; None if there is none. Raises SpoolError."""
    with opened(path) as db:
        row = db.execute(
            f"SELECT jpegs.jpeg FROM items JOIN jpegs USING (number) WHERE number = ? AND state = {ASIDE}",
            (number,),
        ).fetchone()
    return None if row is None else bytes(row[0])


def retry(path: Path, numbers: Collection[int] | None = None) -> int:
    """Queue records that were set aside for delivery again (None: all of them). Return how many.

    A running service finds them within a second; otherwise the next start does. Raises SpoolError.
    """
    with opened(path, writable=True) as db:
        db.execute("BEGIN IMMEDIATE")
        found = [
            number
            for (number,) in db.execute(
                f"SELECT number FROM items WHERE state = {ASIDE} AND number IN (SELECT number FROM jpegs)"
            )
            if numbers is None or number in numbers
        ]
        # Give them the youngest item's clock: with their old age they might expire at once.
        db.executemany(
            f"UPDATE items SET state = {TO_STORE}, reason = NULL, clock = (SELECT max(clock) FROM items)"
            " WHERE number = ?",
            [(number,) for number in found],
        )
        db.execute("COMMIT")
    return len(found)


def export(path: Path, folder: Path, *, aside_only: bool = False) -> Iterator[Path]:
    """Write each record's JPEG to `folder`, under its object key, and yield the file's path.

    A record whose description is damaged becomes `unreadable/{number}.jpg`.

    The spool is only read. Records whose bytes were stored already are left out. Raises SpoolError.
    """
    with opened(path) as db:
        rows = db.execute(
            "SELECT number, items.body, jpegs.jpeg FROM items JOIN jpegs USING (number)"
            f" WHERE kind = {RECORD} AND bytes > {ROW_BYTES} AND state >= ? ORDER BY number",
            (ASIDE if aside_only else 0,),
        )
        for number, body, jpeg in rows:
            try:
                key = codec.load_info(body).object_key
            except codec.Unreadable:
                key = f"unreadable/{number}.jpg"
            # The file may be damaged, and the key with it: write nothing outside the folder.
            file = folder / key.lstrip("/")
            if not file.resolve().is_relative_to(folder.resolve()):
                raise SpoolError(f"{path}: a record's key leads out of {folder}: {file}")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(jpeg)
            except OSError as exc:
                raise SpoolError(f"{file}: cannot be written ({exc.strerror or exc})") from exc
            yield file


@contextmanager
def opened(path: Path, *, writable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open an existing spool; unless `writable`, change nothing. Raises SpoolError."""
    if not path.is_file():
        raise SpoolError(f"{path}: there is no spool: has the service run with this spool.path?")
    try:
        with _writing(path) if writable else _reading(path) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise SpoolError(f"{path}: is not a spool of async_motion")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise SpoolError(f"{path}: was written by a newer version of async_motion: use that version")
            yield db
    except sqlite3.Error as exc:
        raise files.translate(path, exc) from exc
    except (codec.Unreadable, TypeError, ValueError, OverflowError) as exc:
        raise SpoolError(f"{path}: a row is damaged: {exc}") from exc
    except OSError as exc:
        raise SpoolError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10.0)) as db:
        db.execute("PRAGMA synchronous = FULL")
        yield db


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a spool without writing to it: it may be another user's, on a read-only disk, or evidence."""
    try:
        with closing(_read_only(path, "mode=ro")) as db:
            yield db
            return
    except sqlite3.OperationalError as exc:
        if not files.is_unwritable(exc):
            raise
    # SQLite reads a WAL only beside a `-shm` index that it can write. Without a WAL it needs none.
    log = path.with_name(path.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        with closing(_read_only(path, "mode=ro&immutable=1")) as db:
            yield db
        return
    with tempfile.TemporaryDirectory(prefix="async_motion-spool-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        with closing(sqlite3.connect(copy, isolation_level=None)) as db:
            yield db


def _read_only(path: Path, how: str) -> sqlite3.Connection:
    """Open the file and read from it, to see that it can be read. Raises sqlite3.Error."""
    db = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{how}", uri=True, isolation_level=None, timeout=10
    )
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    return db
