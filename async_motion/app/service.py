"""The service: build its parts, supervise them, stop them.

    signals ──▶ stopping                       one TaskGroup of named tasks
                   │      ┌ broker ┬ delivery ┬ reporter ┬ web ┐   end only on a stop, or with a bug
                   └────▶ └ camera[porch] ┬ camera[yard] …     ┘   each restarts alone, with backoff

- A camera that fails restarts alone; the others are not affected. A camera that refuses (wrong password, no
  such stream) is retried slowly: a person must act.
- The store or the broker may be down at the start and for days afterwards: nothing here waits for them.
- A bug (any error that is not an AsyncMotionError) ends the process with a traceback and exit code 1. A
  supervisor restarts it; the spool still holds all accepted records.
- SIGTERM or SIGINT: cameras stop, queued frames reach the spool, delivery goes on for at most
  `shutdown_grace`, every retained state becomes offline, exit code 0. The next start delivers what is left in
  the spool. A second signal ends the process at once.
- SIGHUP, the page and an MQTT command reload the settings: see `reload`. For a change that needs a restart of
  all parts, a successor runs in the same process. A stop begins after the change in progress: at any time
  either a change or the stop starts and stops cameras, never both.
- When every camera was a recording that has ended, the service delivers what is left and ends by itself.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2

from async_motion import __version__
from async_motion.app import build, pages, specs, units
from async_motion.app.cameras import Cameras, Shared
from async_motion.app.certificates import Certificates
from async_motion.app.disks import Disks
from async_motion.app.editor import FileEditor, SettingsFile, stopping
from async_motion.app.fleet import FleetMember, Joined, open_bucket
from async_motion.app.fleet_broker import FleetBroker
from async_motion.app.liveness import Liveness, dump_traceback
from async_motion.app.outlet import Outlet
from async_motion.app.reload import Plan, ReloadRequests, Rerun
from async_motion.broker.client import BrokerClient
from async_motion.camera.unit import CameraUnit
from async_motion.core import commands
from async_motion.core.rates import LogThrottle
from async_motion.errors import AsyncMotionError, SettingsConflict, SettingsError
from async_motion.home_assistant.publisher import DiscoveryPublisher
from async_motion.logs import dropped_lines, flush_logging
from async_motion.settings import Settings
from async_motion.spool import Spool, SpoolStats
from async_motion.status import Reporter
from async_motion.web import Live

log = logging.getLogger(__name__)

LAST_WORDS_S = 20.0
"""Time limit for a cancelled task to end; after it the process exits, so that a stop never hangs."""
STOP_S = 60.0
"""Time limit for all cameras to stop, with their queued frames in the spool."""
SAME_SIGNAL_S = 0.5
"""A second signal within this time is the same one: wrappers such as `timeout` signal us and our group."""
PAGE_DELAY_S = 0.5
"""Delay before the page restarts, so that the request that caused it is answered first."""
WORKERS = min(4, os.cpu_count() or 1)
"""Threads for detection and encoding, shared by all cameras."""


async def serve(
    settings: Settings, liveness: Liveness | None = None, file: SettingsFile | None = None
) -> int:
    """Run the service until it is stopped, or until all its recordings have ended; return the exit code.

    `file` is where the settings came from; with it they can be changed while the service runs. Raises
    AsyncMotionError for a fault that a person must fix before the service can start.
    """
    liveness = liveness or Liveness()
    # On images this small OpenCV's own threads cost more than they gain, and their number grows with cameras.
    cv2.setNumThreads(1)
    stopping, wanted = asyncio.Event(), asyncio.Event()
    with _signals(stopping, wanted, liveness):
        try:
            async with liveness.watched():
                following: Settings | None = settings
                while following is not None and not stopping.is_set():
                    service = Service(following, stopping, liveness, file, wanted)
                    await service.run()
                    following = service.successor
        except Exception as exc:
            fault = _fault_in(exc)
            if fault is not None:
                raise fault from None
            log.exception("async_motion ends: this is a bug; what was accepted stays in the spool")
            return 1
    return 0


def _fault_in(error: Exception) -> AsyncMotionError | None:
    """Return what a person must fix; None if any part of `error` is a bug. A TaskGroup wraps both."""
    if isinstance(error, ExceptionGroup):
        faults = [_fault_in(each) for each in error.exceptions]
        return faults[0] if None not in faults else None
    return error if isinstance(error, AsyncMotionError) else None


@contextmanager
def _signals(stopping: asyncio.Event, wanted: asyncio.Event, liveness: Liveness) -> Iterator[None]:
    """Set `stopping` on the first SIGTERM or SIGINT, `wanted` on SIGHUP; end the process on a second stop.

    SIGHUP never stops the service: a closing terminal sends it too.
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
        log.info("SIGHUP: reading the settings again")
        wanted.set()

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in signals[:2]:
        loop.add_signal_handler(number, stop, number.name)
    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, before)


