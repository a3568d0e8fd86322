"""Parsed index files, kept between requests: parsing a day of 1,500 events takes 50 ms of CPU.

A file is identified by its key and the digest of its bytes, so that a file that was written again is parsed
again. Only whole files are kept: a damaged one is reported on every read.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from async_motion.core.index import IndexLine


class IndexCache:
    """An LRU cache of parsed index files, bounded by their lines: about 1 KiB each. 0 keeps nothing."""

    def __init__(self, max_lines: int) -> None:
        self._max_lines = max_lines
        self._files: OrderedDict[str, tuple[bytes, Sequence[IndexLine]]] = OrderedDict()
        self.lines = 0
        """The number of lines kept."""

    def get(self, key: str, data: bytes) -> Sequence[IndexLine] | None:
        """Return the lines of the file `key` if it still has the bytes `data`, else None."""
        kept = self._files.get(key)
        if kept is None or kept[0] != _digest(data):
            return None
        self._files.move_to_end(key)
        return kept[1]

    def put(self, key: str, data: bytes, lines: Sequence[IndexLine]) -> None:
        """Keep the lines of a whole file; the least recently used files make room."""
        self._drop(key)
        if len(lines) > self._max_lines:
            return
        self._files[key] = (_digest(data), lines)
        self.lines += len(lines)
        while self.lines > self._max_lines:
            self._drop(next(iter(self._files)))

    def _drop(self, key: str) -> None:
        _, lines = self._files.pop(key, (b"", ()))
        self.lines -= len(lines)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
