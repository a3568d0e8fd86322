"""The store and the delivery to it, replaceable as a pair while cameras, spool and broker go on.

    change(new settings) ──▶ open the new store ──▶ end the old delivery, run the new ──▶ close the old store

The new delivery leases again what the old one had leased: a put in progress is repeated with the same key and
the same bytes. The counters continue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from async_motion.app import build, specs
from async_motion.core.health import DeliveryHealth
from async_motion.core.model import StoredFrame
from async_motion.delivery import Delivery
from async_motion.errors import RecordRejected, TransientError
from async_motion.settings import Settings

log = logging.getLogger(__name__)


class MakeDelivery(Protocol):
    """Builds the delivery to a store."""

    def __call__(self, settings: Settings, /, *, store: build.AnyStore) -> Delivery: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    name: str
    store: build.AnyStore
    delivery: Delivery


class Outlet:
    """`async with` opens the store; `run` delivers until cancelled; `change` replaces store and delivery.

    Opening raises AsyncMotionError for a fault in the settings, such as an unusable TLS file.
    """

    def __init__(self, settings: Settings, make: MakeDelivery) -> None:
        self._make = make
        self._on_stored: list[Callable[[StoredFrame], None]] = []
        self._way = self._built(settings)
        self._next: _Way | None = None
        self._changed = asyncio.Event()
        self._switched = asyncio.Event()
        """Set unless a change waits for the old delivery's end."""
        self._switched.set()

    def _built(self, settings: Settings) -> _Way:
        store = build.build_store(settings, keeping=True)
        delivery = self._make(settings, store=store)
        for callback in self._on_stored:
            delivery.on_stored(callback)
        return _Way(name=specs.store_name(settings), store=store, delivery=delivery)

    async def __aenter__(self) -> Self:
        await self._way.store.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for way in (self._next, self._way):
            if way is not None:
                await way.store.__aexit__(None, None, None)

    async def change(self, settings: Settings) -> None:
        """Open the store of other settings and switch to it. If this raises, nothing has changed."""
        way = self._built(settings)
        await way.store.__aenter__()
        skipped, self._next = self._next, way
        self._switched.clear()
        self._changed.set()
        if skipped is not None:
            await skipped.store.__aexit__(None, None, None)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            async with asyncio.TaskGroup() as tasks:
                greeting = tasks.create_task(_greet(self._way), name="probe the store")
                delivering = tasks.create_task(self._way.delivery.run(), name="delivery")
                await self._changed.wait()
                self._changed.clear()
                greeting.cancel()
                delivering.cancel()
            if self._next is not None:
                old, self._way, self._next = self._way, self._next, None
                self._way.delivery.continue_from(old.delivery)
                self._switched.set()
                await old.store.__aexit__(None, None, None)

    # ---- calls to the current delivery ----

    def on_stored(self, callback: Callable[[StoredFrame], None]) -> None:
        """Call `callback` for each frame that a store has confirmed."""
        self._on_stored.append(callback)
        self._way.delivery.on_stored(callback)

    def health(self) -> DeliveryHealth:
        """Return the health of store and broker, and the counters since the start."""
        return self._way.delivery.health()

    def restore_snapshots(self, cameras: Collection[str], retained: Collection[str]) -> None:
        """Publish the last run's snapshots of `cameras` again, except those among the `retained` topics."""
        self._way.delivery.restore_snapshots(cameras, retained)

    async def drain(self, timeout_s: float | None) -> bool:
        """Wait at most `timeout_s` until everything is delivered; return whether it is. None: no limit.

        The last change of the store must have been requested before.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._switched.wait()
                return await self._way.delivery.drain(None)
        except TimeoutError:
            return False


async def _greet(way: _Way) -> None:
    """Log at the start whether the store accepts frames, so that a fault shows before the first motion."""
    try:
        await way.store.probe()
    except TransientError as exc:
        log.warning("store: %s; frames wait in the spool until it accepts them", exc)
    except RecordRejected as exc:
        log.warning("store: %s", exc)
    else:
        log.info("store: %s: accepts frames", way.name)
