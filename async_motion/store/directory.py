"""The embedded store: a directory with the keys and the guarantees of a bucket.

    {path}/{key}                            the object's bytes and nothing else
    {path}/…/.{last part of key}.meta.json  content type, etag, size, metadata, tags
    {path}/.async_motion/{random}/          temporary files, one directory for each open store

A put makes each step durable before the next becomes visible:

    1. create the key's directories, and sync each into its parent
    2. the metadata: temporary file, fsync, rename
    3. the object:   temporary file, fsync, rename
    4. fsync of the directory that holds both

It returns after 4. A crash before 3 leaves no object and perhaps a metadata file, which the next put of the
key overwrites. A reader that sees the object sees all of it. Temporary files are kept apart from the objects,
so that they never appear in a listing. Each store locks its own temporary directory, and a new store deletes
those that are no longer locked.

A full disk may recover by itself (StoreUnavailable); missing permission or a read-only file system needs a
person (StoreRefused).

File work runs in daemon threads of our own, at most `workers` at once. If a disk hangs (an unreachable NAS),
it must block neither the executor that resolves host names nor the interpreter's exit. Such a thread cannot
be stopped: after the timeout the result counts as unknown, like a server's timeout, and the thread's slot
stays taken until the disk answers.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from async_motion.core.options import BUCKET
from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable
from async_motion.store.daemon_thread import in_daemon_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

_WORK = ".async_motion"
_BESIDE = ".meta.json"
_MAX_KNOWN = 4096
_TRIES = 3
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750
"""Frames are readable by this user, and by a group that the operator chooses."""

_NEEDS_A_PERSON = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_KEY_AT_FAULT = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# SMB and some FUSE file systems cannot fsync a directory; there is nothing more to do for durability.
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
_CLOSE_S = 2.0


class DirectoryStore:
    """A directory as a bucket. The first use creates it, or raises StoreUnavailable or StoreRefused."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bucket: str = BUCKET,
        workers: int = 4,
        put_timeout_s: float = 30.0,
    ) -> None:
        """Touch no file. `bucket` is only the name of this store in announcements."""
        self.bucket = bucket
        self._path = Path(path).absolute()
        self._put_timeout_s = put_timeout_s
        self._files = _Files(self._path)
        self._places = asyncio.Semaphore(workers)

    async def __aenter__(self) -> Self:
        """Do nothing: the first use creates the directory, so that a start does not need the disk."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(StoreUnavailable):
            await self._run("close", self._files.close, limit_s=_CLOSE_S)

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Store `data` durably under `key`, and return its MD5 in hex, as S3 does. A repeat overwrites.

        Raises StoreUnavailable (the object may or may not be stored), StoreRefused, RecordRejected.
        """
        place = self._place(key)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        about = {
            "content_type": content_type,
            "etag": etag,
            "size": len(data),
            "metadata": dict(metadata),
            "tags": dict(tags),
        }
        beside = json.dumps(about, indent=1).encode() + b"\n"
        await self._run(f"put {key}", self._files.put, place, data, beside)
        return etag

    async def get(self, key: str) -> bytes:
        """Return the object's bytes. Raises RecordRejected if there is none."""
        return await self._run(f"get {key}", self._files.get, self._place(key))

    async def delete(self, key: str) -> None:
        """Remove the object and its metadata; a missing object is no error."""
        await self._run(f"delete {key}", self._files.delete, self._place(key))

    async def probe(self) -> None:
        """Test whether puts are accepted: write, sync and remove a small file."""
        await self._run("probe", self._files.probe)

    async def link(self, key: str, expires_s: float) -> str | None:  # noqa: ARG002
        """Return None: a file has no link that works on another machine."""
        return None

    async def metadata(self, key: str) -> dict[str, Any]:
        """Return the object's `.meta.json`: content_type, etag, size, metadata, tags.

        Raises RecordRejected if there is none, or it cannot be read.
        """
        place = self._place(key)
        about = await self._run(f"get {key}", self._files.get, _beside(place))
        try:
            fields = json.loads(about)
        except ValueError as exc:
            raise RecordRejected(f"{key}: its metadata cannot be read: {exc}") from exc
        return dict(fields)

    async def find(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the keys that begin with `prefix`, sorted within each directory."""
        for key in await self._run(f"list {prefix}", self._files.keys, prefix):
            yield key

    def _place(self, key: str) -> Path:
        """Return the file of `key`. Raises RecordRejected if it is invalid, reserved or leads outside."""
        if not _is_key(key):
            raise RecordRejected(f"{key!r} is not a key for a directory: a part is empty, a dot or two dots")
        parts = key.split("/")
        if parts[0] == _WORK or _is_beside(parts[-1]):
            raise RecordRejected(f"{key!r} is a name that the directory store keeps for itself")
        return self._path.joinpath(*parts)

    async def _run(self, what: str, work: Callable[..., T], *args: object, limit_s: float | None = None) -> T:
        """Run blocking work in its own thread for at most `limit_s`, and translate its errors."""
        limit_s = self._put_timeout_s if limit_s is None else limit_s
        try:
            async with asyncio.timeout(limit_s):
                await self._places.acquire()
                return await in_daemon_thread(work, *args, done=self._places.release)
        except TimeoutError as exc:
            raise StoreUnavailable(
                f"{self._path}: {what}: the disk did not answer within {limit_s:g} s"
            ) from exc
        except OSError as exc:
            raise _translated(self._path, what, exc) from exc


class _Files:
    """The blocking half. All methods raise OSError, and may be called from several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opening = threading.Lock()
        self._work: Path | None = None
        self._claim: int | None = None
        self._pruning = threading.Lock()
        self._putting = 0
        # Directories that are synced into their parents. Other processes may delete them at any time.
        self._known: set[Path] = set()

    def put(self, place: Path, data: bytes, beside: bytes) -> None:
        """Write the object and its metadata durably, the metadata first."""
        with self._pruning:
            self._putting += 1
        try:
            for _ in range(_TRIES - 1):
                try:
                    return self._put(place, data, beside)
                except FileNotFoundError:
                    # Another process has deleted a directory between two steps, or since it was created.
                    self._forget()
            return self._put(place, data, beside)
        finally:
            with self._pruning:
                self._putting -= 1

    def get(self, place: Path) -> bytes:
        """Return a file's bytes."""
        return place.read_bytes()

    def delete(self, place: Path) -> None:
        """Remove the object, its metadata, and the directories left empty: a bucket has none either."""
        with suppress(FileNotFoundError, NotADirectoryError):
            place.unlink()
            _beside(place).unlink(missing_ok=True)
            _sync_directory(place.parent)
        with self._pruning, suppress(OSError):
            for folder in place.parents:
                if self._putting or folder == self._path:
                    return
                folder.rmdir()
                self._known.discard(folder)

    def probe(self) -> None:
        """Write, sync and remove a file."""
        try:
            work = self._open()
            _written(work, b"async_motion may write here\n").unlink()
        except FileNotFoundError:
            self._forget()
            _written(self._open(), b"async_motion may write here\n").unlink()

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""
        found: list[str] = []
        start = prefix.rpartition("/")[0]
        if start and not _is_key(start):
            return found
        for folder, folders, files in os.walk(self._path / start):
            at = Path(folder).relative_to(self._path).as_posix()
            start = "" if at == "." else f"{at}/"
            if not start and _WORK in folders:
                folders.remove(_WORK)
            found += [f"{start}{name}" for name in files if not _is_beside(name)]
        return sorted(key for key in found if key.startswith(prefix))

    def close(self) -> None:
        """Release the temporary directory. The next store deletes the files that are left in it."""
        with self._opening:
            work, self._work = self._work, None
            claim, self._claim = self._claim, None
        if work is not None:
            with suppress(OSError):
                work.rmdir()
        if claim is not None:
            os.close(claim)

    def _put(self, place: Path, data: bytes, beside: bytes) -> None:
        work = self._open()
        self._settle(place.parent)
        for target, content in ((_beside(place), beside), (place, data)):
            temporary = _written(work, content)
            try:
                temporary.replace(target)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        _sync_directory(place.parent)

    def _open(self) -> Path:
        """Return our temporary directory; on first use, create it and delete those of dead stores."""
        with self._opening:
            if self._work is None:
                try:
                    self._settle(self._path)
                except NotADirectoryError as exc:
                    raise StoreRefused(f"{self._path}: {exc.filename} is not a directory") from exc
                work = self._path / _WORK
                self._settle(work)
                _clear(work)
                self._work, self._claim = _claimed(work)
            return self._work

    def _forget(self) -> None:
        self._known.clear()
        self.close()

    def _settle(self, directory: Path) -> None:
        """Create `directory` and its parents, and sync each into its parent.

        An existing one may have been created by a process that died before its sync. So at and below the
        store's own directory, each is synced once in this process; above it, only those that we create.
        """
        waiting: list[Path] = []
        at = directory
        while at not in self._known and at != at.parent:
            if self._path not in (at, *at.parents) and at.is_dir():
                break
            waiting.append(at)
            at = at.parent
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        for each in reversed(waiting):
            try:
                each.mkdir(_FOLDER_MODE)
            except FileExistsError:
                if not each.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(each)) from None
            _sync_directory(each.parent)
            self._known.add(each)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}{_BESIDE}")


