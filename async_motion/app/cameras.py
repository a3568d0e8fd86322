"""The running cameras: each is built, started and stopped on its own, while the others go on.

start(name) ──▶ source, detector, unit, supervisor, profiles ──▶ tasks of its own
change(name) ──▶ new settings apply between two frames; an open event continues
stop(name)  ──▶ capture ends ▶ queued frames reach the spool ▶ the detector's state is saved ▶ source closed
cut(name)   ──▶ the camera is free at once, whatever a stop waits for

A stop that takes longer than `STOP_S` abandons the camera: a thread of the detector or the encoder hangs, and
cannot be ended. Its connections are cut, it is reported as offline, and a successor may start.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from async_motion.app import build, specs, units
from async_motion.app.fleet_broker import FleetBroker
from async_motion.app.relay import ObserverRelay
from async_motion.broker.client import BrokerClient
from async_motion.camera.detector_state import LearnedKeeper
from async_motion.camera.supervisor import CameraSupervisor
from async_motion.camera.unit import CameraUnit, Observer
from async_motion.capture import CameraSource
from async_motion.settings import Settings
from async_motion.spool import Spool
from async_motion.status import Reporter
from async_motion.web.live import Live

log = logging.getLogger(__name__)

STOP_S = 30.0
"""How long a stop waits for the frames under way; normally they take less than a second."""

End = Callable[[asyncio.Task[None]], Awaitable[None]]
"""Cancels a task and waits for it to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all cameras share. Detection runs in `executor`, JPEG encoding in `encoder`."""

    spool: Spool
    broker: BrokerClient | FleetBroker
    reporter: Reporter
    observer: Observer
    live: Live
    learned: LearnedKeeper
    executor: Executor
    encoder: Executor


@dataclass(slots=True)
class _Running:
    source: CameraSource
    unit: CameraUnit
    relay: ObserverRelay
    supervisor: CameraSupervisor
    watching: asyncio.Task[None]
    resources: AsyncExitStack
    others: list[asyncio.Task[None]] = field(default_factory=list)


class Cameras:
    """Start, change and stop cameras. Call `open` before anything else."""

    def __init__(self, settings: Settings, shared: Shared, *, end: End) -> None:
        self._settings = settings
        self._shared = shared
        self._end = end
        self._running: dict[str, _Running] = {}
        self._ending: list[tuple[str, _Running]] = []
        """The cameras whose stop has begun and not ended; an abandoned one stays until its thread returns."""
        self._abandoned: Counter[str] = Counter()
        """How many of a camera's predecessors were abandoned."""
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def names(self) -> list[str]:
        """Return the names of the running cameras, in the order of their start."""
        return list(self._running)

    def open(self, tasks: asyncio.TaskGroup) -> None:
        """Take the group that supervises the cameras' tasks."""
        self._tasks = tasks

    async def start(
        self,
        name: str,
        *,
        source: CameraSource | None = None,
        worker: str | None = None,
        epoch: int | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Build a camera from its settings and start it. Raises RuntimeError if it is already running.

        `source` is its source, if it was built before. In a fleet, `worker` owns it under the lease `epoch`.
        `is_wanted` is asked last: reading the learned state may have taken longer than the lease lasts.
        """
        assert self._tasks is not None
        if name in self._running:
            raise RuntimeError(f"{name}: is already running")
        settings, shared = self._settings, self._shared
        camera = settings.cameras[name]
        source = source or units.build_source(name, camera)
        source.counters.abandoned = self._abandoned[name]
        relay = ObserverRelay(shared.observer)
        resources = AsyncExitStack()
        resources.push_async_callback(source.aclose)
        keeps = units.keeps_learned(settings, source)
        detector = None
        if keeps:
            detector = await units.recall_detector(
                settings, name, spool=shared.spool, executor=shared.executor
            )
        if not is_wanted():
            await source.aclose()
            return
        unit = units.build_unit(
            settings,
            name,
            source=source,
            outbox=shared.spool,
            observer=relay,
            executor=shared.executor,
            encoder=shared.encoder,
            viewer=relay.viewer(partial(shared.live.judged, name)),
            detector=detector,
            worker=worker,
            epoch=epoch,
        )
        if keeps:
            shared.learned.attach(name, unit, specs.scene_of(camera))
        supervisor = CameraSupervisor(name, unit)
        self._running[name] = running = _Running(
            source=source,
            unit=unit,
            relay=relay,
            supervisor=supervisor,
            watching=self._tasks.create_task(supervisor.run(), name=f"camera[{name}]"),
            resources=resources,
        )
        self._attach(name, running)

    def adopt(self, settings: Settings) -> None:
        """Use other settings for cameras that are started or changed from now on."""
        self._settings = settings

    async def change(self, name: str) -> None:
        """Apply a running camera's settings, except those of its source and capture."""
        running = self._running[name]
        running.unit.reconfigure(
            specs.unit_settings(self._settings, name), units.encoder_of(self._settings, name)
        )
        for task in running.others:
            await self._end(task)
        running.others.clear()
        self._attach(name, running)

    def _attach(self, name: str, running: _Running) -> None:
        """Hand a camera's controls to the reporter; start its profile switch if it has night settings."""
        assert self._tasks is not None
        settings, shared = self._settings, self._shared
        profiles = units.build_profiles(
            settings, name, unit=running.unit, changed=partial(shared.reporter.profile_changed, name)
        )
        preview = build.build_preview(settings, running.unit, shared.broker, shared.encoder)
        shared.reporter.attach(name, running.unit, preview, profiles, running.source.counters.as_dict)
        if profiles is not None:
            running.others.append(self._tasks.create_task(profiles.run(), name=f"profile[{name}]"))

    async def stop(self, name: str) -> None:
        """Stop a camera; return once its queued frames are in the spool and its source is closed.

        Returns after about `STOP_S` at the latest; then the camera is abandoned.
        """
        running = self._running.get(name)
        if running is None:
            return
        ending = (name, running)
        self._ending.append(ending)  # first: another thread's `cut` must find it in either
        del self._running[name]
        try:
            async with asyncio.timeout(STOP_S):
                await running.supervisor.stop()
                await asyncio.wait([running.watching])
        except TimeoutError:
            self._abandon(name, running)
        else:
            await self._shared.learned.detach(name)
        for task in running.others:
            await self._end(task)
        self._shared.reporter.detach(name)
        await running.resources.aclose()
        # An abandoned one holds its camera until its thread has returned.
        running.watching.add_done_callback(lambda _: self._ending.remove(ending))

    def _abandon(self, name: str, running: _Running) -> None:
        """Go on without a camera that does not stop."""
        problem = f"did not stop within {STOP_S:g} s"
        log.error("%s: %s: a thread hangs; abandoned, and a successor may start", name, problem)
        self._abandoned[name] += 1
        running.source.cut()
        running.relay.close(name, problem)
        self._shared.learned.forget(name)

    def cut(self, name: str) -> bool:
        """End a camera's connections at once and for good; return whether it is free.

        From any thread; never waits. A camera that is cut can only be stopped.
        """
        running = self._running.get(name)  # before `_ending`, where `stop` adds it before it leaves this
        # A copy: the loop removes cameras meanwhile.
        found = [one for other, one in tuple(self._ending) if other == name]
        if running is not None:
            found.append(running)
        free = [one.source.cut() for one in found]
        return all(free)

    @property
    def unfinished(self) -> list[asyncio.Task[None]]:
        """Return the tasks of cameras whose stop has begun and not ended."""
        return [one.watching for _, one in self._ending]

    async def stop_all(self, names: Collection[str] | None = None) -> None:
        """Stop all cameras concurrently, or those of these names."""
        async with asyncio.TaskGroup() as tasks:
            for name in self.names if names is None else names:
                tasks.create_task(self.stop(name), name=f"stop camera[{name}]")

    def unit(self, name: str) -> CameraUnit | None:
        """Return a camera's unit; None if the camera is not running."""
        running = self._running.get(name)
        return running.unit if running is not None else None

    def reconnect(self) -> None:
        """Make every camera reconnect."""
        for running in self._running.values():
            running.supervisor.reconnect()

    async def ended(self) -> None:
        """Wait until all running cameras were recordings that have ended; without a camera, wait forever."""
        while True:
            watching = [running.watching for running in self._running.values()]
            if not watching:
                await asyncio.Event().wait()
            if all(task.done() for task in watching):
                return
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED, timeout=1.0)
