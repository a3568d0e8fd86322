"""Reconnecting one camera: after a loss, slowly after a refusal, once for many commands."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from async_motion.camera import supervisor
from async_motion.camera.supervisor import CameraSupervisor
from async_motion.core.detection.detector import DetectorSettings
from async_motion.core.model import Detection, Luma
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support.unit_bench import FakeDetector, ListSource, make, scene
from tests.support.wait import eventually_async


async def test_a_video_that_has_ended_is_not_connected_again() -> None:
    bench = make(ListSource(scene("...")))
    await CameraSupervisor("porch", bench.unit).run()
    assert len(bench.seen.of("offline")) == 1


@pytest.mark.parametrize(
    ("error", "first_s"),
    [
        (CameraUnavailable("away"), supervisor.RETRY_S[0]),
        (CameraRefused("401"), supervisor.REFUSED_RETRY_S[0]),
    ],
)
async def test_a_camera_is_retried_later(error: CameraUnavailable, first_s: float) -> None:
    bench = make(ListSource([], live=True, then=error))
    keeper = CameraSupervisor("porch", bench.unit, draw=lambda: 0.0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.run(), name="keeper")
        await eventually_async(lambda: bench.seen.of("offline"))
        assert first_s >= 1.0
        assert bench.source.closed == 1
        await keeper.stop()


async def test_a_camera_that_stays_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "RETRY_S", (0.01, 0.01))
    bench = make(ListSource([], live=True, then=CameraUnavailable("no route to 192.0.2.10:554")))
    keeper = CameraSupervisor("porch", bench.unit)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.run(), name="keeper")
        await eventually_async(lambda: bench.source.closed >= 5)
        await keeper.stop()

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["porch: no route to 192.0.2.10:554; trying again in 0 s"]


async def test_many_commands_to_connect_again_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RECONNECT_MIN_S", 0.2)
    bench = make(ListSource([], live=True, stay=True))
    keeper = CameraSupervisor("porch", bench.unit)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.run(), name="keeper")
        await asyncio.sleep(0.3)
        for _ in range(1000):
            keeper.reconnect()
        await eventually_async(lambda: bench.source.closed == 1)
        for _ in range(1000):
            keeper.reconnect()
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert bench.source.closed == 1
        await asyncio.sleep(0.2)
        keeper.reconnect()
        await eventually_async(lambda: bench.source.closed == 2)
        await keeper.stop()


async def test_commands_do_not_make_a_refusing_camera_be_asked_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "RECONNECT_MIN_S", 0.2)
    bench = make(ListSource([], live=True, then=CameraRefused("401")))
    keeper = CameraSupervisor("porch", bench.unit)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.run(), name="keeper")
        for _ in range(50):
            keeper.reconnect()
            await asyncio.sleep(0.01)
        assert 1 <= bench.source.closed <= 5
        await keeper.stop()


async def test_a_camera_that_has_just_failed_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "REFUSED_RETRY_S", (3600.0, 3600.0))
    monkeypatch.setattr(supervisor, "RECONNECT_MIN_S", 3600.0)
    bench = make(ListSource([], live=True, then=CameraRefused("401")))
    keeper = CameraSupervisor("porch", bench.unit)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.run(), name="keeper")
        await eventually_async(lambda: bench.source.closed == 1)
        await keeper.stop()


class ThreadedDetector(FakeDetector):
    """Count the threads that are in `update` at once."""

    inside = 0
    most = 0
    lock = threading.Lock()
    go = threading.Event()
    entered = threading.Event()

    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__(settings)

    def update(self, luma: Luma, monotonic: float) -> Detection:
        cls = type(self)
        with cls.lock:
            cls.inside += 1
            cls.most = max(cls.most, cls.inside)
        cls.entered.set()
        cls.go.wait(0.3)
        with cls.lock:
            cls.inside -= 1
        return super().update(luma, monotonic)


async def test_two_commands_at_once_do_not_put_one_detector_into_two_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "RECONNECT_MIN_S", 0.0)
    with ThreadPoolExecutor(4) as executor:
        source = ListSource(scene("." * 3), live=True, stay=True)
        bench = make(source, executor=executor, make_detector=ThreadedDetector)
        keeper = CameraSupervisor("porch", bench.unit)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keeper.run(), name="keeper")
            for _ in range(3):
                await eventually_async(ThreadedDetector.entered.is_set)
                ThreadedDetector.entered.clear()
                (connection,) = (one for one in asyncio.all_tasks() if one.get_name() == "connection[porch]")
                connection.cancel()
                await asyncio.sleep(0.005)
                connection.cancel()
                keeper.reconnect()
            await keeper.stop()
    assert ThreadedDetector.most == 1
