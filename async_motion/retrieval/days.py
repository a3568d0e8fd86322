"""The events of one camera on one day, from the index and from the objects.

A listed day shows the events that the listing has: one that only the index has was deleted. If the listing
has none, the index is not read.

    listed          source of the day's events
    no              the index alone
    yes             the listed events: from the index if it has them, else from `event.json`, and those
                    without one from their frames

A day is listed if the caller requests it (a recent day, the oldest, the last of a writer, or a short range),
if its index is missing or damaged, and if the numbers of a writer have a gap: then an event is not indexed
yet.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from async_motion.core.index import (
    DELETED,
    MAX_PACKED_BYTES,
    REBUILT,
    RESERVED,
    WRITER,
    IndexLine,
    event_day,
    event_started,
    index_folder,
    index_key,
    parse_day_file,
    parse_line,
    thin_scores,
    unpack,
)
from async_motion.core.model import EndReason
from async_motion.core.names import EVENT_ID, event_folder, event_key
from async_motion.core.payloads import parse_iso
from async_motion.errors import UnreadableObject
from async_motion.retrieval.index_cache import IndexCache
from async_motion.retrieval.model import ONGOING_S, Event, Filter, Skipped
from async_motion.retrieval.requests import Requests, together
from async_motion.retrieval.summaries import MAX_SUMMARY_BYTES, event_of, frame_of_metadata, parse_summary

MAX_DAY_EVENTS = 100_000
"""More events of one camera and day are left out and counted as skipped, to bound the memory."""
MAX_WRITERS = 64
"""More index files of one camera and day are not read, and are counted as skipped."""
SAMPLED_FRAMES = 16
"""For an event without a summary, the scores come from the metadata of this many frames."""

_LINES_AT_ONCE = 256
_SUMMARIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFolder:
    """The key prefixes of one camera's objects."""

    prefix: str
    instance: str
    camera: str

    def folder(self, event: str) -> str:
        """Return the folder of an event, with its closing slash."""
        return event_folder(self.prefix, self.instance, self.camera, event)

    @property
    def index(self) -> str:
        """The folder of the camera's index files."""
        return index_folder(self.prefix, self.instance, self.camera)

    @property
    def root(self) -> str:
        """The folder of the camera's events."""
        return f"{self.prefix}{self.instance}/{self.camera}/"

    def day(self, day: date) -> str:
        """Return the folder of a day's events."""
        return f"{self.root}{day:%Y/%m/%d}/"


async def indexed_days(
    requests: Requests, place: CameraFolder, since: date | None, until: date | None
) -> dict[date, list[str]]:
    """Return the writers of each indexed day from `since` to `until`, inclusive."""
    days: dict[date, list[str]] = defaultdict(list)
    start_after = "" if since is None else f"{place.index}{since:%Y/%m/%d}"
    async for page in requests.pages(place.index, start_after=start_after):
        for listed in page.objects:
            file = parse_day_file(listed.key, place.index)
            if file is None:
                continue
            if until is not None and file.day > until:
                return days
            days[file.day].append(file.writer)
    return days


async def stored_days(
    requests: Requests, place: CameraFolder, since: date | None, until: date | None
) -> list[date]:
    """Return the days from `since` to `until`, inclusive, that have objects, in order."""
    low, high = since or date.min, until or date.max

    async def below(folder: str) -> list[str]:
        found = []
        async for page in requests.pages(folder, folders=True):
            found += [each for each in page.folders if each[len(folder) : -1].isascii()]
        return found

    def numbers(folder: str) -> tuple[int, ...] | None:
        parts = folder[len(place.root) : -1].split("/")
        if [len(part) for part in parts] != [4, 2, 2][: len(parts)] or not all(p.isdigit() for p in parts):
            return None
        return tuple(int(part) for part in parts)

    def between(folder: str) -> bool:
        at = numbers(folder)
        if at is None:
            return False
        first, last = (low.year, low.month, low.day), (high.year, high.month, high.day)
        return first[: len(at)] <= at <= last[: len(at)]

    years = [year for year in await below(place.root) if between(year)]
    months = [m for found in await together("list months", map(below, years)) for m in found if between(m)]
    folders = [d for found in await together("list days", map(below, months)) for d in found if between(d)]
    days = []
    for folder in folders:
        try:
            days.append(date(*(numbers(folder) or ())))
        except (TypeError, ValueError):
            continue
    return sorted(days)


