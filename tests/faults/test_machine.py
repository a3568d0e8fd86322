"""Faults of the machine below the service: power, disk, clock, and a kill at each kind of system call."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.oracle import Healed, Verdict
from tests.faults.stage import Stage, staged
from tests.support.need import need
from tests.support.wait import eventually, eventually_async

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

FS_IOC_SHUTDOWN = 0x8004587D
"""The same number for ext4 and xfs: the file system stops at once."""
WITHOUT_THE_LOG = 2
"""What is only in memory is gone, the journal's as well: a power loss."""

STEPS = {"fsync": 40, "pwrite64": 250, "sendto": 200, "write": 60}
"""The system calls at which the service is killed, and among how many of each the moment is drawn.

strace counts them for each thread: the fsyncs and pwrites are the spool's.
"""


async def verdict_of(stage: Stage) -> Verdict:
    await stage.more_accepted(within_s=90)
    await stage.settle()
    return await stage.oracle.judge()


# -- power


@contextlib.contextmanager
def file_system(kind: str, folder: Path) -> Iterator[Path]:
    """Mount a fresh file system of this kind from an image; yield its mount point."""
    need(os.geteuid() == 0, "root, to mount file systems")
    need(shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin:/usr/bin") is not None, f"mkfs.{kind}")
    image, point = folder / f"{kind}.img", folder / kind
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 1024 * 1024)
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True, env=system_path())
    mount(image, point)
    try:
        yield point
    finally:
        unmount(point)


def system_path() -> dict[str, str]:
    return {**os.environ, "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"}


def mount(image: Path, point: Path) -> None:
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True, capture_output=True)


def unmount(point: Path) -> None:
    def gone() -> bool:
        # Busy for a moment after a process that used it was killed.
        return subprocess.run(["umount", str(point)], capture_output=True).returncode == 0

    eventually(gone, within_s=20, what=f"{point} to be unmounted")


def lose_power(point: Path) -> None:
    """Stop the file system as a power loss would, whatever is under way."""
    folder = os.open(point, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", WITHOUT_THE_LOG))
    finally:
        os.close(folder)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_a_power_loss_loses_nothing_accepted(kind: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    with file_system(kind, tmp_path) as point:
        async with staged(tmp_path / "stage", 7, spool=point / "spool.db") as stage:
            for round_number in range(4):
                # Much in the spool, or nearly nothing: with and without the store.
                if round_number % 2:
                    await stage.store_proxy.close_port()
                await stage.more_accepted(20)
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                lose_power(point)
                stage.kill_service()
                unmount(point)
                mount(tmp_path / f"{kind}.img", point)
                if round_number % 2:
                    await stage.store_proxy.open_port()
                stage.service.start()
                await stage.more_accepted()
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


# -- disk


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    need(os.geteuid() == 0, "root, to mount file systems")
    point = folder / "small"
    point.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(point)],
        check=True,
        capture_output=True,
    )
    try:
        yield point
    finally:
        unmount(point)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass


def said(stage: Stage, text: str) -> int:
    """Return how often the spool has said this."""
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
                await until_said(stage, "takes records again", before + 1)
                await stage.more_accepted(5)
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


async def test_a_spool_that_fills_its_disk_drains_by_itself(tmp_path: Path) -> None:
    """The spool may be larger than its disk: with the store away it fills it, and then empties again."""
    with small_disk(tmp_path, 24) as point:
        fill(point / "ballast")
        os.truncate(point / "ballast", 12 * 1024 * 1024)
        async with staged(tmp_path / "stage", 9, spool=point / "spool.db", fps=20) as stage:
            await stage.store_proxy.close_port()
            await until_said(stage, "no space left", 1)
            await stage.store_proxy.open_port()
            await until_said(stage, "takes records again", 1)
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


async def test_a_failing_fsync_is_never_believed(tmp_path: Path) -> None:
    """Each third fsync fails with EIO for a while; then the power goes: what was accepted is there."""
    need(os.geteuid() == 0 and shutil.which("strace") is not None, "root and strace")
    with file_system("ext4", tmp_path) as point:
        async with staged(tmp_path / "stage", 10, spool=point / "spool.db") as stage:
            words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(stage.service_pid)]
            words += ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=3+3"]
            tracer = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
            await asyncio.to_thread(stage.service.wait_for_log, "the disk fails")
            await stage.more_accepted(20)
            lose_power(point)
            stage.kill_service()
            await tracer.wait()
            unmount(point)
            mount(tmp_path / "ext4.img", point)
            stage.service.start()
            verdict = await verdict_of(stage)
            stage.kill_service()
    print(verdict.figures)
    assert verdict.problems == []


# -- clock


async def test_the_wall_clock_may_jump_by_a_day(tmp_path: Path) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)  # noqa: ASYNC240
    need(library is not None, "libfaketime")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    async with staged(tmp_path / "stage", 11, env=env) as stage:
        for jump in ("+1d", "-1d"):
            offset.write_text(f"{jump}\n")
            await stage.more_accepted(10)
            offset.write_text("+0\n")
            stage.oracle.healed.append(Healed(f"a clock at {jump}", time.monotonic(), is_refusal=True))
            await stage.more_accepted(10)
        # A restart in the wrong year, then in the right one: nothing is too old, nothing is too new.
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


# -- a kill at every system call that matters


def moments(seed: int, count: int) -> list[tuple[str, int]]:
    """Draw moments of death: which system call, and the how many-th of it in its thread."""
    rng = random.Random(seed)
    return [(call, rng.randint(1, STEPS[call])) for call in (list(STEPS) * count)[:count]]


async def killed_at(stage: Stage, call: str, number: int) -> bool:
    """Run the service until its `number`-th `call` kills it. Say whether it came to that."""
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    words += ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
    stage.service.start(words)
    try:
        await eventually_async(lambda: not stage.service.running, within_s=12, what="its death")
    except AssertionError:
        stage.kill_service()
        return False
    return True


async def test_a_kill_at_any_system_call_loses_nothing_accepted(tmp_path: Path) -> None:
    need(shutil.which("strace") is not None, "strace")
    async with staged(tmp_path, 12) as stage:
        stage.kill_service()
        deaths = [await killed_at(stage, call, number) for call, number in moments(12, 10)]
        stage.service.start()
        verdict = await verdict_of(stage)
    print(verdict.figures, deaths)
    assert verdict.problems == []
    assert sum(deaths) >= 7
