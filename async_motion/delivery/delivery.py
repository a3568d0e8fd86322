"""Delivery from the spool to the subscribers: the state that its parts share, and the tasks that run them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from async_motion.core.health import DeliveryHealth, PeerHealth, PeerState
from async_motion.core.model import StoredFrame
from async_motion.core.names import Topics
from async_motion.core.options import BACKLOG_SHARE, DELAYED_AFTER_S, UPDATE_EVERY_S, UPLOADS
from async_motion.delivery.circuit_breaker import CircuitBreaker, DeliveryPace
from async_motion.delivery.day_logs import DayLogSource, DayLogWriter
from async_motion.delivery.dispatch import Bell, dispatch
from async_motion.delivery.index import IndexWriter
from async_motion.delivery.protocols import Outbox, PublishingBroker, Store
from async_motion.delivery.publisher import BoundedPublish, IsCurrent, Publisher
from async_motion.delivery.retries import Figures, Retries
from async_motion.delivery.snapshots import Snapshots
from async_motion.delivery.uploader import Uploader
from async_motion.errors import BrokerUnavailable, StoreUnavailable


class Delivery:
    """Deliver the spool's items. `run` runs until it is cancelled; `drain` waits until all are delivered.

    `topics` are the topics of announcements, `prefix` the key prefix of summaries. `concurrency` bounds the
    concurrent uploads, `backlog_share` (0..1) the backlog's part of them. From the age of `delayed_after_s`
    an item is delayed. `presign_s` is the lifetime of the links in announcements, None for no links. `shrink`
    scales a JPEG down to a snapshot (in a thread); None: no snapshots. Each file of the event index is
    written at most once in `index_every_s`, and the files of `day_logs` once in it; None: none of them.
    `put_timeout_s` (for each started MiB) and `publish_timeout_s` (and more for much data) apply if the
    adapters' own deadlines fail: they must be longer than those. In a fleet, `is_current` returns whether a
    camera's lease (its epoch) is held; `worker_broker` is the worker's own connection, which announces frames
    accepted under another lease.
    """

    def __init__(
        self,
        *,
        spool: Outbox,
        store: Store,
        broker: PublishingBroker,
        topics: Topics,
        prefix: str = "",
        concurrency: int = UPLOADS,
        backlog_share: float = BACKLOG_SHARE,
        delayed_after_s: float = DELAYED_AFTER_S,
        update_every_s: float = UPDATE_EVERY_S,
        presign_s: float | None = None,
        shrink: Callable[[bytes], bytes] | None = None,
        index_every_s: float | None = None,
        day_logs: DayLogSource | None = None,
        put_timeout_s: float = 120.0,
        publish_timeout_s: float = 30.0,
        worker_broker: PublishingBroker | None = None,
        is_current: IsCurrent = lambda _camera, _epoch: True,
        pace: DeliveryPace | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._store = store
        self._broker = broker
        self._put_timeout_s = put_timeout_s
        self._pace = pace or DeliveryPace()
        self._upload_bell, self._publish_bell, self._idle_bell = Bell(), Bell(), Bell()
        self._figures = Figures()
        self._retries = Retries(spool, pace=self._pace, draw=draw, figures=self._figures)
        breaker = partial(CircuitBreaker, pace=self._pace, draw=draw, clock=clock)
        self._store_breaker = breaker("store", self._probe_store, has_work=lambda: self._spool.stats.to_store)
        # The broker's client logs its own outages.
        self._broker_breaker = breaker("broker", self._probe_broker, loud=False)
        publish = BoundedPublish(broker, publish_timeout_s)
        self._snapshots = Snapshots(
            spool,
            store,
            topics=topics,
            publish=publish,
            shrink=shrink,
            get_timeout_s=put_timeout_s,
        )
        self._uploader = Uploader(
            spool,
            store,
            breaker=self._store_breaker,
            retries=self._retries,
            snapshots=self._snapshots,
            figures=self._figures,
            bell=self._upload_bell,
            idle_bell=self._idle_bell,
            prefix=prefix,
            concurrency=concurrency,
            backlog_share=backlog_share,
            delayed_after_s=delayed_after_s,
            put_timeout_s=put_timeout_s,
            clock=clock,
            now=now,
        )
        self._index = (
            IndexWriter(
                spool,
                store,
                breaker=self._store_breaker,
                retries=self._retries,
                figures=self._figures,
                idle_bell=self._idle_bell,
                prefix=prefix,
                every_s=index_every_s,
                put_timeout_s=put_timeout_s,
                clock=clock,
            )
            if index_every_s is not None
            else None
        )
        self._day_logs = (
            DayLogWriter(
                day_logs,
                spool,
                store,
                breaker=self._store_breaker,
                idle_bell=self._idle_bell,
                prefix=prefix,
                every_s=index_every_s,
                put_timeout_s=put_timeout_s,
            )
            if index_every_s is not None and day_logs is not None
            else None
        )
        self._publisher = Publisher(
            spool,
            store,
            publish=publish,
            publish_as_worker=publish
            if worker_broker is None
            else BoundedPublish(worker_broker, publish_timeout_s),
            is_current=is_current,
            breaker=self._broker_breaker,
            store_breaker=self._store_breaker,
            retries=self._retries,
            snapshots=self._snapshots,
            figures=self._figures,
            bell=self._publish_bell,
            idle_bell=self._idle_bell,
            topics=topics,
            backlog_share=backlog_share,
            delayed_after_s=delayed_after_s,
            update_every_s=update_every_s,
            presign_s=presign_s,
            link_timeout_s=put_timeout_s,
            clock=clock,
        )

    async def run(self) -> None:
        """Deliver until cancelled. Leases of an earlier delivery are released first."""
        hurry = self._broker_breaker.hurry
        self._spool.on_work(self._ring)
        self._broker.on_connect(hurry)
        try:
            await self._run()
        finally:
            self._spool.off_work(self._ring)
            self._broker.off_connect(hurry)

    async def _run(self) -> None:
        await self._retries.insist(self._spool.release_all)
        await self._retries.insist(self._snapshots.recall)
        # Leaving the executor waits for its thread, but shrinking a JPEG takes only milliseconds.
        with ThreadPoolExecutor(1, thread_name_prefix="delivery") as executor:
            self._snapshots.executor = executor
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._store_breaker.run(), name="delivery: store's breaker")
                tasks.create_task(self._retries.run(self._store_breaker), name="delivery: retries")
                tasks.create_task(self._broker_breaker.run(), name="delivery: broker's breaker")
                uploads = dispatch(
                    partial(self._uploader.start, tasks),
                    breaker=self._store_breaker,
                    bell=self._upload_bell,
                    backoff=self._retries.backoff(),
                    poll_s=self._pace.poll_s,
                )
                tasks.create_task(uploads, name="delivery: uploads")
                announcements = dispatch(
                    partial(self._publisher.start, tasks),
                    breaker=self._broker_breaker,
                    bell=self._publish_bell,
                    backoff=self._retries.backoff(),
                    poll_s=self._pace.poll_s,
                )
                tasks.create_task(announcements, name="delivery: announcements")
                tasks.create_task(self._snapshots.run(), name="delivery: snapshots")
                if self._index is not None:
                    self._index.executor = executor
                    tasks.create_task(self._index.run(), name="delivery: index")
                if self._day_logs is not None:
                    tasks.create_task(self._day_logs.run(), name="delivery: day logs")

    def continue_from(self, other: Delivery) -> None:
        """Add the counters of a delivery that has ended to these."""
        self._figures.continue_from(other._figures)

    def restore_snapshots(self, cameras: Collection[str], retained: Collection[str]) -> None:
        """Publish the last run's snapshots of `cameras` again, except those with topics in `retained`."""
        self._snapshots.restore(cameras, retained)

    async def drain(self, timeout_s: float | None) -> bool:
        """Wait until nothing is left to deliver, at most `timeout_s` (None: without limit).

        From now on the index is written without waiting, and the day logs for the last time: this is the
        stop. Return whether nothing is left.
        """
        if self._day_logs is not None:
            self._day_logs.finish()  # first: it is noted in the spool even if the store is away
        try:
            async with asyncio.timeout(timeout_s):
                while not self._spool.stats.empty or self._uploader.busy or self._publisher.busy:
                    self._hurry_index()
                    await self._idle_bell.wait(self._pace.poll_s)
                self._hurry_index()
                while self._index is not None and self._index.pending:
                    await self._idle_bell.wait(self._pace.poll_s)
                while self._day_logs is not None and self._day_logs.pending:
                    await self._idle_bell.wait(self._pace.poll_s)
        except TimeoutError:
            return False
        return True

    def on_stored(self, callback: Callable[[StoredFrame], None]) -> None:
        """Call `callback` in the event loop for each frame that the store has confirmed."""
        self._uploader.on_stored(callback)

    def health(self) -> DeliveryHealth:
        """Return the health of both peers, the counters since the start, and upload times in seconds."""
        broker = self._broker_breaker.health
        if broker.ok and not self._broker.connected:
            broker = PeerHealth(state=PeerState.UNAVAILABLE, problem="not connected")
        counts = self._figures.counts
        latencies = sorted(self._figures.upload_s)
        return DeliveryHealth(
            store=self._store_breaker.health,
            broker=broker,
            stored=counts["stored"],
            announced=counts["announced"],
            repeats=counts["repeats"],
            set_aside=counts["set_aside"],
            retries=counts["retries"],
            stored_bytes=counts["stored_bytes"],
            index_problem=self._index.problem if self._index is not None else None,
            upload_s={
                name: round(latencies[int(share * (len(latencies) - 1))], 4) if latencies else None
                for name, share in (("p50", 0.5), ("p99", 0.99))
            },
        )

    def _hurry_index(self) -> None:
        if self._index is not None:
            self._index.hurry()

    def _ring(self) -> None:
        """Wake the parts: the spool has changed."""
        self._upload_bell.ring()
        self._publish_bell.ring()
        self._idle_bell.ring()

    async def _probe_store(self) -> None:
        try:
            async with asyncio.timeout(self._put_timeout_s):
                await self._store.probe()
        except TimeoutError as exc:
            raise StoreUnavailable(f"no answer within {self._put_timeout_s:g} s") from exc

    async def _probe_broker(self) -> None:
        # A broker can only be tested with a message: the trial is the next announcement.
        if not self._broker.connected:
            raise BrokerUnavailable("not connected")
