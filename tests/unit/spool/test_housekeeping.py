"""Housekeeping: reports of drops, space returned to the file system."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from async_motion.spool.schema import ROW_BYTES
from tests.support.clock import Clock
from tests.support.records import make_event, make_record, start_of
from tests.support.spooling import (
    announce_all,
    new_spool,
    room_for,
    store_all,
    wal_of,
)
from tests.support.wait import eventually_async


async def test_drops_are_reported_once_and_then_summed_up(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event = make_event()
    async with new_spool(path, clock, max_bytes=room_for(2) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.9), start_of(event)])
        for seq in range(1, 21):
            await spool.accept([make_record(event, seq)])
        assert len([r for r in caplog.records if "dropping records" in r.message]) == 1
        clock.sleep(61)
        await spool.accept([make_record(event, 21)])
        assert "still dropping records: full: 19 more" in caplog.text
        clock.sleep(61)
        await eventually_async(lambda: "drops no more records" in caplog.text, what="the end of the drops")


async def test_space_goes_back_to_the_file_system(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event)])
        for seq in range(80):
            await spool.accept([make_record(event, seq, size=200_000)])
        await store_all(spool)
        await announce_all(spool)
        # Less than half of its former size: 4 MiB of free pages are kept for the next records.
        await eventually_async(
            lambda: path.stat().st_size < 8_000_000 and wal_of(path).stat().st_size < 17_000_000,
            what="the file to shrink",
        )
