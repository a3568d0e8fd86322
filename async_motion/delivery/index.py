"""The event index: one file for each camera and day, from the spool to the store.

A changed file is written whole, within `every_s` and at most once in it while the store accepts it; at a
stop, at once. The spool holds the list of due files, so that it survives a crash. The only
permission needed is to put objects.

The store's breaker applies: nothing is put unless it is closed. A file that the store refuses has a backoff
of its own and does not open the breaker, so that frames still pass. A stop does not wait for a refused file:
it stays due in the spool.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from async_motion.core.backoff import Backoff
from async_motion.core.health import PeerState
from async_motion.core.index import index_key, pack_encoded
from async_motion.core.items import IndexDay
from async_motion.delivery.circuit_breaker import CircuitBreaker
from async_motion.delivery.dispatch import Bell
from async_motion.delivery.protocols import Outbox, Store
from async_motion.delivery.retries import Figures, Retries
from async_motion.errors import RecordRejected, SpoolError, StoreRefused, StoreUnavailable

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/gzip"
POLL_S = 5.0
"""How often the spool is polled for due files."""

_Place = tuple[str, str, object]


class IndexWriter:
    """Writes the due files. Call `hurry` at a stop; `pending` is true until each is written or refused."""

    def __init__(
        self,
        spool: Outbox,
        store: Store,
        *,
        breaker: CircuitBreaker,
        retries: Retries,
        figures: Figures,
        idle_bell: Bell,
        prefix: str,
        every_s: float,
        put_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._store = store
        self._breaker = breaker
        self._retries = retries
        self._figures = figures
        self._idle_bell = idle_bell
        self._prefix = prefix
        self._every_s = every_s
        self._put_timeout_s = put_timeout_s
        self._clock = clock
        self._next: dict[_Place, float] = {}
        self._failures: dict[_Place, Backoff] = {}
        self._refused: set[_Place] = set()
        """The due files that the store has refused since `hurry`."""
        self._hurrying = False
        self._bell = Bell()
        self.executor: ThreadPoolExecutor | None = None
        self.pending = True
        self.problem: str | None = None
        """Why the files cannot be written now, None while they can."""

    def hurry(self) -> None:
        """From now on, write due files without waiting for `every_s`; try each file that failed at once."""
        if not self._hurrying:
            self._hurrying = True
            self._refused.clear()
            self._next.clear()
        self.pending = True
        self._bell.ring()

    async def run(self) -> None:
        """Write each file when it is due; runs until cancelled."""
        writer: str | None = None
        while True:
            heard = self._bell.count
            try:
                writer = await self._spool.writer()
                due = await self._spool.due_index()
                for day in due:
                    await self._write_if_time(day, writer)
                left = await self._spool.due_index() if due else []
                self.pending = any(_place(day) not in self._refused for day in left)
            except SpoolError:
                pass  # the spool has logged it; the next poll tries again
            self._idle_bell.ring()
            await self._bell.wait(min(POLL_S, self._every_s), heard)

    async def _write_if_time(self, day: IndexDay, writer: str) -> None:
        place = _place(day)
        now = self._clock()
        if (place in self._failures or not self._hurrying) and now < self._next.get(place, now):
            return
        if not self._breaker.closed:
            if self._breaker.health.state is PeerState.REFUSED:
                self._refused.add(place)
            return
        key = index_key(self._prefix, day.instance, day.camera, day.day, writer)
        lines = await self._spool.index_lines(day)
        if not lines or await self._spool.writer() != writer:
            return  # a new spool has just replaced a damaged one: keep the old one's file
        body = await asyncio.get_running_loop().run_in_executor(
            self.executor, pack_encoded, [line.encode() for line in lines]
        )
        try:
            tags = {"camera": day.camera, "kind": "index"}
            await put_packed(self._store, key, body, day.instance, tags, within_s=self._put_timeout_s)
        except (StoreUnavailable, RecordRejected) as exc:
            self._failed(place, key, exc)
            return
        if self._breaker.closed:  # otherwise only a frame may close it
            self._breaker.record_success()
        self._failures.pop(place, None)
        self._refused.discard(place)
        self._next[place] = now + self._every_s
        if self.problem is not None:
            log.info("index: writing works again")
            self.problem = None
        self._figures.counts["index_files"] += 1
        await self._retries.insist(lambda: self._spool.mark_indexed(day))
        log.debug("index: wrote %s (%d events, %d bytes)", key, len(lines), len(body))

    def _failed(self, place: _Place, key: str, error: StoreUnavailable | RecordRejected) -> None:
        if isinstance(error, StoreUnavailable) and not isinstance(error, StoreRefused):
            self._breaker.record_failure(error)
        else:
            self._refused.add(place)
        backoff = self._failures.setdefault(place, self._retries.item_backoff())
        self._next[place] = self._clock() + backoff.next_s()
        self._figures.counts["retries"] += 1
        if self.problem != str(error):
            self.problem = str(error)
            log.warning("index: %s is not written: %s; trying again", key, error)


def _place(day: IndexDay) -> _Place:
    return day.instance, day.camera, day.day


async def put_packed(
    store: Store, key: str, body: bytes, instance: str, tags: Mapping[str, str], *, within_s: float
) -> None:
    """Put a packed file; its metadata are its tags, the instance and its sha256.

    Raises StoreUnavailable, RecordRejected.
    """
    try:
        async with asyncio.timeout(within_s):
            await store.put(
                key,
                body,
                content_type=CONTENT_TYPE,
                metadata={**tags, "instance": instance, "sha256": hashlib.sha256(body).hexdigest()},
                tags=tags,
            )
    except TimeoutError as exc:
        raise StoreUnavailable(f"no answer within {within_s:g} s") from exc