class Service:
    """One instance of async_motion, from its settings to its end."""

    def __init__(
        self,
        settings: Settings,
        stopping: asyncio.Event,
        liveness: Liveness,
        file: SettingsFile | None = None,
        wanted: asyncio.Event | None = None,
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._liveness = liveness
        self._file = file
        self._cameras: Cameras | None = None
        self._parts: _Parts | None = None
        self._wanted = wanted or asyncio.Event()
        """Set when a reload is requested."""
        self._throttle = LogThrottle()
        self._changing = asyncio.Lock()
        """Held by the one that starts and stops cameras: a change of the settings."""
        self._closed = False
        """Set at the stop, under the lock: from then on no change is applied."""
        self._succeeded = asyncio.Event()
        """Set when a successor shall take over, in the same process."""
        self.successor: Settings | None = None
        """The settings of the service's successor, after a change that restarts all parts."""

    async def run(self) -> None:
        """Run until `stopping` is set or all recordings have ended, then stop in order."""
        settings = self._settings
        log.info(
            "async_motion %s, instance %s, settings: %s", __version__, settings.instance, settings.origin
        )
        async with AsyncExitStack() as stack:
            executor = stack.enter_context(ThreadPoolExecutor(WORKERS, thread_name_prefix="work"))
            # A still from the main stream may wait for packets: that must not delay detection.
            encoder = stack.enter_context(ThreadPoolExecutor(WORKERS, thread_name_prefix="encode"))
            spool = await stack.enter_async_context(build.build_spool(settings))
            address = await stack.enter_async_context(build.run_broker(settings))
            member = await self._join_fleet(stack)
            broker = self._build_broker(address, member)
            is_current = member.is_current if member is not None else None
            day_logs = await build.build_day_logs(settings, spool)
            outlet = Outlet(
                settings,
                partial(
                    build.build_delivery,
                    spool=spool,
                    broker=broker,
                    is_current=is_current,
                    day_logs=day_logs,
                ),
            )
            await stack.enter_async_context(outlet)
            reporter = await build.build_reporter(
                settings,
                broker=broker,
                spool=spool,
                health=outlet.health,
                restart_capture=self._reconnect_all,
                member=member,
            )
            outlet.on_stored(reporter.on_stored)
            discovery = await build.build_discovery(
                settings,
                broker=broker,
                spool=spool,
                reporter=reporter,
                looked=lambda found: outlet.restore_snapshots(self._settings.cameras, found),
            )
            live = pages.build_live(settings, encoder, self._unit)
            certificates = Certificates(settings)
            disks = Disks(settings)
            snapshot = _with_process_state(reporter.snapshot, certificates, disks)
            editor = (
                None
                if self._file is None
                else FileEditor(self._file, settings, self._change, refusal=self._refusal)
            )
            self._parts = _Parts(
                reporter=reporter,
                live=live,
                address=address,
                broker=broker,
                outlet=outlet,
                certificates=certificates,
                disks=disks,
                discovery=discovery,
                connecting=Rerun(broker.run, "broker"),
                announcing=Rerun(discovery.run, "discovery"),
                looking=(Rerun(certificates.run, "certificates"), Rerun(disks.run, "disks")),
                serving=Rerun(partial(self._serve_page, snapshot, live, encoder, editor), "web"),
            )
            if editor is not None:
                reporter.show_settings_problem(lambda: editor.problem)
                broker.subscribe(specs.topics(settings).reload, self._on_reload)
            learned = await build.build_learned(settings, spool)
            watched = pages.Watched(reporter, live)
            self._cameras = cameras = Cameras(
                settings,
                Shared(
                    spool=spool,
                    broker=broker,
                    reporter=reporter,
                    observer=member.observer(watched) if member is not None else watched,
                    live=live,
                    learned=learned,
                    executor=executor,
                    encoder=encoder,
                ),
                end=_end,
            )

            async with asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(self._parts.connecting.run(), name="broker")
                delivering = tasks.create_task(outlet.run(), name="delivery")
                reporting = tasks.create_task(reporter.run(), name="reporter")
                serving = tasks.create_task(self._parts.serving.run(), name="web")
                learning = tasks.create_task(learned.run(), name="learned")
                logging_days = tasks.create_task(day_logs.run(reporter.snapshot), name="day logs")
                looking = [tasks.create_task(each.run(), name=each.name) for each in self._parts.looking]
                cameras.open(tasks)
                leading = await self._lead(tasks, cameras, member, spool)
                # Only now: a change before would start cameras that are about to be started.
                changing = tasks.create_task(self._change_when_asked(editor), name="settings")
                await self._watch_cameras(cameras, member)
                if member is not None:
                    await _leave(leading)
                await _end(learning)
                await self._deliver_the_rest(outlet)
                # Each task publishes its last states through the next one: the broker ends last.
                ends = (serving, changing, leading, delivering, reporting, connecting)
                for task in (*looking, logging_days, *ends):
                    await _end(task)
                for task in cameras.unfinished:
                    await _finish(task, LAST_WORDS_S)
            self._say_stopped(spool.stats)

    async def _serve_page(
        self,
        snapshot: Callable[[], dict[str, Any]],
        live: Live,
        encoder: Executor,
        editor: FileEditor | None,
    ) -> None:
        """Serve the page with the settings in force, until cancelled."""
        settings = self._settings
        async with pages.build_page_bucket(settings) as bucket:
            archive = pages.build_archive(settings, bucket, encoder)
            page = pages.build_web(settings, snapshot=snapshot, live=live, archive=archive, editor=editor)
            await page.run()

    def _build_broker(
        self, address: tuple[str, int], member: FleetMember | None
    ) -> BrokerClient | FleetBroker:
        if member is not None:
            return member.build_broker(*address)
        status = specs.topics(self._settings).status
        return build.build_client(self._settings, *address, status_topic=status)

    async def _lead(
        self, tasks: asyncio.TaskGroup, cameras: Cameras, member: FleetMember | None, spool: Spool
    ) -> asyncio.Task[None]:
        """Start all cameras, or the fleet member that starts them; return discovery's or the fleet's task."""
        settings, parts = self._settings, self._parts
        assert parts is not None
        if member is None:
            announcing = tasks.create_task(parts.announcing.run(), name="discovery")
            for name in (name for name, camera in settings.cameras.items() if camera.enabled):
                await cameras.start(name)
            self._liveness.ready(f"watching {len(cameras.names)} of {len(settings.cameras)} cameras")
            return announcing
        member.join(
            Joined(
                cameras=cameras,
                reporter=parts.reporter,
                live=parts.live,
                spool=spool,
                announcing=parts.announcing,
            )
        )
        self._liveness.ready(f"worker {member.name} of the fleet {settings.instance}")
        return tasks.create_task(member.run(), name="fleet")

    async def _join_fleet(self, stack: AsyncExitStack) -> FleetMember | None:
        """Return this worker as a member of the fleet in the settings; None without a fleet."""
        if not self._settings.fleet.servers:
            return None
        bucket = await stack.enter_async_context(open_bucket(self._settings))
        return FleetMember(self._settings, bucket)

    async def _watch_cameras(self, cameras: Cameras, member: FleetMember | None) -> None:
        """Wait until the service is stopped, or all cameras were recordings that have ended; then stop them.

        A worker of a fleet does not end with its recordings. It hands its cameras over before it ends.
        """
        try:
            await self._wait_and_stop(cameras, member)
        except asyncio.CancelledError:
            # A task has failed. Another that ignores its cancellation must not keep the process alive.
            asyncio.get_running_loop().call_later(
                LAST_WORDS_S, _end_without, "a task, after a bug in another,"
            )
            raise

    async def _wait_and_stop(self, cameras: Cameras, member: FleetMember | None) -> None:
        async with asyncio.TaskGroup() as tasks:
            waiting = cameras.ended() if member is None else asyncio.Event().wait()
            ended = tasks.create_task(waiting, name="recordings")
            stopping = tasks.create_task(self._stopping.wait(), name="stopping")
            succeeded = tasks.create_task(self._succeeded.wait(), name="successor")
            await asyncio.wait([stopping, succeeded, ended], return_when=asyncio.FIRST_COMPLETED)
            for task in (ended, stopping, succeeded):
                task.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + STOP_S
        async with asyncio.TaskGroup() as tasks:
            await _finish(tasks.create_task(self._close(), name="change of the settings"), STOP_S)
        if member is not None:
            await member.drain(self._settings.shutdown_grace)
            return
        async with asyncio.TaskGroup() as tasks:
            # The supervisors allow one time for both.
            left_s = max(LAST_WORDS_S, until - loop.time())
            await _finish(tasks.create_task(cameras.stop_all(), name="stop of the cameras"), left_s)

    async def _close(self) -> None:
        """Wait for the change in progress; from then on, apply none."""
        async with self._changing:
            self._closed = True

    # ---- other settings ----

    def _on_reload(self, topic: str, payload: bytes, was_retained: bool) -> None:
        if was_retained or payload.strip().upper() != commands.PRESS.encode():
            why = "it is retained" if was_retained else f"expected {commands.PRESS}"
            more = self._throttle.admit(why, time.monotonic())
            if more is not None:
                log.warning("command on %s ignored: %s%s", topic, why, more)
            return
        self._wanted.set()

    async def _change_when_asked(self, editor: FileEditor | None) -> None:
        """Apply the page's changes; reload on SIGHUP and on a command, once more for requests meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            if editor is not None:
                tasks.create_task(editor.run(), name="editor")
            requests = ReloadRequests(self._wanted)
            while True:
                await requests.next()
                if editor is None:
                    log.warning("there is no settings file to read again")
                elif self._stopping.is_set():
                    log.warning("the settings are not read again: the service is stopping")
                else:
                    self._liveness.reloading()
                    await editor.reload()
                    self._liveness.ready(
                        f"watching {len(self._cameras.names) if self._cameras else 0} cameras"
                    )

    async def _change(self, settings: Settings, plan: Plan) -> None:
        """Apply other settings. Raises AsyncMotionError: nothing has changed.

        While a successor is about to take over, it gets them.
        """
        async with self._changing:
            parts, fleet = self._parts, bool(self._settings.fleet.servers)
            if (refusal := self._refusal()) is not None:
                raise refusal
            if self._succeeded.is_set() or plan.whole or fleet or self._cameras is None or parts is None:
                self.successor = settings
                self._succeeded.set()
            else:
                await self._apply(settings, plan, self._cameras, parts)

    def _refusal(self) -> SettingsError | None:
        """Return why no change can be applied, None if it can."""
        if self._succeeded.is_set() or not (self._closed or self._stopping.is_set()):
            return None
        if self._stopping.is_set():
            return stopping()
        return SettingsConflict(
            "every recording has ended, and the service ends once all is delivered: change the settings then"
        )

    async def _apply(self, settings: Settings, plan: Plan, cameras: Cameras, parts: _Parts) -> None:
        """Apply other settings to the running parts. Raises AsyncMotionError: nothing has changed."""
        # What may fail comes first.
        sources = {
            name: units.build_source(name, settings.cameras[name]) for name in (*plan.added, *plan.restarted)
        }
        broker = self._next_broker(settings, parts) if plan.broker else None
        if plan.store:
            await parts.outlet.change(settings)
        self._settings = settings
        cameras.adopt(settings)
        zones = specs.watched_zones(settings)
        await cameras.stop_all((*plan.removed, *plan.restarted))
        for name in plan.removed:
            parts.reporter.drop_camera(name)
            parts.live.forget(name)
        for name in (*plan.added, *plan.restarted, *plan.changed):
            profiled = not settings.cameras[name].profiles.night.is_blank
            parts.reporter.put_camera(name, zones[name], profiled=profiled)
        for name, source in sources.items():
            await cameras.start(name, source=source)
        for name in plan.changed:
            await cameras.change(name)
        # A fleet's connections are not changed in place.
        if broker is not None and isinstance(parts.broker, BrokerClient):
            parts.broker.follow(broker)
            parts.connecting.again()
        if plan.added or plan.removed or plan.restarted or plan.changed or "web.url" in plan.page:
            parts.discovery.change(
                build.service_info(settings),
                build.camera_sites(settings),
                retained=parts.reporter.retained_topics,
                foreign=parts.reporter.foreign_topics,
            )
            parts.announcing.again()
            parts.reporter.republish()
        if plan.broker or plan.store or plan.page:
            parts.certificates.adopt(settings)
            parts.disks.adopt(settings)
            for each in parts.looking:
                each.again()
        if plan.page or plan.store:
            parts.live.max_viewers = settings.web.max_viewers
            # Later, so that the page's own request can still be answered.
            asyncio.get_running_loop().call_later(PAGE_DELAY_S, parts.serving.again)

    def _next_broker(self, settings: Settings, parts: _Parts) -> BrokerClient:
        """Return a client with other settings. Raises AsyncMotionError."""
        mqtt = settings.mqtt
        host, port = parts.address if mqtt.host is None else (mqtt.host, mqtt.port)
        return build.build_client(settings, host, port, status_topic=specs.topics(settings).status)

    async def _deliver_the_rest(self, outlet: Outlet) -> None:
        """Deliver what waits: without a limit before a stop, for at most `shutdown_grace` after it."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(outlet.drain(None), name="drain")
            over = self._stopping if self.successor is None else self._succeeded
            stopping = tasks.create_task(over.wait(), name="stopping")
            await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                await asyncio.wait([draining], timeout=self._settings.shutdown_grace)
            draining.cancel()
            stopping.cancel()

    def _say_stopped(self, stats: SpoolStats) -> None:
        """Log the stop, and bound what follows unless a successor takes over."""
        _say_stopped(stats, in_memory=self._settings.spool.path == ":memory:")
        if self.successor is None:
            bound_exit()

    def _unit(self, name: str) -> CameraUnit | None:
        return self._cameras.unit(name) if self._cameras is not None else None

    def _reconnect_all(self) -> None:
        if self._cameras is not None:
            self._cameras.reconnect()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts, besides the cameras, that a change of the settings affects."""

    reporter: Reporter
    live: Live
    address: tuple[str, int]
    """Host and port of the broker; those of the embedded one if `mqtt.host` is not set."""
    broker: BrokerClient | FleetBroker
    outlet: Outlet
    certificates: Certificates
    disks: Disks
    discovery: DiscoveryPublisher
    connecting: Rerun
    announcing: Rerun
    looking: tuple[Rerun, ...]
    serving: Rerun


def _with_process_state(
    snapshot: Callable[[], dict[str, Any]], certificates: Certificates, disks: Disks
) -> Callable[[], dict[str, Any]]:
    """Return a function: the reporter's state plus that of the process, for metrics but not for MQTT."""

    def state() -> dict[str, Any]:
        return snapshot() | {
            "certificates": certificates.state(),
            "disk_free": disks.state(),
            "log": {"dropped": dropped_lines()},
        }

    return state


def _say_stopped(stats: SpoolStats, *, in_memory: bool) -> None:
    """Log what was not delivered: it waits on disk, or is lost if the spool was in memory."""
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
    """Cancel a task and wait for its end; exit the process if that takes longer than `LAST_WORDS_S`."""
    task.cancel()
    await _finish(task, LAST_WORDS_S)


async def _leave(fleet: asyncio.Task[None]) -> None:
    """Cancel a fleet member's task and wait for its end: it stops the cameras first."""
    fleet.cancel()
    await _finish(fleet, STOP_S)


async def _finish(task: asyncio.Task[None], within_s: float) -> None:
    """Wait for a task's end; exit the process if that takes longer than `within_s`."""
    done, _ = await asyncio.wait([task], timeout=within_s)
    if not done:
        _end_without(task.get_name())


def bound_exit() -> None:
    """From now on, end the process if what is left, or the interpreter's own exit, takes too long.

    A thread that hangs in a library holds up both.
    """

    def end() -> None:
        time.sleep(LAST_WORDS_S)
        dump_traceback()
        running = [thread.name for thread in threading.enumerate() if not thread.daemon]
        _end_without(f"a thread or a connection ({', '.join(running)})")

    threading.Thread(target=end, name="bound exit", daemon=True).start()
    if hasattr(signal, "alarm"):
        # The interpreter stops its threads before it ends; the kernel's alarm remains.
        with suppress(OSError, RuntimeError, ValueError):  # standard error may have no file
            faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(round(LAST_WORDS_S) + 5)


def _end_without(name: str) -> None:
    """End the process though a task has not ended."""
    log.error("%s does not end: ending without it; what was accepted stays in the spool", name)
    flush_logging()
    os._exit(1)
