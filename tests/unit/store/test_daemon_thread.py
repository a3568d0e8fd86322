"""Blocking calls in daemon threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from async_motion.store.daemon_thread import in_daemon_thread
from tests.support.wait import eventually_async


async def test_results_and_errors_reach_the_caller() -> None:
    assert await in_daemon_thread(lambda a, b: (a, b, threading.current_thread().daemon), 1, 2) == (
        1,
        2,
        True,
    )
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


async def test_work_whose_caller_is_cancelled_goes_on_and_is_done_later() -> None:
    begun, goes_on, ended = threading.Event(), threading.Event(), asyncio.Event()

    def work() -> None:
        begun.set()
        goes_on.wait()

    calling = asyncio.create_task(in_daemon_thread(work, done=ended.set))
    await eventually_async(begun.is_set, what="the thread")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert not ended.is_set()
    goes_on.set()
    await eventually_async(ended.is_set, what="its end")
