"""Dispatch: work starts when the bell rings and the breaker allows it; a failing spool is retried."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from async_motion.core.backoff import Backoff
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.delivery.dispatch import Bell, Slots, dispatch, share_of
from async_motion.errors import SpoolError

LONG_S = 60.0


def test_slots_count_fresh_and_backlog_apart() -> None:
    slots = Slots()
    slots.add(3, backlog=False)
    slots.add(2, backlog=True)
    slots.add(-1, backlog=False)
    assert (slots.fresh, slots.backlog, slots.all) == (2, 2, 4)


@pytest.mark.parametrize(("share", "slots"), [(0.0, 0), (0.01, 1), (0.5, 4), (0.99, 7), (1.0, 8)])
def test_a_share_of_the_slots_is_one_at_least(share: float, slots: int) -> None:
    assert share_of(8, share) == slots


async def test_a_ring_between_looking_and_waiting_is_not_missed() -> None:
    bell = Bell()
    heard = bell.count
    bell.ring()
    async with asyncio.timeout(5):
        await bell.wait(LONG_S, heard)


async def test_a_ring_wakes_all_who_wait() -> None:
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait(LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)
    bell.ring()
    async with asyncio.timeout(5):
        await asyncio.wait(waiting)


async def test_a_wait_ends_without_a_ring() -> None:
    async with asyncio.timeout(5):
        await Bell().wait(0.0)


class OpenAfter:
    """A breaker that opens after the first `calls`."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    async def passable(self) -> None:
        if self.calls == 0:
            await asyncio.Event().wait()
        self.calls -= 1


async def started(answers: list[int | SpoolError]) -> int:
    """Dispatch until all `answers` were given; return how often work was started."""
    done, calls = asyncio.Event(), 0
    breaker = OpenAfter(len(answers))

    async def start() -> int:
        nonlocal calls
        answer = answers[calls]
        calls += 1
        if calls == len(answers):
            done.set()
        if isinstance(answer, SpoolError):
            raise answer
        return answer

    backoff = Backoff(draw=lambda: 0.0, first_s=0.0, max_s=0.0)
    task = asyncio.create_task(
        dispatch(start, breaker=cast(CircuitBreaker, breaker), bell=Bell(), backoff=backoff, poll_s=0.0)
    )
    async with asyncio.timeout(5):
        await done.wait()
    task.cancel()
    await asyncio.wait([task])
    return calls


async def test_work_is_looked_for_again_and_again() -> None:
    assert await started([2, 0, 1, 0]) == 4


async def test_a_spool_that_fails_is_asked_again() -> None:
    assert await started([SpoolError("disk full"), SpoolError("disk full"), 1]) == 3
