"""Faults of the machine below the service: power, disk, clock."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.faults.breaking import FAKETIME, clock_environment
from tests.faults.disk import Disk, fill, small_disk
from tests.faults.oracle import Verdict
from tests.faults.stage import Stage, staged
from tests.support.need import need
from tests.support.wait import eventually_async

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


async def verdict_of(stage: Stage) -> Verdict:
    await stage.fresh_frame()
    await stage.settle()
    return await stage.oracle.judge()


# -- power


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_a_power_loss_loses_nothing_accepted(kind: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    with Disk(kind, tmp_path) as disk:
        async with staged(tmp_path / "stage", 7, spool=disk.point / "spool.db") as stage:
            for round_number in range(4):
                # A full or a nearly empty spool: without or with the store.
                if round_number % 2:
                    await stage.store_proxy.close_port()
                await stage.more_accepted(20)
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                disk.lose_power()
                stage.kill_service()
                disk.unmount()
                disk.mount()
                if round_number % 2:
                    await stage.store_proxy.open_port()
                stage.service.start()
                await stage.more_accepted()
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


# -- disk


def said(stage: Stage, text: str) -> int:
    """Return how often the spool has logged `text`."""
    return sum(text in line for line in stage.service.messages() if line.startswith("spool: "))


async def until_said(stage: Stage, text: str, times: int) -> None:
    await eventually_async(lambda: said(stage, text) >= times, within_s=90, what=f"{text!r}, {times} times")


async def test_a_full_disk_stops_acceptance_and_loses_nothing_accepted(tmp_path: Path) -> None:
    with small_disk(tmp_path, 24) as point:
        async with staged(tmp_path / "stage", 8, spool=point / "spool.db") as stage:
            for away in (False, True):
                if away:
                    await stage.store_proxy.close_port()
                    await stage.more_accepted(10)
                before = said(stage, "no space left")
                fill(point / "ballast")
                await until_said(stage, "no space left", before + 1)
                if away:
                    await stage.store_proxy.open_port()
                (point / "ballast").unlink()
                await until_said(stage, "spool: accepts records again", before + 1)
                await stage.more_accepted(5)
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


async def test_a_spool_that_fills_its_disk_drains_by_itself(tmp_path: Path) -> None:
    """The spool's bound may exceed its disk: during an outage it fills the disk, and then drains again."""
    with small_disk(tmp_path, 24) as point:
        fill(point / "ballast")
        os.truncate(point / "ballast", 12 * 1024 * 1024)
        async with staged(tmp_path / "stage", 9, spool=point / "spool.db", fps=20) as stage:
            await stage.store_proxy.close_port()
            await until_said(stage, "no space left", 1)
            await stage.store_proxy.open_port()
            await until_said(stage, "spool: accepts records again", 1)
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


async def test_a_failing_fsync_is_never_believed(tmp_path: Path) -> None:
    """Every third fsync fails with EIO for a while; after a power loss all accepted records exist."""
    need(os.geteuid() == 0 and shutil.which("strace") is not None, "root and strace")
    with Disk("ext4", tmp_path) as disk:
        async with staged(tmp_path / "stage", 10, spool=disk.point / "spool.db") as stage:
            words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(stage.service_pid)]
            words += ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=3+3"]
            tracer = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
            await asyncio.to_thread(stage.service.wait_for_log, "the disk fails")
            await stage.more_accepted(20)
            disk.lose_power()
            stage.kill_service()
            await tracer.wait()
            disk.unmount()
            disk.mount()
            stage.service.start()
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


# -- clock


async def test_the_wall_clock_may_jump_by_a_day(tmp_path: Path) -> None:
    need(FAKETIME is not None, "libfaketime")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    async with staged(tmp_path / "stage", 11, env=clock_environment(offset)) as stage:
        for jump in ("+1d", "-1d"):
            offset.write_text(f"{jump}\n")
            await stage.more_accepted(10)
            offset.write_text("+0\n")
            # The store has refused requests with this date; the service retries by itself.
            await stage.fresh_frame()
        # A restart with the wrong year, then with the right one: no record counts as too old or too new.
        await stage.store_proxy.close_port()
        await stage.more_accepted(5)
        for jump in ("-300d", "+0"):
            stage.kill_service()
            offset.write_text(f"{jump}\n")
            stage.service.start()
            await stage.more_accepted(5)
        await stage.store_proxy.open_port()
        verdict = await verdict_of(stage)
    print(verdict.figures)
    assert verdict.problems == []
