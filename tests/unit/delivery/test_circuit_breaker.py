"""The circuit breaker in front of a peer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from async_motion.core.health import PeerHealth, PeerState
from async_motion.delivery.circuit_breaker import CircuitBreaker, DeliveryPace
from async_motion.errors import BrokerUnavailable, StoreRefused, StoreUnavailable
from tests.support.wait import eventually_async

NEVER = DeliveryPace(first_s=3600, max_s=3600, refused_first_s=3600, refused_max_s=3600)
QUICK = DeliveryPace(first_s=0.001, max_s=0.005, refused_first_s=0.001, refused_max_s=0.005)


class Peer:
    """A peer whose probe fails on command, and work that may wait for it."""

    def __init__(self, pace: DeliveryPace, *, asks_first: bool = False) -> None:
        self.probes = 0
        self.trouble: StoreUnavailable | None = None
        self.work = False
        self.breaker = CircuitBreaker(
            "store",
            self._probe,
            pace=pace,
            draw=lambda: 1.0,
            clock=lambda: 0.0,
            has_work=None if asks_first else lambda: self.work,
        )

    async def _probe(self) -> None:
        self.probes += 1
        if self.trouble is not None:
            raise self.trouble

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CircuitBreaker]:
        task = asyncio.create_task(self.breaker.run(), name="breaker")
        try:
            yield self.breaker
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_peer_that_comes_back_before_the_wait_begins_is_not_waited_for() -> None:
    peer = Peer(NEVER, asks_first=True)
    async with peer.running() as breaker:
        await asyncio.sleep(0)
        breaker.record_failure(BrokerUnavailable("not connected"))
        breaker.hurry()
        await eventually_async(lambda: breaker.half_open, what="the trial")
        breaker.record_success()
        # The event that ended the last wait must not end the next one.
        breaker.record_failure(BrokerUnavailable("not connected"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert breaker.open
        assert peer.probes == 1


async def test_a_half_open_breaker_tries_the_work_itself() -> None:
    peer = Peer(QUICK)
    peer.work, peer.trouble = True, StoreRefused("dot-files are denied")
    async with peer.running() as breaker:
        breaker.record_failure(StoreUnavailable("away"))
        await eventually_async(lambda: breaker.half_open, what="the trial")
        breaker.record_failure(StoreUnavailable("still away"))
        assert breaker.open
        await eventually_async(lambda: breaker.half_open, what="the next trial")
        breaker.record_success()
        assert breaker.health == PeerHealth()
    assert peer.probes == 0


async def test_without_work_the_probe_decides() -> None:
    peer = Peer(QUICK)
    peer.trouble = StoreUnavailable("away")
    async with peer.running() as breaker:
        breaker.record_failure(peer.trouble)
        await eventually_async(lambda: peer.probes >= 3, what="some probes")
        assert breaker.health == PeerHealth(state=PeerState.UNAVAILABLE, problem="away")
        peer.trouble = None
        await eventually_async(lambda: breaker.health.ok, what="the probe to succeed")
        await asyncio.wait_for(breaker.passable(), 10)


async def test_where_the_work_vanishes_before_its_trial_the_probe_decides() -> None:
    peer = Peer(QUICK)
    peer.work = True
    async with peer.running() as breaker:
        breaker.record_failure(StoreUnavailable("away"))
        await eventually_async(lambda: breaker.half_open, what="the trial")
        peer.work = False
        await eventually_async(lambda: breaker.health.ok, what="the probe")
    assert peer.probes >= 1


async def test_one_success_among_failures_closes_it() -> None:
    peer = Peer(NEVER)
    async with peer.running() as breaker:
        breaker.record_failure(StoreUnavailable("reset"))
        breaker.record_success()
        assert not breaker.open
        assert breaker.health.ok


async def test_a_success_does_not_end_a_pause_that_the_peer_asked_for() -> None:
    breaker = Peer(NEVER).breaker
    breaker.record_failure(StoreUnavailable("503", retry_after_s=60.0))
    breaker.record_success()
    assert breaker.open
