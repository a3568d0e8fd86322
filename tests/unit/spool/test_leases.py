"""Leases: fresh, delayed, leased and unreadable items."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from async_motion import spool as spool_package
from async_motion.core import payloads
from async_motion.core.items import FrameAnnouncement, FrameUpload, SummaryUpload
from async_motion.core.model import StoredFrame
from async_motion.spool import Spool, codec
from async_motion.spool import leases as leases_module
from async_motion.spool.leases import Leases
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import (
    announce_all,
    new_spool,
    seqs,
    store_all,
    stored,
)


async def test_an_item_not_stored_blocks_later_items_of_its_camera(spool: Spool) -> None:
    event, other = make_event(), make_event("yard")
    await spool.accept([make_record(event, 0), start_of(event)])
    await spool.accept([make_record(event, 1)])
    await spool.accept([make_record(other, 0), start_of(other)])
    first, *rest = await spool.take_uploads(fresh=True, limit=10)
    for upload in rest:
        await spool.mark_stored(upload.number, stored(upload))
    batches = await spool.take_fresh_announcements(10)
    assert [n.stored.info.camera for batch in batches for n in batch if isinstance(n, FrameAnnouncement)] == [
        "yard"
    ]
    await spool.release([n.number for batch in batches for n in batch])
    await spool.mark_stored(first.number, stored(first))
    batches = await spool.take_fresh_announcements(10)
    assert [seqs(batch) for batch in batches] == [[0], [0]]
    # While their frames are leased, no other batch of these cameras can be leased.
    assert await spool.take_fresh_announcements(10) == []
    await spool.remove([n.number for batch in batches for n in batch])
    assert seqs(await announce_all(spool)) == ["start", 1, "start"]


async def test_fresh_frames_pass_delayed_ones(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), start_of(event)])
    clock.sleep(11)
    await spool.accept([make_record(event, 1)])
    fresh = await spool.take_uploads(fresh=True, limit=10)
    delayed = await spool.take_uploads(fresh=False, limit=10)
    assert (seqs(fresh), seqs(delayed)) == ([1], [0])
    assert delayed[0].delayed
    assert not fresh[0].delayed
    assert delayed[0].age_s == pytest.approx(11)
    await spool.mark_stored(fresh[0].number, stored(fresh[0]))
    (batch,) = await spool.take_fresh_announcements(10)
    assert seqs(batch) == [1]
    await spool.remove([batch[0].number])
    # The end does not block the next event while it waits for frames of the backlog.
    following = make_event(index=60)
    await spool.accept([end_of(event), make_record(following, 0), start_of(following)])
    (upload,) = await spool.take_uploads(fresh=True, limit=10)
    await spool.mark_stored(upload.number, stored(upload))
    assert seqs(await announce_all(spool)) == [0, "start"]
    await spool.mark_stored(delayed[0].number, stored(delayed[0]))
    assert seqs(await announce_all(spool)) == [0, "start"]
    assert seqs(await store_all(spool, fresh=True)) == ["event.json"]
    assert seqs(await announce_all(spool)) == ["end"]


async def test_the_backlog_is_what_is_delayed_and_still_to_be_delivered(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), make_record(event, 1)])
    assert not spool.stats.backlog
    clock.sleep(11.0)
    # Nothing was written since then: the next call must return the same.
    assert await spool.take_uploads(fresh=True, limit=10) == []
    assert spool.stats.backlog
    refused, upload = await spool.take_uploads(fresh=False, limit=10)
    await spool.set_aside(refused.number, "the store refuses it")
    assert spool.stats.backlog
    await spool.mark_stored(upload.number, stored(upload))
    assert spool.stats.backlog, "it is still to be announced"
    await announce_all(spool)
    assert not spool.stats.backlog, "what is set aside is not part of the backlog"


async def test_a_leased_item_blocks_later_items_even_once_delayed(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), start_of(event)])
    clock.sleep(5)
    await spool.accept([make_record(event, 1)])
    for upload in await spool.take_uploads(fresh=True, limit=10):
        await spool.mark_stored(upload.number, stored(upload))
    (batch,) = await spool.take_fresh_announcements(1)
    assert seqs(batch) == [0]
    clock.sleep(6)
    # The first frame is being announced, perhaps not as delayed: the second must not overtake it.
    assert await spool.take_fresh_announcements(10) == []
    await spool.remove([batch[0].number])
    (batch,) = await spool.take_fresh_announcements(10)
    assert seqs(batch) == [1]


async def test_a_released_item_is_available_after_its_delay(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0)])
    (upload,) = await spool.take_uploads(fresh=True, limit=10)
    await spool.release([upload.number], 3.0)
    assert await spool.take_uploads(fresh=True, limit=10) == []
    clock.sleep(3.5)
    assert len(await spool.take_uploads(fresh=True, limit=10)) == 1
    await spool.release_all()
    assert len(await spool.take_uploads(fresh=True, limit=10)) == 1


async def test_an_event_is_known_until_its_end_is_announced(spool: Spool) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0, score=0.4), start_of(event)])
    now = await spool.event_now(event.event_id)
    assert now is not None
    assert not now.announced
    assert (now.event.peak_score, now.event.zones) == (0.4, ("drive",))
    await store_all(spool)
    await announce_all(spool)
    now = await spool.event_now(event.event_id)
    assert now is not None
    assert now.announced
    assert (now.frames_stored, now.best_frame) == (1, make_record(event, 0).info.object_key)
    assert await spool.event_now(make_event(index=9).event_id) is None


async def test_a_record_that_cannot_be_read_back_is_set_aside(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1), make_record(event, 2)])
    db = sqlite3.connect(path)
    db.execute("UPDATE jpegs SET jpeg = zeroblob(3000) WHERE number = 1")
    db.execute("DELETE FROM jpegs WHERE number = 2")
    db.commit()
    db.close()
    async with new_spool(path, clock) as spool:
        assert seqs(await spool.take_uploads(fresh=False, limit=10)) == [2]
        assert spool.stats.set_aside == 2
    aside = spool_package.look(path).aside
    assert [a.info.seq for a in aside] == [0, 1]
    assert "cannot be read back" in aside[0].reason


@pytest.mark.parametrize("column", ["body = '{'", "stored = 'x'", "body = CAST(x'ff00fe' AS TEXT)"])
async def test_an_item_whose_description_is_damaged_stops_nothing(
    path: Path, clock: Clock, column: str
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event), make_record(event, 1), end_of(event)])
        (first, _) = await spool.take_uploads(fresh=True, limit=10)
        await spool.mark_stored(first.number, stored(first))
    db = sqlite3.connect(path)
    db.execute(f"UPDATE items SET {column} WHERE number IN (1, 2)")
    db.commit()
    db.close()
    async with new_spool(path, clock) as spool:
        news = await announce_all(spool)
        await store_all(spool, fresh=False)
        news += await announce_all(spool)
        await store_all(spool, fresh=False)
        news += await announce_all(spool)
        assert 1 in seqs(news)
        assert seqs(news)[-1] == "end"
        assert spool.stats.empty
    assert list(path.parent.glob("spool.db.damaged-*")) == []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that collects the numbers of records whose bytes are read from the database."""
    numbers: list[int] = []
    real = Leases.jpeg

    def jpeg(leases: Leases, number: int) -> bytes | None:
        numbers.append(number)
        return real(leases, number)

    monkeypatch.setattr(Leases, "jpeg", jpeg)
    return numbers


