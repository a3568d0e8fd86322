"""Rebuild the index from the objects, where it was lost or never written.

The rebuilt files have a writer of their own (`REBUILT`), so that they and a running service never overwrite
each other's files. Readers prefer a service's lines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime

from async_motion.core.index import REBUILT, IndexLine, index_key, pack
from async_motion.retrieval.days import CameraFolder, Day, last_day, stored_days
from async_motion.retrieval.index_cache import IndexCache
from async_motion.retrieval.model import Event, Filter, utc_now
from async_motion.retrieval.reader import EventReader


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltDay:
    """An index file that was written: its camera, its day and its number of events."""

    camera: str
    day: date
    events: int


async def rebuild(
    reader: EventReader,
    cameras: Collection[str] | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> AsyncIterator[RebuiltDay]:
    """Write the index of each day that the range touches, from the objects alone; yield each written file.

    A day is rewritten whole, even if the range covers only a part of it. Needs the permission to put. Raises
    StoreUnavailable, StoreRefused, RecordRejected.
    """
    first = since.astimezone(UTC).date() if since else None
    last = last_day(until) if until else None
    for camera in sorted(await reader.cameras() if cameras is None else cameras):
        place = CameraFolder(prefix=reader.prefix, instance=reader.instance, camera=camera)
        for day in await stored_days(reader.requests, place, first, last):
            whole = Day(reader.requests, place, day, Filter(), reader.skipped, IndexCache(0), utc_now())
            lines = [_line(event) for event in await whole.events((), listed=True) if event.ended_at]
            if lines:
                key = index_key(place.prefix, place.instance, camera, day, REBUILT)
                await reader.requests.write(key, pack(lines, REBUILT), "application/gzip")
                yield RebuiltDay(camera=camera, day=day, events=len(lines))


def _line(event: Event) -> IndexLine:
    assert event.ended_at is not None
    return IndexLine(
        event_id=event.event_id,
        started_at=event.started_at,
        ended_at=event.ended_at,
        duration_s=event.duration_s or 0.0,
        reason=event.reason or "",
        peak_score=event.peak_score,
        zones=event.zones,
        frames=event.frames,
        bytes=event.bytes,
        best=event.best,
        scores=event.scores,
        no=event.no,
        writer=event.writer,
    )
