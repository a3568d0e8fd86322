"""Changes of the settings and the stop, in this process; the end of the process.

What the running service does is tested in `integration/test_main_path.py` and `test_reload.py`.
"""

# ruff: noqa: SLF001
from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_motion.app import cameras, service, units
from async_motion.app.editor import SettingsFile
from async_motion.app.liveness import Liveness
from async_motion.app.reload import Plan
from async_motion.camera.supervisor import CameraSupervisor
from async_motion.capture import CameraSource
from async_motion.errors import SettingsError
from async_motion.settings import CameraSettings
from tests.support.ports import free_port
from tests.support.wait import eventually_async

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
    await service._leave(task)
    assert task.done()
    assert ended == []


def test_a_camera_is_abandoned_before_the_wait_for_all_cameras_ends() -> None:
    assert service.STOP_S > cameras.STOP_S + service.LAST_WORDS_S


class Bench:
    """A service with two cameras in this process, and its settings file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "variables.yaml"
        self.values: dict[str, Any] = {
            "instance": "edge1",
            "spool": {"path": ":memory:"},
            "directory": {"path": str(folder / "objects")},
            "mqtt": {"host": "127.0.0.1", "port": free_port()},
            "web": {"port": free_port()},
            "shutdown_grace": "1s",
            "cameras": {"porch": {"source": "demo:"}, "yard": {"source": "demo:"}},
        }
        self.write()
        file = SettingsFile(config=self.path, env={})
        self.stopping, self.wanted = asyncio.Event(), asyncio.Event()
        self.service = service.Service(file.load(), self.stopping, Liveness(), file, self.wanted)

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.values))

    def restart_porch(self) -> None:
        """Request a change that restarts a camera."""
        self.values["cameras"]["porch"]["capture"] = {"stall_timeout": "20s"}
        self.write()
        self.wanted.set()

    @property
    def cameras(self) -> cameras.Cameras:
        assert self.service._cameras is not None
        return self.service._cameras

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the service; at the end, stop it."""
        task = asyncio.create_task(self.service.run())
        await eventually_async(
            lambda: task.done() or (self.service._cameras and len(self.cameras.names) == 2),
            what="the cameras",
        )
        yield
        self.stopping.set()
        async with asyncio.timeout(60):
            await task


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(service, "bound_exit", lambda: None)
    return Bench(tmp_path)


async def test_a_stop_during_a_change_stops_the_camera_that_it_restarts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {name: asyncio.Event() for name in ("porch", "yard")}
    hold = {name: asyncio.Event() for name in ("porch", "yard")}
    stop = CameraSupervisor.stop
    stopped: list[str] = []

    async def stop_slowly(supervisor: CameraSupervisor) -> None:
        begun[supervisor.name].set()
        await hold[supervisor.name].wait()
        stopped.append(supervisor.name)
        await stop(supervisor)

    monkeypatch.setattr(CameraSupervisor, "stop", stop_slowly)
    async with bench.running():
        bench.restart_porch()
        await begun["porch"].wait()
        bench.stopping.set()
        await asyncio.sleep(0.1)  # the stop of the others would begin now
        hold["porch"].set()
        await asyncio.sleep(0.1)  # the change would start the camera now
        hold["yard"].set()
    assert sorted(stopped) == ["porch", "porch", "yard"]


async def test_a_change_that_fails_has_changed_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = units.build_source

    def build_source(name: str, camera: CameraSettings) -> CameraSource:
        if name == "shed":
            raise SettingsError("capture.isolation: process needs Linux, expected thread")
        return real(name, camera)

    monkeypatch.setattr(units, "build_source", build_source)
    async with bench.running():
        before = [bench.cameras.unit(name) for name in ("porch", "yard")]
        way = bench.service._parts.outlet._way if bench.service._parts else None
        bench.values["cameras"]["shed"] = {"source": "demo:"}
        bench.values["directory"] = {"path": str(bench.path.parent / "others")}
        bench.restart_porch()
        await eventually_async(lambda: "needs Linux" in caplog.text, what="the error")
        assert [bench.cameras.unit(name) for name in bench.cameras.names] == before
        assert bench.service._parts is not None
        assert bench.service._parts.outlet._way is way


async def test_a_fault_that_a_person_must_fix_is_no_bug(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera is started inside the group of all tasks, which wraps its error."""
    error: Exception = SettingsError("porch: its source cannot be used")

    def build_source(_name: str, _camera: CameraSettings) -> CameraSource:
        raise error

    monkeypatch.setattr(units, "build_source", build_source)
    file = SettingsFile(config=bench.path, env={})
    with pytest.raises(SettingsError, match="its source cannot be used"):
        await service.serve(file.load(), file=file)
    error = RuntimeError("a bug")
    assert await service.serve(file.load(), file=file) == 1


async def test_the_successor_gets_the_newest_settings(bench: Bench) -> None:
    async with bench.running():
        first, second = bench.service._settings.model_copy(), bench.service._settings.model_copy()
        await bench.service._change(first, Plan(whole=("instance",)))
        await bench.service._change(second, Plan(changed=("porch",)))
        assert bench.service.successor is second


async def test_a_change_during_a_stop_is_refused(bench: Bench) -> None:
    async with bench.running():
        bench.stopping.set()
        for plan in (Plan(removed=("porch",)), Plan(whole=("instance",))):
            with pytest.raises(SettingsError, match="is stopping"):
                await bench.service._change(bench.service._settings, plan)
        assert bench.service.successor is None