def _is_key(text: str) -> bool:
    return "\0" not in text and all(part not in ("", ".", "..") for part in text.split("/"))


def _is_beside(name: str) -> bool:
    return name.startswith(".") and name.endswith(_BESIDE)


def _written(work: Path, content: bytes) -> Path:
    """Return a new file in `work` whose bytes are on the disk."""
    path = work / secrets.token_hex(8)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    try:
        try:
            rest = memoryview(content)
            while rest:
                # On a nearly full disk a write may be partial; only the next one raises.
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
    except OSError:
        # After a failed fsync the kernel marks the pages clean: only a new file can be trusted.
        path.unlink(missing_ok=True)
        raise
    return path


def _sync_directory(path: Path) -> None:
    """Fsync a directory, so that the names in it are durable."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # A directory above the store may be traversable but not readable; it is not ours to sync.
        return
    try:
        os.fsync(directory)
    except OSError as exc:
        if exc.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(directory)


def _claimed(work: Path) -> tuple[Path, int | None]:
    """Create and lock a temporary directory. Return (path, file descriptor of the lock or None)."""
    while True:
        mine = work / secrets.token_hex(8)
        mine.mkdir(_FOLDER_MODE)
        claim = os.open(mine, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)  # another store took it for a leftover, and is deleting it
            continue
        except OSError:
            # This file system has no locks: leftovers cannot be told from files in use, so they stay.
            os.close(claim)
            return mine, None
        if mine.is_dir():
            return mine, claim
        os.close(claim)


def _clear(work: Path) -> None:
    """Delete the temporary files of stores that no longer run."""
    for leftover in work.iterdir():
        with suppress(OSError):
            claim = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover)
                log.debug("%s: cleared the temporary files of a store that was not closed", leftover)
            finally:
                os.close(claim)


def _translated(path: Path, what: str, exc: OSError) -> StoreUnavailable | RecordRejected:
    message = f"{path}: {what}: {exc.strerror or exc}"
    if isinstance(exc, FileNotFoundError) and what.startswith("get "):
        return RecordRejected(f"{path}: {what}: no such object")
    if exc.errno in _FULL:
        return StoreUnavailable(f"{message}: free some space, or set directory.path to a larger disk")
    if exc.errno in _NEEDS_A_PERSON:
        return StoreRefused(f"{message}: this user must be able to write there")
    if exc.errno in _KEY_AT_FAULT:
        return RecordRejected(message, reason=exc.strerror)
    return StoreUnavailable(message)
