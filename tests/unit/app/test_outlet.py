"""A change of the store: waiting records go to the new one, counters continue, the old one is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from async_motion.app import build
from async_motion.app.outlet import Outlet
from async_motion.broker.fake import FakeBroker
from async_motion.core.names import Topics
from async_motion.core.payloads import iso
from async_motion.delivery import Delivery
from async_motion.errors import SettingsError
from async_motion.settings import Settings
from async_motion.spool import Spool
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.wait import eventually_async


def settings(folder: Path, **changes: object) -> Settings:
    return Settings.model_validate({"instance": "edge1", "directory": {"path": str(folder)}, **changes})


def make(spool: Spool, broker: FakeBroker, _settings: Settings, /, *, store: build.AnyStore) -> Delivery:
    return Delivery(
        spool=spool, store=store, broker=broker, topics=Topics("async_motion/edge1"), index_every_s=3600.0
    )


@asynccontextmanager
async def delivering(spool: Spool, folder: Path) -> AsyncIterator[Outlet]:
    broker = FakeBroker()
    async with (
        Outlet(settings(folder), partial(make, spool, broker)) as outlet,
        asyncio.TaskGroup() as tasks,
    ):
        running = [tasks.create_task(each) for each in (broker.run(), outlet.run())]
        yield outlet
        for task in running:
            task.cancel()


async def accept(spool: Spool, index: int) -> None:
    event = make_event(index=index)
    await spool.accept([make_record(event, 0), start_of(event)])
    await spool.accept([end_of(event)])


def frames(folder: Path) -> int:
    return len(list(folder.rglob("*.jpg")))


def index_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.jsonl.gz"))


async def test_what_comes_after_a_change_goes_to_the_other_store(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    seen: list[str] = []
    async with Spool(":memory:") as spool, delivering(spool, old) as outlet:
        outlet.on_stored(lambda stored: seen.append(iso(stored.stored_at)))
        await accept(spool, 0)
        assert await outlet.drain(20)
        await outlet.change(settings(new))
        await accept(spool, 1)
        await eventually_async(lambda: frames(new), what="a frame in the other store")
        assert await outlet.drain(20)
        assert (frames(old), frames(new)) == (1, 1)
        assert outlet.health().stored == 2
        assert len(seen) == 2


async def test_a_stop_right_after_a_change_drains_the_new_delivery(tmp_path: Path) -> None:
    async with Spool(":memory:") as spool, delivering(spool, tmp_path / "old") as outlet:
        await accept(spool, 0)
        await eventually_async(lambda: index_files(tmp_path / "old"), what="the index")
        await accept(spool, 1)
        await eventually_async(lambda: spool.stats.empty, what="the next event to be told")
        await outlet.change(settings(tmp_path / "new"))
        assert await outlet.drain(60)
        assert index_files(tmp_path / "new"), "it is due, and written at a stop"


async def test_of_two_changes_at_once_the_last_counts(tmp_path: Path) -> None:
    async with Spool(":memory:") as spool, delivering(spool, tmp_path / "old") as outlet:
        await outlet.change(settings(tmp_path / "never"))
        await outlet.change(settings(tmp_path / "new"))
        await accept(spool, 0)
        await eventually_async(lambda: frames(tmp_path / "new"), what="a frame in the last one")
        assert not frames(tmp_path / "never")


async def test_a_store_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    minio = {"endpoint": "127.0.0.1:9", "secure": True, "ca_file": str(bad), "secret_key": "secret-key"}
    async with Spool(":memory:") as spool, delivering(spool, tmp_path / "old") as outlet:
        with pytest.raises(SettingsError, match="ca_file"):
            await outlet.change(settings(tmp_path, minio=minio))
        await accept(spool, 0)
        await eventually_async(lambda: frames(tmp_path / "old"), what="a frame where they were")
