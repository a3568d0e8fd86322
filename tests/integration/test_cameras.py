"""One camera is started and stopped while the service's other cameras go on."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from async_motion.app import build, pages, specs
from async_motion.app.cameras import Cameras, Shared
from async_motion.settings import load
from async_motion.spool import look
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


async def test_one_camera_stops_and_starts_while_another_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(SETTINGS.format(folder=tmp_path))
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

        def status(name: str) -> str:
            return str(reporter.snapshot()["cameras"][name]["status"])

        async with asyncio.TaskGroup() as tasks:
            cameras.open(tasks)
            await cameras.start("one")
            await cameras.start("two")
            assert cameras.names == ["one", "two"]
            await eventually_async(lambda: {status("one"), status("two")} <= {"idle", "motion", "watching"})
            await cameras.stop("one")
            assert cameras.names == ["two"]
            assert status("one") == "offline"
            assert status("two") != "offline"
            before = reporter.snapshot()["cameras"]["two"]["frames"]
            await eventually_async(lambda: reporter.snapshot()["cameras"]["two"]["frames"] > before)
            await cameras.start("one")
            await eventually_async(lambda: status("one") != "offline")
            await cameras.stop_all()
            assert cameras.names == []
    assert look(tmp_path / "spool.db") is not None
