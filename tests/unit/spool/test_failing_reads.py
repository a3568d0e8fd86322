"""Failing reads of the spool: once, permanently, or with values that no code has written."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_motion.core.items import FrameUpload, PhaseAnnouncement, SummaryUpload
from async_motion.core.model import MotionEvent
from async_motion.errors import SpoolError
from async_motion.spool import Spool, look
from async_motion.spool.leases import Leases
from async_motion.spool.schema import LINE_BYTES
from async_motion.spool.tables import Tables
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import announce_all, new_spool, seqs, store_all, stored, waiting_seqs


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_READ, "SQLITE_IOERR_READ"
    return error


def damage() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
    return error


def failing(real: Callable[..., Any], error: Callable[[], Exception], times: int) -> Callable[..., Any]:
    """Return `real`, which raises `error` the first `times` times."""
    left = times

    def call(*args: Any, **more: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise error()
        return real(*args, **more)

    return call


def harm(path: Path, statement: str) -> None:
    """Change a spool as no code of ours does."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def set_aside_files(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}.damaged-*"))


@pytest.mark.parametrize("error", [io_error, damage])
async def test_one_failed_read_is_read_again_and_sets_nothing_aside(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(make_event(), 0)])
        await spool.remember("today/porch", b"value")
        monkeypatch.setattr(Tables, "recall", failing(Tables.recall, error, 1))
        assert await spool.recall("today/porch") == b"value"
        assert await waiting_seqs(spool) == [0]
    assert set_aside_files(path) == []


async def test_a_remembered_value_that_cannot_be_read_is_none(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(make_event(), 0)])
        monkeypatch.setattr(Tables, "recall", failing(Tables.recall, io_error, 100))
        assert await spool.recall("today/porch") is None
        monkeypatch.setattr(Tables, "forget", failing(Tables.forget, io_error, 100))
        await spool.forget("learned/", but=[])
        assert await waiting_seqs(spool) == [0]
    assert "going on without it" in caplog.text
    assert set_aside_files(path) == [], "a disk that fails is not a damaged file"


async def test_damage_met_twice_by_a_look_is_answered_from_a_new_spool(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(make_event(), 0)])
        monkeypatch.setattr(Tables, "recall", failing(Tables.recall, damage, 2))
        assert await spool.recall("today/porch") is None
        assert await waiting_seqs(spool) == []
        await spool.accept([make_record(make_event(), 1)])
        assert await waiting_seqs(spool) == [1]
    assert len(set_aside_files(path)) == 1


