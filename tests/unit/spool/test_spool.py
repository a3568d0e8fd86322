"""The spool's asynchronous interface: restarts, remembered values, spools in memory."""

# ruff: noqa: ASYNC240  # tests may wait for a file
from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from async_motion.errors import SpoolError
from async_motion.spool import Spool, files
from async_motion.spool.schema import ROW_BYTES
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import (
    new_spool,
    room_for,
    seqs,
    stored,
    waiting_seqs,
)


async def test_changes_call_back(spool: Spool) -> None:
    called = asyncio.Event()
    spool.on_work(called.set)
    await spool.accept([make_record(make_event(), 0)])
    await asyncio.wait_for(called.wait(), 10)
    spool.off_work(called.set)
    called.clear()
    await spool.accept([make_record(make_event(), 1)])
    await asyncio.sleep(0)
    assert not called.is_set()


async def test_a_large_value_takes_no_room_that_deletions_need_and_no_acceptance_with_it(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.remember("learned/porch", b"old")
        large = bytes(200_000)
        monkeypatch.setattr(files, "is_nearly_full", lambda _path, size: size >= len(large))
        async with asyncio.TaskGroup() as tasks:  # concurrently, so that they share a transaction
            accepting = tasks.create_task(spool.accept([make_record(event, 0), start_of(event)]))
            with pytest.raises(SpoolError, match="no space left"):
                await spool.remember("learned/porch", large, durable=False)
            await accepting
            await spool.remember("small", b"x")
        assert spool.stats.records == 1
        assert spool.stats.problem is None
        assert await spool.recall("learned/porch") == b"old"
        assert spool.stats.bytes < len(large), "it counts in no bound"


async def test_everything_is_there_after_a_restart(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event), end_of(event)])
        first = (await spool.take_uploads(fresh=True, limit=1))[0]
        await spool.mark_stored(first.number, stored(first))
        await spool.remember("detector/porch", b"\x00state")
        await spool.remember("gone", b"x")
        await spool.remember("gone", None, durable=False)
        before = spool.stats
    clock.sleep(5)
    async with new_spool(path, clock) as spool:
        assert (spool.stats.records, spool.stats.phases, spool.stats.bytes) == (
            before.records,
            before.phases,
            before.bytes,
        )
        assert spool.stats.oldest_age_s == pytest.approx(5)
        assert await spool.recall("detector/porch") == b"\x00state"
        assert await spool.recall("gone") is None
        assert await spool.take_uploads(fresh=True, limit=10) == []
        (upload,) = await spool.take_uploads(fresh=False, limit=10)
        assert seqs([upload]) == [1]
        news = await spool.take_backlog_announcements(10)
        assert seqs(news) == [0]
        assert news[0].delayed


async def test_a_closed_spool_raises(path: Path, clock: Clock) -> None:
    spool = new_spool(path, clock)
    with pytest.raises(SpoolError, match="closed"):
        await spool.accept([])
    await spool.aclose()


async def test_memory_leaves_no_trace(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    event = make_event()
    async with new_spool(":memory:", clock, max_bytes=room_for(2) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        for seq in range(1, 9):
            await spool.accept([make_record(event, seq)])
        assert await waiting_seqs(spool) == [0, 8]
        assert spool.stats.bytes <= spool.stats.max_bytes
    assert list(tmp_path.iterdir()) == []
    async with new_spool(":memory:", clock) as spool:
        assert spool.stats.empty
