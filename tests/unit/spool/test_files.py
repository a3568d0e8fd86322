"""The spool's files: permissions, locking, and setting damaged ones aside."""

# ruff: noqa: ASYNC240  # tests may wait for a file
from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from async_motion.errors import SpoolError
from async_motion.spool import files, restore
from tests.support.clock import Clock
from tests.support.records import make_event, make_record
from tests.support.spooling import (
    new_spool,
)


async def test_one_process_at_a_time(path: Path, clock: Clock) -> None:
    async with new_spool(path, clock):
        with pytest.raises(SpoolError, match=rf"in use by another async_motion \(process {os.getpid()}\)"):
            await new_spool(path, clock).open()
    async with new_spool(path, clock) as spool:
        assert spool.stats.empty


async def test_a_path_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError) as caught:
        await new_spool(tmp_path / "file" / "spool.db", clock).open()
    assert "spool.db: cannot be written" in str(caught.value)
    assert "choose another spool.path" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_folder_in_place_of_the_file(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(SpoolError, match="cannot be written"):
        await new_spool(tmp_path / "spool.db", clock).open()


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match="another program"):
        await new_spool(path, clock).open()
    assert path.read_bytes()[100:] == before[100:]  # opening it in WAL mode changes the header
    assert [p.name for p in tmp_path.glob("other.db.damaged*")] == []


async def test_no_more_than_two_damaged_spools_are_kept(path: Path, clock: Clock) -> None:
    for _ in range(4):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nonsense" * 5000)
        async with new_spool(path, clock):
            clock.sleep(1)
    assert len(list(path.parent.glob("spool.db.damaged-*"))) == files.KEPT_DAMAGED


async def test_a_schema_that_is_no_text_is_damage(path: Path, clock: Clock) -> None:
    """Python's sqlite3 cannot decode what SQLite says of it."""
    async with new_spool(path, clock):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = CAST(x'43524541544520d3ff' AS TEXT) WHERE name = 'items'")
    damaged = path.read_bytes()
    with pytest.raises(SpoolError, match="SQLITE_CORRUPT"):
        restore(io.BytesIO(damaged), path.with_name("other.db"))
    async with new_spool(path, clock):
        pass
    (kept,) = path.parent.glob(f"{path.name}.damaged-*")
    assert kept.read_bytes() == damaged


async def test_a_deleted_jpeg_is_not_overwritten_with_zeros(path: Path, clock: Clock) -> None:
    async with new_spool(path, clock):
        pass
    db = files.connect(path)
    assert db.execute("PRAGMA secure_delete").fetchone() == (0,)
    db.close()


async def test_the_files_are_for_this_user_alone(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "data" / "spool.db"
    before = os.umask(0o022)
    try:
        async with new_spool(path, clock) as spool:
            await spool.accept([make_record(make_event(), 0)])
            assert {
                file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()
            } == dict.fromkeys(("spool.db", "spool.db-wal", "spool.db-shm", "spool.db.lock"), "0o600")
            assert path.parent.stat().st_mode & 0o777 == 0o700
        # A file that an older version left world-readable becomes private.
        path.chmod(0o644)
        async with new_spool(path, clock) as spool:
            await spool.accept([make_record(make_event(), 1)])
            assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}
    finally:
        os.umask(before)
