"""Back up a spool beside the running service, and restore it elsewhere.

The copy is a consistent snapshot: SQLite's online backup reads it in one transaction, and blocks no
acceptance. A restored spool gets an id of its own: the original service may still run, and two spools must
not number events under one id.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from async_motion.errors import SpoolError
from async_motion.spool import files, schema
from async_motion.spool.inspect import opened

REPLACED = "replaced"
"""Part of the file name of a spool that a restored one has replaced."""


def snapshot(path: Path, target: Path) -> None:
    """Write a copy of the spool at `path` to `target`, which must not exist. Blocks. Raises SpoolError."""
    with opened(path) as db:
        try:
            os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(target)) as copy:
                db.backup(copy)
        except sqlite3.Error as exc:
            raise files.translate(target, exc) from exc
        except OSError as exc:
            raise files.cannot_write(target, exc) from exc


def restore(source: IO[bytes], path: Path, *, replace: bool = False) -> Path | None:
    """Restore the snapshot in `source` to `path`. Return the new path of the spool it replaced, or None.

    Run by root, it gives the spool to the owner of its folder. Blocks. Raises SpoolError and changes nothing
    when a service uses `path`, when a spool exists there and `replace` is false, or when the snapshot is
    damaged or of a newer version.
    """
    part = path.with_name(path.name + ".restoring")
    was_there = path.exists() and path.stat().st_size > 0
    if was_there and not replace:
        raise SpoolError(f"{path}: there is a spool already: move it away, or add --replace")
    with files.given_to_owner(path):
        lock = files.Lock(path)
        try:
            part.unlink(missing_ok=True)  # of a restore that was killed
            new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(part, new, 0o600), "wb") as file:
                shutil.copyfileobj(source, file, 1024 * 1024)
            _make_ready(part)
            away = files.move_away(path, REPLACED, time.time) if was_there else None
            part.replace(path)
            files.sync_folder(path)
        except OSError as exc:
            raise files.cannot_write(path, exc) from exc
        finally:
            with suppress(OSError):
                part.unlink()
            lock.release()
    return away


def _make_ready(path: Path) -> None:
    """Check a snapshot, migrate it to this version, give it an id of its own. Raises SpoolError, OSError."""
    try:
        with closing(files.connect(path)) as db:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise SpoolError(f"the backup's spool is damaged: {found}")
            schema.prepare(db)
            schema.renew(db)
            # Keep all of it in one file: the rename does not move a WAL.
            db.execute("PRAGMA journal_mode = DELETE").fetchone()
    except schema.NewerDatabase:
        raise SpoolError("the backup's spool was written by a newer version: use that version") from None
    except schema.ForeignDatabase:
        raise SpoolError("the backup's spool is a database of another program") from None
    except sqlite3.Error as exc:
        raise files.translate(path, exc) from exc
    with path.open("rb") as file:
        os.fsync(file.fileno())
