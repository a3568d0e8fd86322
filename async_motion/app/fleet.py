"""One worker of a fleet: leases decide which cameras it watches and which worker speaks for the instance.

    lease won ──▶ connection of its own ──▶ reporter ──▶ Cameras.start(name, epoch)
    lease lost, shed, drained ──▶ Cameras.stop ──▶ reporter ──▶ the connection ends without a DISCONNECT
                    too late  ──▶ Cameras.cut ──▶ or the process ends

- The owner of `INSTANCE` publishes the instance's state and Home Assistant's devices.
- A camera that cannot be opened `TRIES` times in a row goes to another worker, with the reason.
- An open event is noted in the camera's lease. If this worker is lost, the next owner announces the event's
  end with `reason: worker_lost`. This worker delivers the records that it had accepted when it is back.
- A change of the settings restarts this worker: its cameras go to other workers and come back.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from async_motion.app import build, specs
from async_motion.app.cameras import Cameras
from async_motion.app.fleet_broker import FleetBroker, insist
from async_motion.app.pages import Watched
from async_motion.app.reload import Rerun
from async_motion.broker.client import Takeover
from async_motion.camera.unit import Observer
from async_motion.core import payloads
from async_motion.core.model import EndReason, MotionEvent, Phase
from async_motion.core.names import place_of_url
from async_motion.errors import SettingsError, SpoolError, TlsFileError
from async_motion.fleet.capacity import CostMeter, measured_capacity
from async_motion.fleet.leases import bucket_name
from async_motion.fleet.model import INSTANCE, FleetSettings, WatchedBucket
from async_motion.fleet.worker import FleetWorker
from async_motion.logs import flush_logging
from async_motion.settings import CameraSettings, Section, Settings
from async_motion.spool import Spool
from async_motion.status import Reporter
from async_motion.tls import TlsFiles, client_context
from async_motion.web import Live

log = logging.getLogger(__name__)

TRIES: Final = 3
"""Consecutive failures to open a camera after which another worker gets it."""
ELECTION_S: Final = 9.0
"""How long NATS servers may need for a new leader; measured 4 to 9 s, fixed in the servers."""
WILL_MARGIN_S: Final = 5.0
"""Added to the leases' time to live for a will's delay: a failover takes up to 3 s beyond the TTL."""
NOTED_S: Final = 5.0
"""Time limit of the wait for an event's number, which is noted in the lease."""
DRAIN_POLL_S: Final = 0.1
LAST_WORDS_S: Final = 0.5
"""Time limit for the log's last line when the process must end."""

EXTRA: Final = "fleet.servers: needs nats-py, expected `pip install 'async-motion[fleet]'`"


