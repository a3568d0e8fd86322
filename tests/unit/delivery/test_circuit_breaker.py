"""The gate before a peer."""

from __future__ import annotations

import asyncio
import contextlib

from async_motion.delivery.circuit_breaker import CircuitBreaker, Pace
from async_motion.errors import BrokerUnavailable
from tests.support.wait import eventually_async

NEVER = Pace(first_s=3600, max_s=3600, refused_first_s=3600, refused_most_s=3600)


async def test_who_comes_back_before_the_wait_has_begun_is_not_waited_for() -> None:
    probes = 0

    async def probe() -> None:
        nonlocal probes
        probes += 1

    gate = CircuitBreaker("broker", probe, pace=NEVER, draw=lambda: 1.0, clock=lambda: 0.0)
    running = asyncio.create_task(gate.run())
    await asyncio.sleep(0)
    gate.failed(BrokerUnavailable("not connected"))
    gate.hurry()
    await eventually_async(lambda: gate.on_trial, what="the trial")
    gate.succeeded()
    # What ended the last wait does not end the next one.
    gate.failed(BrokerUnavailable("not connected"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert gate.shut
    assert probes == 1
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
