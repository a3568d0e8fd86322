"""Wait for a condition with a time limit, instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within_s: float = 30.0, what: str = "the condition") -> T:
    """Poll `condition` and return its first truthy value; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up after {within_s:g} s waiting for {what}")
        time.sleep(0.01)


@overload
async def eventually_async(
    condition: Callable[[], Awaitable[T]], *, within_s: float = 30.0, what: str = "the condition"
) -> T: ...
@overload
async def eventually_async(
    condition: Callable[[], T], *, within_s: float = 30.0, what: str = "the condition"
) -> T: ...
async def eventually_async(
    condition: Callable[[], T | Awaitable[T]], *, within_s: float = 30.0, what: str = "the condition"
) -> T:
    """Do the same without blocking the event loop; `condition` may be a coroutine function."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up after {within_s:g} s waiting for {what}")
        await asyncio.sleep(0.01)