async def test_a_new_record_is_leased_from_memory_and_then_from_the_disk(
    path: Path, clock: Clock, read: list[int]
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        (upload,) = await spool.take_uploads(fresh=True, limit=10)
        assert isinstance(upload, FrameUpload)
        assert read == []
        await spool.release([upload.number])
        (again,) = await spool.take_uploads(fresh=True, limit=10)
        assert isinstance(again, FrameUpload)
        assert read == [upload.number]
        assert upload.jpeg == again.jpeg == make_record(event, 0).jpeg


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the stored frames and lines that are parsed from the database."""
    texts: list[str] = []
    real = codec.load_stored, codec.load_line

    def load_stored(text: str) -> StoredFrame:
        texts.append("frame")
        return real[0](text)

    def load_line(text: str) -> dict[str, Any]:
        texts.append("line")
        return real[1](text)

    monkeypatch.setattr(codec, "load_stored", load_stored)
    monkeypatch.setattr(codec, "load_line", load_line)
    return texts


async def test_a_frame_is_announced_from_memory_as_it_would_be_from_the_disk(
    path: Path, clock: Clock, parsed: list[str]
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0, score=1 / 3), start_of(event)])
        await store_all(spool)
        ((frame,),) = await spool.take_fresh_announcements(10)
        assert parsed == []
    async with new_spool(path, clock) as spool:
        (again,) = await spool.take_backlog_announcements(10)
        assert parsed == ["frame"]
    assert isinstance(frame, FrameAnnouncement)
    assert isinstance(again, FrameAnnouncement)
    assert (frame.stored.writer, frame.stored.no) == (again.stored.writer, again.stored.no)
    assert payloads.frame_payload(frame.stored) == payloads.frame_payload(again.stored)


async def test_the_stored_frames_in_memory_are_bounded_and_end_with_their_items(
    path: Path, clock: Clock, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "MAX_STORED", 2)
    event = make_event()
    async with new_spool(path, clock) as spool:
        for _ in range(2):
            await spool.accept([make_record(event, seq) for seq in range(3)])
            await store_all(spool)
            assert seqs(await announce_all(spool)) == [0, 1, 2]
    assert parsed == ["frame"] * 2


async def test_the_lines_of_a_summary_are_parsed_once_unless_another_frame_was_stored_meanwhile(
    path: Path, clock: Clock, parsed: list[str]
) -> None:
    for index, meanwhile in enumerate((False, True)):
        event = make_event(index=index)
        async with new_spool(path, clock) as spool:
            await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event), end_of(event)])
            first, second = await spool.take_uploads(fresh=True, limit=10)
            await spool.mark_stored(first.number, stored(first))
            await spool.set_aside(second.number, "refused")
            assert seqs(await announce_all(spool)) == [0, "start"]
            (summary,) = await spool.take_uploads(fresh=True, limit=10)
            assert isinstance(summary, SummaryUpload)
            if meanwhile:
                await spool.restore()
                (second,) = await spool.take_uploads(fresh=True, limit=10)
                await spool.mark_stored(second.number, stored(second))
            parsed.clear()
            await spool.mark_stored(summary.number, None)
            assert parsed == (["line"] * 2 if meanwhile else [])
            (day,) = await spool.due_index()
            lines = [json.loads(line) for line in await spool.index_lines(day)]
            assert lines[-1]["frames"] == (2 if meanwhile else 1)
            await announce_all(spool)


async def test_the_bytes_in_memory_are_bounded(
    path: Path, clock: Clock, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "CACHE_BYTES", 10_000)
    event = make_event()
    async with new_spool(path, clock) as spool:
        for seq in range(8):
            await spool.accept([make_record(event, seq, size=3000)])
        uploads = await spool.take_uploads(fresh=True, limit=10)
        assert [item.jpeg for item in uploads if isinstance(item, FrameUpload)] == [
            make_record(event, seq, size=3000).jpeg for seq in range(8)
        ]
        assert read == [item.number for item in uploads[3:]]  # the first three fit
