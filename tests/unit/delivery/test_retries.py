"""Retries: an item that fails, a spool that cannot be written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from async_motion.delivery.circuit_breaker import CircuitBreaker, DeliveryPace
from async_motion.delivery.retries import Figures, Retries
from async_motion.errors import (
    BrokerNotReady,
    BrokerUnavailable,
    SpoolError,
    StoreUnavailable,
)
from tests.support.delivering import QUICK, Bench
from tests.support.records import make_event, make_record
from tests.support.wait import eventually_async


async def test_an_item_that_always_fails_blocks_its_camera_only_until_it_is_delayed(bench: Bench) -> None:
    bench.store.trouble = lambda key: StoreUnavailable("cut off") if "000001" in key else None
    event = make_event()
    async with bench.delivering(concurrency=2) as delivery:
        for seq in range(4):
            await bench.spool.accept([make_record(event, seq)])
        await eventually_async(lambda: len(bench.store.objects) == 3, what="the others to be stored")
        assert bench.announced() == [0]
        bench.clock.sleep(11)
        await eventually_async(lambda: bench.announced() == [0, 2, 3], what="the others to be announced")
        await bench.spool.accept([make_record(event, 4)])
        await eventually_async(lambda: bench.announced() == [0, 2, 3, 4], what="a fresh one")
        bench.store.trouble = lambda _: None

        def time_passes() -> bool:
            bench.clock.sleep(1)
            return bench.announced() == [0, 2, 3, 4, 1]

        await eventually_async(time_passes, what="the delayed one")
        assert await delivery.drain(20)
    assert [f["delayed"] for f in bench.broker.frames] == [False, True, True, False, True]


@pytest.mark.parametrize(
    ("error", "max_s"), [(BrokerNotReady("porch: not ready"), 5.0), (BrokerUnavailable("no answer"), 300.0)]
)
async def test_an_item_without_a_connection_of_its_camera_is_not_delayed_for_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BrokerUnavailable, max_s: float
) -> None:
    delays: list[float] = []

    async def release(_numbers: Any, delay_s: float = 0.0) -> None:
        delays.append(delay_s)

    monkeypatch.setattr(bench.spool, "release", release)
    pace = DeliveryPace()
    retries = Retries(bench.spool, pace=pace, draw=lambda: 0.5, figures=Figures())
    breaker = CircuitBreaker("broker", bench.store.probe, pace=pace, draw=lambda: 0.5, clock=bench.clock)
    for _ in range(20):
        breaker.record_success()  # another camera's
        await retries.release(1, error, breaker)
    assert delays[:4] == [0.0, 0.0, 0.5, 1.0]
    assert delays[-1] == max(delays) == max_s


async def test_a_spool_in_trouble_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real_remove, real_take = bench.spool.remove, bench.spool.take_uploads
    troubles = {"remove": 2, "take": 2}

    async def remove(numbers: Any) -> None:
        if troubles["remove"]:
            troubles["remove"] -= 1
            raise SpoolError("no space left")
        await real_remove(numbers)

    async def take(**how: Any) -> Any:
        if troubles["take"]:
            troubles["take"] -= 1
            raise SpoolError("the disk fails")
        return await real_take(**how)

    monkeypatch.setattr(bench.spool, "remove", remove)
    monkeypatch.setattr(bench.spool, "take_uploads", take)
    await bench.accept_event(2)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    assert troubles == {"remove": 0, "take": 0}
    assert bench.announced() == [0, 1]


async def test_new_rejections_do_not_keep_the_older_ones_waiting(bench: Bench) -> None:
    await bench.accept_event(1)
    (record,) = await bench.spool.take_uploads(fresh=True, limit=1)
    await bench.spool.set_aside(record.number, "policy")
    pace = replace(QUICK, aside_first_s=0.0, aside_max_s=0.0)
    retries = Retries(bench.spool, pace=pace, draw=lambda: 0.5, figures=Figures())
    breaker = CircuitBreaker("store", bench.store.probe, pace=pace, draw=lambda: 0.5, clock=bench.clock)

    async def reject() -> None:
        for number in count(100):
            retries.set_aside(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one) for one in (retries.run(breaker), reject())]
        await eventually_async(lambda: bench.spool.stats.set_aside == 0, what="the record to be tried again")
        for task in running:
            task.cancel()
