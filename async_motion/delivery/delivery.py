"""The walk from the spool to the subscribers: two dispatchers, and a task for each piece of work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from async_motion.core import names, payloads
from async_motion.core.backoff import Backoff
from async_motion.core.health import DeliveryHealth, PeerHealth, PeerState
from async_motion.core.items import (
    FrameAnnouncement,
    FrameUpload,
    News,
    PhaseAnnouncement,
    SummaryUpload,
    Upload,
)
from async_motion.core.model import FrameInfo, Phase, StoredFrame
from async_motion.core.names import Topics
from async_motion.delivery.circuit_breaker import CircuitBreaker, Pace
from async_motion.delivery.protocols import Broker, Outbox, Store
from async_motion.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ImageError,
    RecordRejected,
    SpoolError,
    StoreUnavailable,
    TransientError,
)

log = logging.getLogger(__name__)

BATCH = 16
"""Announcements of one camera that are taken from the spool at once."""
PUBLISHERS = 16
"""Publishes at once; beyond this a broker gets no faster."""
FREE_FAILURES = 2
"""How often a piece may fail before it waits by itself, beside its peer's gate."""
TRIED = 4
"""Among how many pieces of a lane a trial chooses."""
MAX_REMEMBERED = 4096
SHOWN = "delivery/shown"


@dataclass(slots=True)
class _Lane:
    """How many pieces of one half are under way, fresh and of the backlog."""

    fresh: int = 0
    late: int = 0

    @property
    def all(self) -> int:
        return self.fresh + self.late


@dataclass(slots=True)
class _Figures:
    """What `health` reports."""

    counts: Counter[str] = field(default_factory=Counter)
    upload_s: deque[float] = field(default_factory=lambda: deque(maxlen=512))


