"""The spool's files: the lock, the connection, translated errors, and setting aside unusable files.

They hold images, so only this user may read them: mode 0600, and 0700 for a folder that is created here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from async_motion.errors import SpoolError

log = logging.getLogger(__name__)

MEMORY = ":memory:"
DAMAGED, NEWER = "damaged", "newer"
PAGE_BYTES = 8192
KEPT_DAMAGED = 2
"""How many damaged spools are kept beside the one in use, so that they do not fill the disk."""

_KEEP_FREE_BYTES = 16 * 1024 * 1024
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_IO = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)


class Lock:
    """Exclusive lock on a spool, for one process; the kernel releases it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Acquire the lock. Raises SpoolError with a message for the operator."""
        self._path = path.with_name(path.name + ".lock")
        try:
            make_private(path)
            # Root restores into a folder of the service's user: a link there must not lead elsewhere.
            how = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(self._path, how, 0o600)
            self._file = os.fdopen(lock, "a+")
        except OSError as exc:
            raise cannot_write(path, exc) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            with self._file:
                self._file.seek(0)
                owner = self._file.read(32).strip()
            if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise cannot_write(path, exc) from exc
            raise SpoolError(
                f"{path}: in use by another async_motion{f' (process {owner})' if owner.isdigit() else ''}:"
                " stop it, or give each its own spool.path"
            ) from exc
        with contextlib.suppress(OSError):  # a full disk: the number is only for the message above
            self._file.truncate(0)
            self._file.write(str(os.getpid()))
            self._file.flush()

    def release(self) -> None:
        """Release the lock. The file stays: deleting it would let two processes hold two locks."""
        with contextlib.suppress(OSError):
            self._file.close()


def make_private(path: Path) -> None:
    """Create a spool's folder and file if they do not exist; remove the permissions of others from the file.

    SQLite gives its WAL the mode of the file. Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return
    for part in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", ".lock"))):
        with contextlib.suppress(OSError):  # owned by another user, who chose its mode
            mode = part.lstat().st_mode  # not that of a link's target, which is not ours to change
            if stat.S_ISREG(mode) and mode & 0o077:
                part.chmod(0o600)


@contextlib.contextmanager
def given_to_owner(path: Path) -> Iterator[None]:
    """As root, give a spool's files and folders that the block creates to the owner of the folder above.

    Else the service, which is not root, could not open what root has restored for it, or failed to restore.
    Raises SpoolError.
    """
    parents = path.absolute().parents
    new = [folder for folder in parents if not folder.exists()]
    owner = parents[len(new)].stat()
    try:
        yield
    finally:
        if os.geteuid() == 0:
            _give((*new, path, path.with_name(path.name + ".lock")), owner, path)


