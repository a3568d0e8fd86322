"""Blocking work in an executor, which every cancellation waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def offload(executor: Executor, work: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in an executor; a caller that is cancelled, however often, waits until it is done.

    A thread cannot be cancelled: to return earlier would let two threads use one detector.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, work, *arguments)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # Mark the exception as retrieved, or asyncio logs it.
        raise cancelled
    return future.result()
