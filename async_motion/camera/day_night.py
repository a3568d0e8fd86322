"""Day and night settings of one camera, and what switches between them.

    sun or image ───── periodically ────▶ Switch ──▶ ┐
    {base}/{camera}/profile/set: day | night | auto ─▶ ┴ profile ──▶ the camera's settings in force

- The night overrides some settings (`own`); all others are the same at night. A command to one of them
  changes its value in the profile in force.
- `day` and `night` hold until `auto`, which returns the choice to the sun or the image. Where neither is
  configured, `auto` is day.
- A change of profile only changes thresholds: no event ends, and the detector keeps its background where it
  can.
- Without an image, as while a camera is away, nothing changes.

The image is examined in the executor, at most every `COLOUR_EVERY_S`. A camera without profiles has none of
this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from async_motion.core.commands import AUTO, Controls, Value, render
from async_motion.core.events.day_night import LightLimits, Profile, Switch
from async_motion.errors import CameraUnavailable, ImageError

log = logging.getLogger(__name__)

SUN_EVERY_S = 60.0
COLOUR_EVERY_S = 30.0
NO_FIGURE_EVERY_S = 5.0
"""How often to ask for a figure while there is none, as before the camera's first frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightGauge:
    """The source of the figure: `read` returns it, None while there is none; `words` formats it."""

    limits: LightLimits
    every_s: float
    read: Callable[[], Awaitable[float | None]]
    words: Callable[[float], str]


class ProfileKeeper:
    """Keeps one camera in the right profile. It starts with the day's, which are the camera's own settings.

    `night` are the night's overrides. `light` None: only commands switch. `changed` is called on each change
    of profile. `basis` names what switches, so that a remembered command can be matched to it.
    """

    def __init__(
        self,
        camera: str,
        controls: Controls,
        night: Mapping[str, Value],
        *,
        basis: str,
        light: LightGauge | None = None,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self.basis = basis
        self.light = light
        self._camera = camera
        self._controls = controls
        self._aside: dict[str, Value] = dict(night)
        """The values of the profile that is not in force."""
        self._changed = changed
        self._clock = clock
        self._sleep = sleep
        self._profile = Profile.DAY
        self._mode = AUTO
        self._switch = Switch(light.limits) if light is not None else None
        self._asked = asyncio.Event()
        """Set to request a figure at once."""

    @property
    def profile(self) -> Profile:
        """The profile in force."""
        return self._profile

    @property
    def mode(self) -> str:
        """`day` or `night` by command, `auto` otherwise."""
        return self._mode

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the settings that the night overrides."""
        return tuple(self._aside)

    def values(self, profile: Profile) -> Mapping[str, Value]:
        """Return the values of `profile` for those settings, in force or not."""
        if profile is not self._profile:
            return dict(self._aside)
        now = self._controls.values()
        return {setting: now[setting] for setting in self._aside}

    def put(self, profile: Profile, setting: str, value: Value) -> None:
        """Change one of those settings in `profile`. Raises ValueError for an invalid value."""
        if profile is self._profile:
            self._controls.adopt({setting: value})
        else:
            self._aside[setting] = value

    def choose(self, mode: str) -> None:
        """Obey a command: `day`, `night` or `auto`."""
        self._mode = mode
        if mode != AUTO:
            self._enter(Profile(mode), "by command")
        elif self.light is None:
            self._enter(Profile.DAY, "by default")
        else:
            # The last figures are old, and a command should not wait for the dwell time.
            self._switch = Switch(self.light.limits)
            self._asked.set()

    async def run(self) -> None:
        """Follow the light until cancelled; return at once where there is none."""
        if self.light is None:
            return
        while True:
            self._asked.clear()
            figure = await self._follow(self.light) if self._mode == AUTO else None
            waiting = self._mode == AUTO and figure is None
            await self._rest(NO_FIGURE_EVERY_S if waiting else self.light.every_s)

    async def _follow(self, light: LightGauge) -> float | None:
        try:
            figure = await light.read()
        except (CameraUnavailable, ImageError) as exc:
            log.debug("%s: cannot tell day from night: %s", self._camera, exc)
            return None
        # A command may have come meanwhile.
        if figure is not None and self._mode == AUTO and self._switch is not None:
            self._enter(self._switch.update(figure, self._clock()), light.words(figure))
        return figure

    async def _rest(self, seconds: float) -> None:
        """Wait, at most until a figure is requested."""
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(self._asked.wait(), name=f"profile requested[{self._camera}]")
            rested = tasks.create_task(self._sleep(seconds), name=f"profile interval[{self._camera}]")
            await asyncio.wait([asked, rested], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            rested.cancel()

    def _enter(self, profile: Profile, why: str) -> None:
        if profile is self._profile:
            return
        before = self.values(self._profile)
        self._controls.adopt(self._aside)
        self._profile, self._aside = profile, dict(before)
        own = ", ".join(f"{name} {render(name, value)}" for name, value in self.values(profile).items())
        log.info("%s: settings of the %s, %s: %s", self._camera, profile, why, own)
        self._changed()
