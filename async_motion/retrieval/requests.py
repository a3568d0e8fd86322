"""Requests to the bucket: bounded concurrency, a few tries each, and counters.

A transient failure (StoreUnavailable) is retried within a few seconds; a refusal (StoreRefused) is not,
because a person must act.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from async_motion.core.listing import Page
from async_motion.errors import StoreRefused, StoreUnavailable
from async_motion.retrieval.protocols import Bucket

T = TypeVar("T")

PAUSES_S = (0.2, 1.0)
"""The waits before the second and the third try."""
_MAX_PAUSE_S = 10.0
MAX_STUCK_PAGES = 1000
"""Consecutive pages of a listing that are empty or repeat others. A few are normal: deleted objects."""


class Requests:
    """A bucket with a limit on concurrent requests. `sent` counts requests by kind, retries included."""

    def __init__(self, bucket: Bucket, *, max_requests: int) -> None:
        self.name = bucket.bucket
        self.sent = {"list": 0, "read": 0, "about": 0, "write": 0, "remove": 0}
        self._bucket = bucket
        self._places = asyncio.Semaphore(max_requests)

    async def pages(
        self, prefix: str, *, folders: bool = False, start_after: str = ""
    ) -> AsyncIterator[Page]:
        """Yield a listing page by page. Raises StoreUnavailable if it does not advance."""
        token, last, stuck = None, "", 0
        while True:
            page = await self._page(prefix, folders=folders, start_after=start_after, token=token)
            now = max((*page.folders[-1:], *(listed.key for listed in page.objects[-1:])), default="")
            last, stuck = (now, 0) if now > last else (last, stuck + 1)
            if stuck > MAX_STUCK_PAGES:
                raise StoreUnavailable(f"{prefix}: the store's listing does not end")
            yield page
            if page.next is None or page.next == token:
                return
            token = page.next

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an object's bytes, or None if there is none."""
        return await self._send("read", lambda: self._bucket.read(key, max_bytes))

    async def about(self, key: str) -> Mapping[str, str] | None:
        """Return an object's user metadata, or None if there is no object."""
        return await self._send("about", lambda: self._bucket.about(key))

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object."""
        await self._send("write", lambda: self._bucket.write(key, data, content_type))

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most 1,000."""
        await self._send("remove", lambda: self._bucket.remove(keys))

    async def link(self, key: str, expires_s: float) -> str | None:
        """Return a presigned GET URL, or None if the store has none."""
        return await self._bucket.link(key, expires_s)

    async def _page(self, prefix: str, *, folders: bool, start_after: str, token: str | None) -> Page:
        return await self._send(
            "list",
            lambda: self._bucket.page(prefix, folders=folders, start_after=start_after, token=token),
        )

    async def _send(self, kind: str, request: Callable[[], Awaitable[T]]) -> T:
        for min_pause_s in (*PAUSES_S, None):
            try:
                async with self._places:
                    self.sent[kind] += 1
                    return await request()
            except StoreRefused:
                raise
            except StoreUnavailable as exc:
                if min_pause_s is None:
                    raise
                await asyncio.sleep(max(min_pause_s, min(exc.retry_after_s or 0.0, _MAX_PAUSE_S)))
        raise AssertionError("unreachable")


async def together(what: str, work: Iterable[Awaitable[T]]) -> list[T]:
    """Await all of `work` concurrently; return the results in order. The first error cancels the others."""
    failed: list[Exception] = []
    made: list[asyncio.Task[T | None]] = []

    async def one(each: Awaitable[T]) -> T | None:
        try:
            return await each
        except Exception as exc:  # noqa: BLE001  # raised below, once
            # Do not raise into the group: before Python 3.13, a TaskGroup that fails while its parent is
            # cancelled loses that cancellation, or leaves the parent with one that nothing requested.
            failed.append(exc)
            for task in made:
                task.cancel()
            return None

    async with asyncio.TaskGroup() as tasks:
        made += [tasks.create_task(one(each), name=what) for each in work]
    if failed:
        raise failed[0]
    return [task.result() for task in made]  # type: ignore[misc]  # None only where one failed
