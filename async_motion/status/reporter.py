"""Publish states: observations of pipelines and delivery, at once or when due."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final, Protocol

from async_motion.core import names, payloads, strict_json
from async_motion.core.commands import OFF, ON, Controls
from async_motion.core.health import DeliveryHealth, PeerHealth
from async_motion.core.model import CameraStatus, Detection, MotionEvent, SceneChange, StoredFrame
from async_motion.core.names import Topics
from async_motion.core.options import STATE_EVERY_S
from async_motion.core.wall_clock import clock_problem
from async_motion.errors import AsyncMotionError
from async_motion.status import commands
from async_motion.status.camera import CameraState
from async_motion.status.commands import Commands, ProfileControls
from async_motion.status.memory import Remember, RememberedValues

log = logging.getLogger(__name__)

SCHEMA: Final = "async_motion.state/1"
ONLINE, OFFLINE = "online", "offline"

STATE_GAP_S = 5.0
"""Minimum time between two states of one camera, or of the service; `state_every_s` if that is shorter."""
MAX_MEMORY_BYTES: Final = 16 << 10
TICK_S = 1.0
"""How often due states are checked."""

_TODAY_KEY: Final = "today/{camera}"

Preview = Callable[[], Awaitable[bytes | None]]
"""Returns a small JPEG of the newest frame; None if there is none. Raises AsyncMotionError."""


class StatusBroker(Protocol):
    """What this package needs of the MQTT client."""

    def retain(self, topic: str, payload: bytes | str) -> None: ...

    def subscribe(self, topic_filter: str, handler: Callable[[str, bytes, bool], None]) -> None: ...


class Member(Protocol):
    """The service as a member of a fleet, whose cameras come and go."""

    def state(self) -> Mapping[str, Any]:
        """Return the fleet's fields of the service's state."""

    def lease_of(self, camera: str) -> Mapping[str, Any]:
        """Return the lease's fields of a camera's state."""

    def knows(self, camera: str) -> bool:
        """Return whether the fleet has this camera, at any worker."""


def retained_by(
    topics: Topics,
    cameras: Mapping[str, Collection[str]],
    *,
    preview: bool,
    profiled: Collection[str],
    fleet: bool = False,
) -> frozenset[str]:
    """Return all topics under `{base}` on which a service with these cameras and zones retains a message."""
    found = {topics.status, topics.state}
    for name, zones in cameras.items():
        found.update(topics.retained_of(name, zones))
        if preview:
            found.add(topics.preview(name))
        if fleet:
            found.add(topics.memory(name))
        if name in profiled:
            found.add(topics.setting(name, names.PROFILE))
    return frozenset(found)


class _Pace:
    """When a state is due: regularly, and soon after a change, but not too soon."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._gap_s = min(STATE_GAP_S, every_s)
        self._at: float | None = None
        self.changed = False

    def due(self, monotonic: float) -> bool:
        gap_s = self._gap_s if self.changed else self._every_s
        return self._at is None or monotonic - self._at >= gap_s

    def published(self, monotonic: float) -> None:
        self._at, self.changed = monotonic, False


