"""Retention of a directory store: removes whole events, oldest first, never one being written."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from async_motion.core.day_log import day_log_key
from async_motion.core.index import index_key
from async_motion.core.payloads import iso
from async_motion.retrieval import EventReader
from async_motion.store.directory_reader import DirectoryReader
from async_motion.store.retention import OPEN_S, WRITING_S, KeptDirectoryStore, Retention
from async_motion.store.trusted_clock import HOLD_S
from tests.support.bucket import INSTANCE, MadeEvent, fill, make_event
from tests.support.clock import Clock
from tests.support.wait import eventually_async

NOW = Clock().now()
BODY = b"x" * 10_000


@dataclass
class Disk:
    """What a store sees of its machine: the clock, and the free bytes of its disk."""

    clock: Clock = field(default_factory=Clock)
    free_bytes: int = 10**12

    def store(self, path: Path, **keep: int) -> KeptDirectoryStore:
        return KeptDirectoryStore(
            path,
            Retention(**keep),
            now=self.clock.now,
            monotonic=self.clock,
            free=lambda _: self.free_bytes,
        )


def event(minutes: int, *, frames: int = 4, ended: bool = True, camera: str = "porch") -> MadeEvent:
    at = NOW + timedelta(minutes=minutes)
    return make_event(camera=camera, at=at, salt=minutes & 0xFFFFFF, jpegs=[BODY] * frames, ended=ended)


async def put(store: KeptDirectoryStore, made: MadeEvent, after: Callable[[], None] = lambda: None) -> None:
    for key, (data, about) in made.objects.items():
        await store.put(key, data, content_type="image/jpeg", metadata=about, tags={})
        after()


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def there(path: Path, events: list[MadeEvent]) -> list[bool]:
    return [(path / made.folder).exists() for made in events]


def note_clock(path: Path, at: datetime) -> None:
    """Write the clock file of a service that ran until `at`."""
    (path / ".async_motion").mkdir(parents=True, exist_ok=True)
    (path / ".async_motion" / "clock").write_text(iso(at))


async def test_bytes_are_never_above_the_bound_by_more_than_one_event(tmp_path: Path) -> None:
    disk, bound, one = Disk(), 300_000, 4 * 11_000 + 3_000
    async with disk.store(tmp_path, max_bytes=bound) as store:
        events = [event(20 * n) for n in range(20)]
        for made in events:
            disk.clock.turn_to(made.frames[0].captured_at)
            await put(
                store, made, lambda: None if size(tmp_path) <= bound + one else pytest.fail("over the bound")
            )
    kept = there(tmp_path, events)
    assert kept == sorted(kept), "the oldest went"
    assert 3 <= sum(kept) <= 7
    assert size(tmp_path) <= bound + one


async def test_days_are_kept(tmp_path: Path) -> None:
    disk = Disk()
    old, young = event(-31 * 1440), event(-29 * 1440)
    await asyncio.to_thread(fill, tmp_path, old, young, index=[old, young])
    note_clock(tmp_path, NOW)
    index = tmp_path / INSTANCE / ".index" / "1" / "porch"
    assert len(list(index.rglob("*.gz"))) == 2
    logs = [tmp_path / day_log_key("", INSTANCE, day, "a41c07") for day in (old.day, young.day)]
    for log in logs:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    async with disk.store(tmp_path, days=30) as store:
        await eventually_async(lambda: not (tmp_path / old.folder).exists())
        await put(store, event(0))
    assert (tmp_path / young.folder).exists()
    assert [log.exists() for log in logs] == [False, True], "a day log goes with its day's events"
    # The index and the reader no longer list the removed events.
    assert [file.parts[-2:] for file in index.rglob("*.gz")] == [("10", "24.a41c07.jsonl.gz")]
    async with DirectoryReader(tmp_path) as bucket:
        reader = EventReader(bucket, instance=INSTANCE, now=lambda: NOW)
        assert [e.event_id async for e in reader.events()] == [young.event_id, event(0).event_id]


async def test_a_clock_that_jumps_ahead_removes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    events = [event(-20 * 1440), event(-60)]
    await asyncio.to_thread(fill, tmp_path, *events)

    def store() -> KeptDirectoryStore:
        keep = Retention(days=30)
        return KeptDirectoryStore(tmp_path, keep, now=clock.now, monotonic=clock)

    async with store() as kept:
        await put(kept, event(0))
        assert (tmp_path / ".async_motion" / "clock").exists()
        clock.sleep(120.0)
        clock.ahead_s = 3650 * 86400.0 - 120.0
        later = event(3650 * 1440)
        await put(kept, later)
    # Neither a restart nor events stored with the wrong time make the clock trusted.
    async with store() as kept:
        clock.sleep(120.0)
        await put(kept, event(3650 * 1440 + 2))
        assert there(tmp_path, [*events, event(0), later]) == [True] * 4
        assert caplog.text.count("the clock jumped to 2036-11-19") == 2
        # It has held for half a day: the earlier clock was the wrong one.
        clock.sleep(HOLD_S)
        await put(kept, event(3650 * 1440 + 800))
    assert there(tmp_path, [*events, event(0), later]) == [False, False, False, True]


async def test_free_space_is_kept(tmp_path: Path) -> None:
    disk = Disk()
    events = [event(-300), event(-200)]
    await asyncio.to_thread(fill, tmp_path, *events)
    async with disk.store(tmp_path, min_free=1_000_000) as store:
        await put(store, event(0))
        assert there(tmp_path, events) == [True, True]
        disk.free_bytes = 999_999
        disk.clock.sleep(2 * 60)
        await put(store, event(2))
    assert there(tmp_path, events) == [False, False]
    assert there(tmp_path, [event(0), event(2)]) == [True, True], "written just now"


async def test_what_is_being_written_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    going = event(-60, ended=False)
    async with disk.store(tmp_path, max_bytes=20_000) as store:
        await put(store, going)
        assert (tmp_path / going.folder).exists()
        assert "over directory.keep" in caplog.text
        disk.clock.sleep(WRITING_S + 1)
        await put(store, event(20, frames=1))
        assert (tmp_path / going.folder).exists(), "it has no end yet"
        disk.clock.sleep(OPEN_S)
        await put(store, event(1500, frames=1))
    assert not (tmp_path / going.folder).exists()


async def test_what_is_put_again_counts_once(tmp_path: Path) -> None:
    disk = Disk()
    events = [event(-60), event(-50)]
    async with disk.store(tmp_path, max_bytes=150_000) as store:
        for _ in range(10):
            for made in events:
                await put(store, made)
                disk.clock.sleep(20 * 60)
    assert there(tmp_path, events) == [True, True]


async def test_an_event_that_others_removed_stops_no_put(tmp_path: Path) -> None:
    disk = Disk()
    async with disk.store(tmp_path, days=2) as store:
        await put(store, event(0))
        shutil.rmtree(tmp_path / event(0).folder)
        disk.clock.turn_to(NOW + timedelta(days=2, minutes=1))
        await put(store, event(2 * 1440 + 1))
    assert there(tmp_path, [event(2 * 1440 + 1)]) == [True]


async def test_bytes_that_others_removed_do_not_count(tmp_path: Path) -> None:
    disk = Disk()
    events = [event(20 * n) for n in range(5)]
    async with disk.store(tmp_path, max_bytes=5 * 44_000) as store:
        for made in events:
            await put(store, made)
            disk.clock.sleep(20 * 60)
        for made in events[2:4]:
            shutil.rmtree(tmp_path / made.folder)
        await put(store, event(100))
        await put(store, event(120))
    assert there(tmp_path, events) == [True, True, False, False, True], "there was room for both new ones"


async def test_an_event_that_cannot_be_looked_at_stops_no_put_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    events = [event(20 * n) for n in range(5)]
    failing = tmp_path / events[1].folder
    look = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return look(path, **options)

    async with disk.store(tmp_path, max_bytes=3 * 44_000) as store:
        for made in events[:3]:
            await put(store, made)
            disk.clock.sleep(20 * 60)
        monkeypatch.setattr(Path, "stat", stat)
        for made in events[3:]:
            await put(store, made)
            disk.clock.sleep(20 * 60)
        monkeypatch.undo()
    assert there(tmp_path, events) == [False, False, True, True, True]


async def test_an_event_that_cannot_be_removed_stops_no_put(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    odd, old = event(-3 * 1440 - 1), event(-3 * 1440)
    await asyncio.to_thread(fill, tmp_path, odd, old)
    (tmp_path / odd.folder / "zz").mkdir()  # no file of ours, and not to be unlinked
    note_clock(tmp_path, NOW)
    async with disk.store(tmp_path, days=2) as store:
        await eventually_async(lambda: not (tmp_path / old.folder).exists())
        disk.clock.sleep(120.0)
        await put(store, event(2))
    assert caplog.text.count("cannot be removed") == 1


async def test_a_removal_that_hangs_holds_up_no_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, old, goes_on, hangs = Disk(), event(-3 * 1440), threading.Event(), threading.Event()
    await asyncio.to_thread(fill, tmp_path, old)
    note_clock(tmp_path, NOW)
    unlink = Path.unlink

    def hanging(path: Path, missing_ok: bool = False) -> None:
        if path.parent == tmp_path / old.folder:
            hangs.set()
            goes_on.wait()
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", hanging)
    async with disk.store(tmp_path, days=2) as store:
        await eventually_async(hangs.is_set)
        try:
            async with asyncio.timeout(60.0):
                for n in range(3):
                    disk.clock.sleep(120.0)
                    await put(store, event(n))
            assert (tmp_path / old.folder).exists()
        finally:
            goes_on.set()
        await eventually_async(lambda: not (tmp_path / old.folder).exists())


async def test_a_disk_that_cannot_be_asked_stops_no_put(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, old = Disk(), event(-3 * 1440)
    await asyncio.to_thread(fill, tmp_path, old)
    asked = 0

    def free(_: Path) -> int:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path))
        return 0

    keep = Retention(min_free=10**9)
    async with KeptDirectoryStore(
        tmp_path, keep, now=disk.clock.now, monotonic=disk.clock, free=free
    ) as store:
        await eventually_async(lambda: asked > 0)
        for n in range(4):
            disk.clock.sleep(120.0)
            await put(store, event(n, frames=1))
    assert not (tmp_path / old.folder).exists()
    assert caplog.text.count("retention is held up: Input/output error") == 1


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        pytest.param({"days": 30}, [False, False, True], id="by days"),
        pytest.param({"max_bytes": 10**9}, [False, True, True], id="by size: for a year"),
    ],
)
async def test_day_logs_go_without_events_too(tmp_path: Path, keep: dict[str, int], kept: list[bool]) -> None:
    disk = Disk()
    note_clock(tmp_path, NOW)
    keys = [day_log_key("", INSTANCE, (NOW - timedelta(days=age)).date(), "a41c07") for age in (400, 40, 20)]
    orphan = tmp_path / index_key("", INSTANCE, "porch", (NOW - timedelta(days=400)).date(), "a41c07")
    for file in (*map(tmp_path.joinpath, keys), orphan):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    async with disk.store(tmp_path, **keep):
        gone = [tmp_path / key for key, stays in zip(keys, kept, strict=True) if not stays]
        # An index without events goes with the logs of its day.
        await eventually_async(lambda: not any(file.exists() for file in (*gone, orphan)))
    assert [(tmp_path / key).exists() for key in keys] == kept


async def test_day_logs_of_quiet_days_are_kept_for_as_long_as_events(tmp_path: Path) -> None:
    disk = Disk()
    note_clock(tmp_path, NOW)
    quiet = tmp_path / day_log_key("", INSTANCE, (NOW - timedelta(days=20)).date(), "a41c07")
    quiet.parent.mkdir(parents=True)
    quiet.touch()
    async with disk.store(tmp_path, days=30) as store:
        await put(store, event(0))
        disk.clock.sleep(120.0)
        await put(store, event(2))
    assert quiet.exists()


async def test_foreign_files_stay(tmp_path: Path) -> None:
    disk = Disk()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x").write_bytes(bytes(100_000))
    (tmp_path / "20269922T110000000Z-000000").mkdir()
    async with disk.store(tmp_path, max_bytes=60_000) as store:
        await put(store, event(0))
    assert (tmp_path / "notes" / "x").exists()
    assert (tmp_path / event(0).folder).exists()


def test_without_bounds_nothing_is_removed() -> None:
    assert not Retention().is_bounded
    assert Retention(days=1).is_bounded
