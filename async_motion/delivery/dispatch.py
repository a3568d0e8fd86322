"""Start work when there is some: the bell that signals it, the slots, and the loop that starts it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from async_motion.core.backoff import Backoff
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.errors import SpoolError


@dataclass(slots=True)
class Slots:
    """How many items of one half are in progress, fresh and of the backlog."""

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
    """Wakes all waiting tasks. A ring after `heard`, a value of `count`, is not missed."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all waiting tasks."""
        self.count += 1
        self._event.set()

    async def wait(self, timeout_s: float, heard: int | None = None) -> None:
        """Wait for a ring, at most `timeout_s`; return at once if there was one since `heard`."""
        if heard is not None and heard != self.count:
            return
        self._event.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass


def share_of(slots: int, share: float) -> int:
    """Return `int(slots * share)` for a share in 0..1, but at least 1 if the share is above 0."""
    return max(1 if share > 0 else 0, int(slots * share))


async def dispatch(
    start: Callable[[], Awaitable[int]],
    *,
    breaker: CircuitBreaker,
    bell: Bell,
    backoff: Backoff,
    poll_s: float,
) -> None:
    """Call `start` whenever the breaker lets calls pass and there may be work; runs until cancelled.

    `start` returns the number of items that it started. After a SpoolError, which the spool has logged, it is
    called again after a backoff.
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
