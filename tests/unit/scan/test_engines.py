"""Process engines: their results, and the processes left after them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal

import pytest

from async_motion.scan import InProcess, Processes, ScanTask
from tests.unit.scan.kit import clip_in, recording_of, settings_in, spec_of


def children() -> list[int]:
    return [child.pid or 0 for child in multiprocessing.active_children()]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ScanTask:
    folder = tmp_path_factory.mktemp("scan")
    recording = recording_of(clip_in(folder))
    return ScanTask(recording=recording, spec=spec_of(settings_in(folder), recording))


async def test_a_process_gives_what_this_one_gives_and_one_that_dies_is_replaced(task: ScanTask) -> None:
    async with InProcess() as here:
        expected = await here.run(task, lambda _share: None)
    assert expected.events
    before = set(children())
    async with Processes(1) as engine:
        shares: list[float] = []
        assert await engine.run(task, shares.append) == expected
        assert shares == sorted(shares)
        (child,) = set(children()) - before
        os.kill(child, signal.SIGKILL)
        died = await engine.run(task, shares.append)
        assert died.problem is not None
        assert "SIGKILL" in died.problem
        assert not died.stops
        assert await engine.run(task, shares.append) == expected
        running = asyncio.create_task(engine.run(task, shares.append))
        await asyncio.sleep(0)
        running.cancel()
    assert set(children()) == before


async def test_ctrl_c_does_not_end_a_process_that_starts(task: ScanTask) -> None:
    before = set(children())
    async with Processes(1) as engine:
        (child,) = set(children()) - before
        os.kill(child, signal.SIGINT)
        outcome = await engine.run(task, lambda _share: None)
    assert outcome.problem is None
    assert outcome.events
