"""Other settings for a running service: what changes in place, what restarts, and what cannot change.

    file ──load──▶ new settings ──plan_of(old, new)──▶ Plan ──apply──▶ the service; Reloaded for people

- Settings that are not valid change nothing: the problems, with their lines, are the answer.
- A camera's detection, masks, zones, events, profiles and stills change in place, between two frames; an open
  event goes on. Its source and capture restart that camera alone.
- The store, the broker and the page connect and listen again, each by itself; cameras go on, and so do open
  events.
- What every part is built on (`BASIS`: names, topics, the spool) restarts all parts inside the process, in
  order: no accepted frame is lost, open events end.
- `log` is read at the start of the process alone.

What is done is said by the keys that changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from async_motion.settings import CameraSettings, Settings

FIXED: Final = ("log",)
"""Read at the start of the process alone."""
LATER: Final = ("shutdown_grace",)
"""Read when they are needed: a change is in force at once."""
PAGE: Final = ("web",)
STORE: Final = ("minio", "directory", "index", "spool.backlog_share", "mqtt.update_every", "mqtt.snapshot")
"""The store, and the delivery to it."""
BROKER: Final = tuple(
    f"mqtt.{key}"
    for key in ("host", "port", "username", "password", "client_id", "keepalive", "protocol", "tls")
)
CAMERAS: Final = ("location", "mqtt.snapshot")
"""What every camera reads; it changes in place."""
BASIS: Final = ("minio.prefix",)
"""Keys within those above that all parts are built on, as all keys are that stand in none of them."""
IN_PLACE: Final = ("name", "detect", "profiles", "event", "jpeg")
"""A camera's keys that change between two frames; all others restart the camera."""
RESTARTING: Final = (("detect", "fps"),)
"""Keys within those that are the capture's all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a change of the settings does: names of cameras, and dotted keys."""

    changed: tuple[str, ...] = ()
    """Cameras that change in place."""
    restarted: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    """Keys for which the page restarts."""
    store: tuple[str, ...] = ()
    """Keys for which the store is opened again, and the delivery to it begins again."""
    broker: tuple[str, ...] = ()
    """Keys for which the broker is connected to again."""
    whole: tuple[str, ...] = ()
    """Keys for which all parts of the service restart."""
    fixed: tuple[str, ...] = ()
    """Keys that stay as they were until the process starts again."""

    @property
    def is_nothing(self) -> bool:
        """Return whether nothing changes."""
        return self == Plan()

    def words(self) -> list[str]:
        """Return what is done, a line each."""
        done: Mapping[str, tuple[str, ...]] = {
            "changed in place": self.changed,
            "restarted": self.restarted,
            "added": self.added,
            "removed": self.removed,
        }
        if not self.whole:
            done = {
                **done,
                "the store is opened again": self.store,
                "the broker is connected to again": self.broker,
                "the page restarts": self.page,
            }
        done = {
            **done,
            "all parts of the service restart, open events end": self.whole,
            "not changed while running; restart the process": self.fixed,
        }
        said = [f"{', '.join(names)}: {what}" for what, names in done.items() if names]
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
        self.name = name
        self._again = asyncio.Event()

    def again(self) -> None:
        """End what runs, and run it again."""
        self._again.set()

    async def run(self) -> None:
        """Run until cancelled; what ends by itself is not run again unasked."""
        while True:
            self._again.clear()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self._run(), name=self.name)
                await self._again.wait()
                running.cancel()


def plan_of(old: Settings, new: Settings) -> Plan:
    """Return what turns a service with `old` settings into one with `new`."""
    keys = _changed_keys(old, new)
    before = {name: camera for name, camera in old.cameras.items() if camera.enabled}
    after = {name: camera for name, camera in new.cameras.items() if camera.enabled}
    touched = any(_is_in(key, CAMERAS) for key in keys)
    both = [name for name in after if name in before and (touched or after[name] != before[name])]
    restarted = [name for name in both if _restarts(before[name], after[name])]
    basis = list(BASIS)
    if old.mqtt.host is None or new.mqtt.host is None:
        # The built-in broker runs as long as the parts do.
        basis += ["mqtt.host", "mqtt.port"]
    known = (*FIXED, *LATER, *PAGE, *STORE, *BROKER, *CAMERAS)
    return Plan(
        changed=tuple(name for name in both if name not in restarted),
        restarted=tuple(restarted),
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        page=tuple(key for key in keys if _is_in(key, PAGE)),
        store=tuple(key for key in keys if _is_in(key, STORE) and not _is_in(key, basis)),
        broker=tuple(key for key in keys if _is_in(key, BROKER) and not _is_in(key, basis)),
        whole=tuple(key for key in keys if _is_in(key, basis) or not _is_in(key, known)),
        fixed=tuple(key for key in keys if _is_in(key, FIXED)),
    )


def _changed_keys(old: Settings, new: Settings) -> list[str]:
    """Return what changed besides the cameras: `instance`, `minio.bucket`."""
    keys: list[str] = []
    for section in type(old).model_fields:
        one, other = getattr(old, section), getattr(new, section)
        if section == "cameras" or one == other:
            continue
        fields = getattr(type(one), "model_fields", None)
        if fields is not None:
            keys += [f"{section}.{key}" for key in fields if getattr(one, key) != getattr(other, key)]
        else:
            keys.append(section)
    return keys


def _is_in(key: str, places: Sequence[str]) -> bool:
    """Return whether a dotted key is one of `places`, or within one."""
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _restarts(old: CameraSettings, new: CameraSettings) -> bool:
    """Return whether what changed of a camera restarts it."""
    keys = [key for key in type(old).model_fields if getattr(old, key) != getattr(new, key)]
    if any(key not in IN_PLACE for key in keys):
        return True
    return any(
        getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
        for section, key in RESTARTING
    )
