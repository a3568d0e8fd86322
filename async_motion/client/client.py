"""`MotionClient`: every event once, in order for each camera, live and after any absence.

    bucket ──read to its end──▶┐
                               ├──▶ ledger ──▶ events(), frames()
    broker ──ends of events───▶┘

The bucket is the source of truth; MQTT only reduces latency. The client reads the bucket at the start, after
a reconnect to the broker, when an event number is missing, and at regular intervals. Events from MQTT are
yielded as soon as they are the next of their camera. Without a broker, the client only polls.
In a fleet, messages of a worker that has lost its lease on the camera are dropped, unless they are delayed;
events that it has stored are still found in the bucket.

The `cursor` records what has been yielded. It belongs to the program: store it together with the results (one
transaction, one file), and no crash of the program or the machine repeats or skips an event. `cursor_file`
stores it for programs that need only "at least once": it is written after the loop's body has finished with
an event, so that a program killed inside the body gets the event again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Protocol, Self

from async_motion.client.cursor import CursorFile, parse_cursor
from async_motion.client.ledger import Ledger
from async_motion.client.messages import SeenEpochs, parse_announcement, parse_event
from async_motion.core.index import (
    MAX_PACKED_BYTES,
    IndexLine,
    event_started,
    index_folder,
    index_key,
    parse_day_file,
    parse_line,
    unpack,
)
from async_motion.core.model import FrameInfo
from async_motion.core.names import Topics
from async_motion.core.payloads import iso
from async_motion.errors import StoreRefused, StoreUnavailable, UnreadableObject
from async_motion.retrieval import Bucket, Event, EventReader

log = logging.getLogger(__name__)

LOOK_BACK_S: Final = 600.0
"""How far before a camera's newest event each read of the bucket starts."""
LOOK_BACK_DEEP_S: Final = 7 * 86400.0
"""The same at the start, after a reconnect, for a missing event, and every `DEEP_EVERY_S`."""
DEEP_EVERY_S: Final = 3600.0
"""A worker of a fleet may come back with old events, and the broker may lose their messages."""
SEARCH_AGAIN_S: Final = 5.0
"""How often the bucket is searched for a missing event."""
SUMMARY_PAUSES_S: Final = (0.0, 0.1, 0.4, 1.0)
MAX_QUEUED: Final = 10_000


class Broker(Protocol):
    """The MQTT client, connected or not."""

    @property
    def connected(self) -> bool: ...
    def subscribe(self, topic: str, handler: Callable[[str, bytes, bool], None]) -> None: ...
    def on_connect(self, callback: Callable[[], None]) -> None: ...
    async def run(self) -> None: ...


