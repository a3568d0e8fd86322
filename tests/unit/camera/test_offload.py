"""Work in an executor: no call returns while its thread still runs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from async_motion.camera.offload import offload
from tests.support.wait import eventually_async


async def test_the_result_and_the_error_come_back() -> None:
    def broken() -> int:
        raise ZeroDivisionError

    with ThreadPoolExecutor(1) as executor:
        assert await offload(executor, lambda number: number + 1, 2) == 3
        with pytest.raises(ZeroDivisionError):
            await offload(executor, broken)


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_cancellation_waits_for_the_thread_however_often_it_comes(times: int) -> None:
    go, at_work = threading.Event(), threading.Event()

    def work() -> None:
        at_work.set()
        go.wait(30)
        at_work.clear()

    with ThreadPoolExecutor(2) as executor:
        task = asyncio.create_task(offload(executor, work), name="work")
        await eventually_async(at_work.is_set)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not at_work.is_set()


async def test_work_that_fails_after_a_cancellation_says_nothing() -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(30)
        raise ZeroDivisionError

    with ThreadPoolExecutor(1) as executor:
        task = asyncio.create_task(offload(executor, work), name="work")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
