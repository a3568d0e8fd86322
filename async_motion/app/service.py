"""The service: builds the rooms, supervises them, stops them.

    signals ──▶ stopping                       one TaskGroup of named tasks
                   │      ┌ broker ┬ delivery ┬ reporter ┬ web ┐   end only when we stop, or with a bug
                   └────▶ └ camera[porch] ┬ camera[yard] …     ┘   each restarts alone, with backoff

- A camera that fails restarts alone; the others never notice. A camera that answers and says no (wrong
  password, no such stream) is asked again too, but slowly: a person may be mending it.
- The store or the broker may be away at the start and for days after it: nothing here waits for them.
- A bug (any error that is not ours) ends the process loudly with exit code 1: a supervisor restarts it, and
  the spool still holds whatever was accepted.
- SIGTERM or SIGINT: cameras stop, queued frames reach the spool, delivery goes on for at most
  `shutdown_grace`, every retained state says offline, exit code 0. What is left in the spool is delivered
  by the next start. A second signal ends at once.
- When every camera was a recording that has ended, the service delivers what it has and ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import cv2

from async_motion import __version__
from async_motion.app import build, pages, specs
from async_motion.app.cameras import Cameras, Shared
from async_motion.app.certificates import Certificates
from async_motion.app.liveness import Liveness
from async_motion.delivery import Delivery
from async_motion.errors import (
    AsyncMotionError,
    RecordRejected,
    TransientError,
)
from async_motion.logs import dropped_lines, flush_logging
from async_motion.settings import Settings
from async_motion.spool import SpoolStats
from async_motion.web import Live, Web

log = logging.getLogger(__name__)

LAST_WORDS_S = 20.0
"""No task of ours takes longer to end; a process that should have stopped must not stay for ever."""
SAME_SIGNAL_S = 0.5
"""A signal that comes again so soon is the same one: wrappers such as `timeout` signal us and our group."""
WORKERS = min(4, os.cpu_count() or 1)
"""Threads for detection and encoding, shared by all cameras."""


async def serve(settings: Settings, liveness: Liveness | None = None) -> int:
    """Run the service until it is stopped, or until all its recordings have ended; return the exit code.

    Raises AsyncMotionError for what a person must put right before it can start.
    """
    liveness = liveness or Liveness()
    # OpenCV's own threads cost more than they bring on pictures this small, and would multiply by camera.
    cv2.setNumThreads(1)
    stopping = asyncio.Event()
    with _signals(stopping, liveness):
        try:
            async with liveness.watched():
                await Service(settings, stopping, liveness).run()
        except AsyncMotionError:
            raise
        except Exception:
            log.exception("async_motion ends: this is a bug; what was accepted stays in the spool")
            return 1
    return 0


@contextmanager
def _signals(stopping: asyncio.Event, liveness: Liveness) -> Iterator[None]:
    """Set `stopping` on the first SIGTERM or SIGINT; end the process at once on the second.

    SIGHUP ends nothing: it comes from a terminal that closes, or from someone who wants a reload.
    """
    loop = asyncio.get_running_loop()
    first: float | None = None

    def stop(name: str) -> None:
        nonlocal first
        if first is None:
            first = loop.time()
        if stopping.is_set():
            if loop.time() - first < SAME_SIGNAL_S:
                return
            log.warning("%s again: ending at once; what was accepted stays in the spool", name)
            flush_logging()
            os._exit(1)
        log.info("%s: stopping", name)
        liveness.stopping()
        stopping.set()

    def hang_up() -> None:
        log.warning("SIGHUP: the settings are read at the start; restart the service to apply changes")

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in signals[:2]:
        loop.add_signal_handler(number, stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class Service:
    """One instance of async_motion, from its settings to its end."""

    def __init__(self, settings: Settings, stopping: asyncio.Event, liveness: Liveness) -> None:
        self._settings = settings
        self._stopping = stopping
        self._liveness = liveness
        self._cameras: Cameras | None = None

    async def run(self) -> None:
        """Run until `stopping` is set or all recordings have ended, then stop in order."""
        settings = self._settings
        log.info(
            "async_motion %s, instance %s, settings: %s", __version__, settings.instance, settings.origin
        )
        async with AsyncExitStack() as stack:
            executor = stack.enter_context(ThreadPoolExecutor(WORKERS, thread_name_prefix="work"))
            # A still from a second stream may wait for its packets: that must not hold up detection.
            encoder = stack.enter_context(ThreadPoolExecutor(WORKERS, thread_name_prefix="encode"))
            spool = await stack.enter_async_context(build.build_spool(settings))
            store = build.build_store(settings)
            await stack.enter_async_context(store)
            address = await stack.enter_async_context(build.run_broker(settings))
            broker = build.build_client(settings, *address, status_topic=specs.topics(settings).status)
            delivery = build.build_delivery(settings, spool=spool, store=store, broker=broker)
            reporter = await build.build_reporter(
                settings,
                broker=broker,
                spool=spool,
                health=delivery.health,
                restart_capture=self._reconnect_all,
            )
            delivery.on_stored(reporter.on_stored)
            announcer = await build.build_discovery(settings, broker=broker, spool=spool, reporter=reporter)
            live = pages.build_live(settings, encoder)
            certificates = Certificates(settings)
            snapshot = _with_process_state(reporter.snapshot, certificates)
            web = await self._build_web(stack, snapshot, live, encoder)
            learned = await build.build_learned(settings, spool)
            self._cameras = cameras = Cameras(
                settings,
                Shared(
                    spool=spool,
                    broker=broker,
                    reporter=reporter,
                    live=live,
                    learned=learned,
                    executor=executor,
                    encoder=encoder,
                ),
                end=_end,
            )

            async with asyncio.TaskGroup() as tasks:
                talking = tasks.create_task(broker.run(), name="broker")
                delivering = tasks.create_task(delivery.run(), name="delivery")
                reporting = tasks.create_task(reporter.run(), name="reporter")
                greeting = tasks.create_task(
                    _greet(store, specs.store_name(settings)), name="greet the store"
                )
                announcing = tasks.create_task(announcer.run(), name="announcer")
                serving = tasks.create_task(web.run(), name="web")
                learning = tasks.create_task(learned.run(), name="learned")
                renewing = tasks.create_task(certificates.run(), name="certificates")
                cameras.open(tasks)
                for name in (name for name, camera in settings.cameras.items() if camera.enabled):
                    await cameras.start(name)
                self._liveness.ready(f"watching {len(cameras.names)} of {len(settings.cameras)} cameras")
                await self._watch_cameras(cameras)
                await _end(learning)
                await self._deliver_the_rest(delivery)
                # Each says its last words through the next: the broker is the last to go.
                for task in (renewing, greeting, serving, announcing, delivering, reporting, talking):
                    await _end(task)
            _say_stopped(spool.stats, in_memory=settings.spool.path == ":memory:")

    async def _build_web(
        self, stack: AsyncExitStack, snapshot: Callable[[], dict[str, Any]], live: Live, encoder: Executor
    ) -> Web:
        """Return the pages; what they read in the bucket is open until `stack` closes."""
        bucket = pages.build_page_bucket(self._settings)
        await stack.enter_async_context(bucket)
        archive = pages.build_archive(self._settings, bucket, encoder)
        return pages.build_web(self._settings, snapshot=snapshot, live=live, archive=archive)

    async def _watch_cameras(self, cameras: Cameras) -> None:
        """Keep the cameras going until we are stopped, or each of them was a recording that has ended."""
        async with asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(cameras.ended(), name="recordings")
            stopping = tasks.create_task(self._stopping.wait(), name="stopping")
            await asyncio.wait([stopping, ended], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            stopping.cancel()
        await cameras.stop_all()

    async def _deliver_the_rest(self, delivery: Delivery) -> None:
        """Deliver what waits: for at most the grace once we are stopped, as long as it takes before that."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(delivery.drain(None), name="drain")
            stopping = tasks.create_task(self._stopping.wait(), name="stopping")
            await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                await asyncio.wait([draining], timeout=self._settings.shutdown_grace)
            draining.cancel()
            stopping.cancel()

    def _reconnect_all(self) -> None:
        if self._cameras is not None:
            self._cameras.reconnect()