class Day:
    """The events of one camera on one day."""

    def __init__(
        self,
        requests: Requests,
        place: CameraFolder,
        day: date,
        chosen: Filter,
        skipped: Skipped,
        cache: IndexCache,
        now: datetime,
    ) -> None:
        self._requests = requests
        self._place = place
        self._day = day
        self._now = now
        self._chosen = chosen
        self._skipped = skipped
        self._cache = cache

    async def events(self, writers: Sequence[str], *, listed: bool) -> list[Event]:
        """Return the events that pass the filter, sorted by id. `writers` have an index of this day."""
        ids = await self._ids() if listed else None
        if ids == []:
            return []
        index = await self._read_index(writers)
        if ids is None and writers and index.is_whole:
            found = self._chosen_of(index.lines)
        else:
            found = await self._describe(await self._ids() if ids is None else ids, index)
        return sorted((event for event in found if self._chosen.takes(event)), key=lambda e: e.event_id)

    async def _read_index(self, writers: Sequence[str]) -> _Index:
        """Return the merged index of the day; a writer's own line takes precedence over a rebuilt one."""
        index = _Index()
        if len(writers) > MAX_WRITERS:
            index.damaged = True
            self._skipped.add(self._place.index, f"{self._day}: more than {MAX_WRITERS} writers")
        rank = {DELETED: 0, REBUILT: 2}
        by_rank = sorted(writers, key=lambda writer: (rank.get(writer, 1), writer))
        for writer in by_rank[:MAX_WRITERS]:
            async for line in self._lines(writer, index):
                if len(index) >= MAX_DAY_EVENTS:
                    index.damaged = True
                    self._skipped.add(self._place.index, f"{self._day}: more than {MAX_DAY_EVENTS} events")
                    return index
                index.add(line, writer)
        return index

    async def _lines(self, writer: str, index: _Index) -> AsyncIterator[IndexLine]:
        place = self._place
        key = index_key(place.prefix, place.instance, place.camera, self._day, writer)
        try:
            data = await self._requests.read(key, MAX_PACKED_BYTES)
            if data is None:
                index.damaged = True
                return
            parsed = self._cache.get(key, data)
            if parsed is not None:
                for line in parsed:
                    yield line
                return
            lines: list[IndexLine] = []
            whole = True
            day = f"{self._day:%Y%m%d}"
            for number, text in enumerate(unpack(data), 1):
                if number % _LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)  # let other tasks run
                try:
                    line = parse_line(text, writer)
                    if not line.event_id.startswith(day):
                        raise UnreadableObject("index line: its event is of another day")
                except UnreadableObject as exc:
                    index.damaged, whole = True, False
                    self._skipped.add(key, f"line {number}: {exc}")
                else:
                    lines.append(line)
                    yield line
            if whole:
                self._cache.put(key, data, lines)
        except UnreadableObject as exc:
            index.damaged = True
            self._skipped.add(key, str(exc))

    def _chosen_of(self, lines: Iterable[IndexLine]) -> list[Event]:
        """Return the events of the lines that pass the filter: of a year, most do not."""
        place, takes = self._place, self._chosen.takes
        return [Event.of_line(place.instance, place.camera, line) for line in lines if takes(line)]

    async def _describe(self, ids: Sequence[str], index: _Index) -> list[Event]:
        """Return the events with these ids, described by the index where it has them."""
        ids = [event for event in ids if event not in index.deleted]
        found = self._chosen_of(line for line in map(index.get, ids) if line is not None)
        unknown = [event for event in ids if index.get(event) is None and self._chosen.may_hold(event)]
        for at in range(0, len(unknown), _SUMMARIES_AT_ONCE):
            some = await together(
                "read summaries", (self._look(event) for event in unknown[at : at + _SUMMARIES_AT_ONCE])
            )
            found += [event for event in some if event is not None]
        return found

    async def _ids(self) -> list[str]:
        """Return the ids of the events in the bucket that may begin in the filter's range, to the second."""
        folder = self._place.day(self._day)
        since, until = self._chosen.since, self._chosen.until
        # Ids sort by time: comparing texts takes a tenth of the time of parsing 1,500 of them.
        low = _second(since) if since is not None else ""
        high = _second(until) + "~" if until is not None else "~"
        start_after = folder + low if low[:8] == f"{self._day:%Y%m%d}" else folder
        found: list[str] = []
        async for page in self._requests.pages(folder, folders=True, start_after=start_after):
            for each in page.folders:
                event = each[len(folder) : -1]
                if not EVENT_ID.fullmatch(event) or f"{self._day:%Y%m%d}" != event[:8]:
                    self._skipped.add(each, "not an event's folder")
                elif event > high:
                    return found
                elif event > low:
                    if len(found) == MAX_DAY_EVENTS:
                        self._skipped.add(folder, f"more than {MAX_DAY_EVENTS} events")
                        return found
                    found.append(event)
        return found

    async def _look(self, event: str) -> Event | None:
        """Return an event from its summary, or from its frames if it has none."""
        return await look(self._requests, self._place, event, self._skipped, self._now)


