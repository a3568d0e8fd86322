"""A spool in tests: opened on the tests' clock, emptied as delivery would, described in short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from async_motion.core.items import (
    Announcement,
    FrameAnnouncement,
    FrameUpload,
    PhaseAnnouncement,
    SummaryUpload,
    Upload,
)
from async_motion.core.model import StoredFrame
from async_motion.spool import Spool
from async_motion.spool.schema import ROW_BYTES
from tests.support.clock import BEGIN, Clock


def new_spool(path: Path | str, clock: Clock, **more: Any) -> Spool:
    """Return a spool on the tests' clock, not opened."""
    return Spool(path, clock=clock, wall=clock.wall, **more)


def stored(upload: Upload) -> StoredFrame:
    """Return a leased record as the store has confirmed it."""
    assert isinstance(upload, FrameUpload)
    return StoredFrame(info=upload.info, bucket="motion", etag="e", stored_at=BEGIN)


async def store_all(spool: Spool, *, fresh: bool = True) -> list[Upload]:
    """Store all that is fresh, or all of the backlog; return it."""
    everything: list[Upload] = []
    while uploads := await spool.take_uploads(fresh=fresh, limit=100):
        for upload in uploads:
            await spool.mark_stored(
                upload.number, stored(upload) if isinstance(upload, FrameUpload) else None
            )
        everything += uploads
    return everything


def seqs(things: list[Any]) -> list[int | str]:
    """Name frames by their number in the event, everything else by what it is."""
    found: list[int | str] = []
    for thing in things:
        match thing:
            case FrameUpload(info=info) | FrameAnnouncement(stored=StoredFrame(info=info)):
                found.append(info.seq)
            case SummaryUpload():
                found.append("event.json")
            case PhaseAnnouncement(phase=phase):
                found.append(phase.phase.value)
    return found


async def announce_all(spool: Spool) -> list[Announcement]:
    """Announce all that is ready, fresh items first; return it in that order."""
    everything: list[Announcement] = []
    while True:
        news = [n for batch in await spool.take_fresh_announcements(100) for n in batch]
        news += await spool.take_backlog_announcements(100)
        if not news:
            return everything
        await spool.remove([n.number for n in news])
        everything += news


async def waiting_seqs(spool: Spool) -> list[int | str]:
    """Name what waits for the store, without taking it away."""
    uploads = await spool.take_uploads(fresh=True, limit=1000) + await spool.take_uploads(
        fresh=False, limit=1000
    )
    await spool.release([u.number for u in uploads])
    return seqs(sorted(uploads, key=lambda u: u.number))


def room_for(records: int, size: int = 3000) -> int:
    """Return the bytes that this many records of `size` bytes count."""
    return records * (size + ROW_BYTES)


def wal_of(path: Path) -> Path:
    """Return the path of a spool's write-ahead log."""
    return path.with_name(path.name + "-wal")
