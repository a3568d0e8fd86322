"""Keep one camera connected: reconnect with backoff when it is lost, independently of the others.

A camera that refuses (wrong password, no such stream) is retried slowly: a person must act, and some cameras
lock a client out that asks too often.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from async_motion.camera.unit import CameraUnit
from async_motion.core.backoff import Backoff
from async_motion.core.outage import OutageLog
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

RETRY_S = (1.0, 30.0)
"""First and longest delay before a lost camera is retried."""
REFUSED_RETRY_S = (30.0, 300.0)
"""The same for a camera that refused."""
GOOD_CONNECTION_S = 60.0
"""A connection that gave frames for this long resets the backoff."""


RECONNECT_MIN_S = 2.0
"""A command to reconnect sooner than this after an attempt is merged into that attempt."""


class CameraSupervisor:
    """Keep one camera connected, until stopped."""

    def __init__(self, name: str, unit: CameraUnit, draw: Callable[[], float] = random.random) -> None:
        self.name = name
        self._unit = unit
        self._lost = Backoff(draw=draw, first_s=RETRY_S[0], max_s=RETRY_S[1])
        self._refused = Backoff(draw=draw, first_s=REFUSED_RETRY_S[0], max_s=REFUSED_RETRY_S[1])
        self._connection: asyncio.Task[CameraUnavailable | None] | None = None
        self._began = float("-inf")
        """When the last attempt to connect began, by the loop's clock."""
        self._wake = asyncio.Event()
        self._stopped = False

    async def run(self) -> None:
        """Run until `stop` is called, or the recording ends."""
        loop = asyncio.get_running_loop()
        outage = OutageLog(loop.time)
        while not self._stopped:
            self._wake.clear()
            began = self._began = loop.time()
            async with asyncio.TaskGroup() as tasks:
                self._connection = tasks.create_task(self._connect(), name=f"connection[{self.name}]")
            if self._connection.cancelled():
                continue
            trouble = self._connection.result()
            if trouble is None:
                if not self._stopped:
                    log.info("%s: the recording has ended", self.name)
                return
            if loop.time() - began > GOOD_CONNECTION_S:
                self._lost.reset()
                self._refused.reset()
                outage.over()
            backoff = self._refused if isinstance(trouble, CameraRefused) else self._lost
            delay = backoff.next_s(at_least_s=trouble.retry_after_s)
            note = outage.failed(str(trouble))
            level = logging.DEBUG if note is None else logging.WARNING
            log.log(level, "%s: %s; trying again in %.0f s%s", self.name, trouble, delay, note or "")
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()
                    if not self._stopped:
                        await asyncio.sleep(began + RECONNECT_MIN_S - loop.time())

    def reconnect(self) -> None:
        """End the connection, or the wait for the next one, and connect now.

        A connection that has just begun, or is being ended, counts as the requested one.
        """
        connection = self._connection
        if connection is not None and not connection.done() and not self._stopped:
            young = asyncio.get_running_loop().time() - self._began < RECONNECT_MIN_S
            if not young and not connection.cancelling():
                connection.cancel()
        self._wake.set()

    async def stop(self) -> None:
        """End the capture; return when the queued frames have reached the spool."""
        self._stopped = True
        self._wake.set()
        await self._unit.stop()

    async def _connect(self) -> CameraUnavailable | None:
        """Run one connection; return why it was lost, or None."""
        try:
            await self._unit.run()
        except CameraUnavailable as exc:
            return exc
        return None