class Delivery:
    """Deliver what the spool holds. `run` runs until it is cancelled; `drain` waits for it to have finished.

    `topics` and `prefix` are where announcements and summaries go. `concurrency` bounds the uploads at once,
    `backlog_share` (0..1) the part of them that the backlog may have. `presign_s` is the life of the links in
    announcements, None for none. `shrink` makes a snapshot of a JPEG (in a thread); None: no snapshots.
    `put_timeout_s` and `publish_timeout_s` are the last resort behind the adapters' own deadlines.
    """

    def __init__(
        self,
        *,
        spool: Outbox,
        store: Store,
        broker: Broker,
        topics: Topics,
        prefix: str = "",
        concurrency: int = 8,
        backlog_share: float = 0.5,
        delayed_after_s: float = 10.0,
        update_every_s: float = 1.0,
        presign_s: float | None = None,
        shrink: Callable[[bytes], bytes] | None = None,
        put_timeout_s: float = 120.0,
        publish_timeout_s: float = 30.0,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._store = store
        self._broker = broker
        self._topics = topics
        self._prefix = prefix
        self._concurrency = max(1, concurrency)
        self._delayed_after_s = delayed_after_s
        self._update_every_s = update_every_s
        self._presign_s = presign_s
        self._shrink = shrink
        self._on_stored: list[Callable[[StoredFrame], None]] = []
        self._put_timeout_s = put_timeout_s
        self._publish_timeout_s = publish_timeout_s
        self._pace = pace or Pace()
        self._clock = clock
        self._now = now
        self._draw = draw
        # One slot always belongs to the fresh: at no share does the backlog stand before them.
        self._late_uploads = min(self._concurrency - 1, _share_of(self._concurrency, backlog_share))
        self._late_batches = max(1, _share_of(PUBLISHERS // 2, backlog_share))
        self._store_gate = CircuitBreaker("store", self._probe_store, pace=self._pace, draw=draw, clock=clock)
        # The broker's client says itself when it comes and goes.
        self._broker_gate = CircuitBreaker(
            "broker", self._probe_broker, pace=self._pace, draw=draw, clock=clock, loud=False
        )
        self._uploads, self._news = _Lane(), _Lane()
        self._pictures = 0
        self._ahead = max(1, self._concurrency // 2)
        self._ready: deque[Upload] = deque()
        """Taken from the spool: the next begins in the moment in which one is stored."""
        self._publishers = asyncio.Semaphore(PUBLISHERS)
        self._upload_bell, self._news_bell, self._end_bell = _Bell(), _Bell(), _Bell()
        self._failures: dict[int, tuple[int, int]] = {}
        self._updated: dict[str, float] = {}
        self._candidates: dict[str, tuple[int, float]] = {}
        self._shown: dict[str, tuple[int, float]] = {}
        self._snapshot_problems: dict[str, str] = {}
        self._figures = _Figures()
        self._shrinker: ThreadPoolExecutor | None = None

    # -- the outside

    async def run(self) -> None:
        """Deliver, for ever. Whatever was handed out before is handed out again."""
        self._spool.on_work(self._ring)
        self._broker.on_connect(self._broker_gate.hurry)
        await self._insist(self._start)
        # Its threads end by themselves: shrinking a picture is a matter of milliseconds.
        with ThreadPoolExecutor(1, thread_name_prefix="snapshot") as self._shrinker:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._store_gate.run(), name="delivery: store's gate")
                tasks.create_task(self._broker_gate.run(), name="delivery: broker's gate")
                uploads = self._dispatch(tasks, self._start_uploads, self._store_gate, self._upload_bell)
                tasks.create_task(uploads, name="delivery: uploads")
                news = self._dispatch(tasks, self._start_news, self._broker_gate, self._news_bell)
                tasks.create_task(news, name="delivery: news")

    async def drain(self, timeout_s: float | None) -> bool:
        """Wait until nothing is left to deliver, at most `timeout_s` (None: for ever).

        Say whether that is so.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._spool.stats.empty or self._pictures or self._news.all:
                    await self._end_bell.wait(self._pace.poll_s)
        except TimeoutError:
            return False
        return True

    def on_stored(self, callback: Callable[[StoredFrame], None]) -> None:
        """Call `callback` in the event loop for each frame that the store has confirmed."""
        self._on_stored.append(callback)

    def health(self) -> DeliveryHealth:
        """Return the health of both peers, and the counters since the start."""
        broker = self._broker_gate.health
        if broker.ok and not self._broker.connected:
            broker = PeerHealth(state=PeerState.UNAVAILABLE, problem="not connected")
        counts = self._figures.counts
        latencies = sorted(self._figures.upload_s)
        return DeliveryHealth(
            store=self._store_gate.health,
            broker=broker,
            stored=counts["stored"],
            announced=counts["announced"],
            repeats=counts["repeats"],
            set_aside=counts["set_aside"],
            retries=counts["retries"],
            stored_bytes=counts["stored_bytes"],
            upload_s={
                name: round(latencies[int(share * (len(latencies) - 1))], 4) if latencies else None
                for name, share in (("p50", 0.5), ("p99", 0.99))
            },
        )

    # -- dispatching

    async def _start(self) -> None:
        await self._spool.release_all()
        shown = await self._spool.recall(SHOWN)
        if shown is not None:
            self._shown = {camera: (number, score) for camera, (number, score) in json.loads(shown).items()}
            self._candidates = dict(self._shown)

    def _ring(self) -> None:
        """Note that the spool has changed."""
        self._upload_bell.ring()
        self._news_bell.ring()
        self._end_bell.ring()

    async def _dispatch(
        self,
        tasks: asyncio.TaskGroup,
        start: Callable[[asyncio.TaskGroup], Awaitable[int]],
        gate: CircuitBreaker,
        bell: _Bell,
    ) -> None:
        """Start work whenever there is some, a slot for it, and the gate is open."""
        backoff = Backoff(draw=self._draw, first_s=self._pace.first_s, max_s=self._pace.max_s)
        while True:
            await gate.passable()
            heard = bell.count
            try:
                started = await start(tasks)
                backoff.reset()
            except SpoolError:
                # The spool has said why. It cannot be read now; later it can.
                await asyncio.sleep(backoff.next_s())
                continue
            if not started:
                await bell.wait(self._pace.poll_s, heard)

    async def _start_uploads(self, tasks: asyncio.TaskGroup) -> int:
        if not self._spool.stats.to_store:
            return 0
        lane = self._uploads
        # What waits for the spool's note still holds its picture: where none can be made, no more come.
        slots = min(self._concurrency - lane.all, 2 * self._concurrency - self._pictures) - len(self._ready)
        if self._store_gate.on_trial:
            uploads = await self._try_upload() if not lane.all and slots > 0 else []
        elif self._spool.stats.backlog:
            late = await self._take(fresh=False, limit=min(slots, self._late_uploads - lane.late))
            uploads = late + await self._take(fresh=True, limit=slots - len(late))
            if not uploads and not lane.all and slots > 0:
                # No slot belongs to the backlog: it takes one that nobody wants.
                uploads = await self._take(fresh=False, limit=1)
        else:
            uploads = await self._take(fresh=True, limit=slots + self._ahead)
        self._ready.extend(uploads)
        if self._store_gate.shut:  # meanwhile
            await self._give_back()
            return len(uploads)
        return self._begin_ready(tasks)

    async def _give_back(self) -> None:
        """Give back what was taken and not begun: while the gate is shut, nothing may begin."""
        numbers = [item.number for item in self._ready]
        self._ready.clear()
        if numbers:
            await self._insist(lambda: self._spool.release(numbers))

    def _begin_ready(self, tasks: asyncio.TaskGroup) -> int:
        """Begin what was taken, as far as there are slots; return how much."""
        lane, begun = self._uploads, 0
        while self._ready and lane.all < self._concurrency and self._pictures < 2 * self._concurrency:
            item = self._ready.popleft()
            if item.late:
                lane.late += 1
            else:
                lane.fresh += 1
            self._pictures += 1
            begun += 1
            tasks.create_task(self._upload(item, tasks), name=f"upload {item.number}")
        return begun

    async def _take(self, *, fresh: bool, limit: int) -> list[Upload]:
        return await self._spool.take_uploads(fresh=fresh, limit=limit) if limit > 0 else []

    async def _try_upload(self) -> list[Upload]:
        """Take one piece for a trial, each time another: the first one may itself be what fails."""
        found = await self._take(fresh=True, limit=TRIED) + await self._take(fresh=False, limit=TRIED)
        chosen = found[self._store_gate.trials % len(found)] if found else None
        await self._spool.release([item.number for item in found if item is not chosen])
        return [chosen] if chosen is not None else []

    async def _start_news(self, tasks: asyncio.TaskGroup) -> int:
        if not self._spool.stats.to_announce:
            return 0
        lane = self._news
        taken = self._clock()  # before the spool says how old each is: its age counts on from here
        if self._broker_gate.on_trial:
            batches = await self._try_news() if not lane.all else []
        else:
            batches = [(batch, False) for batch in await self._spool.take_fresh_news(BATCH)]
            room = lane.late < self._late_batches and self._spool.stats.backlog
            late = await self._spool.take_late_news(BATCH) if room else []
            if late:
                batches.append((late, True))
        for batch, is_late in batches:
            if is_late:
                lane.late += 1
            else:
                lane.fresh += 1
            announcing = self._announce(batch, late=is_late, taken=taken)
            tasks.create_task(announcing, name=f"announce {batch[0].number}")
        return len(batches)

    async def _try_news(self) -> list[tuple[list[News], bool]]:
        """Take one announcement for a trial, each time another."""
        found = [(batch, False) for batch in await self._spool.take_fresh_news(1)]
        found += [([news], True) for news in await self._spool.take_late_news(TRIED)]
        if not found:
            return []
        chosen = found.pop(self._broker_gate.trials % len(found))
        await self._spool.release([news.number for batch, _ in found for news in batch])
        return [chosen]

    # -- to the store

    async def _upload(self, item: Upload, tasks: asyncio.TaskGroup) -> None:
        try:
            if isinstance(item, FrameUpload):
                await self._store_frame(item, tasks)
            else:
                await self._store_summary(item)
        finally:
            self._pictures -= 1
            self._upload_bell.ring()
            self._end_bell.ring()

    async def _store_frame(self, item: FrameUpload, tasks: asyncio.TaskGroup) -> None:
        info = item.info
        started = self._clock()
        try:
            etag = await self._put(
                item,
                info.object_key,
                item.jpeg,
                content_type=payloads.CONTENT_TYPE,
                metadata=payloads.object_metadata(info),
                tags=payloads.object_tags(info),
            )
        except RecordRejected as exc:
            reason = str(exc)
            log.error("%s: %s is set aside: %s", info.camera, info.object_key, reason)
            self._figures.counts["set_aside"] += 1
            self._failures.pop(item.number, None)
            await self._insist(lambda: self._spool.set_aside(item.number, reason))
            return
        except StoreUnavailable as exc:
            await self._again(item.number, exc)
            return
        self._store_gate.succeeded()
        self._begin_ready(tasks)
        self._figures.upload_s.append(self._clock() - started)
        self._figures.counts["stored"] += 1
        self._figures.counts["stored_bytes"] += info.size
        self._figures.counts["repeats"] += self._failures.pop(item.number, None) is not None
        stored = StoredFrame(
            info=info,
            bucket=self._store.bucket,
            etag=etag,
            stored_at=self._now(),
            delayed=item.late or item.age_s + self._clock() - started > self._delayed_after_s,
        )
        keep = self._is_candidate(item)
        await self._insist(lambda: self._spool.mark_stored(item.number, stored, keep_jpeg=keep))
        size_kib = info.size // 1024
        log.info("%s: stored %s (%d KiB, score %.3f)", info.camera, info.object_key, size_kib, info.score)
        for callback in self._on_stored:
            callback(stored)

    async def _store_summary(self, item: SummaryUpload) -> None:
        event = item.event
        if item.lines:
            folder = str(item.lines[0]["object_key"]).rpartition("/")[0] + "/"
        else:
            folder = names.event_folder(self._prefix, event.instance, event.camera, event.event_id)
        best = max(item.lines, key=lambda line: (line["score"], -line["seq"]), default=None)
        end = payloads.event_payload(
            Phase.END,
            event,
            now=self._now(),
            frames_stored=len(item.lines),
            best_frame=best["object_key"] if best else None,
        )
        try:
            await self._put(
                item,
                names.event_key(folder),
                payloads.encode(payloads.summary_payload(end, item.lines)),
                content_type="application/json",
                metadata={"camera": event.camera, "instance": event.instance, "event-id": event.event_id},
                tags={"camera": event.camera, "kind": "event"},
            )
        except RecordRejected as exc:
            # The frames are stored and announced; that the event has ended must be said all the same.
            log.error("%s: event %s stays without its summary: %s", event.camera, event.event_id, exc)
        except StoreUnavailable as exc:
            await self._again(item.number, exc)
            return
        self._store_gate.succeeded()
        self._failures.pop(item.number, None)
        await self._insist(lambda: self._spool.mark_stored(item.number, None))

    async def _put(self, item: Upload, key: str, data: bytes, **how: Any) -> str:
        """Store, and free the item's slot: the next one need not wait until the spool has noted this one."""
        try:
            async with asyncio.timeout(self._put_timeout_s):
                return await self._store.put(key, data, **how)
        except TimeoutError as exc:
            raise StoreUnavailable(f"no answer within {self._put_timeout_s:g} s") from exc
        finally:
            if item.late:
                self._uploads.late -= 1
            else:
                self._uploads.fresh -= 1
            self._upload_bell.ring()

    async def _probe_store(self) -> None:
        try:
            async with asyncio.timeout(self._put_timeout_s):
                await self._store.probe()
        except TimeoutError as exc:
            raise StoreUnavailable(f"no answer within {self._put_timeout_s:g} s") from exc

    def _is_candidate(self, item: FrameUpload) -> bool:
        """Say whether this may become the snapshot: then its bytes are kept until it is announced."""
        if self._shrink is None:
            return False
        camera, rank = item.info.camera, (item.event_number, item.info.score)
        if camera in self._candidates and rank <= self._candidates[camera]:
            return False
        self._candidates[camera] = rank
        return True

    # -- to the broker

    async def _announce(self, batch: Sequence[News], *, late: bool, taken: float) -> None:
        """Announce these, `taken` at this clock, in their order. What comes after a failure is given back."""
        done: list[int] = []
        try:
            for news in batch:
                try:
                    if isinstance(news, FrameAnnouncement):
                        await self._announce_frame(news, taken)
                    else:
                        await self._announce_phase(news)
                except TransientError as exc:
                    rest = [other.number for other in batch if other.number not in (*done, news.number)]
                    await self._insist(lambda rest=rest: self._spool.release(rest))  # type: ignore[misc]
                    await self._again(news.number, exc)
                    break
                done.append(news.number)
                self._failures.pop(news.number, None)
            await self._insist(lambda: self._spool.remove(done))
        except asyncio.CancelledError:
            with contextlib.suppress(SpoolError):
                await self._spool.remove(done)
            raise
        finally:
            if late:
                self._news.late -= 1
            else:
                self._news.fresh -= 1
            self._news_bell.ring()
            self._end_bell.ring()

    async def _announce_frame(self, news: FrameAnnouncement, taken: float) -> None:
        info = news.stored.info
        url = await self._link(info.object_key)
        rank = (news.event_number, info.score)
        if self._shrink is not None and rank > self._shown.get(info.camera, (-1, -1.0)):
            await self._show(news, self._announcement(news, taken, url))
        await self._publish(self._topics.frame(info.camera), self._announcement(news, taken, url))
        self._broker_gate.succeeded()
        self._figures.counts["announced"] += 1
        self._figures.counts["repeats"] += news.number in self._failures
        try:
            await self._announce_update(info)
        except TransientError as exc:
            # The frame is announced. The next update, or the end, says more than this one would have.
            self._gate_of(exc).failed(exc)

    def _announcement(self, news: FrameAnnouncement, taken: float, url: str | None) -> bytes:
        age_s = news.age_s + self._clock() - taken
        stored = replace(news.stored, delayed=news.late or age_s > self._delayed_after_s, url=url)
        return payloads.encode(payloads.frame_payload(stored))

    async def _show(self, news: FrameAnnouncement, announcement: bytes) -> None:
        """Publish a frame as its camera's snapshot; without a picture, or refused, it holds up nothing."""
        info = news.stored.info
        camera, rank = info.camera, (news.event_number, info.score)
        jpeg = await self._snapshot_of(news)
        if jpeg is None:
            return
        try:
            await self._publish(self._topics.snapshot(camera), jpeg, retain=True)
            await self._publish(self._topics.snapshot_frame(camera), announcement, retain=True)
        except BrokerRefused as exc:
            self._snapshot_problem(camera, f"the broker refused the snapshot: {exc}")
            return
        self._snapshot_problems.pop(camera, None)
        self._shown[camera] = rank
        await self._insist(
            lambda: self._spool.remember(SHOWN, json.dumps(self._shown).encode(), durable=False)
        )

    async def _snapshot_of(self, news: FrameAnnouncement) -> bytes | None:
        info = news.stored.info
        jpeg = await self._spool.jpeg(news.number) if news.has_jpeg else None
        if jpeg is None:
            if self._candidates.get(info.camera, (-1, -1.0)) > (news.event_number, info.score):
                return None  # a better one is on its way, with its bytes
            try:
                async with asyncio.timeout(self._put_timeout_s):
                    jpeg = await self._store.get(info.object_key)
            except (StoreUnavailable, RecordRejected, TimeoutError) as exc:
                log.debug("%s: no snapshot of %s: %s", info.camera, info.object_key, exc)
                return None
        assert self._shrink is not None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._shrinker, self._shrink, jpeg)
        except ImageError as exc:
            self._snapshot_problem(info.camera, str(exc))
            return None

    def _snapshot_problem(self, camera: str, problem: str) -> None:
        if self._snapshot_problems.get(camera) != problem:
            self._snapshot_problems[camera] = problem
            log.warning("%s: %s; frames are announced without it", camera, problem)

    async def _announce_update(self, info: FrameInfo) -> None:
        """Publish an event's update if its start is announced, and none came within `update_every_s`."""
        last = self._updated.get(info.event_id)
        if last is not None and self._clock() - last < self._update_every_s:
            return
        known = await self._spool.event_now(info.event_id)
        # Our own note of the start is newer than the spool's: that one is made for a whole batch.
        if known is None or not (known.announced or last is not None):
            return
        self._note_update(info.event_id)
        payload = payloads.event_payload(
            Phase.UPDATE,
            known.event,
            now=self._now(),
            frames_stored=known.frames_stored,
            best_frame=known.best_frame,
            bucket=self._store.bucket,
            url=await self._link(known.best_frame),
        )
        await self._publish(self._topics.event(info.camera), payloads.encode(payload))

    async def _announce_phase(self, news: PhaseAnnouncement) -> None:
        event = news.phase.event
        payload = payloads.event_payload(
            news.phase.phase,
            event,
            now=self._now(),
            frames_stored=news.frames_stored,
            best_frame=news.best_frame,
            bucket=self._store.bucket,
            url=await self._link(news.best_frame),
        )
        await self._publish(self._topics.event(event.camera), payloads.encode(payload))
        self._broker_gate.succeeded()
        if news.phase.phase is Phase.END:
            self._updated.pop(event.event_id, None)
        else:
            self._note_update(event.event_id)

    def _note_update(self, event_id: str) -> None:
        self._updated[event_id] = self._clock()
        if len(self._updated) > MAX_REMEMBERED:  # events whose end was dropped at the spool's bounds
            self._updated.pop(next(iter(self._updated)))

    async def _link(self, key: str | None) -> str | None:
        """Return a presigned link to an object, where there is one and links are made."""
        if key is None or self._presign_s is None:
            return None
        try:
            async with asyncio.timeout(self._put_timeout_s):
                return await self._store.link(key, self._presign_s)
        except TimeoutError as exc:
            raise StoreUnavailable(f"no link within {self._put_timeout_s:g} s") from exc

    async def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        async with self._publishers:
            try:
                async with asyncio.timeout(self._publish_timeout_s):
                    await self._broker.publish(topic, payload, retain=retain)
            except TimeoutError as exc:
                raise BrokerUnavailable(f"no answer within {self._publish_timeout_s:g} s") from exc

    async def _probe_broker(self) -> None:
        # There is nothing to ask a broker for but to take a message: the trial is the next announcement.
        if not self._broker.connected:
            raise BrokerUnavailable("not connected")

    # -- trouble

    def _gate_of(self, error: TransientError) -> CircuitBreaker:
        return self._store_gate if isinstance(error, StoreUnavailable) else self._broker_gate

    async def _again(self, number: int, error: TransientError) -> None:
        """Give a piece back that failed.

        One that fails again and again while others pass waits longer and longer by itself. In an outage
        nobody passes: its pieces come again at once when it is over.
        """
        gate = self._gate_of(error)
        gate.failed(error)
        if gate is self._store_gate:
            await self._give_back()
        self._figures.counts["retries"] += 1
        failures, successes = self._failures.pop(number, (0, -1))
        if gate.successes != successes:
            failures += 1
        self._failures[number] = failures, gate.successes
        if len(self._failures) > MAX_REMEMBERED:
            self._failures.pop(next(iter(self._failures)))
        log.debug("item %d failed: %s", number, error)
        delay_s = 0.0
        if failures > FREE_FAILURES:
            doubled_s = self._pace.first_s * 2.0 ** min(failures - FREE_FAILURES, 64)
            delay_s = min(self._pace.piece_most_s, doubled_s)
        await self._insist(lambda: self._spool.release([number], delay_s))

    async def _insist(self, note: Callable[[], Awaitable[None]]) -> None:
        """Make a note in the spool until it holds: a full or failing disk is waited for."""
        backoff = Backoff(draw=self._draw, first_s=self._pace.first_s, max_s=self._pace.max_s)
        while True:
            try:
                return await note()
            except SpoolError:
                await asyncio.sleep(backoff.next_s())


class _Bell:
    """Wakes all who wait; a ring since `heard` is not missed."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        self.count += 1
        self._event.set()

    async def wait(self, timeout_s: float, heard: int | None = None) -> None:
        """Wait for a ring, at most `timeout_s`."""
        if heard is not None and heard != self.count:
            return
        self._event.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass


def _share_of(slots: int, share: float) -> int:
    """Return the slots of a share: at least one of a share above 0."""
    return max(1 if share > 0 else 0, int(slots * share))
