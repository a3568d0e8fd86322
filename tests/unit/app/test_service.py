"""The end of the process; what the running service does is tested in `integration/test_main_path.py`."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from async_motion.app import cameras, service

SCRIPT = """
import threading
from async_motion.app import service

service.LAST_WORDS_S = 0.2
threading.Thread(target=threading.Event().wait, name='reader').start()
service.bound_exit()
"""


def test_a_thread_that_hangs_does_not_hold_up_the_exit() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a thread or a connection (MainThread, reader) does not end" in done.stderr
    assert "in wait\n" in done.stderr, "the stacks"


async def test_a_camera_that_hangs_does_not_end_a_worker_before_it_delivers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = list[str]()
    monkeypatch.setattr(service, "LAST_WORDS_S", 0.05)
    monkeypatch.setattr(service, "_end_without", ended.append)

    async def member() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)  # stops its cameras

    task = asyncio.create_task(member())
    await asyncio.sleep(0)
    await service._leave(task)  # noqa: SLF001
    assert task.done()
    assert ended == []


def test_a_camera_is_abandoned_before_the_wait_for_all_cameras_ends() -> None:
    assert service.STOP_S > cameras.STOP_S + service.LAST_WORDS_S
