"""What the world sees over MQTT besides frames and events: states, settings in force, and commands.

    pipelines ──Observer──▶ ┌──────────┐ ──retain──▶ {base}/{camera}/motion, zone/…, status, state, {setting}
    delivery ──on_stored──▶ │ Reporter │ ──retain──▶ {base}/state
    {base}/…/set ─────────▶ └──────────┘ ──Controls──▶ pipelines          ──remember──▶ the next start

- Nothing here blocks or fails: what is observed is noted, and what is published is handed to the broker's
  client, which keeps the newest of each topic while the broker is away. Motion goes out in the same call.
- Nothing is stuck: the start publishes OFF for every camera and zone, whatever a crash left behind; the stop
  publishes OFF and offline.
- Nothing floods: a camera's state goes out every `state_every_s`, and between when its status or problem
  changes, but then never twice within `STATE_GAP_S`. Every other topic is published when its value changes.
- A command is bounded, parsed and ranged (`core/commands.py`), applied, confirmed on its state topic at once
  and remembered. A refused one leaves a line in the log, and the value in force is published again, so that
  whoever asked sees that nothing changed. Retained commands are ignored: they are old, and would be obeyed
  again at every connect. MQTT does not say who sent a message: the log names the topic that it came by.
- A remembered setting holds until the settings file says something else than it said at the time of the
  command: whoever edits the file later means it.

Times of day are the machine's own: "today" begins at local midnight.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final, Protocol

from async_motion.core import commands, names, payloads
from async_motion.core.commands import OFF, ON, Value
from async_motion.core.model import CameraStatus, Detection, MotionEvent, StoredFrame
from async_motion.core.names import Topics
from async_motion.errors import AsyncMotionError, SpoolError

log = logging.getLogger(__name__)

STATE_SCHEMA: Final = "async_motion.state/1"
CAMERA_STATE_SCHEMA: Final = "async_motion.camera_state/1"

ONLINE, OFFLINE = "online", "offline"

STATE_GAP_S = 5.0
"""Two states of one camera, or of the service, are at least this far apart, unless the first is due."""
TICK_S = 1.0
"""How often due states are looked for."""
RATE_WINDOW_TICKS = 15
"""The frame rate is a mean over this many ticks."""
LATENCIES = 32
"""The upload latency is the median of this many frames."""
SNAPSHOT_TIMEOUT_S = 30.0
SAVE_RETRY_S = 10.0
LAST_SAVE_S = 3.0

_SETTING_KEY = "setting/{camera}/{setting}"
_TODAY_KEY = "today/{camera}"


class Broker(Protocol):
    """What this room needs of the MQTT client."""

    def retain(self, topic: str, payload: bytes | str) -> None: ...

    def subscribe(self, topic_filter: str, handler: Callable[[str, bytes, bool], None]) -> None: ...


class Controls(Protocol):
    """What can be changed while a camera runs. The setters raise ValueError for what cannot be."""

    def values(self) -> Mapping[str, Value]:
        """Return what is in force: detection, sensitivity, threshold (None: automatic), min_area (share)."""

    def set_detection(self, on: bool) -> None: ...

    def set_sensitivity(self, sensitivity: str) -> None: ...

    def set_threshold(self, threshold: float | None) -> None: ...

    def set_min_area(self, share: float) -> None: ...

    async def snapshot(self) -> None:
        """Accept the newest frame, so that it is stored and announced. Raises AsyncMotionError."""


Remember = Callable[[str, bytes], Awaitable[None]]
"""Keeps a small value under a key beyond the process. Raises SpoolError."""

Preview = Callable[[], Awaitable[bytes | None]]
"""Makes a small JPEG of the newest frame; None when there is none."""


@dataclass(slots=True, kw_only=True)
class _Camera:
    """What is known of one camera now."""

    name: str
    zones: dict[str, bool]
    online: bool = False
    seen: bool = False
    trouble: str | None = None
    """Why it is offline."""
    ailment: str | None = None
    """What is wrong with its picture while it is online."""
    motion: bool = False
    frames: int = 0
    motion_frames: int = 0
    stored: int = 0
    events: int = 0
    day: date | None = None
    events_today: int = 0
    last_motion: datetime | None = None
    latest_motion_frame: datetime | None = None
    peak: float = 0.0
    """Highest score of a moving frame since the last state."""
    dropped: Counter[str] = field(default_factory=Counter)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    rate: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_WINDOW_TICKS + 1))
    """(monotonic, frames) at each tick."""
    controls: Controls | None = None
    preview: Preview | None = None
    published_at: float | None = None
    changed: bool = True

    @property
    def problem(self) -> str | None:
        return self.ailment if self.online else self.trouble

    @property
    def status(self) -> CameraStatus:
        if not self.online:
            return CameraStatus.OFFLINE if self.seen or self.trouble else CameraStatus.STARTING
        detecting = self.controls is None or self.controls.values()["detection"]
        return CameraStatus.WATCHING if detecting else CameraStatus.PAUSED

    def fps(self, monotonic: float) -> float:
        if not self.online or not self.rate:
            return 0.0
        since, frames = self.rate[0]
        return (self.frames - frames) / (monotonic - since) if monotonic > since else 0.0


class Reporter:
    """Implements what pipelines and delivery observe by; owns the states and the commands.

    `cameras` maps each camera to its zones. `recalled` is what earlier runs gave to `remember`.
    `spool_stats` returns at least `records`, `bytes` and `oldest_age_s`; `delivery_health` returns at least
    `store` and `broker`, each a mapping with a `problem` (text, or None when it is well). Both are published
    as they are: they must return at once and hold JSON values only.
    `restart_capture` makes every camera connect anew.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        cameras: Mapping[str, tuple[str, ...]],
        *,
        instance: str,
        version: str,
        spool_stats: Callable[[], Mapping[str, Any]],
        delivery_health: Callable[[], Mapping[str, Any]],
        remember: Remember,
        recalled: Mapping[str, bytes] | None = None,
        restart_capture: Callable[[], None] | None = None,
        state_every_s: float = 15.0,
        preview_every_s: float | None = None,
        frigate_topic: str | None = None,
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
        self._remember = remember
        self._recalled = dict(recalled or {})
        self._restart_capture = restart_capture
        self._state_every_s = state_every_s
        self._preview_every_s = preview_every_s
        self._frigate = Topics(frigate_topic) if frigate_topic else None
        self._now = now
        self._monotonic = monotonic
        self._timezone = timezone
        self._started_at = now()
        self._cameras = {
            name: _Camera(name=name, zones=dict.fromkeys(zones, False)) for name, zones in cameras.items()
        }
        self._troubles: tuple[object, object] = (None, None)
        self._state_at: float | None = None
        self._unsaved: dict[str, bytes] = {}
        self._to_save = asyncio.Event()
        self._snapshots: asyncio.Queue[str] = asyncio.Queue()
        self._shooting: set[str] = set()
        self._closed = False
        for camera in self._cameras.values():
            self._recall_today(camera)
        broker.subscribe(topics.commands, self._on_command)
        broker.subscribe(topics.restart, self._on_restart)

    # ---- what the service calls ----

    @staticmethod
    def memory_keys(cameras: Collection[str]) -> list[str]:
        """Return every key that `remember` may be given for these cameras, to recall them at the start."""
        keys = [_TODAY_KEY.format(camera=camera) for camera in cameras]
        return keys + [
            _SETTING_KEY.format(camera=camera, setting=setting) for camera in cameras for setting in names.SETTINGS
        ]

    def attach(self, camera: str, controls: Controls, preview: Preview | None = None) -> None:
        """Take over a camera's controls, fresh from its settings, and put remembered settings in force."""
        state = self._cameras[camera]
        state.controls, state.preview = controls, preview
        configured = controls.values()
        for setting in names.SETTINGS:
            self._restore(state, setting, commands.render(setting, configured[setting]))
            self._publish_setting(state, setting)
        self._touch(state)

    async def run(self) -> None:
        """Publish what is due, and carry out commands that take time, until cancelled; then close."""
        self.republish()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._periodically(), name="reporter[states]")
                tasks.create_task(self._take_snapshots(tasks), name="reporter[snapshots]")
                tasks.create_task(self._save(), name="reporter[memory]")
                if self._preview_every_s is not None:
                    tasks.create_task(self._show_previews(self._preview_every_s), name="reporter[previews]")
        finally:
            self.close()
            await self._save_the_rest()

    def republish(self) -> None:
        """Publish everything again, as it is now: at the start, and when a reader has come back."""
        for camera in self._cameras.values():
            self._publish_status(camera)
            self._publish_motion(camera)
            for zone in camera.zones:
                self._publish_zone(camera, zone)
            if camera.controls is not None:
                for setting in names.SETTINGS:
                    self._publish_setting(camera, setting)
            self._publish_camera(camera)
        self._publish_service()

    def close(self) -> None:
        """Publish that nothing moves and every camera is offline. Nothing is published after it."""
        if self._closed:
            return
        for camera in self._cameras.values():
            camera.online, camera.seen, camera.trouble = False, True, None
            camera.motion = False
            camera.zones = dict.fromkeys(camera.zones, False)
        self.republish()
        self._closed = True

    def tick(self) -> None:
        """Publish the states that are due. Called every `TICK_S` while running."""
        monotonic = self._monotonic()
        for camera in self._cameras.values():
            camera.rate.append((monotonic, camera.frames))
            if self._due(camera.published_at, camera.changed, monotonic):
                self._publish_camera(camera)
        if self._due(self._state_at, self._health_troubles() != self._troubles, monotonic):
            self._publish_service()

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state: what `{base}/state` says, and `cameras` with what each `…/state` says."""
        return self._service_state() | {
            "cameras": {name: self._camera_state(camera) for name, camera in self._cameras.items()}
        }

    @property
    def retained_topics(self) -> frozenset[str]:
        """Every topic under `{base}` on which this service retains something: others there are leftovers."""
        topics = {self._topics.status, self._topics.state}
        for camera in self._cameras.values():
            topics.update(self._topics.retained_of(camera.name, camera.zones))
            if self._preview_every_s is not None:
                topics.add(self._topics.preview(camera.name))
        return frozenset(topics)

    @property
    def foreign_topics(self) -> frozenset[str]:
        """Every topic outside `{base}` on which this service retains something."""
        if self._frigate is None:
            return frozenset()
        return frozenset(self._frigate.motion(name) for name in self._cameras)

    # ---- what pipelines observe ----

    def camera_online(self, camera: str) -> None:
        """The camera gives pictures."""
        state = self._cameras[camera]
        if state.online:
            return
        state.online, state.seen, state.trouble = True, True, None
        state.rate.clear()
        state.rate.append((self._monotonic(), state.frames))
        self._publish_status(state)
        self._touch(state)

    def camera_offline(self, camera: str, problem: str) -> None:
        """The camera is lost; `problem` says why in one line, without secrets."""
        state = self._cameras[camera]
        if not state.online and state.trouble == problem:
            return
        was_online, state.online = state.online, False
        state.trouble, state.ailment = problem, None
        if was_online:
            self._publish_status(state)
        self._touch(state)

    def motion(self, camera: str, on: bool) -> None:
        """Motion began or ended: published at once, before any upload."""
        state = self._cameras[camera]
        if state.motion == on:
            return
        state.motion = on
        self._publish_motion(state)
        state.last_motion = self._now() if on else state.latest_motion_frame or state.last_motion
        self._remember_today(state)
        self._touch(state)

    def zone_motion(self, camera: str, zone: str, on: bool) -> None:
        """Motion began or ended in a zone."""
        state = self._cameras[camera]
        if state.zones.get(zone) == on:
            return
        state.zones[zone] = on
        self._publish_zone(state, zone)

    def detected(self, camera: str, detection: Detection) -> None:
        """One frame was judged."""
        state = self._cameras[camera]
        state.frames += 1
        if detection.motion:
            state.motion_frames += 1
            state.peak = max(state.peak, detection.score)
            state.latest_motion_frame = self._now()

    def event_started(self, event: MotionEvent) -> None:
        """An event began."""
        state = self._cameras[event.camera]
        state.events += 1
        self._roll_day(state)
        state.events_today += 1
        self._remember_today(state)
        self._touch(state)

    def event_ended(self, event: MotionEvent) -> None:
        """An event ended."""
        state = self._cameras[event.camera]
        self._remember_today(state)
        self._touch(state)

    def dropped(self, camera: str, reason: str, count: int) -> None:
        """`count` more frames were lost before the spool accepted them."""
        self._cameras[camera].dropped[reason] += count

    def problem(self, camera: str, problem: str | None) -> None:
        """The picture's health: what is wrong with it, or None when it is well."""
        state = self._cameras[camera]
        if state.ailment != problem:
            state.ailment = problem
            self._touch(state)

    def on_stored(self, stored: StoredFrame) -> None:
        """A frame was stored and announced."""
        state = self._cameras.get(stored.info.camera)
        if state is None:
            return  # left in the spool by a camera that the settings no longer name
        state.stored += 1
        if not stored.delayed:
            # Both are labels of one machine's wall clock, which may have been set in between.
            state.latencies_s.append(max(0.0, (stored.stored_at - stored.info.captured_at).total_seconds()))

    # ---- publishing ----

    def _retain(self, topic: str, payload: bytes | str) -> None:
        if not self._closed:
            self._broker.retain(topic, payload)

    def _publish_status(self, camera: _Camera) -> None:
        self._retain(self._topics.camera_status(camera.name), ONLINE if camera.online else OFFLINE)

    def _publish_motion(self, camera: _Camera) -> None:
        payload = ON if camera.motion else OFF
        self._retain(self._topics.motion(camera.name), payload)
        if self._frigate is not None:
            self._retain(self._frigate.motion(camera.name), payload)

    def _publish_zone(self, camera: _Camera, zone: str) -> None:
        self._retain(self._topics.zone_motion(camera.name, zone), ON if camera.zones[zone] else OFF)

    def _publish_setting(self, camera: _Camera, setting: str) -> None:
        if camera.controls is not None:
            value = camera.controls.values()[setting]
            self._retain(self._topics.setting(camera.name, setting), commands.render(setting, value))

    def _publish_camera(self, camera: _Camera) -> None:
        self._retain(self._topics.camera_state(camera.name), payloads.encode(self._camera_state(camera)))
        camera.published_at, camera.changed, camera.peak = self._monotonic(), False, 0.0

    def _publish_service(self) -> None:
        self._troubles = self._health_troubles()
        self._retain(self._topics.state, payloads.encode(self._service_state()))
        self._state_at = self._monotonic()

    def _touch(self, camera: _Camera) -> None:
        """Publish a camera's state now, or as soon as the last one is old enough."""
        camera.changed = True
        if self._due(camera.published_at, True, self._monotonic()):
            self._publish_camera(camera)

    def _due(self, published_at: float | None, changed: bool, monotonic: float) -> bool:
        if published_at is None:
            return True
        gap = min(STATE_GAP_S, self._state_every_s) if changed else self._state_every_s
        return monotonic - published_at >= gap

    def _camera_state(self, camera: _Camera) -> dict[str, Any]:
        self._roll_day(camera)
        latency = round(statistics.median(camera.latencies_s), 3) if camera.latencies_s else None
        return {
            "schema": CAMERA_STATE_SCHEMA,
            "status": camera.status.value,
            "problem": camera.problem,
            "fps": round(camera.fps(self._monotonic()), 1),
            "score": round(camera.peak, 6),
            "last_motion": payloads.iso(camera.last_motion) if camera.last_motion else None,
            "events_today": camera.events_today,
            "events": camera.events,
            "frames": camera.frames,
            "motion_frames": camera.motion_frames,
            "stored": camera.stored,
            "dropped": dict(camera.dropped),
            "dropped_total": camera.dropped.total(),
            "upload_latency_s": latency,
        }

    def _service_state(self) -> dict[str, Any]:
        cameras = self._cameras.values()
        return {
            "schema": STATE_SCHEMA,
            "instance": self._instance,
            "version": self._version,
            "started_at": payloads.iso(self._started_at),
            "spool": dict(self._spool_stats()),
            **self._delivery_health(),
            "counters": {
                "cameras": len(self._cameras),
                "cameras_online": sum(camera.online for camera in cameras),
                "frames": sum(camera.frames for camera in cameras),
                "motion_frames": sum(camera.motion_frames for camera in cameras),
                "events": sum(camera.events for camera in cameras),
                "stored": sum(camera.stored for camera in cameras),
                "dropped": sum(camera.dropped.total() for camera in cameras),
            },
        }

    def _health_troubles(self) -> tuple[object, object]:
        health = self._delivery_health()
        return health["store"]["problem"], health["broker"]["problem"]

    async def _periodically(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    async def _show_previews(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            for camera in self._cameras.values():
                if camera.online and camera.preview is not None:
                    jpeg = await camera.preview()
                    if jpeg is not None:
                        self._retain(self._topics.preview(camera.name), jpeg)

    # ---- commands ----

    def _on_command(self, topic: str, payload: bytes, was_retained: bool) -> None:
        target = self._topics.parse_command(topic)
        camera = self._cameras.get(target[0]) if target else None
        if target is None or camera is None or camera.controls is None:
            log.warning("command on %s ignored: there is no such camera", topic)
            return
        setting = target[1]
        if was_retained:
            log.warning(
                "%s: command on %s ignored: it is retained; publish commands without that", camera.name, topic
            )
            return
        try:
            value = commands.parse(setting, payload)
            if setting == commands.SNAPSHOT:
                self._snapshots.put_nowait(camera.name)
                return
            before = camera.controls.values()[setting]
            _apply(camera.controls, setting, value)
        except ValueError as exc:
            log.warning("%s: command on %s refused: %s", camera.name, topic, exc)
            if setting in names.SETTINGS:
                self._publish_setting(camera, setting)
            return
        self._note_change(camera, setting, before, f"by a command on {topic}")
        self._publish_setting(camera, setting)
        self._touch(camera)

    def _note_change(self, camera: _Camera, setting: str, before: Value, how: str) -> None:
        """Log and remember a setting that a command has changed."""
        assert camera.controls is not None
        old = commands.render(setting, before)
        new = commands.render(setting, camera.controls.values()[setting])
        if old == new:
            return
        log.info("%s: %s changed from %s to %s %s", camera.name, setting, old, new, how)
        key = _SETTING_KEY.format(camera=camera.name, setting=setting)
        remembered = _read(self._recalled.get(key))
        configured = remembered.get("configured", old)
        self._keep(key, {"value": new, "configured": configured})

    def _restore(self, camera: _Camera, setting: str, configured: str) -> None:
        """Put a remembered setting in force, unless the file has changed since."""
        assert camera.controls is not None
        key = _SETTING_KEY.format(camera=camera.name, setting=setting)
        remembered = _read(self._recalled.get(key))
        value = remembered.get("value")
        if not isinstance(value, str):
            return
        if remembered.get("configured") != configured:
            if value != remembered.get("configured"):
                said = "the settings have changed, an earlier command no longer holds"
                log.info("%s: %s is %s: %s", camera.name, setting, configured, said)
                self._keep(key, {"value": configured, "configured": configured})
            return
        if value == configured:
            return
        try:
            _apply(camera.controls, setting, commands.parse(setting, value.encode()))
        except ValueError as exc:
            log.warning("%s: the remembered %s cannot be used: %s", camera.name, setting, exc)
            return
        log.info(
            "%s: %s is %s, as a command has set it; the settings say %s",
            camera.name,
            setting,
            value,
            configured,
        )

    def _on_restart(self, topic: str, payload: bytes, was_retained: bool) -> None:
        if self._restart_capture is None:
            return
        if was_retained or payload.strip().upper() != commands.PRESS.encode():
            why = "it is retained" if was_retained else f"expected {commands.PRESS}"
            log.warning("command on %s ignored: %s", topic, why)
            return
        log.info("every camera connects anew, by a command on %s", topic)
        self._restart_capture()

    async def _take_snapshots(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            name = await self._snapshots.get()
            if name in self._shooting:
                log.debug("%s: a snapshot is being taken already", name)
                continue
            self._shooting.add(name)
            tasks.create_task(self._take_snapshot(name), name=f"snapshot[{name}]")

    async def _take_snapshot(self, name: str) -> None:
        controls = self._cameras[name].controls
        assert controls is not None
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await controls.snapshot()
        except (AsyncMotionError, TimeoutError) as exc:
            log.warning("%s: no snapshot: %s", name, str(exc) or "no frame came in time")
        else:
            log.info("%s: snapshot taken, by command", name)
        finally:
            self._shooting.discard(name)

    # ---- memory ----

    def _roll_day(self, camera: _Camera) -> None:
        today = self._now().astimezone(self._timezone).date()
        if camera.day != today:
            camera.day, camera.events_today = today, 0

    def _remember_today(self, camera: _Camera) -> None:
        self._roll_day(camera)
        assert camera.day is not None
        self._keep(
            _TODAY_KEY.format(camera=camera.name),
            {
                "day": camera.day.isoformat(),
                "events": camera.events_today,
                "last_motion": payloads.iso(camera.last_motion) if camera.last_motion else None,
            },
        )

    def _recall_today(self, camera: _Camera) -> None:
        remembered = _read(self._recalled.get(_TODAY_KEY.format(camera=camera.name)))
        try:
            if remembered.get("last_motion") is not None:
                camera.last_motion = payloads.parse_iso(str(remembered["last_motion"]))
            camera.day = date.fromisoformat(str(remembered["day"]))
            camera.events_today = max(0, int(remembered["events"]))
        except (KeyError, ValueError, TypeError):
            camera.day, camera.events_today = None, 0

    def _keep(self, key: str, value: Mapping[str, Any]) -> None:
        self._recalled[key] = self._unsaved[key] = payloads.encode(value)
        self._to_save.set()

    async def _save(self) -> None:
        """Write what is to be remembered; a spool in trouble is asked again later."""
        failing = False
        while True:
            await self._to_save.wait()
            self._to_save.clear()
            try:
                await self._save_all()
            except SpoolError as exc:
                if not failing:
                    log.warning("changes by command would not survive a restart now: %s", exc)
                failing = True
                self._to_save.set()
                await asyncio.sleep(SAVE_RETRY_S)
            else:
                failing = False

    async def _save_all(self) -> None:
        while self._unsaved:
            key, value = next(iter(self._unsaved.items()))
            await self._remember(key, value)
            if self._unsaved.get(key) is value:
                del self._unsaved[key]

    async def _save_the_rest(self) -> None:
        try:
            async with asyncio.timeout(LAST_SAVE_S):
                await self._save_all()
        except (SpoolError, TimeoutError) as exc:
            log.warning(
                "the last changes by command may not survive the restart: %s",
                str(exc) or "the spool did not answer",
            )


def _apply(controls: Controls, setting: str, value: Value) -> None:
    match setting, value:
        case "detection", bool():
            controls.set_detection(value)
        case "sensitivity", str():
            controls.set_sensitivity(value)
        case "threshold", float() | None:
            controls.set_threshold(value)
        case "min_area", float():
            controls.set_min_area(value)
        case _:
            raise AssertionError(f"{setting}: {value!r} is not what a command gives")


def _read(remembered: bytes | None) -> dict[str, Any]:
    """Return what was remembered; nothing where it cannot be read."""
    try:
        value = json.loads(remembered or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
