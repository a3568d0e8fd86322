"""The protocol of retrieval's store: list, read, link, write and delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from async_motion.core.listing import Page


class Bucket(Protocol):
    """The store. Every method may raise StoreUnavailable and StoreRefused."""

    bucket: str

    async def page(
        self, prefix: str, *, folders: bool = False, start_after: str = "", token: str | None = None
    ) -> Page:
        """Return a page of the keys that begin with `prefix` and sort after `start_after`.

        `token` is the `next` of the page before. With `folders`, keys with a further slash after `prefix` are
        grouped as one folder each.
        """

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return the object's bytes, or None if there is none. Raises UnreadableObject if it is longer."""

    async def about(self, key: str) -> Mapping[str, str] | None:
        """Return the object's user metadata, names in lower case, or None if there is no object."""

    async def link(self, key: str, expires_s: float) -> str | None:
        """Return a presigned GET URL, or None if the store has none."""

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object. Raises RecordRejected."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most 1,000; a missing one is no error."""
