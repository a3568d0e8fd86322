"""Commands to cameras: check, apply, confirm and remember them; restore them after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol

from async_motion.core import commands, names
from async_motion.core.commands import Controls, Value
from async_motion.core.events.day_night import Profile
from async_motion.core.names import PROFILE, Topics
from async_motion.core.rates import LogThrottle, TokenBucket, TokenBuckets
from async_motion.errors import AsyncMotionError
from async_motion.status.memory import RememberedValues

log = logging.getLogger(__name__)

KEY: Final = "setting/{camera}/{setting}"
NIGHT_KEY: Final = "night/{camera}/{setting}"
"""Marks a remembered setting that the night overrides."""
PROFILE_KEY: Final = "profile/{camera}"
SNAPSHOT_TIMEOUT_S = 30.0
BURST: Final = 20
"""Commands to one setting of a camera that apply at once; further ones apply once every `EVERY_S`."""
EVERY_S: Final = 1.0
RESTART_GAP_S: Final = 10.0
"""Cameras reconnect by command at most this often."""


class ProfileControls(Protocol):
    """The day and night settings of a camera that has both."""

    @property
    def profile(self) -> Profile:
        """Return the profile in force."""

    @property
    def mode(self) -> str:
        """Return `day` or `night` if a command has chosen it, else `auto`."""

    @property
    def basis(self) -> str:
        """Return what `auto` depends on, as the settings name it."""

    @property
    def own(self) -> Collection[str]:
        """Return the names of the settings that the night overrides."""

    def values(self, profile: Profile) -> Mapping[str, Value]:
        """Return a profile's values for the settings in `own`, in force or not."""

    def put(self, profile: Profile, setting: str, value: Value) -> None:
        """Change one of the settings in `own` in a profile. Raises ValueError for an invalid value."""

    def choose(self, mode: str) -> None:
        """Switch to `day`, `night` or `auto`."""