async def look(
    requests: Requests, place: CameraFolder, event: str, skipped: Skipped, now: datetime
) -> Event | None:
    """Return the event with this id from its summary, or from its frames; None if nothing is stored.

    `now` (aware) decides whether an event without an end is ongoing.
    """
    key = event_key(place.folder(event))
    try:
        data = await requests.read(key, MAX_SUMMARY_BYTES)
        if data is not None:
            return event_of(parse_summary(data, event), place.instance, place.camera)
    except UnreadableObject as exc:
        skipped.add(key, str(exc))
    return await _from_frames(requests, place, event, skipped, now)


async def _from_frames(
    requests: Requests, place: CameraFolder, event: str, skipped: Skipped, now: datetime
) -> Event | None:
    """Return an event without a summary. Its zones are not known.

    It goes on, or was never closed. If a fleet's next worker has stored a later event, its worker was lost.
    """
    count = size = 0
    sampled: list[tuple[int, str, int]] = []
    every = 1
    last = ""
    async for seq, key, bytes_ in stored_frames(requests, place.folder(event)):
        last = key
        if count % every == 0:
            sampled.append((seq, key, bytes_))
            if len(sampled) >= 2 * SAMPLED_FRAMES:
                sampled, every = sampled[::2], every * 2
        count, size = count + 1, size + bytes_
    if not count:
        return None
    shell = Event(
        instance=place.instance,
        camera=place.camera,
        event_id=event,
        started_at=event_started(event),
        frames=count,
        bytes=size,
    )
    sampled = sampled[:: -(-len(sampled) // SAMPLED_FRAMES)]
    keys = [key for _, key, _ in sampled]
    metadata = await together("read metadata", map(requests.about, [*keys, *({last} - set(keys))]))
    scores: list[tuple[int, float]] = []
    for (seq, key, bytes_), about in zip(sampled, metadata, strict=False):
        try:
            frame = frame_of_metadata(about or {}, shell, key, seq, bytes_)
        except UnreadableObject as exc:
            skipped.add(key, str(exc))
        else:
            scores.append((seq, frame.score))
    best = max(scores, key=lambda each: each[1], default=(sampled[0][0], 0.0))
    times = [at for at in (_captured(about or {}) for about in metadata) if at is not None]
    newest = max(shell.started_at, times[-1]) if times else None
    # A time that is hours ahead is a clock's error.
    age_s = abs((now - (newest or shell.started_at)).total_seconds())
    open_event = replace(
        shell,
        best=best[0],
        peak_score=best[1],
        scores=thin_scores([score for _, score in scores]),
        ongoing=age_s < ONGOING_S,
    )
    readable = next((about for about in metadata if about and _epoch(about) is not None), None)
    if newest is None or readable is None:
        return open_event
    return await _cut(requests, place, open_event, newest, readable)


async def _cut(
    requests: Requests, place: CameraFolder, event: Event, newest: datetime, about: Mapping[str, str]
) -> Event:
    """Return an event without a summary; with its end if its worker was lost.

    The next event shows it, if its epoch is higher. `newest` is the time of the event's last frame, `about`
    the metadata of any, with an epoch. The lost worker may come back and deliver the rest: then the summary
    counts, under the same number.
    """
    epoch = _epoch(about) or 0
    later = await _next_frame(requests, place, event)
    if later is None or (_epoch(await requests.about(later) or {}) or 0) <= epoch:
        return event
    writer = about.get("writer", "")
    no = _whole(about.get("no", "")) or None if WRITER.fullmatch(writer) else None
    return replace(
        event,
        ended_at=newest,
        duration_s=(newest - event.started_at).total_seconds(),
        reason=EndReason.WORKER_LOST.value,
        no=no,
        writer=None if no is None else writer,
        ongoing=False,
    )


async def _next_frame(requests: Requests, place: CameraFolder, event: Event) -> str | None:
    """Return the key of the first frame of the next event of the same day or the day after; None without."""
    day = event_day(event.event_id)
    for folder, start_after in (
        (place.day(day), place.folder(event.event_id) + "~"),
        (place.day(day + timedelta(days=1)), ""),
    ):
        async for page in requests.pages(folder, folders=True, start_after=start_after):
            for each in page.folders:
                if not EVENT_ID.fullmatch(each[len(folder) : -1]):
                    continue
                async for _, key, _ in stored_frames(requests, each):
                    return key
    return None


def _captured(about: Mapping[str, str]) -> datetime | None:
    """Return when a frame was captured, from its metadata; None if they do not have it."""
    try:
        return parse_iso(about["captured-at"])
    except (KeyError, ValueError):
        return None


def _epoch(about: Mapping[str, str]) -> int | None:
    """Return a lease's epoch from a frame's metadata; None without a fleet."""
    return _whole(about.get("epoch", ""))


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


async def stored_frames(requests: Requests, folder: str) -> AsyncIterator[tuple[int, str, int]]:
    """Yield (seq, key, bytes) of the frames in an event's folder, in order."""
    async for page in requests.pages(folder):
        for listed in page.objects:
            name, _, kind = listed.key[len(folder) :].partition(".")
            if kind == "jpg" and name.isascii() and name.isdigit() and 6 <= len(name) <= 9:
                yield int(name), listed.key, listed.size


def last_days(writers: Mapping[date, Sequence[str]]) -> set[date]:
    """Return the last day of each writer: a spool that was lost has not indexed its last events."""
    last = {writer: day for day in sorted(writers) for writer in writers[day] if writer not in RESERVED}
    return set(last.values())


def calendar(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`, inclusive."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def last_day(until: datetime) -> date:
    """Return the last day (UTC) on which an event can begin before `until`."""
    at = until.astimezone(UTC)
    return at.date() - timedelta(days=1) if at.time() == time.min else at.date()


def _second(at: datetime) -> str:
    """Return the beginning of the ids of the events that start in this second."""
    at = at.astimezone(UTC)
    return f"{at.year:04}{at:%m%dT%H%M%S}"  # %Y does not pad on every platform


class _Index:
    """The merged lines of a day."""

    def __init__(self) -> None:
        self.deleted: set[str] = set()
        self.damaged = False
        self._lines: dict[str, IndexLine] = {}
        self._numbers: dict[str, set[int]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._lines) + len(self.deleted)

    def add(self, line: IndexLine, writer: str) -> None:
        """Add a line of the file of `writer`; the first line of an event takes precedence."""
        if line.no is not None and line.writer is not None:
            self._numbers[line.writer].add(line.no)
        if writer == DELETED:
            self.deleted.add(line.event_id)
        else:
            self._lines.setdefault(line.event_id, line)

    def get(self, event: str) -> IndexLine | None:
        return self._lines.get(event)

    @property
    def lines(self) -> Iterable[IndexLine]:
        return [line for event, line in self._lines.items() if event not in self.deleted]

    @property
    def is_whole(self) -> bool:
        """True if all files were readable and the numbers of each writer are consecutive.

        A gap means an event of this day that is not indexed yet.
        """
        numbers = self._numbers.values()
        return not self.damaged and all(max(seen) - min(seen) + 1 == len(seen) for seen in numbers)
