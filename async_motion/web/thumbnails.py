"""Thumbnails of stored frames: made once and kept in a bounded LRU cache in memory.

A page that is about to show thumbnails names them with `expect`: they are made while the browser still reads
the page.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final

log = logging.getLogger(__name__)

MAX_BYTES: Final = 32 * 2**20
WIDTHS: Final = (320, 960)
AT_ONCE: Final = 4
"""Thumbnails made concurrently: a page full of them must not delay detection."""

MAX_EXPECTED: Final = 48
"""Expected thumbnails that may wait; the oldest are dropped."""

Read = Callable[[], Awaitable[bytes | None]]
"""Fetches an object; None if there is none. Raises StoreUnavailable, StoreRefused, UnreadableObject."""
Shrink = Callable[[bytes, int], bytes]
"""(JPEG, width in pixels) -> JPEG at most that wide. Blocks. Raises ImageError."""


class Thumbnails:
    """Makes and caches thumbnails by object key and width."""

    def __init__(self, shrink: Shrink, executor: Executor, *, max_bytes: int = MAX_BYTES) -> None:
        self._shrink = shrink
        self._executor = executor
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._places = asyncio.Semaphore(AT_ONCE)
        self._making: dict[tuple[str, int], asyncio.Lock] = {}
        self._expected: deque[tuple[str, int, Read]] = deque(maxlen=MAX_EXPECTED)
        self._more = asyncio.Event()

    def expect(self, key: str, width: int, read: Read) -> None:
        """Let `run` make a thumbnail that is about to be requested. Returns at once."""
        self._expected.append((key, width, read))
        self._more.set()

    async def run(self) -> None:
        """Make the expected thumbnails, `AT_ONCE` at a time, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(self._make_expected(), name=f"web[thumbnails {number}]")

    async def _make_expected(self) -> None:
        while True:
            await self._more.wait()
            if not self._expected:
                self._more.clear()
                continue
            key, width, read = self._expected.popleft()
            try:
                await self.get(key, width, read)
            except Exception as exc:  # noqa: BLE001  # whatever a bucket holds, it must not end the service
                # The request for this thumbnail fails in the same way, and reports it.
                log.debug("no thumbnail of %s in advance: %s", key, exc)

    async def get(self, key: str, width: int, read: Read) -> bytes | None:
        """Return the thumbnail of an object as JPEG, None if there is no object.

        `read` fetches the object if its thumbnail is not cached. `width` is rounded up to one of `WIDTHS`.
        Raises ImageError, and what `read` raises.
        """
        width = next((one for one in WIDTHS if one >= width), WIDTHS[-1])
        place = (key, width)
        lock = self._making.setdefault(place, asyncio.Lock())
        try:
            async with lock:
                kept = self._kept.get(place)
                if kept is not None:
                    self._kept.move_to_end(place)
                    return kept
                async with self._places:
                    jpeg = await read()
                    if jpeg is None:
                        return None
                    loop = asyncio.get_running_loop()
                    small = await loop.run_in_executor(self._executor, self._shrink, jpeg, width)
                self._keep(place, small)
                return small
        finally:
            if not lock.locked():
                self._making.pop(place, None)

    def forget(self, prefix: str) -> None:
        """Drop the thumbnails of all objects below `prefix`."""
        for place in [place for place in self._kept if place[0].startswith(prefix)]:
            self._bytes -= len(self._kept.pop(place))

    def _keep(self, place: tuple[str, int], small: bytes) -> None:
        # Two requests make it if the one before them failed.
        self._bytes += len(small) - len(self._kept.get(place, b""))
        self._kept[place] = small
        while self._bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