def fingerprint(settings: Settings) -> str:
    """Return a hash of the settings that all workers must share: 16 hex digits, computed without secrets.

    Settings that may differ between hosts are left out: name and capacity, log, page, spool, and the
    addresses of store and broker.
    """
    cameras = {name: _camera(camera) for name, camera in settings.cameras.items()}
    what = {
        "instance": settings.instance,
        "bucket": settings.minio.bucket,
        "prefix": settings.minio.prefix,
        "base_topic": settings.mqtt.base_topic,
        "discovery": _changed(settings.mqtt.discovery),
        "frigate_topic": settings.mqtt.frigate_topic,
        "location": _changed(settings.location),
        "ttl": settings.fleet.ttl,
        "cameras": cameras,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _camera(camera: CameraSettings) -> dict[str, Any]:
    sources = (camera.source, camera.record_source)
    places = [None if one is None else place_of_url(one.get_secret_value()) for one in sources]
    return _changed(camera, exclude={"source", "record_source"}) | {"sources": places}


def _changed(section: Section, exclude: Collection[str] = ()) -> dict[str, Any]:
    """Return what differs from the defaults: a newer version's further settings are no difference."""
    return section.model_dump(mode="json", exclude=set(exclude), exclude_defaults=True)


@asynccontextmanager
async def open_bucket(settings: Settings) -> AsyncIterator[WatchedBucket]:
    """Yield the bucket of this instance's leases.

    Raises SettingsError without the extra `fleet`, or if a TLS file cannot be used.
    """
    try:
        from async_motion.fleet.nats_bucket import NatsBucket  # noqa: PLC0415 - one host needs no NATS
    except ImportError as exc:
        raise SettingsError(EXTRA) from exc
    fleet = settings.fleet
    tls = _tls(settings) if any(server.startswith("tls://") for server in fleet.servers) else None
    if tls is not None:
        try:
            await asyncio.to_thread(tls)
        except TlsFileError as exc:
            raise SettingsError(f"fleet.tls.{exc}") from exc
    bucket = NatsBucket(
        fleet.servers,
        bucket_name(settings.instance),
        ttl_s=fleet.ttl,
        worker=fleet.name,
        credentials=fleet.credentials,
        tls=tls,
    )
    async with bucket:
        yield bucket


def _tls(settings: Settings) -> Callable[[], ssl.SSLContext]:
    """Return what makes a TLS context for each connection, from the files as they are then."""
    files = settings.fleet.tls
    ca, cert, key = (
        None if file is None else str(file) for file in (files.ca_file, files.cert_file, files.key_file)
    )
    return partial(client_context, TlsFiles(ca_file=ca, cert_file=cert, key_file=key, insecure=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a worker controls. `announcing` runs while this worker speaks for the instance."""

    cameras: Cameras
    reporter: Reporter
    live: Live
    spool: Spool
    announcing: Rerun


class FleetMember:
    """The service as a member of a fleet. Call `build_broker` and `join` before `run`."""

    def __init__(self, settings: Settings, bucket: WatchedBucket) -> None:
        self._settings = settings
        self.name = settings.fleet.name
        self._topics = specs.topics(settings)
        self._names = [name for name, camera in settings.cameras.items() if camera.enabled]
        self._zones = specs.watched_zones(settings)
        self._failures: Counter[str] = Counter()
        self._stopping: set[str] = set()
        """Cameras that were stopped, and not started again: that their connections end is no failure."""
        self._open_events: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._joined: Joined | None = None
        self._broker: FleetBroker | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._meter = CostMeter(self._pixels)
        self._worker = FleetWorker(
            FleetSettings(
                worker=self.name,
                cameras=(*self._names, INSTANCE),
                capacity=settings.fleet.capacity or measured_capacity(),
                fingerprint=fingerprint(settings),
                ttl_s=settings.fleet.ttl,
                on_quorum_loss=settings.fleet.on_quorum_loss,
            ),
            bucket,
            self,
            end=_end_process,
            cost_of=self._meter.cost,
            about=self._about,
        )

    # -- building

    def build_broker(self, host: str, port: int) -> FleetBroker:
        """Return the connections to the broker at this address."""
        settings = self._settings
        self._broker = FleetBroker(
            build.build_client(settings, host, port, suffix=f"-{self.name}"),
            partial(self._connect, host, port),
            self._topics,
            self._names,
            frigate_topic=settings.mqtt.frigate_topic,
        )
        return self._broker

    def _connect(self, host: str, port: int, owner: str) -> Any:
        instance = owner == INSTANCE
        return build.build_client(
            self._settings,
            host,
            port,
            # Two dashes keep a camera's client id distinct from a worker's.
            suffix="" if instance else f"--{owner}",
            status_topic=self._topics.status if instance else None,
            takeover=Takeover(
                will_delay_s=self._settings.fleet.ttl + WILL_MARGIN_S,
                may_connect=partial(self._holds, owner),
                will_topic=None if instance else self._topics.camera_status(owner),
            ),
        )

    def _holds(self, owner: str) -> bool:
        """Return whether the lease is held now.

        Without a quorum a camera may be kept though its lease has run out. If its connection ends then, it
        does not reconnect: the next owner may already use the client id.
        """
        assignment = self._worker.assignment(owner)
        return assignment is not None and assignment.held

    def join(self, joined: Joined) -> None:
        """Set what the worker controls."""
        self._joined = joined

    def observer(self, watched: Watched) -> Observer:
        """Return an observer that passes everything on to `watched`, and events and failures to the fleet."""
        return FleetObserver(self, watched)

    # -- queries

    def is_current(self, camera: str, epoch: int) -> bool:
        """Return whether this worker holds the camera's lease with this epoch now."""
        assignment = self._worker.assignment(camera)
        return assignment is not None and assignment.held and assignment.epoch == epoch

    def lease_of(self, camera: str) -> dict[str, Any]:
        """Return the lease's fields in a camera's state: `worker` and `epoch`; empty without a lease."""
        assignment = self._worker.assignment(camera)
        return {} if assignment is None else {"worker": self.name, "epoch": assignment.epoch}

    def knows(self, camera: str) -> bool:
        """Return whether the settings have this camera, enabled."""
        return camera in self._names

    def state(self) -> dict[str, Any]:
        """Return the fleet's fields in the instance's state."""
        view = self._worker.view()
        problems = [] if view.connected else [view.problem or "not connected to the NATS servers"]
        if view.keeping:
            problems.append("cameras go on without a lease")
        if view.different:
            problems.append(
                f"the settings of {', '.join(view.different)} differ from those of {self.name}:"
                " give all workers the same variables.yaml"
            )
        if view.namesake:
            problems.append(f"another worker is called {self.name} too: give each host its own fleet.name")
        # Without the servers this worker knows nothing of the cameras of others.
        unowned = [name for name in self._names if name not in view.owners] if view.connected else []
        if unowned:
            problems.append(f"no worker has {', '.join(unowned[:8])}{' …' if len(unowned) > 8 else ''}")
        return {
            "fleet": {
                "worker": self.name,
                "speaker": view.speaker,
                "connected": view.connected,
                "problem": "; ".join(problems) or None,
                "different": list(view.different),
                "unowned": len(unowned),
                "workers": {
                    worker.name: {
                        "capacity": worker.capacity,
                        "load": round(worker.load, 3),
                        "cameras": sum(owner == worker.name for owner in view.owners.values()),
                        "draining": worker.draining,
                        "refused": sorted(worker.refused),
                        **{
                            key: view.about.get(worker.name, {}).get(key, 0)
                            for key in ("spool_records", "spool_bytes")
                        },
                    }
                    for worker in view.workers
                },
                "cameras": {
                    camera: {"worker": owner, "epoch": view.epochs[camera]}
                    for camera, owner in sorted(view.owners.items())
                },
            }
        }

    # -- the life of a worker

    async def run(self) -> None:
        """Take part in the fleet until cancelled; then release the remaining leases."""
        fleet = self._settings.fleet
        if len(fleet.servers) > 1 and fleet.ttl <= ELECTION_S:
            log.warning(
                "fleet: fleet.ttl is %g s, but NATS servers need up to %g s for a new leader: all leases may"
                " expire when theirs dies; expected 10s or more",
                fleet.ttl,
                ELECTION_S,
            )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._worker.run()
        finally:
            self._tasks = None

    async def drain(self, timeout_s: float) -> None:
        """Hand the cameras over to other workers within `timeout_s`; return at once if there are none."""
        self._worker.drain()
        try:
            async with asyncio.timeout(timeout_s):
                # The view follows the bucket; there is no asyncio event to wait for.
                while not self._worker.idle and self._others_take_cameras():  # noqa: ASYNC110
                    await asyncio.sleep(DRAIN_POLL_S)
        except TimeoutError:
            log.warning(
                "fleet: not all cameras were given away within %.0f s; stopping the others", timeout_s
            )

    def _others_take_cameras(self) -> bool:
        """Return whether another worker takes cameras: when all end together, none does."""
        return any(one.name != self.name and not one.draining for one in self._worker.view().workers)

    # -- the worker's cameras

    def _lock(self, owner: str) -> asyncio.Lock:
        return self._locks.setdefault(owner, asyncio.Lock())

    def start(self, owner: str, epoch: int, note: Mapping[str, Any] | None) -> None:
        """Start a camera, or speak for the instance; return at once."""
        if self._tasks is not None:
            self._tasks.create_task(self._begin(owner, epoch, note), name=f"fleet: start[{owner}]")

    async def _begin(self, owner: str, epoch: int, note: Mapping[str, Any] | None) -> None:
        def is_ours() -> bool:
            assignment = self._worker.assignment(owner)
            return assignment is not None and assignment.epoch == epoch

        async with self._lock(owner):
            joined, broker, tasks = self._joined, self._broker, self._tasks
            if joined is None or broker is None or tasks is None or not is_ours():
                return  # given up before it was started
            broker.open(owner)
            if owner == INSTANCE:
                joined.reporter.republish()
                self._speaking = tasks.create_task(joined.announcing.run(), name="discovery")
                return
            self._failures.pop(owner, None)
            self._stopping.discard(owner)
            profiled = not self._settings.cameras[owner].profiles.night.is_blank
            joined.reporter.put_camera(owner, self._zones[owner], profiled=profiled)
            joined.reporter.republish_camera(owner)
            await joined.cameras.start(owner, worker=self.name, epoch=epoch, is_wanted=is_ours)
            if note is not None and (event := cut_event(note, self._settings.instance, owner)):
                ended = self._end_cut_event(event, epoch, note)
                tasks.create_task(ended, name=f"fleet: end the event[{owner}]")

    async def stop(self, owner: str) -> None:
        """Stop a camera, or stop speaking for the instance; return when all of it is published."""
        self._stopping.add(owner)
        async with self._lock(owner):
            joined, broker = self._joined, self._broker
            if joined is None or broker is None:
                return
            if owner == INSTANCE:
                speaking, self._speaking = self._speaking, None
                if speaking is not None:
                    speaking.cancel()
                    await asyncio.wait([speaking])
            else:
                broker.leave(owner)
                if owner in joined.cameras.names:
                    await joined.cameras.stop(owner)
                joined.reporter.drop_camera(owner)
                joined.live.forget(owner)
            await broker.close(owner)

    def cut(self, owner: str) -> bool:
        """End a camera's connections at once; return whether it is free. From any thread; never waits."""
        return self._joined is None or owner == INSTANCE or self._joined.cameras.cut(owner)

    def _pixels(self) -> dict[str, float]:
        if self._joined is None:
            return {}
        cameras = self._joined.cameras
        return {name: unit.pixels for name in cameras.names if (unit := cameras.unit(name)) is not None}

    def _about(self) -> dict[str, Any]:
        if self._joined is None:
            return {}
        stats = self._joined.spool.stats
        return {"spool_records": stats.records, "spool_bytes": stats.bytes}

    # -- observations of cameras

    def opened(self, camera: str) -> None:
        """Reset the camera's count of failures: it delivers frames."""
        self._failures.pop(camera, None)

    def failed(self, camera: str, problem: str) -> None:
        """Count a failed connection; at `TRIES` in a row, ask another worker to take the camera."""
        if camera in self._stopping:
            return
        self._failures[camera] += 1
        failures = self._failures[camera]
        if failures >= TRIES and self._worker.refusal(camera) is None:
            log.warning(
                "fleet: %s: %d attempts failed (%s); asking another worker", camera, failures, problem
            )
            self._worker.cannot_open(camera, problem)

    def event_started(self, event: MotionEvent) -> None:
        """Note an event in its camera's lease, as soon as it has its number."""
        self._open_events[event.camera] = event.event_id
        if self._tasks is not None:
            self._tasks.create_task(self._note_event(event), name=f"fleet: note[{event.camera}]")

    def event_ended(self, event: MotionEvent) -> None:
        """Remove an event's note from the lease."""
        self._open_events.pop(event.camera, None)
        noted = self._worker.noted(event.camera)
        if noted is not None and noted.get("event_id") == event.event_id:
            self._worker.note(event.camera, None)

    async def _note_event(self, event: MotionEvent) -> None:
        if self._joined is None:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + NOTED_S
        while loop.time() < until:
            try:
                now = await self._joined.spool.event_now(event.event_id)
            except SpoolError:
                return
            if now is not None:
                if self._open_events.get(event.camera) == event.event_id:
                    note = {
                        "event_id": event.event_id,
                        "started_at": payloads.iso(event.started_at),
                        "zones": list(now.event.zones)[:16],
                        "peak_score": round(now.event.peak_score, 6),
                        "writer": now.writer,
                        "no": now.no,
                    }
                    self._worker.note(event.camera, note)
                return
            await asyncio.sleep(0.1)

    async def _end_cut_event(self, event: MotionEvent, epoch: int, note: Mapping[str, Any]) -> None:
        """Announce the end of an event whose worker was lost; keep its note until the broker acknowledges."""
        now = datetime.now(UTC)
        ended = MotionEvent(
            event_id=event.event_id,
            instance=event.instance,
            camera=event.camera,
            started_at=event.started_at,
            peak_score=event.peak_score,
            zones=event.zones,
            ended_at=max(now, event.started_at),
            end_reason=EndReason.WORKER_LOST,
            worker=self.name,
            epoch=epoch,
        )
        writer, no = note.get("writer"), note.get("no")
        payload = payloads.event_payload(
            Phase.END,
            ended,
            now=now,
            frames_stored=0,
            best_frame=None,
            writer=writer if isinstance(writer, str) else None,
            no=no if isinstance(no, int) else None,
            bucket=self._settings.minio.bucket,
        )
        broker = self._broker
        assert broker is not None
        topic, data = self._topics.event(event.camera), payloads.encode(payload)
        if await insist(
            lambda: broker.publish(topic, data), lambda: not self.is_current(event.camera, epoch)
        ):
            log.info("fleet: %s: event %s cut short: its worker was lost", event.camera, event.event_id)
            if self._worker.noted(event.camera) == note:
                self._worker.note(event.camera, None)


def cut_event(note: Mapping[str, Any], instance: str, camera: str) -> MotionEvent | None:
    """Return the event that the last owner noted; None if the note is not valid."""
    try:
        return MotionEvent(
            event_id=str(note["event_id"]),
            instance=instance,
            camera=camera,
            started_at=payloads.parse_iso(str(note["started_at"])),
            peak_score=min(1.0, max(0.0, float(note["peak_score"]))),
            zones=tuple(str(zone) for zone in note["zones"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _end_process(camera: str) -> None:
    """End the process at once: its connection to a camera cannot be ended in any other way."""

    def last_words() -> None:
        log.critical(
            "fleet: %s: cannot be freed before its lease ends: ending the process; what was accepted stays in"
            " the spool",
            camera,
        )
        flush_logging(LAST_WORDS_S)

    # In a thread: a log that hangs must not hold up the end.
    saying = threading.Thread(target=last_words, name="fleet: last words", daemon=True)
    saying.start()
    saying.join(LAST_WORDS_S)
    os._exit(1)


class FleetObserver(Watched):
    """Passes cameras' observations on to `watched`, and events and connections to the fleet member."""

    def __init__(self, member: FleetMember, watched: Watched) -> None:
        super().__init__(watched.reporter, watched.live)
        self._member = member

    def camera_online(self, camera: str) -> None:
        self._member.opened(camera)
        super().camera_online(camera)

    def camera_offline(self, camera: str, problem: str) -> None:
        self._member.failed(camera, problem)
        super().camera_offline(camera, problem)

    def event_started(self, event: MotionEvent) -> None:
        self._member.event_started(event)
        super().event_started(event)

    def event_ended(self, event: MotionEvent) -> None:
        self._member.event_ended(event)
        super().event_ended(event)
