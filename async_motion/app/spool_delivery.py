"""Deliver a spool by itself: one on a disk that was carried over from a machine that is gone.

What it holds goes to the store and the broker of the settings, under the keys and ids that it was accepted
with, and is announced as delayed. It shows no snapshots: they would stand over newer ones. The spool is
locked meanwhile: a service that runs with it delivers it already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from async_motion.app import build
from async_motion.errors import SpoolError
from async_motion.settings import Settings
from async_motion.spool import Spool, SpoolStats

MAX_AGE_S: Final = 3650 * 86400.0
"""Nothing expires: a disk may have lain for months."""
GOODBYE_S: Final = 5.0


async def deliver(settings: Settings, path: Path, say: Callable[[str], None]) -> SpoolStats:
    """Deliver what is in the spool at `path`, for as long as it takes; return what is left (set aside).

    Events that it holds open end as interrupted. `say` hears of a wait. Raises SpoolError, and what opening
    the store raises.
    """
    if not await asyncio.to_thread(path.is_file):
        raise SpoolError(f"{path}: there is no spool")
    spool = Spool(path, max_bytes=settings.spool.max_bytes, max_age_s=MAX_AGE_S)
    quiet = settings.mqtt.model_copy(
        update={"snapshot": settings.mqtt.snapshot.model_copy(update={"enabled": False})}
    )
    settings = settings.model_copy(update={"mqtt": quiet})
    async with spool, build.build_store(settings) as store:
        host, port = await build.find_broker(settings, say)
        broker = build.build_client(settings, host, port, role="spool")
        delivery = build.build_delivery(
            # No lease of a fleet is held here: what it tells of one is late.
            settings,
            spool=spool,
            store=store,
            broker=broker,
            is_current=lambda _camera, _epoch: False,
        )
        async with asyncio.TaskGroup() as tasks:
            talking = tasks.create_task(broker.run(), name="broker")
            delivering = tasks.create_task(delivery.run(), name="delivery")
            await delivery.drain(None)
            for task in (delivering, talking):
                task.cancel()
                await asyncio.wait([task], timeout=GOODBYE_S)
        return spool.stats
