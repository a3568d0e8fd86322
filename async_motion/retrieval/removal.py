"""Delete events: their objects, then add an index line that marks them as deleted.

The order makes it safe to repeat: first the frames, then `event.json`, then the event's line in the index
file of `DELETED`. A run that is killed leaves events that are still listed or already gone; the next run
finishes them. No file of a service is changed: when a service rewrites its index, the event stays deleted,
because the `DELETED` line takes precedence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from async_motion.core.index import (
    DELETED,
    MAX_PACKED_BYTES,
    IndexLine,
    event_day,
    index_key,
    pack,
    parse_line,
    unpack,
)
from async_motion.core.names import event_key
from async_motion.errors import StoreRefused, UnreadableObject
from async_motion.retrieval.model import Event
from async_motion.retrieval.reader import EventReader

MAX_AT_ONCE = 1000


async def delete(reader: EventReader, events: Sequence[Event]) -> int:
    """Delete events of one instance; return how many objects were deleted.

    Needs the permissions to delete and to put. Raises StoreUnavailable, StoreRefused.
    """
    count = 0
    for event in events:
        count += await _objects(reader, event)
    order = sorted(events, key=lambda event: (event.camera, event.event_id))
    for (camera, _), some in groupby(order, key=lambda event: (event.camera, event.event_id[:8])):
        await _note(reader, camera, list(some))
    return count


async def _objects(reader: EventReader, event: Event) -> int:
    folder = reader.folder(event)
    last = event_key(folder)
    count, had_summary, before = 0, False, ""
    while True:
        # List from the start each time: the keys listed before are gone.
        keys: list[str] = []
        async for page in reader.requests.pages(folder):
            keys += [listed.key for listed in page.objects]
            if keys:
                break  # a store that keeps versions may begin with empty pages
        had_summary |= last in keys
        keys = [key for key in keys if key != last]
        if not keys:
            break
        if keys[0] == before:
            raise StoreRefused(f"{before}: the store does not delete it: is it locked?")
        before = keys[0]
        await reader.requests.remove(keys[:MAX_AT_ONCE])
        count += len(keys[:MAX_AT_ONCE])
    if had_summary:
        await reader.requests.remove([last])
        count += 1
    return count


async def _note(reader: EventReader, camera: str, events: Sequence[Event]) -> None:
    """Add the events of one day to the index file of `DELETED`."""
    day = event_day(events[0].event_id)
    key = index_key(reader.prefix, reader.instance, camera, day, DELETED)
    lines = {event.event_id: _line(event) for event in events}
    try:
        data = await reader.requests.read(key, MAX_PACKED_BYTES)
        for text in unpack(data) if data is not None else ():
            line = parse_line(text, DELETED)
            lines.setdefault(line.event_id, line)
    except UnreadableObject as exc:
        reader.skipped.add(key, str(exc))
    await reader.requests.write(key, pack(lines.values(), DELETED), "application/gzip")


def _line(event: Event) -> IndexLine:
    """Return the line that is kept of a deleted event: its id, times and number; no zones, no scores."""
    return IndexLine(
        event_id=event.event_id,
        started_at=event.started_at,
        ended_at=event.ended_at or event.started_at,
        duration_s=event.duration_s or 0.0,
        reason="deleted",
        peak_score=0.0,
        zones=(),
        frames=0,
        bytes=0,
        best=None,
        scores=(),
        no=event.no,
        writer=event.writer,
    )
