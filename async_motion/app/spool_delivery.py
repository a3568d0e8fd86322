"""Deliver a spool without the service: for a disk rescued from a machine that is gone.

Its records go to the store and the broker of the settings, with the keys and ids with which they were
accepted, and are announced as delayed. Snapshots are off: old ones would replace newer ones. The spool is
locked meanwhile, so a spool in use by a running service is refused.
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
"""Ten years: nothing expires, even if the disk was stored for months."""
GOODBYE_S: Final = 5.0


async def deliver(settings: Settings, path: Path, say: Callable[[str], None]) -> SpoolStats:
    """Deliver the spool at `path` without a time limit; return its stats: only set-aside records are left.

    Open events in it end as interrupted. `say` is called with a text before a wait. Raises SpoolError, and
    the errors of opening the store.
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
            # This process holds no lease, so records from a fleet count as delayed.
            settings,
            spool=spool,
            store=store,
            broker=broker,
            is_current=lambda _camera, _epoch: False,
        )
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(broker.run(), name="broker")
            delivering = tasks.create_task(delivery.run(), name="delivery")
            await delivery.drain(None)
            for task in (delivering, connecting):
                task.cancel()
                await asyncio.wait([task], timeout=GOODBYE_S)
        return spool.stats
