"""Other settings for a running service: what changes in place, what restarts, and what cannot change.

    file ──load──▶ new settings ──plan_of(old, new)──▶ Plan ──apply──▶ the service; Reloaded for people

- Settings that are not valid change nothing: the problems, with their lines, are the answer.
- A camera's detection, masks, zones, events, profiles and stills change in place, between two frames; an open
  event goes on. Its source and capture restart that camera alone.
- `web` restarts the page. Everything else that can change (store, broker, spool, instance, location)
  restarts the service's parts inside the process, in order: no accepted frame is lost, open events end.
- `log` is read at the start of the process alone, and is said by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from async_motion.settings import CameraSettings, Settings

FIXED: Final = ("log",)
"""Sections that are read at the start of the process alone."""
PAGE: Final = ("web",)
LATER: Final = ("shutdown_grace",)
"""Read when they are needed: a change is in force at once."""
IN_PLACE: Final = ("name", "detect", "profiles", "event", "jpeg")
"""A camera's keys that change between two frames; all others restart the camera."""
RESTARTING: Final = (("detect", "fps"),)
"""Keys within those that are the capture's all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a change of the settings does. Names of cameras, and of sections."""

    changed: tuple[str, ...] = ()
    """Cameras that change in place."""
    restarted: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    page: bool = False
    whole: tuple[str, ...] = ()
    """Sections for which all parts of the service restart."""
    fixed: tuple[str, ...] = ()
    """Sections that stay as they were until the process starts again."""

    @property
    def is_nothing(self) -> bool:
        """Return whether nothing changes."""
        return self == Plan()

    def words(self) -> list[str]:
        """Return what is done, a line each."""
        cameras: Mapping[str, tuple[str, ...]] = {
            "changed in place": self.changed,
            "restarted": self.restarted,
            "added": self.added,
            "removed": self.removed,
        }
        said = [f"{', '.join(names)}: {what}" for what, names in cameras.items() if names]
        if self.whole:
            said.append(f"{', '.join(self.whole)}: all parts of the service restart")
        elif self.page:
            said.append("web: the page restarts")
        if self.fixed:
            said.append(f"{', '.join(self.fixed)}: not changed while running; restart the process")
        return said or ["nothing has changed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What became of a reload. With `problems` nothing was changed."""

    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Rerun:
    """A task that can be run again: it ends, and begins with what is in force by then."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._again = asyncio.Event()

    def again(self) -> None:
        """End what runs, and run it again."""
        self._again.set()

    async def run(self) -> None:
        """Run until cancelled; what ends by itself is not run again unasked."""
        while True:
            self._again.clear()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self._run(), name=self._name)
                await self._again.wait()
                running.cancel()


def plan_of(old: Settings, new: Settings) -> Plan:
    """Return what turns a service with `old` settings into one with `new`."""
    sections = [
        key for key in type(old).model_fields if key != "cameras" and getattr(old, key) != getattr(new, key)
    ]
    before = {name: camera for name, camera in old.cameras.items() if camera.enabled}
    after = {name: camera for name, camera in new.cameras.items() if camera.enabled}
    both = [name for name in after if name in before and after[name] != before[name]]
    restarted = [name for name in both if _restarts(before[name], after[name])]
    return Plan(
        changed=tuple(name for name in both if name not in restarted),
        restarted=tuple(restarted),
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        page="web" in sections,
        whole=tuple(key for key in sections if key not in (*FIXED, *PAGE, *LATER)),
        fixed=tuple(key for key in sections if key in FIXED),
    )


def _restarts(old: CameraSettings, new: CameraSettings) -> bool:
    """Return whether what changed of a camera restarts it."""
    keys = [key for key in type(old).model_fields if getattr(old, key) != getattr(new, key)]
    if any(key not in IN_PLACE for key in keys):
        return True
    return any(
        getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
        for section, key in RESTARTING
    )
