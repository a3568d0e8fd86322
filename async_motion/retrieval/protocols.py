"""What retrieval needs of a store: to list, to read, to link and to delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from async_motion.core.listing import Page


class Bucket(Protocol):
    """The store. Everything may raise StoreUnavailable and StoreRefused."""

    bucket: str

    async def page(
        self, prefix: str, *, folders: bool = False, start_after: str = "", token: str | None = None
    ) -> Page:
        """Return the objects that begin with `prefix` and sort after `start_after`, or a listing's next page.

        With `folders`, what has another slash behind `prefix` is told as one folder.
        """

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return the object's bytes, None where there is none. Raises UnreadableObject where it is longer."""

    async def about(self, key: str) -> Mapping[str, str] | None:
        """Return the object's user metadata, its names in lower case; None where there is no object."""

    async def link(self, key: str, expires_s: float) -> str | None:
        """Return a presigned GET, None where there is no such thing."""

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object. Raises RecordRejected."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most 1,000; one that is not there is no error."""