async def test_damage_met_once_ends_no_event_and_keeps_leases_and_counts(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        (leased,) = await spool.take_uploads(fresh=True, limit=10)
        monkeypatch.setattr(Tables, "recall", failing(Tables.recall, damage, 1))
        await spool.recall("today/porch")
        assert await spool.take_uploads(fresh=True, limit=10) == [], "it is still leased"
        await spool.mark_stored(leased.number, stored(leased))
        assert await delivered(spool) == [0]
        assert await delivered(spool) == ["start"]
        await spool.accept([make_record(event, 1)])
        await spool.accept([end_of(event)])
        assert spool.stats.accepted == 2
        (upload,) = await spool.take_uploads(fresh=True, limit=10)
        assert upload.no == 1
        await spool.mark_stored(upload.number, stored(upload))
        assert await delivered(spool) == [1]
        (summary,) = await spool.take_uploads(fresh=True, limit=10)
        assert isinstance(summary, SummaryUpload)
        assert summary.event == event_ended(event)
        assert (summary.no, len(summary.lines)) == (1, 2)
        await spool.mark_stored(summary.number, None)
        assert await delivered(spool) == ["end"]
        assert spool.stats.empty
    async with new_spool(path, clock) as spool:
        assert spool.stats.empty, "no other end follows"


def event_ended(event: MotionEvent) -> MotionEvent:
    return end_of(event).event


async def delivered(spool: Spool) -> list[int | str]:
    """Announce what is ready, all of it fresh; return the `seqs`."""
    news = [one for batch in await spool.take_fresh_announcements(100) for one in batch]
    assert await spool.take_backlog_announcements(100) == []
    await spool.remove([one.number for one in news])
    return seqs(news)


async def test_an_event_whose_row_is_damaged_goes_on_and_so_do_the_others(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    event, other = make_event(), make_event("yard")
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        await spool.accept([make_record(other, 0), start_of(other)])
        harm(path, f"UPDATE events SET body = 'x' WHERE event_id = '{event.event_id}'")
        assert await spool.event_now(event.event_id) is None
        await spool.accept([make_record(make_event("porch", 7), 0)])  # a snapshot, which belongs to no event
        await spool.accept([make_record(event, 1)])
        now = await spool.event_now(event.event_id)
        assert now is not None
        assert (now.no, now.event.event_id, now.event.camera) == (1, event.event_id, "porch")
        await spool.accept([end_of(event)])
        await store_all(spool)
        assert seqs(await announce_all(spool)).count("start") == 2
        await store_all(spool)
        (end,) = await announce_all(spool)
        assert isinstance(end, PhaseAnnouncement)
        assert (end.no, end.phase.event, end.frames_stored) == (1, event_ended(event), 2)
        still_open = await spool.event_now(other.event_id)
        assert still_open is not None
        assert still_open.event.ended_at is None
    assert "met damage" not in caplog.text


async def test_a_damaged_event_of_the_last_run_leaves_no_lines(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        await store_all(spool)
        await announce_all(spool)
        held = spool.stats.bytes
    harm(path, "UPDATE events SET body = 'x'")
    async with new_spool(path, clock) as spool:
        assert (held, spool.stats.bytes) == (LINE_BYTES, 0)


@pytest.mark.parametrize("error", [io_error, damage])
async def test_one_failed_read_at_the_start_sets_nothing_aside(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(make_event(), 0)])
    monkeypatch.setattr(Tables, "recount", failing(Tables.recount, error, 1))
    spool = new_spool(path, clock)
    try:
        await spool.open()
    except SpoolError:
        await spool.open()  # the caller gets EIO; the next start finds everything
    assert await waiting_seqs(spool) == [0]
    await spool.aclose()
    assert set_aside_files(path) == []


async def test_a_spool_that_has_lost_count_gets_a_new_id(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        before = await spool.writer()
        await spool.accept([make_record(event, 0), start_of(event)])
    harm(path, "UPDATE numbers SET last = 'x'")
    async with new_spool(path, clock) as spool:
        assert await spool.writer() != before
        (upload,) = await spool.take_uploads(fresh=False, limit=10)
        assert upload.no == 1


async def test_a_bug_at_the_start_reaches_the_caller(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tables, "recount", lambda _: 1 // 0)
    async with asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError):
            await new_spool(path, clock).open()


async def test_a_take_that_fails_leases_nothing(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, other = make_event(), make_event("yard")
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event)])
        await spool.accept([make_record(other, 0), start_of(other)])
        monkeypatch.setattr("async_motion.spool.leases.CACHE_BYTES", 0)
        real, calls = Leases._upload, 0  # noqa: SLF001

        def fails_at_the_second(leases: Leases, *args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise io_error()
            return real(leases, *args, **more)

        with monkeypatch.context() as patched:
            patched.setattr(Leases, "_upload", fails_at_the_second)
            with pytest.raises(SpoolError):
                await spool.take_uploads(fresh=True, limit=10)
        uploads = await spool.take_uploads(fresh=True, limit=10)
        assert seqs(uploads) == [0, 1, 0]
        for upload in uploads:
            await spool.mark_stored(upload.number, stored(upload))
        announcement = Leases._announcement  # noqa: SLF001
        with monkeypatch.context() as patched:
            patched.setattr(Leases, "_announcement", _fails_for("yard", announcement))
            with pytest.raises(SpoolError):
                await spool.take_fresh_announcements(10)
        assert sorted(map(str, seqs(await announce_all(spool)))) == ["0", "0", "1", "start", "start"]


def _fails_for(camera: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def announce(leases: Leases, row: Any, **more: Any) -> Any:
        found = real(leases, row, **more)
        if getattr(found, "stored", None) is not None and found.stored.info.camera == camera:
            raise io_error()
        return found

    return announce


async def test_what_was_leased_reaches_its_caller_though_setting_aside_fails(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1)])
    harm(path, "UPDATE jpegs SET jpeg = zeroblob(3000) WHERE number = 1")
    async with new_spool(path, clock) as spool:
        monkeypatch.setattr(Tables, "set_aside", failing(Tables.set_aside, io_error, 1))
        assert seqs(await spool.take_uploads(fresh=False, limit=10)) == [1]
        assert spool.stats.set_aside == 0
        assert await spool.take_uploads(fresh=False, limit=10) == []
        assert spool.stats.set_aside == 1, "the next take sets it aside"


DAMAGE = [
    "UPDATE items SET clock = 'yesterday' WHERE number = 1",
    "UPDATE items SET clock = 1e300 WHERE number = 1",
    "UPDATE items SET clock = -1e300",
    "UPDATE items SET clock = x'00ff'",
    "UPDATE items SET wall = 'x', bytes = 'many' WHERE number = 1",
    "UPDATE items SET wall = 9e99",
    "UPDATE items SET kind = 77 WHERE number = 1",
    "UPDATE items SET state = 'lost' WHERE number = 1",
    "UPDATE items SET kind = 'x', state = 99, clock = 'x', wall = x'00' WHERE number IN (1, 2)",
    "UPDATE items SET event_number = 'x'",
    "UPDATE events SET body = 'x'",
    "UPDATE events SET last_captured = 'never'",
    "UPDATE events SET last_captured = '9999-99-99T00:00:00Z'",
    "UPDATE events SET body = '[[[[', last_captured = x'ff'",
    "UPDATE lines SET body = '{}'",
    "UPDATE memory SET value = 'text'",
    "DELETE FROM jpegs",
    "DELETE FROM events",
    "UPDATE index_lines SET body = x'ff'",
    "UPDATE index_days SET day = 'x', version = 9",
    "UPDATE numbers SET last = 'x'",
]


@pytest.mark.parametrize("statement", DAMAGE)
async def test_values_that_no_code_has_written_end_nothing(path: Path, clock: Clock, statement: str) -> None:
    event, other, last = make_event(), make_event("yard"), make_event(index=60)
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event), make_record(event, 1)])
        await spool.accept([make_record(other, 0), start_of(other), end_of(other)])
        await spool.remember("today/porch", b"value")
        (first, *_) = await spool.take_uploads(fresh=True, limit=1)
        await spool.mark_stored(first.number, stored(first))
    harm(path, statement)
    async with asyncio.timeout(60), new_spool(path, clock) as spool:
        await spool.recall("today/porch")
        await spool.accept([make_record(last, 0), start_of(last), end_of(last)])
        for _ in range(4):
            await announce_all(spool)
            await store_all(spool, fresh=False)
            await announce_all(spool)
            await store_all(spool, fresh=True)
        await spool.due_index()
        assert spool.stats.empty, spool.stats
        clock.sleep(1)
        taken = await spool.take_uploads(fresh=True, limit=10)
        assert not [item for item in taken if isinstance(item, FrameUpload)]
    look(path)


@pytest.mark.parametrize("statement", [one for one in DAMAGE if "events" in one or "lines" in one])
async def test_an_event_damaged_at_work_ends_nothing(path: Path, clock: Clock, statement: str) -> None:
    event, other = make_event(), make_event("yard")
    async with asyncio.timeout(60), new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        await spool.accept([make_record(other, 0), start_of(other)])
        await store_all(spool)
        await announce_all(spool)
        harm(path, statement)
        await spool.accept([make_record(event, 1), make_record(other, 1), end_of(event)])
        await spool.accept([end_of(other)])
        for _ in range(3):
            await store_all(spool)
            await announce_all(spool)
        assert spool.stats.empty, spool.stats
