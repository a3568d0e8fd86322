"""The writer of day logs: when files are put, and failures of the store."""

from __future__ import annotations

import gzip
from datetime import date

import pytest

from async_motion.core.items import DueDayLog
from async_motion.delivery.day_logs import NOTE_KEY
from async_motion.errors import StoreRefused, StoreUnavailable
from tests.support.delivering import Bench
from tests.support.wait import eventually_async

DAYS = (date(2026, 11, 21), date(2026, 11, 22))


class Logs:
    """Two days that are due until they are stored."""

    def __init__(self) -> None:
        self.writer = ""
        self.stored: list[date] = []

    def follow(self, writer: str) -> None:
        self.writer = writer

    def due(self) -> list[DueDayLog]:
        body = gzip.compress(b"{}\n")
        left = [day for day in DAYS if day not in self.stored]
        return [DueDayLog(instance="edge1", day=day, version=1, body=body) for day in left]

    def mark_stored(self, due: DueDayLog) -> None:
        self.stored.append(due.day)

    def note(self) -> bytes:
        return b"the note"


def keys(bench: Bench) -> list[str]:
    return sorted(key for key in bench.store.objects if "/.days/" in key)


async def test_the_files_are_put_in_their_time_and_noted(bench: Bench) -> None:
    logs = Logs()
    writer = await bench.spool.writer()
    async with bench.delivering(index_every_s=0.02, day_logs=logs, prefix="p/"):
        await eventually_async(lambda: logs.stored == list(DAYS), what="both days to be stored")
    assert keys(bench) == [f"p/edge1/.days/1/2026/11/{day}.{writer}.jsonl.gz" for day in (21, 22)]
    assert bench.store.metadata[keys(bench)[0]]["kind"] == "day_log"
    assert logs.writer == writer
    assert await bench.spool.recall(NOTE_KEY) == b"the note"


async def test_a_stop_writes_them_at_once(bench: Bench) -> None:
    logs = Logs()
    await bench.accept_event(1)
    async with bench.delivering(index_every_s=3600.0, day_logs=logs) as delivery:
        assert not keys(bench)
        assert await delivery.drain(30)
    assert logs.stored == list(DAYS)
    assert len(keys(bench)) == 2


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreRefused("no")])
async def test_a_failure_waits_for_the_next_round(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    logs, tries = Logs(), []

    def trouble(key: str) -> Exception | None:
        if "/.days/" not in key:
            return None
        tries.append(key)
        return error if len(tries) <= 3 else None

    bench.store.trouble = trouble
    async with bench.delivering(index_every_s=0.02, day_logs=logs):
        await eventually_async(lambda: logs.stored == list(DAYS), what="both days to be stored")
    assert len(tries) == 5
    assert caplog.text.count("is not written") == 1, "the same problem is logged once"


async def test_a_stop_does_not_wait_for_a_store_that_is_away(bench: Bench) -> None:
    logs = Logs()
    bench.store.trouble = lambda key: StoreUnavailable("away") if "/.days/" in key else None
    async with bench.delivering(index_every_s=3600.0, day_logs=logs) as delivery:
        assert await delivery.drain(30)
    assert not logs.stored
    assert await bench.spool.recall(NOTE_KEY) == b"the note", "the next start puts them"


async def test_a_stop_in_an_outage_notes_them(bench: Bench) -> None:
    await bench.accept_event(1)
    bench.store.trouble = lambda _key: StoreUnavailable("away")

    async def noted() -> bool:
        return await bench.spool.recall(NOTE_KEY) == b"the note"

    async with bench.delivering(index_every_s=3600.0, day_logs=Logs()) as delivery:
        assert not await delivery.drain(0.05)
        await eventually_async(noted, what="the note")
    assert not keys(bench)
