"""The directory store for readers: paged listings in a bucket's order, and bounded reads."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from async_motion.core.listing import Listed, Page
from async_motion.errors import RecordRejected, UnreadableObject
from async_motion.store.directory import _WORK, DirectoryStore, _beside, _is_beside, _is_key

_PAGE = 1000
_PIECE_BYTES = 1024 * 1024
_MAX_ABOUT_BYTES = 1024 * 1024


class DirectoryReader(DirectoryStore):
    """A DirectoryStore that can be searched. Reading creates nothing: a missing directory counts as empty."""

    async def page(
        self, prefix: str, *, folders: bool = False, start_after: str = "", token: str | None = None
    ) -> Page:
        """Return one page of a listing, as a bucket does. Raises StoreUnavailable, StoreRefused."""
        after = start_after if token is None else token
        return await self._run(f"list {prefix}", _page, self._path, prefix, folders, after)

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an object's bytes, or None if there is none.

        Raises UnreadableObject if it is longer than `max_bytes`, StoreUnavailable, StoreRefused.
        """
        try:
            data = await self._run(f"get {key}", _read, self._place(key), max_bytes)
        except RecordRejected:
            return None
        if data is not None and len(data) > max_bytes:
            raise UnreadableObject(f"{key}: longer than {max_bytes} bytes")
        return data

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """Yield an object's bytes in pieces of at most 1 MiB.

        Raises RecordRejected if there is none, StoreUnavailable, StoreRefused.
        """
        at = 0
        while True:
            piece = await self._run(f"get {key}", _piece, self._place(key), at)
            if not piece:
                return
            at += len(piece)
            yield piece

    async def about(self, key: str) -> Mapping[str, str] | None:
        """Return an object's user metadata, names in lower case; None if it has none that can be read."""
        try:
            data = await self._run(f"get {key}", _read, _beside(self._place(key)), _MAX_ABOUT_BYTES)
        except RecordRejected:
            return None
        try:
            metadata = json.loads(data or b"")["metadata"]
            return {str(name).lower(): str(value) for name, value in metadata.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object without metadata. Raises RecordRejected, StoreUnavailable, StoreRefused."""
        await self.put(key, data, content_type=content_type, metadata={}, tags={})

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects. Raises StoreUnavailable, StoreRefused."""
        for key in keys:
            with suppress(RecordRejected):
                await self.delete(key)


def _read(place: Path, max_bytes: int) -> bytes | None:
    """Return at most `max_bytes + 1` bytes of a file, or None if there is none."""
    try:
        with place.open("rb") as file:
            return file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _piece(place: Path, at: int) -> bytes:
    with place.open("rb") as file:
        file.seek(at)
        return file.read(_PIECE_BYTES)


def _page(root: Path, prefix: str, folders: bool, after: str) -> Page:
    """Return the first page of the keys that begin with `prefix` and sort after `after`."""
    start = prefix.rpartition("/")[0]
    if start and not _is_key(start):
        return Page(objects=(), folders=(), next=None)
    found = list(islice(_walk(root, f"{start}/" if start else "", prefix, folders, after), _PAGE + 1))
    page = found[:_PAGE]
    return Page(
        objects=tuple(each for each in page if isinstance(each, Listed)),
        folders=tuple(each for each in page if isinstance(each, str)),
        next=_end(page[-1]) if len(found) > _PAGE else None,
    )


def _end(last: Listed | str) -> str:
    """Return the `after` of the next page: an object's key, or a folder's name."""
    return last.key if isinstance(last, Listed) else last


def _walk(root: Path, at: str, prefix: str, folders: bool, after: str) -> Iterator[Listed | str]:
    """Yield the entries below the folder `at` in a bucket's order: by key, a folder with its slash."""
    try:
        with os.scandir(root / at) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    for key in sorted(f"{at}{name}/" if is_folder else f"{at}{name}" for name, is_folder in names):
        on_the_way = key.startswith(prefix) or prefix.startswith(key)
        if not on_the_way or key == f"{_WORK}/":
            continue
        if key.endswith("/"):
            if key <= after and not after.startswith(key):
                continue  # everything below it comes before `after`
            if folders and len(key) > len(prefix):
                if key > after:
                    yield key
            else:
                yield from _walk(root, key, prefix, folders, after)
        elif key > after and not _is_beside(key.rpartition("/")[2]):
            with suppress(FileNotFoundError):
                yield Listed(key, (root / key).lstat().st_size)
