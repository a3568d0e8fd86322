"""Plan a change of settings for a running service: what changes in place, restarts, or cannot change.

    file ──load──▶ new settings ──plan_of(old, new)──▶ Plan ──apply──▶ the service; Reloaded for people

- Invalid settings change nothing: the result holds the problems with their lines.
- A camera's detection, masks, zones, events, profiles and stills change in place, between two frames; an open
  event continues. A change of source or capture restarts only that camera.
- The store, the broker and the page each reconnect or restart on their own; cameras and open events continue.
- Keys that all parts depend on (`BASIS` and every key not listed below: names, topics, the spool) restart all
  parts in order, inside the process: no accepted frame is lost, open events end.
- `log` is read only at the start of the process.

The result names the keys that changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from async_motion.core.rates import TokenBucket
from async_motion.settings import CameraSettings, Settings

FIXED: Final = ("log",)
"""Read only at the start of the process."""
LATER: Final = ("shutdown_grace",)
"""Read when they are used: a change needs no action."""
PAGE: Final = ("web",)
STORE: Final = ("minio", "directory", "index", "spool.backlog_share", "mqtt.update_every", "mqtt.snapshot")
"""The store, and the delivery to it."""
BROKER: Final = tuple(
    f"mqtt.{key}"
    for key in ("host", "port", "username", "password", "client_id", "keepalive", "protocol", "tls")
)
CAMERAS: Final = ("location", "mqtt.snapshot")
"""Read by every camera; they change in place."""
BASIS: Final = ("minio.prefix",)
"""Keys inside the sections above that still restart all parts, as every unlisted key does."""
IN_PLACE: Final = ("name", "detect", "profiles", "event", "jpeg")
"""A camera's keys that change in place, between two frames; all others restart the camera."""
RESTARTING: Final = (("detect", "fps"),)
"""Keys inside `IN_PLACE` that still restart the camera: capture reads them."""

RELOAD_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a change of the settings does, as camera names and dotted keys."""

    changed: tuple[str, ...] = ()
    """Cameras that change in place."""
    restarted: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    """Keys for which the page restarts."""
    store: tuple[str, ...] = ()
    """Keys for which store and delivery are replaced."""
    broker: tuple[str, ...] = ()
    """Keys for which the broker's client reconnects."""
    whole: tuple[str, ...] = ()
    """Keys for which all parts of the service restart."""
    fixed: tuple[str, ...] = ()
    """Keys that take effect only when the process starts again."""

    @property
    def is_nothing(self) -> bool:
        """Return whether nothing changes."""
        return self == Plan()

    def words(self) -> list[str]:
        """Return one line for each kind of change."""
        done: Mapping[str, tuple[str, ...]] = {
            "changed in place": self.changed,
            "restarted": self.restarted,
            "added": self.added,
            "removed": self.removed,
        }
        if not self.whole:
            done = {
                **done,
                "the store is reopened": self.store,
                "the broker is reconnected": self.broker,
                "the page restarts": self.page,
            }
        done = {
            **done,
            "all parts of the service restart, open events end": self.whole,
            "not changed while running; restart the process": self.fixed,
        }
        parts = [f"{', '.join(names)}: {what}" for what, names in done.items() if names]
        return parts or ["nothing has changed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The result of a reload. With `problems`, nothing was changed."""

    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class ReloadRequests:
    """Requests to reload, merged: `BURST` at once, further ones apply once every `EVERY_S`.

    `wanted` is set for each request, from the event loop.
    """

    BURST: Final = 5
    EVERY_S: Final = 5.0

    def __init__(self, wanted: asyncio.Event, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._wanted = wanted
        self._clock = clock
        self._bucket = TokenBucket(self.BURST, self.EVERY_S)

    async def next(self) -> None:
        """Wait until a reload is requested and due; later requests cause one more."""
        await self._wanted.wait()
        while not self._bucket.take(self._clock()):  # noqa: ASYNC110  # only time makes it due
            await asyncio.sleep(RELOAD_POLL_S)
        self._wanted.clear()


class Rerun:
    """A task that can be restarted, with the settings in force at that time."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self.name = name
        self._again = asyncio.Event()

    def again(self) -> None:
        """Cancel the task and start it again."""
        self._again.set()

    async def run(self) -> None:
        """Run until cancelled. A task that ends by itself restarts only when `again` is called."""
        while True:
            self._again.clear()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self._run(), name=self.name)
                await self._again.wait()
                running.cancel()


def plan_of(old: Settings, new: Settings) -> Plan:
    """Return the plan that turns a service with the settings `old` into one with `new`."""
    keys = _changed_keys(old, new)
    before = {name: camera for name, camera in old.cameras.items() if camera.enabled}
    after = {name: camera for name, camera in new.cameras.items() if camera.enabled}
    touched = any(_is_in(key, CAMERAS) for key in keys)
    both = [name for name in after if name in before and (touched or after[name] != before[name])]
    restarted = [name for name in both if _restarts(before[name], after[name])]
    basis = list(BASIS)
    if old.mqtt.host is None or new.mqtt.host is None:
        # The embedded broker starts and stops with all parts.
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
    """Return the changed keys outside `cameras`, such as `instance` or `minio.bucket`."""
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
    """Return whether a dotted key is one of `places`, or below one."""
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _restarts(old: CameraSettings, new: CameraSettings) -> bool:
    """Return whether the change of a camera's settings restarts it."""
    keys = [key for key in type(old).model_fields if getattr(old, key) != getattr(new, key)]
    if any(key not in IN_PLACE for key in keys):
        return True
    return any(
        getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
        for section, key in RESTARTING
    )
