"""`async-motion spool` beside a running service."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from async_motion import spool as spool_package
from async_motion.errors import SpoolError
from async_motion.spool import inspect
from tests.support.clock import Clock
from tests.support.records import make_event, make_record, start_of
from tests.support.spooling import (
    new_spool,
    stored,
)
from tests.support.wait import eventually_async


async def test_looking_retrying_and_exporting_beside_the_service(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    event, other = make_event(), make_event("yard")
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event)])
        await spool.accept([make_record(other, 0)])
        first, second, _ = await spool.take_uploads(fresh=True, limit=10)
        await spool.set_aside(first.number, "EntityTooLarge: 3000 bytes")
        await spool.mark_stored(second.number, stored(second))

        report = spool_package.look(path)
        assert report.records == 2
        porch, yard = report.waiting
        assert (porch.camera, porch.to_store, porch.to_announce, porch.phases) == ("porch", 0, 1, 1)
        assert (yard.camera, yard.to_store) == ("yard", 1)
        (aside,) = report.aside
        assert (aside.info, aside.reason) == (make_record(event, 0).info, "EntityTooLarge: 3000 bytes")
        assert report.file_bytes > 0

        out = tmp_path / "out"
        assert {f.relative_to(out).as_posix() for f in spool_package.export(path, out)} == {
            make_record(event, 0).info.object_key,
            make_record(other, 0).info.object_key,
        }
        (only,) = spool_package.export(path, out, aside_only=True)
        assert only.read_bytes() == make_record(event, 0).jpeg

        assert spool_package.retry(path, [999]) == 0
        assert spool_package.retry(path) == 1
        await eventually_async(lambda: spool.stats.set_aside == 0, what="the service to notice")
        assert spool.stats.records == 3
        (again,) = await spool.take_uploads(fresh=True, limit=10)
        assert again.number == first.number


def test_looking_at_a_file_that_is_not_a_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        spool_package.look(tmp_path / "none.db")
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(SpoolError, match="is not a spool"):
        spool_package.look(tmp_path / "other.db")
    (tmp_path / "noise.db").write_bytes(b"noise" * 2000)
    with pytest.raises(SpoolError):
        spool_package.look(tmp_path / "noise.db")


async def test_a_damaged_description_costs_an_export_only_the_name(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    records = [make_record(make_event(), seq) for seq in range(3)]
    async with new_spool(path, clock) as spool:
        await spool.accept(records)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE items SET body = 'x' WHERE number = (SELECT min(number) FROM items)")
    files = list(spool_package.export(path, tmp_path / "out"))
    assert [file.read_bytes() for file in files] == [record.jpeg for record in records]
    assert files[0].parent == tmp_path / "out" / "unreadable"


async def test_an_export_never_leaves_its_folder(path: Path, tmp_path: Path, clock: Clock) -> None:
    record = make_record(make_event(), 0)
    async with new_spool(path, clock) as spool:
        await spool.accept([replace(record, info=replace(record.info, object_key="../../escaped.jpg"))])
    with pytest.raises(SpoolError, match="leads out of"):
        list(spool_package.export(path, tmp_path / "out"))


@pytest.mark.parametrize("log", ["with its log", "without a log"])
async def test_a_spool_that_may_not_be_written_can_be_looked_at(
    path: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    event = make_event()
    kept = tmp_path / "kept"
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        if log == "with its log":  # as after a crash: only in the WAL
            kept.mkdir()
            for ending in ("", "-wal"):
                shutil.copy(path.with_name(path.name + ending), kept / (path.name + ending))
    if log == "without a log":
        shutil.copytree(path.parent, kept)
    before = {file.name: file.read_bytes() for file in kept.iterdir()}
    real = inspect._read_only  # noqa: SLF001

    def read_only_disk(file: Path, how: str) -> sqlite3.Connection:
        """Answer as SQLite does without the right to write: root could write anywhere."""
        if "immutable" not in how:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return real(file, how)

    monkeypatch.setattr(inspect, "_read_only", read_only_disk)
    assert spool_package.look(kept / path.name).records == 1
    assert len(list(spool_package.export(kept / path.name, tmp_path / "out"))) == 1
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == before


async def test_looking_writes_nothing(path: Path, clock: Clock) -> None:
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(make_event(), 0)])
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    assert spool_package.look(path).records == 1
    after = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    assert {name: after[name] for name in before} == before
