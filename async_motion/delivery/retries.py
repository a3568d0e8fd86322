"""Retry items whose delivery failed, records that were set aside, and changes that the spool could not make.

An item whose peer failed is released, with a delay if it fails while others succeed. Records that were set
aside are tried again with a slow backoff, one for each reason; once it is stored, the others with its reason
follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from async_motion.core.backoff import Backoff
from async_motion.delivery.circuit_breaker import CircuitBreaker, DeliveryPace
from async_motion.delivery.protocols import Outbox
from async_motion.errors import BrokerNotReady, SpoolError, TransientError

log = logging.getLogger(__name__)

FREE_FAILURES = 2
"""How often an item may fail before it gets a delay of its own, in addition to its peer's breaker."""
MAX_REMEMBERED = 4096


@dataclass(slots=True)
class Figures:
    """The counters, and the last upload times in seconds, that `health` reports."""

    counts: Counter[str] = field(default_factory=Counter)
    upload_s: deque[float] = field(default_factory=lambda: deque(maxlen=512))

    def continue_from(self, other: Figures) -> None:
        """Add the counters of an earlier delivery."""
        self.counts.update(other.counts)


class Retries:
    """Counts the failures of each item, and releases it with the delay that follows from them."""

    def __init__(
        self, spool: Outbox, *, pace: DeliveryPace, draw: Callable[[], float], figures: Figures
    ) -> None:
        self._spool = spool
        self._pace = pace
        self._draw = draw
        self._figures = figures
        self._failures: dict[int, tuple[int, int]] = {}
        self._new_aside = False
        self._tried_again: dict[int, str] = {}
        """Records on trial that had been set aside, with the reason."""

    def failed_before(self, number: int) -> bool:
        """Return whether a try of this item has failed."""
        return number in self._failures

    def succeeded(self, number: int) -> None:
        """Forget an item's failures: it succeeded, or is not tried again."""
        self._failures.pop(number, None)

    async def delivered(self, number: int) -> None:
        """Note that a record is stored; queue those that were set aside for the same reason."""
        self.succeeded(number)
        reason = self._tried_again.pop(number, None)
        if reason is not None:
            log.info("store: accepted what was set aside (%s); delivering the others", reason)
            await self.insist(lambda: self._spool.restore_by_reason(reason))

    async def run(self, breaker: CircuitBreaker) -> None:
        """Try records that were set aside again, with a slow backoff; runs until cancelled."""
        first_s = self._pace.aside_first_s
        backoff = Backoff(draw=self._draw, first_s=first_s, max_s=self._pace.aside_max_s)
        left_s = backoff.next_s()
        while True:
            await asyncio.sleep(first_s)
            left_s -= first_s
            if self._new_aside:
                # A rejection shortens the wait and never extends it: a camera may have one a second.
                self._new_aside = False
                backoff.reset()
                left_s = min(left_s, backoff.next_s())
            if left_s <= 0 and breaker.closed and self._spool.stats.set_aside:
                left_s = backoff.next_s()
                with contextlib.suppress(SpoolError):  # the spool has logged it; the next round tries again
                    self._tried_again = await self._spool.restore_samples()

    def set_aside(self, number: int) -> None:
        """Note that a record was set aside; if for the first time, the next try comes soon."""
        self.succeeded(number)
        if self._tried_again.pop(number, None) is None:
            self._new_aside = True

    def backoff(self) -> Backoff:
        """Return a backoff for transient failures."""
        return Backoff(draw=self._draw, first_s=self._pace.first_s, max_s=self._pace.max_s)

    def item_backoff(self) -> Backoff:
        """Return a backoff for an item that fails while others succeed."""
        return Backoff(draw=self._draw, first_s=self._pace.refused_first_s, max_s=self._pace.item_max_s)

    async def release(self, number: int, error: TransientError, breaker: CircuitBreaker) -> None:
        """Release an item after its peer failed; the caller has recorded the failure with the breaker.

        An item that fails repeatedly while others succeed gets a growing delay, up to `item_max_s`; up to
        `max_s` if only its camera's connection is at fault. In an outage no item succeeds, so none gets a
        delay, and all are tried at once when it ends.
        """
        self._figures.counts["retries"] += 1
        failures, successes = self._failures.pop(number, (0, -1))
        if breaker.successes != successes:
            failures += 1
        self._failures[number] = failures, breaker.successes
        if len(self._failures) > MAX_REMEMBERED:
            self._failures.pop(next(iter(self._failures)))
        log.debug("item %d failed: %s", number, error)
        delay_s = 0.0
        if failures > FREE_FAILURES:
            doubled_s = self._pace.first_s * 2.0 ** min(failures - FREE_FAILURES, 64)
            not_ready = isinstance(error, BrokerNotReady)
            delay_s = min(self._pace.max_s if not_ready else self._pace.item_max_s, doubled_s)
        await self.insist(lambda: self._spool.release([number], delay_s))

    async def insist(self, note: Callable[[], Awaitable[object]]) -> None:
        """Repeat `note`, a change in the spool, with backoff until it succeeds: the disk may be full."""
        backoff = self.backoff()
        while True:
            try:
                await note()
            except SpoolError:
                await asyncio.sleep(backoff.next_s())
            else:
                return
