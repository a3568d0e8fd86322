"""The schema: a spool of version 1 is migrated in place, with the items that wait in it."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest

from async_motion.core.items import FrameAnnouncement, FrameUpload, PhaseAnnouncement, SummaryUpload
from async_motion.core.model import EndReason, Phase
from async_motion.spool import look, schema
from tests.support.clock import Clock
from tests.support.records import make_event, make_record, start_of
from tests.support.spooling import announce_all, new_spool, store_all

VERSION_1 = Path(__file__).parent / "data" / "spool-1.db.gz"
"""Written by the code of version 1. Porch: an ended event with a frame to announce, one set aside and one to
store; an open event with a frame. Yard: an open event with a frame; a frame without an event."""


@pytest.fixture
def old(path: Path) -> Path:
    """A spool of version 1."""
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    return path


async def test_a_spool_of_version_1_is_migrated_with_what_waits_in_it(old: Path, clock: Clock) -> None:
    first, second, yard = make_event(), make_event(index=60), make_event("yard")
    async with new_spool(old, clock) as spool:
        assert (spool.stats.records, spool.stats.set_aside) == (5, 1)
        assert await spool.recall("today/porch") == b'{"day": "2026-11-22"}'
        writer = await spool.writer()
        news = await announce_all(spool)
        uploads = await store_all(spool, fresh=False)
        news += await announce_all(spool)
        uploads += await store_all(spool, fresh=False)
        uploads += await store_all(spool, fresh=True)
        news += await announce_all(spool)
        assert spool.stats.empty
        frames = [item for item in news if isinstance(item, FrameAnnouncement)]
        assert {item.stored.writer for item in frames} == {writer}
        assert {(item.stored.info.event_id, item.stored.no) for item in frames} == {
            (first.event_id, 1),
            (second.event_id, 2),
            (yard.event_id, 1),
            (make_event("yard", 500).event_id, None),
        }
        assert sorted(u.info.seq for u in uploads if isinstance(u, FrameUpload)) == [0, 0, 0, 2]
        ends = {
            item.phase.event.event_id: (item.no, item.phase.event.end_reason)
            for item in news
            if isinstance(item, PhaseAnnouncement) and item.phase.phase is Phase.END
        }
        assert ends == {
            first.event_id: (1, EndReason.QUIET),
            second.event_id: (2, EndReason.INTERRUPTED),
            yard.event_id: (1, EndReason.INTERRUPTED),
        }
        summaries = [upload for upload in uploads if isinstance(upload, SummaryUpload)]
        assert {(s.event.event_id, s.no) for s in summaries} == {
            (first.event_id, 1),
            (second.event_id, 2),
            (yard.event_id, 1),
        }
        # The numbers of events continue; the record that was set aside is delivered with its event's number.
        third = make_event(index=120)
        await spool.accept([make_record(third, 0), start_of(third)])
        now = await spool.event_now(third.event_id)
        assert now is not None
        assert now.no == 3
        await spool.restore()
        (late,) = [u for u in await store_all(spool, fresh=False) if isinstance(u, FrameUpload)]
        assert (late.info.seq, late.no) == (1, 1)
        days = {day.camera: day for day in await spool.due_index()}
        lines = [json.loads(line) for line in await spool.index_lines(days["porch"])]
        assert [line["no"] for line in lines] == [1, 2]
    assert list(old.parent.glob("spool.db.*-*")) == [], "it is never set aside"
    async with new_spool(old, clock) as spool:
        assert await spool.writer() == writer, "a spool keeps its id"


async def test_a_migration_that_fails_leaves_version_1(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = sqlite3.connect(old, isolation_level=None)
    before = db.execute("SELECT * FROM events").fetchall()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "draw_writer", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            schema.prepare(db)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT * FROM events").fetchall() == before
    schema.prepare(db)
    assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    db.close()


def test_a_spool_of_version_1_can_be_looked_at(old: Path) -> None:
    report = look(old)
    assert report.records == 5
    assert len(report.aside) == 1


async def test_each_spool_draws_an_id_that_the_index_does_not_reserve(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(["000000", "ffffff", "a41c07", "b00b1e"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(drawn))
    async with new_spool(tmp_path / "one.db", clock) as spool:
        assert await spool.writer() == "a41c07"
    async with new_spool(":memory:", clock) as spool:
        assert await spool.writer() == "b00b1e"
