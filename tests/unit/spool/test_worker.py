"""The worker: transactions, damage, full and failing disks, bugs."""

# ruff: noqa: ASYNC240  # tests may wait for a file
from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from async_motion import spool as spool_package
from async_motion.core.model import Record
from async_motion.errors import SpoolError
from async_motion.spool import Spool, codec, files, worker
from async_motion.spool import spool as spool_module
from async_motion.spool.leases import Leases
from async_motion.spool.tables import Tables
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import (
    announce_all,
    new_spool,
    seqs,
    stored,
    waiting_seqs,
    wal_of,
)
from tests.support.wait import eventually_async


async def test_calls_that_come_together_share_a_commit(spool: Spool) -> None:
    event = make_event()
    await spool.accept([start_of(event)])
    before = spool.stats.commits
    async with asyncio.TaskGroup() as tasks:
        for seq in range(40):
            tasks.create_task(spool.accept([make_record(event, seq)]), name=f"accept {seq}")
    assert spool.stats.records == 40
    assert spool.stats.commits - before < 20


async def test_a_newer_spool_is_set_aside(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    async with new_spool(path, clock) as spool:
        assert spool.stats.empty
        await spool.accept([make_record(event, 1)])
    assert "was written by a newer version" in caplog.text
    (aside,) = path.parent.glob("spool.db.newer-*")
    assert spool_package.look(path).set_aside_spools == (aside,)


@pytest.mark.parametrize("harm", ["header", "middle", "nonsense", "empty"])
async def test_a_damaged_spool_is_set_aside_and_a_fresh_one_begins(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event), *(make_record(event, seq) for seq in range(20))])
    content = bytearray(path.read_bytes())
    if harm == "header":
        content[:100] = bytes(100)
    elif harm == "middle":
        content[8192 : 8192 * 12] = os.urandom(8192 * 11)
    else:
        content = bytearray(b"not a database at all" * 1000 if harm == "nonsense" else b"")
    path.write_bytes(content)
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 100)])
        assert 100 in await waiting_seqs(spool)
        assert spool.stats.records == 1
    kept = list(path.parent.glob("spool.db.damaged-*"))
    if harm == "empty":
        assert kept == []
    else:
        assert len(kept) == 1
        assert "is damaged" in caplog.text
        assert kept[0].read_bytes()[8192:50_000] == content[8192:50_000]


