"""Free space is reported for the disks that the service writes to, and for no others."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from async_motion.app.disks import Disks
from async_motion.settings import load
from tests.support.wait import eventually_async


async def looked(tmp_path: Path, text: str) -> dict[str, int]:
    path = tmp_path / "variables.yaml"
    path.write_text(text)
    disks = Disks(load(path, {}))
    task = asyncio.create_task(disks.run())
    if text:
        await eventually_async(lambda: task.done() or bool(disks.state()), what="a look at the disks")
    task.cancel()
    await asyncio.wait([task])
    return disks.state()


async def test_the_spool_and_a_store_that_is_a_directory(tmp_path: Path) -> None:
    text = f"spool: {{path: '{tmp_path}/spool.db'}}\ndirectory: {{path: '{tmp_path}'}}\n"
    found = await looked(tmp_path, text)
    assert found["spool"] > 0


async def test_a_disk_that_hangs_holds_up_neither_the_other_nor_the_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, real = threading.Event(), os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        if path == tmp_path / "spool":
            assert threading.current_thread().daemon, "the interpreter does not wait for it"
            hangs.wait(60)
        return real(tmp_path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    text = f"spool: {{path: '{tmp_path}/spool/spool.db'}}\ndirectory: {{path: '{tmp_path}'}}\n"
    assert set(await looked(tmp_path, text)) == {"store"}
    hangs.set()


async def test_a_folder_that_is_not_there_yet_is_left_out(tmp_path: Path) -> None:
    text = f"spool: {{path: '{tmp_path}/spool.db'}}\ndirectory: {{path: '{tmp_path}/later'}}\n"
    assert "store" not in await looked(tmp_path, text)


async def test_a_service_that_writes_to_no_disk_looks_at_none(tmp_path: Path) -> None:
    text = "spool: {path: ':memory:'}\nminio: {endpoint: 's3:9000', access_key: a, secret_key: bbbbbbbb}\n"
    assert await looked(tmp_path, text) == {}
