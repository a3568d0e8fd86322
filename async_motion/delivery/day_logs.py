"""The day logs: from the service's samples to the store, one file for each day.

Today's file is written whole every `every_s`, and once more at a stop; with it go the days that an outage has
kept back. Before each round the logs are noted in the spool, so that the next run continues them. The
only permission needed is to put objects.

The store's breaker applies: nothing is put unless it is closed. A failed file waits for the next round; it
never delays a frame.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final, Protocol

from async_motion.core.day_log import day_log_key
from async_motion.core.items import DueDayLog
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.delivery.dispatch import Bell
from async_motion.delivery.index import put_packed
from async_motion.delivery.protocols import Outbox, Store
from async_motion.errors import RecordRejected, SpoolError, StoreRefused, StoreUnavailable

log = logging.getLogger(__name__)

NOTE_KEY: Final = "day_logs"
"""The key of the note in the spool."""


class DayLogSource(Protocol):
    """The logs of the days that are not yet stored."""

    def follow(self, writer: str) -> None: ...
    def due(self) -> list[DueDayLog]: ...
    def mark_stored(self, due: DueDayLog) -> None: ...
    def note(self) -> bytes: ...


class DayLogWriter:
    """Writes the due files. Call `finish` at a stop; `pending` is true until the last round is over."""

    def __init__(
        self,
        logs: DayLogSource,
        spool: Outbox,
        store: Store,
        *,
        breaker: CircuitBreaker,
        idle_bell: Bell,
        prefix: str,
        every_s: float,
        put_timeout_s: float,
    ) -> None:
        self._logs = logs
        self._spool = spool
        self._store = store
        self._breaker = breaker
        self._idle_bell = idle_bell
        self._prefix = prefix
        self._every_s = every_s
        self._put_timeout_s = put_timeout_s
        self._finishing = asyncio.Event()
        self._problem: str | None = None
        self.pending = True

    def finish(self) -> None:
        """Write what is due now, once, and end."""
        self._finishing.set()

    async def run(self) -> None:
        """Write the files every `every_s`, until `finish` is called or the task is cancelled."""
        while not self._finishing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._finishing.wait()
            if not self._finishing.is_set():
                await self._write()
        await self._write()
        self.pending = False
        self._idle_bell.ring()

    async def _write(self) -> None:
        try:
            writer = await self._spool.writer()
            self._logs.follow(writer)
            due = self._logs.due()
            await self._spool.remember(NOTE_KEY, self._logs.note(), durable=False)
        except SpoolError:
            return  # the spool has logged it; the next round tries again
        for each in due:
            if not self._breaker.closed:
                return
            key = day_log_key(self._prefix, each.instance, each.day, writer)
            try:
                tags = {"kind": "day_log"}
                await put_packed(
                    self._store, key, each.body, each.instance, tags, within_s=self._put_timeout_s
                )
            except (StoreUnavailable, RecordRejected) as exc:
                self._failed(key, exc)
                return
            self._logs.mark_stored(each)
            self._problem = None
            log.debug("day log: wrote %s (%d bytes)", key, len(each.body))

    def _failed(self, key: str, error: StoreUnavailable | RecordRejected) -> None:
        if isinstance(error, StoreUnavailable) and not isinstance(error, StoreRefused):
            self._breaker.record_failure(error)
        if self._problem != str(error):
            self._problem = str(error)
            log.warning("day log: %s is not written: %s; trying again in %.0f s", key, error, self._every_s)