def _with_process_state(
    snapshot: Callable[[], dict[str, Any]], certificates: Certificates
) -> Callable[[], dict[str, Any]]:
    """Return the reporter's state with what concerns the process alone: metrics read it, MQTT does not."""
    return lambda: snapshot() | {"certificates": certificates.state(), "log": {"dropped": dropped_lines()}}


async def _greet(store: build.AnyStore, name: str) -> None:
    """Say at the start whether the store takes frames: better known before the first motion."""
    try:
        await store.probe()
    except TransientError as exc:
        log.warning("store: %s; frames wait in the spool until it takes them", exc)
    except RecordRejected as exc:
        log.warning("store: %s", exc)
    else:
        log.info("store: %s: takes frames", name)


def _say_stopped(stats: SpoolStats, *, in_memory: bool) -> None:
    """Say what was not delivered: it waits on the disk, or was in memory alone and is lost."""
    if not in_memory:
        waiting = f"; {stats.records} records wait in the spool for the next start" if stats.records else ""
        log.info("stopped%s", waiting)
    elif stats.records or stats.phases or stats.set_aside:
        log.warning(
            "stopped; lost, since spool.path is :memory: - records that waited: %d, records set aside: %d,"
            " starts and ends of events: %d (%.1f MiB)",
            stats.records,
            stats.set_aside,
            stats.phases,
            stats.bytes / 2**20,
        )
    else:
        log.info("stopped")


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task of ours and wait for its last words; who has none within the bound is not waited for."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=LAST_WORDS_S)
    if not done:
        log.error("%s does not end: ending without it; what was accepted stays in the spool", task.get_name())
        flush_logging()
        os._exit(1)