class Reporter:
    """Implements the observers of pipelines and delivery; owns the states and the commands.

    `cameras` maps each camera to its zones. `recalled` holds what earlier runs passed to `remember` under
    `memory_keys`. `spool_stats` returns at least `records`, `bytes` and `oldest_age_s`, all JSON values, and
    is published unchanged. It and `delivery_health` must return at once. `restart_capture` makes every camera
    reconnect. `profiled` are the cameras with settings for the night. `timezone` defines midnight; None is
    the machine's own. In a `fleet`, another worker may have owned a camera before: its status is not
    published until it has delivered a frame or failed.
    """

    def __init__(
        self,
        broker: StatusBroker,
        topics: Topics,
        cameras: Mapping[str, tuple[str, ...]],
        *,
        instance: str,
        version: str,
        spool_stats: Callable[[], Mapping[str, Any]],
        delivery_health: Callable[[], DeliveryHealth],
        remember: Remember,
        recalled: Mapping[str, bytes] | None = None,
        restart_capture: Callable[[], None] | None = None,
        state_every_s: float = STATE_EVERY_S,
        preview_every_s: float | None = None,
        frigate_topic: str | None = None,
        profiled: Collection[str] = (),
        fleet: Member | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        timezone: tzinfo | None = None,
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._instance = instance
        self._version = version
        self._spool_stats = spool_stats
        self._delivery_health = delivery_health
        self._preview_every_s = preview_every_s
        self._frigate = Topics(frigate_topic) if frigate_topic else None
        self._profiled = frozenset(profiled)
        self._fleet = fleet
        self._now = now
        self._monotonic = monotonic
        self._timezone = timezone
        self._started_at = now()
        self._memory = RememberedValues(
            remember, recalled, self._share if fleet is not None else lambda _key: None
        )
        self._commands = Commands(
            topics,
            self._memory,
            retain=self._retain,
            changed=self._settings_changed,
            restart_capture=restart_capture,
            monotonic=monotonic,
        )
        self._cameras = {
            name: CameraState(zones=dict.fromkeys(zones, False)) for name, zones in cameras.items()
        }
        self._state_every_s = state_every_s
        self._paces = {name: _Pace(state_every_s) for name in cameras}
        self._pace = _Pace(state_every_s)
        self._previews: dict[str, Preview] = {}
        self._troubles: tuple[object, ...] = (PeerHealth(), PeerHealth(), None, False, None, None)
        self._clock_is_wrong = False
        self._settings_problem: Callable[[], str | None] = lambda: None
        self._closed = False
        for name, camera in self._cameras.items():
            camera.recall_day(self._memory.recall(_TODAY_KEY.format(camera=name)))
        broker.subscribe(topics.commands, self._commands.on_command)
        broker.subscribe(topics.restart, self._commands.on_restart)
        if fleet is not None:
            broker.subscribe(topics.memories, self._on_memory)

    # ---- calls of the service ----

    @staticmethod
    def memory_keys(cameras: Collection[str]) -> list[str]:
        """Return all keys that may be passed to `remember` for these cameras, to recall them at the start."""
        keys = [key.format(camera=camera) for camera in cameras for key in (_TODAY_KEY, commands.PROFILE_KEY)]
        return keys + [
            key.format(camera=camera, setting=setting)
            for camera in cameras
            for setting in names.SETTINGS
            for key in (commands.KEY, commands.NIGHT_KEY)
        ]

    def attach(
        self,
        camera: str,
        controls: Controls,
        preview: Preview | None = None,
        profiles: ProfileControls | None = None,
        capture: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Take over a camera's controls, as built from its settings, and apply remembered settings.

        `capture` returns the counters of its capture; `dropped` and `corrupt` among them are lost frames.
        """
        self._cameras[camera].follow(capture)
        if preview is not None:
            self._previews[camera] = preview
        self._commands.attach(camera, controls, profiles)
        self._settings_changed(camera)

    def detach(self, camera: str) -> None:
        """Forget the controls of a camera that has stopped; its last state and its losses stay."""
        self._cameras[camera].follow(dict)
        self._previews.pop(camera, None)
        self._commands.detach(camera)

    def put_camera(self, camera: str, zones: Collection[str], *, profiled: bool) -> None:
        """Add a camera, or change its zones; keep the figures of the camera and of remaining zones."""
        self._profiled = self._profiled | {camera} if profiled else self._profiled - {camera}
        state = self._cameras.get(camera)
        if state is None:
            state = self._cameras[camera] = CameraState(zones={})
            self._paces[camera] = _Pace(self._state_every_s)
            state.recall_day(self._memory.recall(_TODAY_KEY.format(camera=camera)))
        before = state.zones
        state.zones = {zone: before.get(zone, False) for zone in zones}
        for zone in state.zones:
            if zone not in before:
                self._publish_zone(camera, zone)

    def drop_camera(self, camera: str) -> None:
        """Remove a camera. The discovery publisher clears its retained topics with all other leftovers."""
        self._commands.detach(camera)
        self._previews.pop(camera, None)
        self._paces.pop(camera, None)
        self._cameras.pop(camera, None)
        self._profiled -= {camera}

    def show_settings_problem(self, problem: Callable[[], str | None]) -> None:
        """Include in the state why the last reload of the settings failed; `problem` returns it, or None."""
        self._settings_problem = problem

    def profile_changed(self, camera: str) -> None:
        """Publish a camera's settings after a switch between day and night."""
        self._commands.publish(camera)
        self._touch(camera)

    async def run(self) -> None:
        """Publish due states and take requested snapshots until cancelled; then close."""
        self.republish()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._periodically(), name="reporter[states]")
                tasks.create_task(self._commands.take_snapshots(), name="reporter[snapshots]")
                tasks.create_task(self._memory.run(), name="reporter[memory]")
                if self._preview_every_s is not None:
                    tasks.create_task(self._show_previews(self._preview_every_s), name="reporter[previews]")
        finally:
            self.close()
            await self._memory.flush()

    def republish(self) -> None:
        """Publish every current value again: at the start, and when a subscriber is back."""
        for name in self._cameras:
            self.republish_camera(name)
        self._publish_service()

    def republish_camera(self, camera: str) -> None:
        """Publish every current value of one camera again."""
        self._publish_status(camera)
        self._publish_motion(camera)
        for zone in self._cameras[camera].zones:
            self._publish_zone(camera, zone)
        self._commands.publish(camera)
        self._publish_camera(camera)

    def close(self) -> None:
        """Publish OFF and offline for every camera; publish nothing after that."""
        if self._closed:
            return
        for camera in self._cameras.values():
            camera.goes_offline(None)
            camera.seen = True
            camera.motion = False
            camera.zones = dict.fromkeys(camera.zones, False)
        self.republish()
        self._closed = True

    def tick(self) -> None:
        """Publish the states that are due. `run` calls it every `TICK_S`."""
        monotonic = self._monotonic()
        self._look_at_the_clock()
        self._commands.tick()
        for name, camera in self._cameras.items():
            camera.tick(monotonic)
            if new := camera.new_drops(monotonic):
                log.warning("%s: %d frames lost, since the start: %s", name, new, _listed(camera.drops()))
            if self._paces[name].due(monotonic):
                self._publish_camera(name)
        self._pace.changed = self._health_troubles() != self._troubles
        if self._pace.due(monotonic):
            self._publish_service()

    def snapshot(self) -> dict[str, Any]:
        """Return the payload of `{base}/state`, plus `cameras` with the payload of each camera's state."""
        return self._service_state() | {"cameras": {name: self._camera_state(name) for name in self._cameras}}

    @property
    def retained_topics(self) -> frozenset[str]:
        """All topics under `{base}` on which this service retains a message: others there are leftovers."""
        zones = {name: tuple(camera.zones) for name, camera in self._cameras.items()}
        preview = self._preview_every_s is not None
        return retained_by(
            self._topics, zones, preview=preview, profiled=self._profiled, fleet=self._fleet is not None
        )

    @property
    def foreign_topics(self) -> frozenset[str]:
        """All topics outside `{base}` on which this service retains a message."""
        if self._frigate is None:
            return frozenset()
        return frozenset(self._frigate.motion(name) for name in self._cameras)

    # ---- observations of pipelines ----

    def camera_online(self, camera: str) -> None:
        """Publish that the camera delivers frames."""
        state = self._cameras[camera]
        if not state.online:
            state.goes_online(self._monotonic())
            self._publish_status(camera)
            self._touch(camera)

    def camera_offline(self, camera: str, problem: str) -> None:
        """Publish that the camera is offline; `problem` gives the reason in one line, without secrets."""
        state = self._cameras[camera]
        if not state.online and state.trouble == problem:
            return
        was_told = not state.online and (self._fleet is None or state.status is not CameraStatus.STARTING)
        state.goes_offline(problem)
        if not was_told:
            self._publish_status(camera)
        self._touch(camera)

    def motion(self, camera: str, on: bool) -> None:
        """Publish at once, before any upload, that motion began or ended."""
        state = self._cameras[camera]
        if state.motion != on:
            state.moves(on, self._now())
            self._publish_motion(camera)
            self._remember_today(camera)
            self._touch(camera)

    def zone_motion(self, camera: str, zone: str, on: bool) -> None:
        """Publish that motion began or ended in a zone."""
        zones = self._cameras[camera].zones
        if zones.get(zone) != on:
            zones[zone] = on
            self._publish_zone(camera, zone)

    def detected(self, camera: str, detection: Detection) -> None:
        """Count one judged frame."""
        self._cameras[camera].judged(detection, self._now())

    def scene_changed(self, camera: str, kind: SceneChange) -> None:
        """Count a change of the whole scene: lamp, infrared, exposure, or a moved camera."""
        self._cameras[camera].scene_changes(kind, self._now())
        self._touch(camera)

    def event_started(self, event: MotionEvent) -> None:
        """Count an event that began."""
        state = self._cameras[event.camera]
        state.roll_day(self._today())
        state.events += 1
        state.events_today += 1
        self._remember_today(event.camera)
        self._touch(event.camera)

    def event_ended(self, event: MotionEvent) -> None:
        """Save the day's figures after an event, and publish the camera's state."""
        self._remember_today(event.camera)
        self._touch(event.camera)

    def dropped(self, camera: str, reason: str, count: int) -> None:
        """Count frames that were lost before the spool accepted them."""
        self._cameras[camera].dropped[reason] += count

    def problem(self, camera: str, problem: str | None) -> None:
        """Publish what is wrong with the camera's image; None: nothing."""
        state = self._cameras[camera]
        if state.ailment != problem:
            state.ailment = problem
            self._touch(camera)

    def on_stored(self, stored: StoredFrame) -> None:
        """Count a frame that was stored and announced."""
        state = self._cameras.get(stored.info.camera)
        if state is None:
            return  # left in the spool by a camera that the settings no longer name
        state.stored += 1
        if not stored.delayed:
            # Both times are from this machine's wall clock, which may have been set in between.
            state.latencies_s.append(max(0.0, (stored.stored_at - stored.info.captured_at).total_seconds()))

    # ---- publishing ----

    def _retain(self, topic: str, payload: bytes | str) -> None:
        if not self._closed:
            self._broker.retain(topic, payload)

    def _publish_status(self, camera: str) -> None:
        state = self._cameras[camera]
        if self._fleet is not None and state.status is CameraStatus.STARTING:
            return
        status = ONLINE if state.online else OFFLINE
        self._retain(self._topics.camera_status(camera), status)

    def _publish_motion(self, camera: str) -> None:
        payload = ON if self._cameras[camera].motion else OFF
        self._retain(self._topics.motion(camera), payload)
        if self._frigate is not None:
            self._retain(self._frigate.motion(camera), payload)

    def _publish_zone(self, camera: str, zone: str) -> None:
        payload = ON if self._cameras[camera].zones[zone] else OFF
        self._retain(self._topics.zone_motion(camera, zone), payload)

    def _publish_camera(self, camera: str) -> None:
        self._retain(self._topics.camera_state(camera), payloads.encode(self._camera_state(camera)))
        self._paces[camera].published(self._monotonic())
        self._cameras[camera].peak = 0.0

    def _publish_service(self) -> None:
        self._troubles = self._health_troubles()
        self._retain(self._topics.state, payloads.encode(self._service_state()))
        self._pace.published(self._monotonic())

    def _touch(self, camera: str) -> None:
        """Publish a camera's state now, or as soon as the last one is old enough."""
        pace = self._paces[camera]
        pace.changed = True
        if pace.due(self._monotonic()):
            self._publish_camera(camera)

    def _settings_changed(self, camera: str) -> None:
        self._cameras[camera].detecting = self._commands.detecting(camera)
        self._touch(camera)

    def _camera_state(self, camera: str) -> dict[str, Any]:
        state = self._cameras[camera]
        state.roll_day(self._today())
        lease = self._fleet.lease_of(camera) if self._fleet is not None else {}
        return {**state.to_json(self._monotonic()), "profile": self._commands.profile(camera), **lease}

    def _service_state(self) -> dict[str, Any]:
        cameras = self._cameras.values()
        return {
            "schema": SCHEMA,
            "instance": self._instance,
            "version": self._version,
            "started_at": payloads.iso(self._started_at),
            "spool": dict(self._spool_stats()),
            **asdict(self._delivery_health()),
            **(self._fleet.state() if self._fleet is not None else {}),
            "clock_problem": clock_problem(self._now()),
            "settings": {"problem": self._settings_problem()},
            "counters": {
                "cameras": len(self._cameras),
                "cameras_online": sum(camera.online for camera in cameras),
                "frames": sum(camera.frames for camera in cameras),
                "motion_frames": sum(camera.motion_frames for camera in cameras),
                "events": sum(camera.events for camera in cameras),
                "stored": sum(camera.stored for camera in cameras),
                "dropped": sum(camera.drops().total() for camera in cameras),
            },
        }

    def _health_troubles(self) -> tuple[object, ...]:
        health = self._delivery_health()
        spool = self._spool_stats()
        own = (clock_problem(self._now()), self._settings_problem())
        return health.store, health.broker, spool.get("problem"), bool(spool.get("alarm")), *own

    def _look_at_the_clock(self) -> None:
        """Log once that the wall clock cannot be right, and once that it has been set."""
        problem = clock_problem(self._now())
        if problem is not None and not self._clock_is_wrong:
            log.warning("%s", problem)
        elif problem is None and self._clock_is_wrong:
            log.info("this machine's clock has been set")
        self._clock_is_wrong = problem is not None

    def _today(self) -> date:
        return self._now().astimezone(self._timezone).date()

    def _remember_today(self, camera: str) -> None:
        state = self._cameras[camera]
        state.roll_day(self._today())
        self._memory.keep(_TODAY_KEY.format(camera=camera), state.day_to_json())

    # ---- the memory of a fleet ----

    def _share(self, key: str) -> None:
        """Retain what is remembered of a camera, for its next owner."""
        camera = key.split("/")[1]
        if camera in self._cameras:
            known = {key: value for key in self.memory_keys([camera]) if (value := self._memory.recall(key))}
            self._retain(self._topics.memory(camera), payloads.encode(known).decode())

    def _on_memory(self, topic: str, payload: bytes, _was_retained: bool) -> None:
        """Take over what a camera's owner remembers; what this worker owns it knows better."""
        camera = self._topics.parse_memory(topic)
        if camera is None or camera in self._cameras or self._fleet is None or not self._fleet.knows(camera):
            return
        if len(payload) > MAX_MEMORY_BYTES:
            log.warning("%s: its memory is ignored: longer than %d bytes", camera, MAX_MEMORY_BYTES)
            return
        try:
            values = strict_json.parse_object(payload or b"{}")
        except ValueError as exc:
            log.warning("%s: its memory is ignored: %s", camera, exc)
            return
        self._memory.replace(self.memory_keys([camera]), values)

    # ---- tasks ----

    async def _periodically(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    async def _show_previews(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            for name, preview in list(self._previews.items()):
                if self._shows(name, preview):
                    await self._show_preview(name, preview)

    async def _show_preview(self, camera: str, preview: Preview) -> None:
        try:
            jpeg = await preview()
        except AsyncMotionError as exc:
            log.debug("%s: no preview: %s", camera, exc)
            return
        if jpeg is not None and self._shows(camera, preview):
            self._retain(self._topics.preview(camera), jpeg)

    def _shows(self, camera: str, preview: Preview) -> bool:
        """Return whether this preview is the camera's still: a reload may remove it while another is made."""
        return self._previews.get(camera) is preview and self._cameras[camera].online


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
