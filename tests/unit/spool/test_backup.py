"""A spool's backup: a consistent copy, taken while the spool is written, and its restore."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from async_motion.errors import SpoolError
from async_motion.spool import look, restore, snapshot
from tests.support.clock import Clock
from tests.support.need import need
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import announce_all, new_spool, seqs, store_all


def put_in_place(source: Path, path: Path, *, replace: bool = False) -> Path | None:
    with source.open("rb") as file:
        return restore(file, path, replace=replace)


async def test_a_copy_holds_what_was_accepted_and_what_is_remembered(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    event = make_event()
    copy, elsewhere = tmp_path / "copy.db", tmp_path / "other" / "spool.db"
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event), make_record(event, 0)])
        await spool.remember("camera/porch/threshold", b"12")
        snapshot(path, copy)
        await spool.accept([make_record(event, 1), end_of(event)])
        writer = await spool.writer()
    assert copy.stat().st_mode & 0o777 == 0o600

    assert put_in_place(copy, elsewhere) is None
    async with new_spool(elsewhere, clock) as moved:
        assert await moved.recall("camera/porch/threshold") == b"12"
        assert await moved.writer() != writer, "the other spool has gone on: its numbers are its own"
        assert seqs(await store_all(moved, fresh=False)) == [0]
        phases = seqs(await announce_all(moved))
        assert phases[:2] == ["start", 0]
        assert seqs([*await store_all(moved), *await store_all(moved, fresh=False)]) == ["event.json"]
    assert look(path).records == 2, "the original is as it was"
    assert elsewhere.stat().st_mode & 0o777 == 0o600


async def test_a_copy_is_one_moment_while_frames_come_in(path: Path, tmp_path: Path, clock: Clock) -> None:
    """An event's frames are accepted in pairs: no copy may hold only one of a pair."""
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event)])
        done = asyncio.Event()

        async def accept() -> None:
            seq = 0
            while not done.is_set():
                await spool.accept([make_record(event, seq), make_record(event, seq + 1)])
                seq += 2

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(accept(), name="accept")
            copies = [tmp_path / f"{number}.db" for number in range(10)]
            for copy in copies:
                await asyncio.to_thread(snapshot, path, copy)
            done.set()

    counts = [look(copy).records for copy in copies]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert [count % 2 for count in counts] == [0] * 10


async def test_lines_of_the_index_that_were_not_written_stay_due_without_their_number(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event), make_record(event, 0), end_of(event)])
        while await store_all(spool) or await announce_all(spool):
            pass
        assert len(await spool.due_index()) == 1
        snapshot(path, tmp_path / "due.db")
        (day,) = await spool.due_index()
        await spool.mark_indexed(day)
        snapshot(path, tmp_path / "written.db")

    put_in_place(tmp_path / "due.db", tmp_path / "a.db")
    put_in_place(tmp_path / "written.db", tmp_path / "b.db")
    async with new_spool(tmp_path / "a.db", clock) as moved:
        (day,) = await moved.due_index()
        (line,) = await moved.index_lines(day)
        assert (json.loads(line)["event_id"], json.loads(line)["no"]) == (event.event_id, None)
    async with new_spool(tmp_path / "b.db", clock) as moved:
        assert await moved.due_index() == []


async def test_what_is_there_is_kept(path: Path, tmp_path: Path, clock: Clock) -> None:
    copy = tmp_path / "copy.db"
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(make_event(), 0)])
        snapshot(path, copy)
        with pytest.raises(SpoolError, match="in use by another async_motion"):
            put_in_place(copy, path, replace=True)
        await spool.accept([make_record(make_event(), 1)])

    with pytest.raises(SpoolError, match="there is a spool already"):
        put_in_place(copy, path)
    assert look(path).records == 2
    away = put_in_place(copy, path, replace=True)
    assert away is not None
    assert (look(path).records, look(away).records) == (1, 2)
    with pytest.raises(SpoolError):
        snapshot(path, copy)  # must not overwrite another file


@pytest.mark.parametrize(
    ("pragma", "words"), [("user_version = 999", "newer"), ("application_id = 1", "other")]
)
async def test_what_cannot_be_used_changes_nothing(
    path: Path, tmp_path: Path, clock: Clock, pragma: str, words: str
) -> None:
    copy = tmp_path / "copy.db"
    async with new_spool(path, clock):
        snapshot(path, copy)
    with closing(sqlite3.connect(copy)) as db:
        db.execute(f"PRAGMA {pragma}")

    with pytest.raises(SpoolError, match=words):
        put_in_place(copy, path, replace=True)
    assert look(path).records == 0
    assert [file.name for file in path.parent.iterdir() if "re" in file.name] == [], "nothing is left over"


async def test_a_damaged_copy_is_refused(path: Path, tmp_path: Path, clock: Clock) -> None:
    copy = tmp_path / "copy.db"
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, seq) for seq in range(50)])
        snapshot(path, copy)
    data = bytearray(copy.read_bytes())
    data[8192 * 2 : 8192 * 6] = b"\xff" * 8192 * 4
    copy.write_bytes(data)

    with pytest.raises(SpoolError):
        put_in_place(copy, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists() or (tmp_path / "new.db").stat().st_size == 0


async def test_what_root_restores_belongs_to_the_owner_of_the_folder(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    need(os.geteuid() == 0, "root")
    async with new_spool(path, clock):
        pass
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12346)
    for replace in (False, True):
        put_in_place(path, state / "data/spool.db", replace=replace)
        made = [state / "data", *(state / "data").iterdir()]
        assert {(each.stat().st_uid, each.stat().st_gid) for each in made} == {(12345, 12346)}


async def test_what_root_fails_to_restore_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root")
    state, copy = tmp_path / "state", tmp_path / "copy.db"
    state.mkdir()
    os.chown(state, 12345, 12346)
    copy.write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolError):
        put_in_place(copy, state / "data/spool.db")
    made = [state / "data", *(state / "data").iterdir()]
    assert {(each.stat().st_uid, each.stat().st_gid) for each in made} == {(12345, 12346)}


async def test_a_restore_follows_no_link(path: Path, tmp_path: Path, clock: Clock) -> None:
    """Root restores into a folder that the service's user may write to."""
    async with new_spool(path, clock):
        pass
    other, target = tmp_path / "other", tmp_path / "new" / "spool.db"
    other.write_text("precious")
    other.chmod(0o644)
    target.parent.mkdir()
    target.with_name("spool.db.restoring").symlink_to(other)
    put_in_place(path, target)
    assert other.read_text() == "precious"

    target.with_name("spool.db.lock").unlink()
    target.with_name("spool.db.lock").symlink_to(other)
    with pytest.raises(SpoolError, match="cannot be written") as caught:
        put_in_place(path, target, replace=True)
    assert "\n" not in str(caught.value)
    assert (other.read_text(), other.stat().st_mode & 0o777) == ("precious", 0o644)
    assert look(target).records == 0
