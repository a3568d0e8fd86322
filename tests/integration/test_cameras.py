"""One camera is started and stopped while the service's other cameras go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from async_motion.app import build, pages, specs
from async_motion.app.cameras import Cameras, Shared
from async_motion.core.detection.detector import Detector
from async_motion.core.model import Detection, Frame, Luma
from async_motion.settings import load
from async_motion.spool import look
from async_motion.status import Reporter
from async_motion.web.live import Live
from tests.support.wait import eventually_async

SETTINGS = """
instance: edge
spool: {{path: {folder}/spool.db}}
directory: {{path: {folder}/objects}}
cameras:
  one: {{source: "demo:", event: {{off_delay: 1s}}}}
  two: {{source: "demo:"}}
"""


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Cameras, Reporter]]:
    """Cameras that are open, without one that has started."""
    file = folder / "v.yaml"
    file.write_text(SETTINGS.format(folder=folder))
    settings = load(file, {})
    async with AsyncExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(2))
        spool = await stack.enter_async_context(build.build_spool(settings))
        store = build.build_store(settings)
        await stack.enter_async_context(store)
        broker = build.build_client(settings, "127.0.0.1", 1, status_topic=specs.topics(settings).status)
        delivery = build.build_delivery(settings, spool=spool, store=store, broker=broker)
        reporter = await build.build_reporter(
            settings, broker=broker, spool=spool, health=delivery.health, restart_capture=lambda: None
        )
        learned = await build.build_learned(settings, spool)
        live = pages.build_live(settings, executor)
        cameras = Cameras(
            settings,
            Shared(
                spool=spool,
                broker=broker,
                reporter=reporter,
                observer=pages.Watched(reporter, live),
                live=live,
                learned=learned,
                executor=executor,
                encoder=executor,
            ),
            end=end,
        )
        async with asyncio.TaskGroup() as tasks:
            cameras.open(tasks)
            yield cameras, reporter
            await cameras.stop_all()


def state(reporter: Reporter, name: str) -> dict[str, Any]:
    found: dict[str, Any] = reporter.snapshot()["cameras"][name]
    return found


async def test_one_camera_stops_and_starts_while_another_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as (cameras, reporter):

        def status(name: str) -> str:
            return str(state(reporter, name)["status"])

        await cameras.start("one")
        await cameras.start("two")
        assert cameras.names == ["one", "two"]
        await eventually_async(lambda: {status("one"), status("two")} <= {"idle", "motion", "watching"})
        await cameras.stop("one")
        assert cameras.names == ["two"]
        assert status("one") == "offline"
        assert status("two") != "offline"
        before = state(reporter, "two")["frames"]
        await eventually_async(lambda: state(reporter, "two")["frames"] > before)
        await cameras.start("one")
        await eventually_async(lambda: status("one") != "offline")
        await cameras.stop_all()
        assert cameras.names == []
    assert look(tmp_path / "spool.db") is not None


async def test_a_camera_that_does_not_stop_is_abandoned_and_has_a_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, hanging, released = threading.Event(), threading.Event(), threading.Event()
    update = Detector.update

    def judge(self: Detector, luma: Luma, monotonic: float) -> Detection:
        if hangs.is_set():
            hangs.clear()
            hanging.set()
            released.wait(60)
        return update(self, luma, monotonic)

    viewed: list[Frame] = []
    show = Live.judged

    def judged(self: Live, camera: str, frame: Frame, detection: Detection) -> None:
        viewed.append(frame)
        show(self, camera, frame, detection)

    monkeypatch.setattr(Detector, "update", judge)
    monkeypatch.setattr(Live, "judged", judged)
    monkeypatch.setattr("async_motion.app.cameras.STOP_S", 0.3)
    async with running(tmp_path) as (cameras, reporter):
        try:
            await cameras.start("one")
            await eventually_async(lambda: state(reporter, "one")["frames"] > 0)
            hangs.set()
            await eventually_async(hanging.is_set)
            async with asyncio.timeout(30):
                await cameras.stop("one")
            assert "one: did not stop within 0.3 s" in caplog.text
            assert state(reporter, "one")["problem"] == "did not stop within 0.3 s"
            assert len(cameras.unfinished) == 1

            monkeypatch.setattr("async_motion.app.cameras.STOP_S", 30.0)
            shown = len(viewed)
            await cameras.start("one")
            await eventually_async(lambda: len(viewed) > shown)
            await eventually_async(lambda: state(reporter, "one")["status"] == "watching")
            assert state(reporter, "one")["capture"]["abandoned"] == 1
        finally:
            released.set()
        await eventually_async(lambda: not cameras.unfinished)
        assert state(reporter, "one")["status"] == "watching", "the old one no longer speaks"
        times = [frame.captured_at for frame in viewed]
        assert times == sorted(times), "nor does it show its frame"