def _give(paths: Iterable[Path], owner: os.stat_result, spool: Path) -> None:
    """Give those of the paths that exist and are root's to an owner. Raises SpoolError."""
    try:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_uid == 0:
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except OSError as exc:
        raise cannot_write(spool, exc) from exc


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the database (None: in memory) in autocommit mode, with our pragmas.

    Raises sqlite3.Error, OSError.
    """
    if path is not None:
        make_private(path)
    db = sqlite3.connect(
        path or MEMORY, isolation_level=None, timeout=5.0, cached_statements=256, check_same_thread=False
    )
    try:
        # These two only take effect before the first table is created.
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = FULL")
        # Checkpoint every 4 MiB: an acceptance may wait for the copy, so it stays small.
        db.execute(f"PRAGMA wal_autocheckpoint = {4 * 1024 * 1024 // PAGE_BYTES}")
        db.execute(f"PRAGMA journal_size_limit = {16 * 1024 * 1024}")
        db.execute("PRAGMA temp_store = MEMORY")
        # Debian's SQLite overwrites deleted data with zeros by default: each JPEG would be written twice.
        db.execute("PRAGMA secure_delete = OFF")
        # Damaged text must not raise while rows are iterated; the codec detects it.
        db.text_factory = _text
    except UnicodeDecodeError as exc:
        db.close()
        raise _damaged(f"its schema is no text: {exc}") from exc
    except BaseException:
        db.close()
        raise
    return db


def _damaged(why: str) -> sqlite3.DatabaseError:
    """Return SQLite's error for a damaged file, where the module cannot decode SQLite's own message."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
    return error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def sync_folder(path: Path) -> None:
    """Fsync the folder, so that the database's name is durable: SQLite does this for its WAL only."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def is_damage(exc: sqlite3.Error) -> bool:
    """Return whether the error means that the file itself is damaged."""
    return _code(exc) in _DAMAGE


def is_io(exc: sqlite3.Error) -> bool:
    """Return whether the disk failed or is full."""
    return _code(exc) in _IO


def is_unwritable(exc: sqlite3.Error) -> bool:
    """Return whether the file or its folder is not writable."""
    return _code(exc) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def _code(exc: sqlite3.Error) -> int:
    # The low byte is the primary code. Errors that the sqlite3 module raises itself carry none.
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def translate(path: Path | None, exc: sqlite3.Error) -> SpoolError:
    """Return a SpoolError with one line for the operator: where, what, what to do."""
    where = path or MEMORY
    code, name = _code(exc), getattr(exc, "sqlite_errorname", "")
    if code == sqlite3.SQLITE_FULL or (
        code == sqlite3.SQLITE_IOERR and path and free_bytes(path) < PAGE_BYTES
    ):
        return no_space(where)
    if code == sqlite3.SQLITE_IOERR:
        return SpoolError(f"{where}: the disk fails ({name}): check it, or move spool.path to another one")
    if is_unwritable(exc):
        return SpoolError(
            f"{where}: cannot be written ({name}): choose another spool.path, or let this user write there"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolError(f"{where}: another program holds it locked: end that program")
    return SpoolError(f"{where}: {name or type(exc).__name__}: {exc}")


def no_space(where: Path | str) -> SpoolError:
    """Return the error for a full disk."""
    return SpoolError(f"{where}: no space left on its disk: free some, or lower spool.max_bytes")


def cannot_write(path: Path, exc: OSError) -> SpoolError:
    """Return the error for a path that cannot be used."""
    if exc.errno == errno.ENOSPC:
        return no_space(path)
    reason = exc.strerror or type(exc).__name__
    return SpoolError(
        f"{path}: cannot be written ({reason}): choose another spool.path, or let this user write there"
    )


def free_bytes(path: Path) -> int:
    """Return the bytes free on the disk for this user; `1 << 62` if the disk cannot be queried."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 1 << 62
    return disk.f_bavail * disk.f_frsize


def is_nearly_full(path: Path, size: int) -> bool:
    """Return whether `size` more bytes would use the space reserved for deletions."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    keep = min(_KEEP_FREE_BYTES, disk.f_blocks * disk.f_frsize // 8)
    return disk.f_bavail * disk.f_frsize < size + keep


def move_away(path: Path, why: str, wall: Callable[[], float]) -> Path:
    """Rename a spool that cannot be used, with its WAL, and return its new name. Raises SpoolError."""
    stamp = datetime.fromtimestamp(wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
    away = path.with_name(f"{path.name}.{why}-{stamp}")
    count = 1
    while away.exists():
        count += 1
        away = path.with_name(f"{path.name}.{why}-{stamp}-{count}")
    try:
        path.rename(away)
        for ending in ("-wal", "-journal"):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.rename(away.with_name(away.name + ending))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        sync_folder(path)
        if why == DAMAGED:
            _forget_oldest(path)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    return away


def _forget_oldest(path: Path) -> None:
    prefix = f"{path.name}.{DAMAGED}-"
    found = [
        p
        for p in path.parent.iterdir()
        if p.name.startswith(prefix) and not p.name.endswith(("-wal", "-journal"))
    ]
    found.sort(key=lambda p: p.stat().st_mtime)
    for old in found[:-KEPT_DAMAGED]:
        log.warning("spool: deleting %s, which was set aside as damaged before", old)
        for ending in ("", "-wal", "-journal"):
            old.with_name(old.name + ending).unlink(missing_ok=True)
