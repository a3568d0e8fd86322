"""`EventReader`: events, frames and JPEGs from the bucket alone.

    cameras()                        the cameras that have objects
    events(camera, since, until, …)  events in order of their start, or newest first
    event(id)                        one event
    frames(event)                    its stored frames
    fetch(frame)                     a frame's JPEG, checked against its sha256

Events are read in windows of days: first one day of every camera, then growing windows. So the first events
arrive early, and one window bounds the memory. For each camera a window reads the index, and lists the
objects where the index may be incomplete (see `days`). A range of up to three days is always listed: one
request for each 1,000 events. Objects that cannot be read are skipped and counted in `skipped`; they never
end a listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, date, datetime, timedelta

from async_motion.core.index import event_started
from async_motion.core.model import FrameInfo
from async_motion.core.names import EVENT_ID, event_key, is_name
from async_motion.errors import UnreadableObject
from async_motion.retrieval.days import (
    CameraFolder,
    Day,
    calendar,
    indexed_days,
    last_day,
    last_days,
    look,
    stored_days,
    stored_frames,
)
from async_motion.retrieval.index_cache import IndexCache
from async_motion.retrieval.model import Event, Filter, Skipped, utc_now
from async_motion.retrieval.protocols import Bucket
from async_motion.retrieval.requests import Requests, together
from async_motion.retrieval.summaries import (
    MAX_SUMMARY_BYTES,
    frame_of_metadata,
    frames_of,
    parse_summary,
)

SHORT = timedelta(days=3)
"""A range up to this long is always listed, in addition to the index."""
MAX_FRAME_BYTES = 256 * 1024 * 1024

_MAX_WINDOW_DAYS = 64
_FULL_WINDOW_EVENTS = 4096
_METADATA_AT_ONCE = 64


class EventReader:
    """Reads the events of one instance. Needs only the permissions to list and to get."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        instance: str,
        prefix: str = "",
        max_requests: int = 16,
        max_cached_lines: int = 0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """Send no request. `prefix` begins every key, `now` returns the current time (aware).

        `max_cached_lines` bounds the parsed index lines that are kept, for a reader that reads a day often.
        """
        self.instance = instance
        self.prefix = prefix
        self.skipped = Skipped()
        self.requests = Requests(bucket, max_requests=max_requests)
        self._cache = IndexCache(max_cached_lines)
        self._now = now

    async def cameras(self) -> list[str]:
        """Return the names of the cameras that have objects, sorted."""
        root = f"{self.prefix}{self.instance}/"
        found: list[str] = []
        async for page in self.requests.pages(root, folders=True):
            found += [name for each in page.folders if is_name(name := each[len(root) : -1])]
        return found

    async def events(
        self,
        camera: str | Collection[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        zone: str | Collection[str] | None = None,
        min_score: float = 0.0,
        min_duration: float = 0.0,
        reverse: bool = False,
    ) -> AsyncIterator[Event]:
        """Yield the events with `since` <= start < `until`, by their start; `reverse`: newest first.

        Times are aware. An event passes if it touched any of the zones, its peak score is at least
        `min_score` (0..1) and its duration at least `min_duration` seconds. Raises StoreUnavailable,
        StoreRefused.
        """
        chosen = Filter(
            since=since,
            until=until,
            zones=_names(zone),
            min_score=min_score,
            min_duration_s=min_duration,
        )
        names = sorted(set(_names(camera))) if camera is not None else await self.cameras()
        plans = await together("plan events", (self._plan(name, chosen) for name in names))
        days = sorted({day for plan in plans for day in plan.days}, reverse=reverse)
        at, width = 0, 1
        while at < len(days):
            window = days[at : at + width]
            found = [
                event
                for some in await together(
                    "read events", (plan.read(day) for plan in plans for day in window if day in plan.days)
                )
                for event in some
            ]
            for event in sorted(found, key=_order, reverse=reverse):
                yield event
            at += width
            width = min(2 * width, _MAX_WINDOW_DAYS) if len(found) < _FULL_WINDOW_EVENTS else 1

    async def event(self, event_id: str, camera: str | None = None) -> Event | None:
        """Return the event with this id, or None if there is none.

        With `camera`, one request is usually enough. Raises StoreUnavailable, StoreRefused.
        """
        if not EVENT_ID.fullmatch(event_id):
            return None
        try:
            event_started(event_id)
        except ValueError:
            return None
        names = [camera] if camera is not None else await self.cameras()
        found = await together(
            "read summaries",
            (look(self.requests, self._place(name), event_id, self.skipped, self._now()) for name in names),
        )
        return next((event for event in found if event is not None), None)

    async def frames(self, event: Event) -> list[FrameInfo]:
        """Return the stored frames of an event, by `seq`.

        Without a readable summary they come from the objects' metadata: without boxes and zones, and with a
        width and height of 0. Raises StoreUnavailable, StoreRefused.
        """
        folder = self.folder(event)
        key = event_key(folder)
        try:
            data = await self.requests.read(key, MAX_SUMMARY_BYTES)
            if data is not None:
                return frames_of(parse_summary(data, event.event_id), event, folder)
        except UnreadableObject as exc:
            self.skipped.add(key, str(exc))
        return await self._frames_of_metadata(event, folder)

    async def fetch(self, frame: FrameInfo) -> bytes:
        """Return a frame's JPEG.

        Raises UnreadableObject if it is gone or its sha256 differs, StoreUnavailable, StoreRefused.
        """
        data = await self.requests.read(frame.object_key, min(MAX_FRAME_BYTES, frame.size))
        if data is None:
            raise UnreadableObject(f"{frame.object_key}: it no longer exists")
        if hashlib.sha256(data).hexdigest() != frame.sha256:
            raise UnreadableObject(f"{frame.object_key}: its sha256 is not that of the stored frame")
        return data

    async def link(self, key: str, expires_s: float) -> str | None:
        """Return a presigned link to an object, or None if the store has none."""
        return await self.requests.link(key, expires_s)

    def folder(self, event: Event) -> str:
        """Return the folder of an event, with its closing slash."""
        return self._place(event.camera).folder(event.event_id)

    def _place(self, camera: str) -> CameraFolder:
        return CameraFolder(prefix=self.prefix, instance=self.instance, camera=camera)

    async def _plan(self, camera: str, chosen: Filter) -> _Plan:
        """Return which days of a camera to read, and which of them to list."""
        place = self._place(camera)
        today = self._now().astimezone(UTC).date()
        first = chosen.since.astimezone(UTC).date() if chosen.since else None
        last = last_day(chosen.until) if chosen.until else None
        if first is not None and (last or today + timedelta(days=1)) - first <= SHORT:
            indexed = await indexed_days(self.requests, place, first, last)
            # A clock may be wrong, ours or the service's: the index has days later than today.
            days = sorted({*calendar(first, last or max(first, today)), *indexed})
            listed = set(days)
        else:
            indexed, days = await _both(self.requests, place, first, last)
            listed = {day for day in days if day >= today - timedelta(days=1)} | set(days[:1])
            listed |= last_days(indexed)
        return _Plan(
            requests=self.requests,
            place=place,
            chosen=chosen,
            skipped=self.skipped,
            cache=self._cache,
            days=dict.fromkeys(days),
            listed=listed,
            writers=indexed,
            now=self._now(),
        )

    async def _frames_of_metadata(self, event: Event, folder: str) -> list[FrameInfo]:
        frames: list[FrameInfo] = []
        waiting: list[tuple[int, str, int]] = []

        async def take() -> None:
            about = await together("read metadata", (self.requests.about(key) for _, key, _ in waiting))
            for (seq, key, size), said in zip(waiting, about, strict=True):
                try:
                    frames.append(frame_of_metadata(said or {}, event, key, seq, size))
                except UnreadableObject as exc:
                    self.skipped.add(key, str(exc))
            waiting.clear()

        async for each in stored_frames(self.requests, folder):
            waiting.append(each)
            if len(waiting) == _METADATA_AT_ONCE:
                await take()
        await take()
        return frames


class _Plan:
    """The days of one camera to read."""

    def __init__(
        self,
        *,
        requests: Requests,
        place: CameraFolder,
        chosen: Filter,
        skipped: Skipped,
        cache: IndexCache,
        days: Collection[date],
        listed: Collection[date],
        writers: dict[date, list[str]],
        now: datetime,
    ) -> None:
        self.days = days
        self._requests = requests
        self._place = place
        self._chosen = chosen
        self._skipped = skipped
        self._cache = cache
        self._listed = listed
        self._writers = writers
        self._now = now

    async def read(self, day: date) -> list[Event]:
        """Return the events of one day that pass the filter."""
        reading = Day(self._requests, self._place, day, self._chosen, self._skipped, self._cache, self._now)
        return await reading.events(self._writers.get(day, []), listed=day in self._listed)


async def _both(
    requests: Requests, place: CameraFolder, first: date | None, last: date | None
) -> tuple[dict[date, list[str]], list[date]]:
    """Return the indexed days and the days that have objects."""
    indexed: dict[date, list[str]] = {}
    days: list[date] = []

    async def index() -> None:
        indexed.update(await indexed_days(requests, place, first, last))

    async def objects() -> None:
        days.extend(await stored_days(requests, place, first, last))

    await together("list days", (index(), objects()))
    return indexed, days


def _order(event: Event) -> tuple[str, str]:
    return event.event_id, event.camera


def _names(given: str | Collection[str] | None) -> Collection[str]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)
