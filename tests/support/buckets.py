"""A leases' bucket in memory: keys expire by the test's clock, and faults can be injected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.leases import Entry, KeyTaken


class MemoryBucket:
    """A `WatchedBucket`. `down` fails every call; `mute` writes without an answer; `refusing` refuses every
    compare-and-set, as a NATS leader without a quorum does while an earlier write to the key waits.
    """

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.down = False
        self.mute = False
        self.refusing = False
        self.writes = 0
        self._ttl_s = ttl_s
        self._clock = clock
        self._keys: dict[str, tuple[Entry, float]] = {}
        self._revision = 0
        self._changed = asyncio.Event()

    def live(self, key: str) -> Entry | None:
        """Return the entry that the server holds; None if there is none, or it was deleted."""
        found = self._keys.get(key)
        if found is None or self._clock() - found[1] >= self._ttl_s or not found[0].value:
            return None
        return found[0]

    def expire(self, key: str) -> None:
        """Let a key expire now."""
        self._keys.pop(key, None)

    async def create(self, key: str, value: bytes) -> int:
        self._answer()
        if self.refusing or self.live(key) is not None:
            raise KeyTaken
        return self._write(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self._answer()
        entry = self.live(key)
        if self.refusing or entry is None or entry.revision != revision:
            raise KeyTaken
        return self._write(key, value)

    async def put(self, key: str, value: bytes) -> int:
        self._answer()
        return self._write(key, value)

    async def get(self, key: str) -> Entry | None:
        self._answer()
        return self.live(key)

    async def delete(self, key: str, revision: int) -> None:
        self._answer()
        entry = self.live(key)
        if entry is None or entry.revision != revision:
            raise KeyTaken
        self._write(key, b"")

    async def watch(self) -> AsyncIterator[Entry | None]:
        self._answer()
        told = 0
        first = True
        while True:
            fresh = sorted(entry.revision for entry, _ in self._keys.values() if entry.revision > told)
            by_revision = {entry.revision: entry for entry, _ in self._keys.values()}
            for revision in fresh:
                yield by_revision[revision]
                told = revision
            if first:
                first = False
                yield None
            if self._revision == told:
                self._changed.clear()
                await self._changed.wait()
            self._answer()

    def _answer(self) -> None:
        if self.down:
            raise LeaseUnavailable("the NATS servers do not answer: test")

    def _write(self, key: str, value: bytes) -> int:
        self._revision += 1
        self.writes += 1
        self._keys[key] = (Entry(key=key, value=value, revision=self._revision), self._clock())
        self._changed.set()
        if self.mute:
            raise LeaseUnavailable("the NATS servers do not answer: test")
        return self._revision