class MotionClient:
    """Reads the events of one instance; `async with` connects. One loop over `events` or `frames` at a time.

    `bucket` is an opened store to read from. `broker` is a client that is not running yet, or None: then the
    bucket is polled. `poll_s` is the polling interval without a connection to a broker; with one it is ten
    times longer. `patience_s` is how long later events wait for a missing earlier one.
    """

    def __init__(
        self,
        bucket: Bucket,
        broker: Broker | None = None,
        *,
        instance: str,
        prefix: str = "",
        base_topic: str = "async_motion",
        cursor_file: str | os.PathLike[str] | None = None,
        poll_s: float = 10.0,
        patience_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nothing yet. Raises ValueError for a `cursor_file` without a valid cursor."""
        self.instance = instance
        self.reader = EventReader(bucket, instance=instance, prefix=prefix)
        self.rejected = 0
        self._broker = broker
        self._topics = Topics(f"{base_topic}/{instance}")
        self._file = None if cursor_file is None else CursorFile(cursor_file)
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._clock = clock
        self._ledger: Ledger | None = None
        self._held: dict[str, Any] | None = None
        self._open: dict[str, int] = {}
        self._news: deque[bytes] = deque(maxlen=MAX_QUEUED)
        self._frames: deque[bytes] = deque(maxlen=MAX_QUEUED)
        self._wake = asyncio.Event()
        self._epochs = SeenEpochs()
        self._deep = True
        self._broken = False
        self._clock_checked = False
        self._stack = contextlib.AsyncExitStack()
        self._saved: str | None = None
        self._load()

    async def __aenter__(self) -> Self:
        """Start the connection to the broker, which reconnects in the background.

        Raises ValueError if another client uses the `cursor_file`, OSError.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self._file is not None:
                self._file.open()
                stack.callback(self._file.close)
                self._load()  # another client may have written it meanwhile
            if self._broker is not None:
                broker = self._broker
                broker.subscribe(self._topics.event("+"), self._heard(self._news))
                broker.subscribe(self._topics.frame("+"), self._heard(self._frames))
                broker.on_connect(self._connected)
                tasks = await stack.enter_async_context(asyncio.TaskGroup())
                task = tasks.create_task(broker.run(), name="client broker")
                stack.callback(task.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def cursor(self) -> str:
        """The cursor after the events yielded so far, as one line of JSON.

        Raises ValueError before `events` or `frames` has begun.
        """
        if self._ledger is None:
            raise ValueError("there is no cursor before events() or frames() has begun")
        state = self._ledger.state() if self._held is None else self._held
        state = {**state, "instance": self.instance}
        return json.dumps(state | ({"open": self._open} if self._open else {}))

    async def events(
        self,
        since: str | datetime | None = None,
        *,
        camera: str | Collection[str] | None = None,
    ) -> AsyncIterator[Event]:
        """Yield every ended event once, in order for each camera; then wait for the next, without limit.

        `since` is a `cursor`, or the time (aware) at which the subscription begins; by default the cursor of
        `cursor_file`, else now. A subscription to some cameras needs a cursor of its own. Raises ValueError
        for an invalid cursor, StoreRefused if the bucket refuses us. Transient failures are retried.
        """
        async for event, _ in self._run(since, camera, frames=False):
            assert isinstance(event, Event)
            yield event
            self.save()

    async def frames(
        self,
        since: str | datetime | None = None,
        *,
        camera: str | Collection[str] | None = None,
    ) -> AsyncIterator[FrameInfo]:
        """Yield every stored frame, once, in order for each camera; live ones as they are announced.

        A frame that was not received by MQTT is yielded when its event has ended. Parameters and errors are
        those of `events`.
        """
        async for event, frame in self._run(since, camera, frames=True):
            if frame is not None:
                yield frame
            elif event is not None:
                for each in await self._frames_of(event):
                    if each.seq > self._open.get(event.event_id, -1):
                        self._open[event.event_id] = each.seq
                        yield each
                        self.save()
                self._open.pop(event.event_id, None)
                self._held = None
            self.save()

    async def fetch(self, frame: FrameInfo) -> bytes:
        """Return a frame's JPEG.

        Raises UnreadableObject if it is gone or its sha256 differs, StoreUnavailable, StoreRefused.
        """
        return await self.reader.fetch(frame)

    async def _run(
        self, since: str | datetime | None, camera: str | Collection[str] | None, *, frames: bool
    ) -> AsyncIterator[tuple[Event | None, FrameInfo | None]]:
        """Yield the events that are due, and live frames between them."""
        ledger = self._begin(since)
        cameras = None if camera is None else {camera} if isinstance(camera, str) else set(camera)
        read_at = float("-inf")
        deep_at = float("-inf")
        searched = False
        self._deep = True
        while True:
            every_s = SEARCH_AGAIN_S if ledger.is_blocked() else self._every_s
            if self._deep or self._clock() - read_at >= every_s:
                deep = self._deep or ledger.is_blocked() or self._clock() - deep_at >= DEEP_EVERY_S
                self._deep = False
                try:
                    async for _ in self._search(ledger, cameras, deep=deep):
                        for event in self._ready(ledger, hold=frames, searched=False):
                            yield event, None
                    searched = True
                except StoreUnavailable as exc:
                    if isinstance(exc, StoreRefused):
                        raise
                    log.warning("client: %s; reading again in %g s", exc, SEARCH_AGAIN_S)
                    searched, self._broken = False, True
                else:
                    self._broken = False
                    deep_at = self._clock() if deep else deep_at
                read_at = self._clock()
            for event in self._ready(ledger, hold=frames, searched=searched):
                yield event, None
            if self._frames:
                payload = self._frames.popleft()
                if frames and (frame := await self._live_frame(payload, ledger, cameras)) is not None:
                    yield None, frame
            elif self._news:
                await self._take(self._news.popleft(), ledger, cameras)
                searched = searched and not ledger.is_blocked()
            else:
                await self._pause(ledger, read_at)

    @property
    def _every_s(self) -> float:
        """The polling interval: with a broker, polling is only a safety net."""
        return 10 * self._poll_s if self._broker is not None and self._broker.connected else self._poll_s

    def _begin(self, since: str | datetime | None) -> Ledger:
        if since is None:
            since = self._saved if self._saved is not None else datetime.now(UTC)
        if isinstance(since, str):
            cursor = parse_cursor(since, self.instance)
            self._open = dict(cursor.get("open", {}))
            self._ledger = Ledger.of(cursor)
        else:
            self._open, self._ledger = {}, Ledger(since.astimezone(UTC))
        return self._ledger

    def _ready(self, ledger: Ledger, *, hold: bool, searched: bool) -> Iterator[Event]:
        """Yield the events that are due; with `hold`, the cursor advances only after each one's frames."""
        while True:
            before = ledger.state() if hold else None
            waiting = ledger.ready(monotonic=self._clock(), patience_s=self._patience_s, searched=searched)
            # One at a time: the cursor must never be ahead of the yielded events.
            event = next(waiting, None)
            if event is None:
                return
            self._held = before
            yield event

    async def _search(
        self, ledger: Ledger, cameras: Collection[str] | None, *, deep: bool
    ) -> AsyncIterator[Event]:
        """Read the bucket from each camera's position; yield the events that were added to the ledger."""
        known = sorted(cameras) if cameras is not None else await self.reader.cameras()
        back_s = LOOK_BACK_DEEP_S if deep else LOOK_BACK_S
        for camera in known:
            begin = ledger.since(camera)
            since = begin - timedelta(seconds=back_s)
            async for event in self.reader.events(camera, since=since):
                if event.ended_at is not None and await self._added(ledger, event):
                    yield event

    async def _added(self, ledger: Ledger, event: Event) -> bool:
        if not ledger.knows(event):
            ledger.open(event, await self._last_before(event, ledger.origin))
        return ledger.add(event)

    async def _last_before(self, event: Event, origin: datetime) -> int:
        """Return the last number of the event's writer from before the subscription, 0 for a new writer."""
        if event.no is None or event.writer is None:
            return 0
        last = event.no if event.started_at < origin else 0
        reader = self.reader
        folder = index_folder(reader.prefix, self.instance, event.camera)
        days: list[date] = []
        async for page in reader.requests.pages(folder):
            for listed in page.objects:
                file = parse_day_file(listed.key, folder)
                if file is not None and file.writer == event.writer and file.day <= origin.date():
                    days.append(file.day)
        for day in reversed(days):  # on the first day, all events may be later than the origin
            key = index_key(reader.prefix, self.instance, event.camera, day, event.writer)
            before = [line.no for line in await self._lines(key, event.writer) if line.started_at < origin]
            numbers = [no for no in before if no is not None]
            if numbers:
                return max(last, *numbers)
        return last

    async def _lines(self, key: str, writer: str) -> list[IndexLine]:
        """Return the readable lines of an index file."""
        lines: list[IndexLine] = []
        with contextlib.suppress(UnreadableObject):
            for text in unpack(await self.reader.requests.read(key, MAX_PACKED_BYTES) or b""):
                with contextlib.suppress(UnreadableObject):
                    lines.append(parse_line(text, writer))
        return lines

    async def _take(self, payload: bytes, ledger: Ledger, cameras: Collection[str] | None) -> None:
        """Process one message about an event."""
        try:
            message = parse_event(payload, self.instance)
        except ValueError as exc:
            self._reject(exc)
            return
        heard = self._epochs.admits(message.camera, message.epoch, delayed=message.delayed)
        event = message.ended
        if event is None or not heard or (cameras is not None and event.camera not in cameras):
            return
        if not message.delayed:
            self._check_clock(event, ledger.origin)
        try:
            if not ledger.knows(event):
                ledger.open(event, await self._last_before(event, ledger.origin))
            if ledger.wants(event):
                ledger.add(await self._summary(event))
        except StoreRefused:
            raise
        except StoreUnavailable:
            # If its lane is open, the message is enough; otherwise the event is read from the bucket later.
            self._broken = True
            if ledger.knows(event):
                ledger.add(event)

    def _check_clock(self, event: Event, origin: datetime) -> None:
        """Warn once of an event that ends now, but before the subscription began, by the service's clock."""
        if self._clock_checked or event.ended_at is None:
            return
        if event.ended_at < origin <= datetime.now(UTC):
            self._clock_checked = True
            log.warning(
                "client: an event of %s that has just ended at %s began before the subscription (%s) and is"
                " passed over: is the clock of this machine or of the service wrong?",
                event.camera, iso(event.ended_at), iso(origin),
            )  # fmt: skip

    async def _summary(self, event: Event) -> Event:
        """Return the event as the bucket has it; try again briefly until its `event.json` can be read."""
        for pause_s in SUMMARY_PAUSES_S:
            await asyncio.sleep(pause_s)
            found = await self.reader.event(event.event_id, event.camera)
            if found is not None and found.ended_at is not None:
                # Keep the message's number and writer, by which the ledger wanted the event.
                return replace(found, no=event.no, writer=event.writer)
        return event

    async def _live_frame(
        self, payload: bytes, ledger: Ledger, cameras: Collection[str] | None
    ) -> FrameInfo | None:
        """Return an announced frame if it is the next of its event, and its event the next of its lane."""
        try:
            stored = parse_announcement(payload, self.instance)
        except ValueError as exc:
            self._reject(exc)
            return None
        info = stored.info
        if not self._epochs.admits(info.camera, info.epoch, delayed=stored.delayed):
            return None
        if cameras is not None and info.camera not in cameras:
            return None
        event = Event(
            instance=info.instance,
            camera=info.camera,
            event_id=info.event_id,
            started_at=event_started(info.event_id),
            no=stored.no,
            writer=stored.writer,
        )
        if not ledger.knows(event):
            try:
                ledger.open(event, await self._last_before(event, ledger.origin))
            except StoreRefused:
                raise
            except StoreUnavailable:
                return None
        if not ledger.is_next(event) or info.seq != self._open.get(info.event_id, -1) + 1:
            return None
        self._open[info.event_id] = info.seq
        return info

    async def _frames_of(self, event: Event) -> list[FrameInfo]:
        """Return the frames of an event that has ended; retry until the bucket is available."""
        while True:
            try:
                return await self.reader.frames(event)
            except StoreRefused:
                raise
            except StoreUnavailable as exc:
                log.warning("client: %s; trying again in %g s", exc, SEARCH_AGAIN_S)
                await asyncio.sleep(SEARCH_AGAIN_S)

    async def _pause(self, ledger: Ledger, read_at: float) -> None:
        """Wait for a message, or until the next read of the bucket is due."""
        every_s = SEARCH_AGAIN_S if self._broken or ledger.is_blocked() else self._every_s
        self._deep = self._deep or self._broken
        wait_s = every_s - (self._clock() - read_at)
        self._wake.clear()
        if wait_s > 0 and not (self._deep and not self._broken):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _heard(self, queue: deque[bytes]) -> Callable[[str, bytes, bool], None]:
        def take(_topic: str, payload: bytes, _retained: bool) -> None:  # the broker's handler
            if len(queue) == queue.maxlen:
                self._deep = True  # the queue drops a message: read the bucket instead
            queue.append(payload)
            self._wake.set()

        return take

    def _reject(self, exc: ValueError) -> None:
        self.rejected += 1
        log.debug("client: ignored a message: %s", exc)

    def _connected(self) -> None:
        self._deep = True
        self._wake.set()

    def save(self) -> None:
        """Write the cursor to `cursor_file`. Call it before leaving a loop whose last event is done.

        Raises OSError.
        """
        if self._file is None or self._ledger is None:
            return
        self._file.write(self.cursor, monotonic=self._clock())

    def _load(self) -> None:
        """Read the cursor from the file. Raises ValueError, OSError."""
        if self._file is not None:
            self._saved = self._file.read()
        if self._saved is not None:
            parse_cursor(self._saved, self.instance)