class Commands:
    """The controls of all cameras.

    `retain(topic, payload)` publishes. `changed` is called with the camera whose settings have changed.
    """

    def __init__(
        self,
        topics: Topics,
        memory: RememberedValues,
        *,
        retain: Callable[[str, str], None],
        changed: Callable[[str], None],
        restart_capture: Callable[[], None] | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._topics = topics
        self._memory = memory
        self._retain = retain
        self._changed = changed
        self._restart_capture = restart_capture
        self._controls: dict[str, Controls] = {}
        self._profiles: dict[str, ProfileControls] = {}
        self._monotonic = monotonic
        self._wanted: dict[str, None] = {}
        """Cameras with a requested snapshot."""
        self._snapshot_wanted = asyncio.Event()
        self._shooting: set[str] = set()
        self._buckets = TokenBuckets(BURST, EVERY_S)
        self._waiting: dict[tuple[str, str], tuple[str, bytes]] = {}
        """The newest (topic, payload) by (camera, setting), where commands exceed the rate."""
        self._restarts = TokenBucket(1, RESTART_GAP_S)
        self._restart_due = False
        self._throttle = LogThrottle()

    def attach(self, camera: str, controls: Controls, profiles: ProfileControls | None = None) -> None:
        """Take over a camera's controls, as built from its settings; apply the remembered settings.

        `profiles`: its day and night settings, with the day's in force.
        """
        self._profiles.pop(camera, None)
        self._controls[camera] = controls
        configured = controls.values()
        for setting in names.SETTINGS:
            key = KEY.format(camera=camera, setting=setting)
            payload = commands.render(setting, configured[setting])
            self._restore(camera, setting, key, payload, partial(_adopt, controls, setting))
        if profiles is not None:
            self._attach_profiles(camera, profiles)
        self.publish(camera)

    def detach(self, camera: str) -> None:
        """Forget a camera's controls: commands to it are refused until it is attached again."""
        self._controls.pop(camera, None)
        self._profiles.pop(camera, None)
        self._waiting = {target: command for target, command in self._waiting.items() if target[0] != camera}

    def _attach_profiles(self, camera: str, profiles: ProfileControls) -> None:
        for setting, value in profiles.values(Profile.NIGHT).items():
            key = NIGHT_KEY.format(camera=camera, setting=setting)
            put = partial(profiles.put, Profile.NIGHT, setting)
            self._restore(camera, setting, key, commands.render(setting, value), put, " at night")
        remembered = self._memory.recall(PROFILE_KEY.format(camera=camera))
        if remembered.get("basis") == profiles.basis and remembered.get("mode") in commands.PROFILES:
            profiles.choose(str(remembered["mode"]))
        self._profiles[camera] = profiles

    def publish(self, camera: str) -> None:
        """Publish every setting in force."""
        if camera in self._controls:
            for setting in names.SETTINGS:
                self._publish(camera, setting)
        if camera in self._profiles:
            self._publish_profile(camera)

    def profile(self, camera: str) -> dict[str, str] | None:
        """Return the profile `chosen` and the one `in_force`; None for a camera without night settings."""
        profiles = self._profiles.get(camera)
        return {"chosen": profiles.mode, "in_force": profiles.profile.value} if profiles is not None else None

    def detecting(self, camera: str) -> bool:
        """Return whether detection is on, by the last known value."""
        controls = self._controls.get(camera)
        return controls is None or bool(controls.values()["detection"])

    def on_command(self, topic: str, payload: bytes, was_retained: bool) -> None:
        """Apply a command to a camera, or log why it is refused.

        A flood is merged: beyond `BURST`, only the newest command to each setting waits for `tick`.
        """
        target = self._topics.parse_command(topic)
        where = _shown(topic)
        if was_retained:  # it comes with the connection, perhaps before its camera has started
            self._warn(
                target[0] if target is not None and target[0] in self._controls else "",
                f"command on {where} ignored: it is retained; publish it without the retain flag",
            )
            return
        if target is None or target[0] not in self._controls:
            self._warn("", f"command on {where} ignored: there is no such camera")
            return
        camera, setting = target
        known = setting in commands.SETTINGS or setting in (commands.SNAPSHOT, PROFILE)
        if not known or len(payload) > commands.MAX_BYTES:
            self._refuse(camera, setting, where, payload)
        elif self._buckets.take((camera, setting), self._monotonic()):
            self._waiting.pop((camera, setting), None)  # the waiting command is older
            self._obey(camera, setting, where, payload)
        else:
            self._waiting[camera, setting] = (where, payload)

    def tick(self) -> None:
        """Apply the waiting commands, as far as the rate allows."""
        now = self._monotonic()
        for camera, setting in list(self._waiting):
            if self._buckets.take((camera, setting), now):
                self._obey(camera, setting, *self._waiting.pop((camera, setting)))
        if self._restart_due and self._restarts.take(now):
            self._restart_due = False
            self._restart_all("several commands")

    def _obey(self, camera: str, setting: str, topic: str, payload: bytes) -> None:
        controls = self._controls[camera]
        try:
            value = commands.parse(setting, payload)
            if setting == commands.SNAPSHOT:
                self._wanted[camera] = None
                self._snapshot_wanted.set()
                return
            if setting == PROFILE:
                self._choose_profile(camera, str(value), topic)
                return
            before = commands.render(setting, controls.values()[setting])
            controls.adopt({setting: value})
        except ValueError as exc:
            self._refused(camera, setting, topic, exc)
            return
        self._publish(camera, setting)
        self._note(camera, setting, before, topic)
        self._changed(camera)

    def _refuse(self, camera: str, setting: str, topic: str, payload: bytes) -> None:
        """Refuse an unknown or oversized command, and log the parser's reason."""
        try:
            commands.parse(setting, payload)
        except ValueError as exc:
            if self._buckets.take((camera, None), self._monotonic()):
                self._refused(camera, setting, topic, exc)
            else:
                self._warn(camera, f"{camera}: command on {topic} refused: {exc}")

    def _refused(self, camera: str, setting: str, topic: str, why: ValueError) -> None:
        """Log a refusal; publish the value in force again, so that the sender sees it unchanged."""
        self._warn(camera, f"{camera}: command on {topic} refused: {why}")
        if setting in commands.SETTINGS:
            self._publish(camera, setting)
        elif setting == PROFILE and camera in self._profiles:
            self._publish_profile(camera)

    def on_restart(self, topic: str, payload: bytes, was_retained: bool) -> None:
        """Make every camera reconnect. A second command within `RESTART_GAP_S` applies after that time."""
        if self._restart_capture is None:
            return
        if was_retained or payload[:64].strip().upper() != commands.PRESS.encode():
            why = "it is retained" if was_retained else f"expected {commands.PRESS}"
            self._warn("", f"command on {topic} ignored: {why}")
        elif self._restarts.take(self._monotonic()):
            self._restart_all(f"a command on {topic}")
        else:
            self._restart_due = True

    def _restart_all(self, why: str) -> None:
        if self._restart_capture is not None:
            log.info("every camera reconnects, by %s", why)
            self._restart_capture()

    async def take_snapshots(self) -> None:
        """Take the requested snapshots, one at a time for each camera, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._snapshot_wanted.wait()
                self._snapshot_wanted.clear()
                wanted, self._wanted = self._wanted, {}
                for camera in wanted:
                    if camera in self._shooting:
                        log.debug("%s: a snapshot is being taken already", camera)
                        continue
                    self._shooting.add(camera)
                    tasks.create_task(self._take_snapshot(camera), name=f"snapshot[{camera}]")

    async def _take_snapshot(self, camera: str) -> None:
        controls = self._controls.get(camera)
        try:
            if controls is None:
                return  # a reload has detached it since the command
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await controls.snapshot()
        except (AsyncMotionError, TimeoutError) as exc:
            self._warn(camera, f"{camera}: no snapshot: {str(exc) or 'no frame came in time'}")
        else:
            self._inform((camera, commands.SNAPSHOT), f"{camera}: snapshot taken, by command")
        finally:
            self._shooting.discard(camera)

    def _warn(self, camera: str, line: str) -> None:
        more = self._throttle.admit(("warning", camera), self._monotonic())
        if more is not None:
            log.warning("%s%s", line, more)

    def _inform(self, about: tuple[str, str], line: str) -> None:
        more = self._throttle.admit(about, self._monotonic())
        if more is not None:
            log.info("%s%s", line, more)

    def _publish(self, camera: str, setting: str) -> None:
        value = self._controls[camera].values()[setting]
        self._retain(self._topics.setting(camera, setting), commands.render(setting, value))

    def _choose_profile(self, camera: str, mode: str, topic: str) -> None:
        """Choose the profile `day`, `night` or `auto`. Raises ValueError without settings for the night."""
        profiles = self._profiles.get(camera)
        if profiles is None:
            raise ValueError(f"there is no profile for the night, expected cameras.{camera}.profiles")
        before = profiles.mode
        profiles.choose(mode)
        self._publish_profile(camera)
        if mode != before:
            line = f"{camera}: profile changed from {before} to {mode} by a command on {topic}"
            self._inform((camera, PROFILE), line)
            key = PROFILE_KEY.format(camera=camera)
            self._memory.keep(key, {"mode": mode, "basis": profiles.basis})
            self._changed(camera)

    def _publish_profile(self, camera: str) -> None:
        self._retain(self._topics.setting(camera, PROFILE), self._profiles[camera].profile.value)

    def _note(self, camera: str, setting: str, before: str, topic: str) -> None:
        """Log and remember a setting if a command has changed it."""
        now = commands.render(setting, self._controls[camera].values()[setting])
        if now == before:
            return
        line = f"{camera}: {setting} changed from {before} to {now} by a command on {topic}"
        self._inform((camera, setting), line)
        profiles = self._profiles.get(camera)
        at_night = profiles is not None and profiles.profile is Profile.NIGHT and setting in profiles.own
        key = (NIGHT_KEY if at_night else KEY).format(camera=camera, setting=setting)
        configured = self._memory.recall(key).get("configured", before)
        self._memory.keep(key, {"value": now, "configured": configured})

    def _restore(
        self,
        camera: str,
        setting: str,
        key: str,
        configured: str,
        put: Callable[[Value], None],
        when: str = "",
    ) -> None:
        """Apply a remembered setting, unless the settings file has changed since."""
        remembered = self._memory.recall(key)
        value = remembered.get("value")
        if not isinstance(value, str):
            return
        if remembered.get("configured") != configured:
            if value != remembered.get("configured"):
                why = "the settings have changed, an earlier command no longer applies"
                log.info("%s: %s is %s%s: %s", camera, setting, configured, when, why)
            self._memory.keep(key, {"value": configured, "configured": configured})
            return
        if value == configured:
            return
        try:
            put(commands.parse(setting, value.encode()))
        except ValueError as exc:
            log.warning("%s: the remembered %s cannot be used: %s", camera, setting, exc)
            return
        origin = "as set by a command; the settings have"
        log.info("%s: %s is %s%s, %s %s", camera, setting, value, when, origin, configured)


def _adopt(controls: Controls, setting: str, value: Value) -> None:
    controls.adopt({setting: value})


def _shown(topic: str) -> str:
    """Return a topic for the log: escaped if not printable, at most 200 characters."""
    text = topic if topic.isprintable() else repr(topic)
    return text if len(text) <= 200 else f"{text[:200]}…"
