"""Starting work when there is some: the bell that rings for it, its slots, the loop that starts it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from async_motion.core.backoff import Backoff
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.errors import SpoolError


@dataclass(slots=True)
class Slots:
    """How many items of one half are under way, fresh and of the backlog."""

    fresh: int = 0
    backlog: int = 0

    @property
    def all(self) -> int:
        """Both together."""
        return self.fresh + self.backlog

    def add(self, count: int, *, backlog: bool) -> None:
        """Take slots, or (`count` below 0) free them."""
        if backlog:
            self.backlog += count
        else:
            self.fresh += count


class Bell:
    """Wakes all who wait; a ring since `heard` is not missed."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake those who wait."""
        self.count += 1
        self._event.set()

    async def wait(self, timeout_s: float, heard: int | None = None) -> None:
        """Wait for a ring, at most `timeout_s`."""
        if heard is not None and heard != self.count:
            return
        self._event.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass


def share_of(slots: int, share: float) -> int:
    """Return the slots of a share (0..1): at least one of a share above 0."""
    return max(1 if share > 0 else 0, int(slots * share))


async def dispatch(
    start: Callable[[], Awaitable[int]],
    *,
    breaker: CircuitBreaker,
    bell: Bell,
    backoff: Backoff,
    poll_s: float,
) -> None:
    """Call `start` whenever the breaker lets calls pass and there may be work; for ever.

    `start` returns how much it started. A SpoolError is waited out: the spool has logged it.
    """
    while True:
        await breaker.passable()
        heard = bell.count
        try:
            started = await start()
            backoff.reset()
        except SpoolError:
            await asyncio.sleep(backoff.next_s())
            continue
        if not started:
            await bell.wait(poll_s, heard)
