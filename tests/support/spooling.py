"""Helpers for spools in tests: create on the tests' clock, deliver, and describe items in short."""

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
from tests.support.clock import Clock
from tests.support.records import stored_of


def new_spool(path: Path | str, clock: Clock, **more: Any) -> Spool:
    """Return a spool on the tests' clock, not opened."""
    return Spool(path, clock=clock, wall=clock.wall, **more)


def stored(upload: Upload) -> StoredFrame:
    """Return a leased record as stored."""
    assert isinstance(upload, FrameUpload)
    return stored_of(upload)


async def store_all(spool: Spool, *, fresh: bool = True) -> list[Upload]:
    """Store all fresh records, or the whole backlog; return them."""
    everything: list[Upload] = []
    while uploads := await spool.take_uploads(fresh=fresh, limit=100):
        for upload in uploads:
            await spool.mark_stored(
                upload.number, stored(upload) if isinstance(upload, FrameUpload) else None
            )
        everything += uploads
    return everything


def seqs(things: list[Any]) -> list[int | str]:
    """Return the seq of each frame, and the kind of everything else."""
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
    """Announce all items that are ready, fresh ones first; return them in that order."""
    everything: list[Announcement] = []
    while True:
        news = [n for batch in await spool.take_fresh_announcements(100) for n in batch]
        news += await spool.take_backlog_announcements(100)
        if not news:
            return everything
        await spool.remove([n.number for n in news])
        everything += news


async def waiting_seqs(spool: Spool) -> list[int | str]:
    """Return the `seqs` of the records that wait for the store, without keeping leases."""
    uploads = await spool.take_uploads(fresh=True, limit=1000) + await spool.take_uploads(
        fresh=False, limit=1000
    )
    await spool.release([u.number for u in uploads])
    return seqs(sorted(uploads, key=lambda u: u.number))


def room_for(records: int, size: int = 3000) -> int:
    """Return the bytes that `records` records of `size` bytes count towards the bound."""
    return records * (size + ROW_BYTES)


def wal_of(path: Path) -> Path:
    """Return the path of a spool's write-ahead log."""
    return path.with_name(path.name + "-wal")