async def test_damage_met_at_work_does_not_stop_acceptance(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    broken = sqlite3.DatabaseError("database disk image is malformed")
    broken.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        (upload,) = await spool.take_uploads(fresh=True, limit=1)

        def fail(*_: object) -> None:
            raise broken

        with monkeypatch.context() as patched:
            patched.setattr(Tables, "accept", fail)
            with pytest.raises(SpoolError, match="was damaged and is set aside"):
                await spool.accept([make_record(event, 1)])
        await spool.accept([make_record(event, 1)])
        # A late call about the old file's record must not affect the new file's.
        await spool.mark_stored(upload.number, stored(upload))
        assert await waiting_seqs(spool) == [1]
    assert len(list(path.parent.glob("spool.db.damaged-*"))) == 1


async def test_a_bug_in_the_thread_reaches_all_callers(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    async with new_spool(path, clock) as spool:
        monkeypatch.setattr(Tables, "accept", bug)
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(_meets_a_bug(spool, make_record(make_event(), seq)), name=f"{seq}")
                for seq in range(3)
            ]
        assert all(task.result() for task in waiting)
        assert await _meets_a_bug(spool, make_record(make_event(), 9))


async def _meets_a_bug(spool: Spool, record: Record) -> bool:
    try:
        await spool.accept([record])
    except ZeroDivisionError:
        return True
    return False


async def test_a_full_disk_refuses_records_but_takes_deletions(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(files, "is_nearly_full", lambda *_: True)
            for _ in range(3):
                with pytest.raises(SpoolError, match="no space left on its disk"):
                    await spool.accept([make_record(event, 1)])
            assert spool.stats.problem is not None
            async with asyncio.TaskGroup() as tasks:  # in one transaction, where only the note holds
                accepting = tasks.create_task(_refused(spool, make_record(event, 1)), name="accept")
                (upload,) = await spool.take_uploads(fresh=True, limit=1)
                await spool.mark_stored(upload.number, stored(upload))
            assert accepting.result()
            assert seqs(await announce_all(spool)) == [0]
        await spool.accept([make_record(event, 2)])
        assert await waiting_seqs(spool) == [2]
        assert spool.stats.problem is None
    assert caplog.text.count("no space left") == 1
    assert "accepts records again" in caplog.text


async def _refused(spool: Spool, record: Record) -> bool:
    try:
        await spool.accept([record])
    except SpoolError:
        return True
    return False


async def test_a_failed_fsync_is_followed_by_a_checkpoint(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"

    def fail(*_: object) -> None:
        raise error

    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "accept", fail)
            with pytest.raises(SpoolError, match="the disk fails \\(SQLITE_IOERR_FSYNC\\)"):
                await spool.accept([make_record(event, 1)])
        size = path.stat().st_size
        assert wal_of(path).stat().st_size > 0
        await spool.accept([make_record(event, 2)])
        # A checkpoint came first: the record is in the WAL's first pages, all earlier ones in the database.
        assert path.stat().st_size > size
        assert await waiting_seqs(spool) == [0, 2]


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_exit(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, begun, real = threading.Event(), threading.Event(), Tables.accept

    def hang(tables: Tables, items: Any) -> None:
        begun.set()
        hangs.wait(60)
        real(tables, items)

    event = make_event()
    spool = new_spool(path, clock, accept_timeout_s=0.5)
    await spool.open()
    await spool.accept([make_record(event, 0)])
    monkeypatch.setattr(Tables, "accept", hang)
    with pytest.raises(SpoolError, match=r"has not answered for 0\.5 s"):
        await spool.accept([make_record(event, 1)])
    assert begun.is_set()
    with pytest.raises(SpoolError, match="has not answered"):
        await spool.accept([make_record(event, 2)])
    await spool.aclose(timeout_s=0.05)
    assert "does not answer" in caplog.text
    hangs.set()
    await spool.aclose()
    async with new_spool(path, clock) as spool:
        # The second call was cancelled before it began; the first may or may not have been accepted.
        assert await waiting_seqs(spool) == [0, 1]


async def uncommitted_acceptance(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    """Return an acceptance that is not committed until the spool is closed."""
    monkeypatch.setattr(worker, "GROUP_S", 3600.0)
    accepting = asyncio.create_task(spool.accept([make_record(make_event(), 0)]), name="accept")
    await asyncio.sleep(0)
    return accepting


async def test_a_look_does_not_wait_for_an_acceptance_to_be_grouped(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting = await uncommitted_acceptance(spool, monkeypatch)
    async with asyncio.timeout(20):
        assert await spool.take_uploads(fresh=True, limit=10) == [], "what is not committed is not leased"
    assert not accepting.done()
    await spool.aclose()
    await accepting


async def test_a_bug_in_a_look_reaches_its_caller_and_all_others(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting = await uncommitted_acceptance(spool, monkeypatch)
    monkeypatch.setattr(Leases, "take_backlog_announcements", lambda *_: 1 // 0)
    async with asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError):
            await spool.take_backlog_announcements(1)
        with pytest.raises(ZeroDivisionError):
            await accepting


async def test_a_full_disk_takes_an_end_that_comes_together_with_a_frame(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        monkeypatch.setattr(files, "is_nearly_full", lambda *_: True)
        monkeypatch.setattr(worker, "GROUP_S", 0.2)
        async with asyncio.TaskGroup() as tasks:  # in one transaction
            refused = tasks.create_task(_refused(spool, make_record(make_event("yard"), 0)), name="accept")
            tasks.create_task(spool.accept([end_of(event)]), name="end")
        assert refused.result()
        assert (spool.stats.records, spool.stats.phases) == (1, 2)


async def test_a_freed_disk_ends_the_problem_without_an_acceptance(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(worker, "PROBE_S", 0.05)
    event, free = make_event(), 0
    async with new_spool(path, clock) as spool:
        monkeypatch.setattr(files, "is_nearly_full", lambda _, size: size > free)
        with pytest.raises(SpoolError, match="no space left on its disk"):
            await spool.accept([make_record(event, 0, size=3000)])
        free = 2000
        await spool.accept([start_of(event)])
        await spool.remember("today/porch", b"value")
        assert spool.stats.problem is not None, "these need no space for a JPEG"
        free = 3000
        await eventually_async(lambda: spool.stats.problem is None, what="the problem to end")
    assert [line for line in caplog.messages if "space" in line or "again" in line] == [
        f"spool: {path}: no space left on its disk: free some, or lower spool.max_bytes",
        "spool: accepts records again",
    ]


async def test_one_failed_read_is_no_lasting_problem(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROBE_S", 0.05)
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def fail(*_: object) -> None:
        raise broken

    async with new_spool(path, clock) as spool:
        with monkeypatch.context() as patched:
            patched.setattr(Leases, "event_now", fail)
            with pytest.raises(SpoolError, match="the disk fails"):
                await spool.event_now("x")
        await eventually_async(lambda: spool.stats.problem is None, what="the problem to end")
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "recall", lambda *_: codec.load_time("never"))
            assert await spool.recall("today/porch") is None
        await eventually_async(lambda: spool.stats.problem is None, what="the problem to end")


async def test_a_damaged_spool_that_cannot_be_set_aside_is_a_problem(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "PROBE_S", 0.05)
    broken = sqlite3.DatabaseError("database disk image is malformed")
    broken.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def fail(*_: object) -> None:
        raise broken

    def read_only(*_: object) -> None:
        raise files.cannot_write(path, OSError(errno.EROFS, "Read-only file system"))

    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "recall", fail)
            patched.setattr(files, "move_away", read_only)
            patched.setattr(files, "connect", fail)
            assert await spool.recall("today/porch") is None
            await eventually_async(lambda: spool.stats.problem is not None, what="the problem")
            assert "Read-only file system" in str(spool.stats.problem)
            assert spool.stats.records == 1, "the last figures"
            with pytest.raises(SpoolError, match="Read-only file system"):
                await spool.accept([make_record(event, 1)])
        await eventually_async(lambda: spool.stats.problem is None, what="the problem to end")
        assert await waiting_seqs(spool) == [0]
    assert "Read-only file system" in caplog.text
    assert not list(path.parent.glob("spool.db.damaged-*"))


async def test_a_call_that_is_cancelled_as_it_begins_ends_nothing(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cancelled(worker.WorkerCall):
        """Its caller is cancelled between a look at its function and the next."""

        @property
        def function(self) -> Any:
            self.looks = getattr(self, "looks", 0) + 1
            return None if self.looks > 2 else lambda tables: tables.recall("x")

        @function.setter
        def function(self, _: Any) -> None: ...

    monkeypatch.setattr(spool_module, "WorkerCall", Cancelled)
    async with new_spool(path, clock) as spool:
        await spool.remove([1])
        await spool.remove([2])
