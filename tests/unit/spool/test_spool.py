"""The spool: acceptance, order, bounds, recovery, and what it does with files and disks that are no good."""

# ruff: noqa: ASYNC240  # tests may wait for a file
from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_motion import spool as spool_package
from async_motion.core.items import (
    FrameAnnouncement,
    FrameUpload,
    News,
    PhaseAnnouncement,
    SummaryUpload,
    Upload,
)
from async_motion.core.model import EndReason, EventPhase, Phase, Record, StoredFrame
from async_motion.errors import SpoolError
from async_motion.spool import Spool, files
from async_motion.spool import leases as leases_module
from async_motion.spool import spool as spool_module
from async_motion.spool.leases import Leases
from async_motion.spool.schema import ROW_BYTES
from async_motion.spool.tables import Tables
from tests.support.delivering import BEGIN, Clock, end_of, make_event, make_record, start_of
from tests.support.wait import eventually_async


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool.db"


def new_spool(path: Path | str, clock: Clock, **more: Any) -> Spool:
    return Spool(path, clock=clock, wall=clock.wall, **more)


@pytest.fixture(params=["disk", ":memory:"])
async def spool(request: pytest.FixtureRequest, path: Path, clock: Clock) -> AsyncIterator[Spool]:
    async with new_spool(path if request.param == "disk" else request.param, clock) as spool:
        yield spool


def stored(upload: Upload) -> StoredFrame:
    assert isinstance(upload, FrameUpload)
    return StoredFrame(info=upload.info, bucket="motion", etag="e", stored_at=BEGIN)


async def store_all(spool: Spool, *, fresh: bool = True) -> list[Upload]:
    """Store whatever one lane hands out; return it."""
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


async def announce_all(spool: Spool) -> list[News]:
    """Announce whatever is ready, fresh first; return it in that order."""
    everything: list[News] = []
    while True:
        news = [n for batch in await spool.take_fresh_news(100) for n in batch]
        news += await spool.take_late_news(100)
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


# -- the walk


async def test_an_event_walks_through_in_order(spool: Spool) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event)])
    await spool.accept([make_record(event, 2, score=0.7)])
    await spool.accept([end_of(event)])
    assert (spool.stats.records, spool.stats.phases) == (3, 2)

    uploads = await spool.take_uploads(fresh=True, limit=100)
    assert seqs(uploads) == [0, 1, 2]
    assert isinstance(uploads[1], FrameUpload)
    assert uploads[1].jpeg == make_record(event, 1).jpeg
    assert uploads[1].info == make_record(event, 1).info
    assert await spool.take_uploads(fresh=True, limit=100) == []
    for upload in uploads:
        await spool.mark_stored(upload.number, stored(upload))

    # The start stands behind the frames before it; what was in its place in the line stays behind the start.
    assert seqs(await announce_all(spool)) == [0, 1, "start", 2]

    (summary,) = await spool.take_uploads(fresh=True, limit=100)
    assert isinstance(summary, SummaryUpload)
    assert [line["seq"] for line in summary.lines] == [0, 1, 2]
    assert summary.event == end_of(event).event
    await spool.mark_stored(summary.number, None)
    (end,) = await announce_all(spool)
    assert isinstance(end, PhaseAnnouncement)
    assert end.phase.phase is Phase.END
    assert end.frames_stored == 3
    assert end.best_frame == make_record(event, 2).info.object_key

    assert spool.stats.empty
    assert spool.stats.bytes == 0
    assert spool.stats.accepted == 3


async def test_a_start_without_frames_goes_at_once_and_the_end_waits_for_it(spool: Spool) -> None:
    event = make_event()
    await spool.accept([start_of(event)])
    await spool.accept([end_of(event)])
    assert await spool.take_uploads(fresh=True, limit=10) == []
    assert seqs(await announce_all(spool)) == ["start"]
    assert seqs(await store_all(spool)) == ["event.json"]
    assert seqs(await announce_all(spool)) == ["end"]
    assert spool.stats.empty


async def test_a_line_stands_still_before_what_is_not_stored(spool: Spool) -> None:
    event, other = make_event(), make_event("yard")
    await spool.accept([make_record(event, 0), start_of(event)])
    await spool.accept([make_record(event, 1)])
    await spool.accept([make_record(other, 0), start_of(other)])
    first, *rest = await spool.take_uploads(fresh=True, limit=10)
    for upload in rest:
        await spool.mark_stored(upload.number, stored(upload))
    batches = await spool.take_fresh_news(10)
    assert [n.stored.info.camera for batch in batches for n in batch if isinstance(n, FrameAnnouncement)] == [
        "yard"
    ]
    await spool.release([n.number for batch in batches for n in batch])
    await spool.mark_stored(first.number, stored(first))
    batches = await spool.take_fresh_news(10)
    assert [seqs(batch) for batch in batches] == [[0], [0]]
    # Nobody else may announce for these cameras while their frames are in somebody's hands.
    assert await spool.take_fresh_news(10) == []
    await spool.remove([n.number for batch in batches for n in batch])
    assert seqs(await announce_all(spool)) == ["start", 1, "start"]


async def test_what_is_late_lets_fresh_frames_pass(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), start_of(event)])
    clock.sleep(11)
    await spool.accept([make_record(event, 1)])
    fresh = await spool.take_uploads(fresh=True, limit=10)
    late = await spool.take_uploads(fresh=False, limit=10)
    assert (seqs(fresh), seqs(late)) == ([1], [0])
    assert late[0].late
    assert not fresh[0].late
    assert late[0].age_s == pytest.approx(11)
    await spool.mark_stored(fresh[0].number, stored(fresh[0]))
    (batch,) = await spool.take_fresh_news(10)
    assert seqs(batch) == [1]
    await spool.remove([batch[0].number])
    # The end does not stand in the way of the next event while frames of the backlog hold it up.
    following = make_event(index=60)
    await spool.accept([end_of(event), make_record(following, 0), start_of(following)])
    (upload,) = await spool.take_uploads(fresh=True, limit=10)
    await spool.mark_stored(upload.number, stored(upload))
    assert seqs(await announce_all(spool)) == [0, "start"]
    await spool.mark_stored(late[0].number, stored(late[0]))
    assert seqs(await announce_all(spool)) == [0, "start"]
    assert seqs(await store_all(spool, fresh=True)) == ["event.json"]
    assert seqs(await announce_all(spool)) == ["end"]


async def test_the_backlog_is_what_is_late_and_still_to_be_delivered(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), make_record(event, 1)])
    assert not spool.stats.backlog
    clock.sleep(11.0)
    # Nothing was written since: the next look tells all the same.
    assert await spool.take_uploads(fresh=True, limit=10) == []
    assert spool.stats.backlog
    refused, upload = await spool.take_uploads(fresh=False, limit=10)
    await spool.set_aside(refused.number, "the store refuses it")
    assert spool.stats.backlog
    await spool.mark_stored(upload.number, stored(upload))
    assert spool.stats.backlog, "it is still to be announced"
    await announce_all(spool)
    assert not spool.stats.backlog, "what was set aside waits for nobody"


async def test_a_line_stands_still_also_when_what_is_in_hands_becomes_late(
    spool: Spool, clock: Clock
) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), start_of(event)])
    clock.sleep(5)
    await spool.accept([make_record(event, 1)])
    for upload in await spool.take_uploads(fresh=True, limit=10):
        await spool.mark_stored(upload.number, stored(upload))
    (batch,) = await spool.take_fresh_news(1)
    assert seqs(batch) == [0]
    clock.sleep(6)
    # The first frame is on its way, perhaps not announced as delayed: the second must not overtake it.
    assert await spool.take_fresh_news(10) == []
    await spool.remove([batch[0].number])
    (batch,) = await spool.take_fresh_news(10)
    assert seqs(batch) == [1]


async def test_a_piece_given_back_comes_again_after_its_delay(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0)])
    (upload,) = await spool.take_uploads(fresh=True, limit=10)
    await spool.release([upload.number], 3.0)
    assert await spool.take_uploads(fresh=True, limit=10) == []
    clock.sleep(3.5)
    assert len(await spool.take_uploads(fresh=True, limit=10)) == 1
    await spool.release_all()
    assert len(await spool.take_uploads(fresh=True, limit=10)) == 1


async def test_accepting_again_changes_nothing(spool: Spool) -> None:
    event = make_event()
    items: list[Record | EventPhase] = [make_record(event, 0), start_of(event)]
    for _ in range(3):
        await spool.accept(items)
    for _ in range(2):
        await spool.accept([end_of(event)])
    assert (spool.stats.records, spool.stats.phases) == (1, 2)


async def test_calls_that_come_together_share_a_commit(spool: Spool) -> None:
    event = make_event()
    await spool.accept([start_of(event)])
    before = spool.stats.commits
    async with asyncio.TaskGroup() as tasks:
        for seq in range(40):
            tasks.create_task(spool.accept([make_record(event, seq)]), name=f"accept {seq}")
    assert spool.stats.records == 40
    assert spool.stats.commits - before < 20


async def test_work_is_called_out(spool: Spool) -> None:
    called = asyncio.Event()
    spool.on_work(called.set)
    await spool.accept([make_record(make_event(), 0)])
    await asyncio.wait_for(called.wait(), 10)


async def test_the_bytes_of_a_possible_snapshot_are_kept(spool: Spool) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event)])
    first, second = await spool.take_uploads(fresh=True, limit=2)
    await spool.mark_stored(first.number, stored(first))
    await spool.mark_stored(second.number, stored(second), keep_jpeg=True)
    assert await spool.jpeg(first.number) is None
    assert await spool.jpeg(second.number) == make_record(event, 1).jpeg
    (batch,) = await spool.take_fresh_news(10)
    assert [n.has_jpeg for n in batch if isinstance(n, FrameAnnouncement)] == [False, True]


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


async def test_a_refused_record_is_set_aside_and_stops_nothing(spool: Spool) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), start_of(event), end_of(event)])
    (upload,) = await spool.take_uploads(fresh=True, limit=10)
    await spool.set_aside(upload.number, "EntityTooLarge")
    assert (spool.stats.records, spool.stats.set_aside) == (0, 1)
    assert seqs(await announce_all(spool)) == ["start"]
    assert seqs(await store_all(spool)) == ["event.json"]
    assert seqs(await announce_all(spool)) == ["end"]
    assert spool.stats.empty
    assert spool.stats.set_aside == 1


# -- memory over restarts


async def test_what_is_forgotten_by_its_prefix(spool: Spool) -> None:
    for key in ("learned/porch", "learned/yard", "learnedly", "today/porch"):
        await spool.remember(key, b"x")
    await spool.forget("learned/", but=["learned/porch"])
    there = [
        key
        for key in ("learned/porch", "learned/yard", "learnedly", "today/porch")
        if await spool.recall(key)
    ]
    assert there == ["learned/porch", "learnedly", "today/porch"]


async def test_a_large_value_takes_no_room_that_deletions_need_and_no_acceptance_with_it(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.remember("learned/porch", b"old")
        large = bytes(200_000)
        monkeypatch.setattr(files, "is_nearly_full", lambda _path, size: size >= len(large))
        async with asyncio.TaskGroup() as tasks:  # together, so that they share a transaction
            accepting = tasks.create_task(spool.accept([make_record(event, 0), start_of(event)]))
            with pytest.raises(SpoolError, match="no space left"):
                await spool.remember("learned/porch", large, durable=False)
            await accepting
            await spool.remember("small", b"x")
        assert spool.stats.records == 1
        assert spool.stats.problem is None
        assert await spool.recall("learned/porch") == b"old"
        assert spool.stats.bytes < len(large), "it counts in no bound"


async def test_everything_is_there_after_a_restart(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event), end_of(event)])
        first = (await spool.take_uploads(fresh=True, limit=1))[0]
        await spool.mark_stored(first.number, stored(first))
        await spool.remember("detector/porch", b"\x00state")
        await spool.remember("gone", b"x")
        await spool.remember("gone", None, durable=False)
        before = spool.stats
    clock.sleep(5)
    async with new_spool(path, clock) as spool:
        assert (spool.stats.records, spool.stats.phases, spool.stats.bytes) == (
            before.records,
            before.phases,
            before.bytes,
        )
        assert spool.stats.oldest_age_s == pytest.approx(5)
        assert await spool.recall("detector/porch") == b"\x00state"
        assert await spool.recall("gone") is None
        assert await spool.take_uploads(fresh=True, limit=10) == []
        (upload,) = await spool.take_uploads(fresh=False, limit=10)
        assert seqs([upload]) == [1]
        news = await spool.take_late_news(10)
        assert seqs(news) == [0]
        assert news[0].late


async def test_an_event_without_its_end_is_closed_as_interrupted(path: Path, clock: Clock) -> None:
    event, quiet = make_event(), make_event("yard")
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), start_of(event), make_record(event, 4, score=0.9)])
        await spool.accept([start_of(quiet)])
    async with new_spool(path, clock) as spool:
        await store_all(spool, fresh=False)
        news = await announce_all(spool)
        await store_all(spool)
        news += await announce_all(spool)
    phases = [n.phase for n in news if isinstance(n, PhaseAnnouncement)]
    ends = [phase.event for phase in phases if phase.phase is Phase.END]
    by_camera = {end.camera: end for end in ends}
    assert by_camera["porch"].end_reason is EndReason.INTERRUPTED
    assert by_camera["porch"].ended_at == make_record(event, 4).info.captured_at
    assert by_camera["porch"].peak_score == 0.9
    assert by_camera["yard"].ended_at == quiet.started_at
    async with new_spool(path, clock) as spool:
        assert spool.stats.empty


async def test_numbers_are_never_used_twice(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        (upload,) = await spool.take_uploads(fresh=True, limit=1)
        await spool.mark_stored(upload.number, stored(upload))
        await announce_all(spool)
        assert spool.stats.empty
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 1)])
        (again,) = await spool.take_uploads(fresh=True, limit=1)
        assert again.number > upload.number


async def test_a_wall_clock_that_jumps_ends_nothing_by_itself(path: Path, clock: Clock) -> None:
    event = make_event()
    wall = 1000.0  # 1970: the board has no battery
    async with Spool(path, clock=clock, wall=lambda: wall) as spool:
        await spool.accept([make_record(event, 0)])
    wall = BEGIN.timestamp()
    async with Spool(path, clock=clock, wall=lambda: wall) as spool:
        assert spool.stats.oldest_age_s == pytest.approx(7 * 86400 - 3600)
        await spool.accept([make_record(event, 1)])
        assert spool.stats.records == 2
    wall -= 86400
    async with Spool(path, clock=clock, wall=lambda: wall) as spool:
        await spool.accept([make_record(event, 2)])
        assert spool.stats.records == 3
    wall += 400 * 86400
    async with Spool(path, clock=clock, wall=lambda: wall) as spool:
        await spool.accept([make_record(event, 3)])
        assert spool.stats.records == 4
        clock.sleep(3601)
        # The oldest had its grace; of the others it is known that they are younger.
        await eventually_async(lambda: spool.stats.dropped == {"age": 1}, what="the grace to be over")


# -- bounds


def room_for(records: int, size: int = 3000) -> int:
    return records * (size + ROW_BYTES)


async def test_the_oldest_of_the_middle_goes_first(path: Path, clock: Clock) -> None:
    event = make_event()
    # The start counts as a row.
    async with new_spool(path, clock, max_bytes=room_for(4) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.1), start_of(event)])
        for seq, score in ((1, 0.5), (2, 0.2), (3, 0.3), (4, 0.4)):
            await spool.accept([make_record(event, seq, score=score)])
            assert spool.stats.bytes <= spool.stats.max_bytes
        # 0 opens the event, 1 is its best: 2 went.
        assert await waiting_seqs(spool) == [0, 1, 3, 4]
        assert spool.stats.dropped == {"full": 1}
        await spool.accept([make_record(event, 5, score=0.9)])
        assert await waiting_seqs(spool) == [0, 1, 4, 5]
        # 5 is the best now: 1 is of the middle again.
        await spool.accept([make_record(event, 6, score=0.1)])
        assert await waiting_seqs(spool) == [0, 4, 5, 6]
        await spool.accept([make_record(event, 7), make_record(event, 8)])
        assert await waiting_seqs(spool) == [0, 5, 7, 8]


async def test_openers_give_way_to_openers_only(path: Path, clock: Clock) -> None:
    async with new_spool(path, clock, max_bytes=room_for(2) + 5 * ROW_BYTES) as spool:
        events = [make_event(index=index) for index in range(3)]
        for event in events[:2]:
            await spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        await spool.accept([make_record(events[1], 1, score=0.1)])
        await spool.accept([make_record(events[1], 2, score=0.1)])
        uploads = await spool.take_uploads(fresh=True, limit=10)
        assert [u.info.event_id for u in uploads if isinstance(u, FrameUpload)][:2] == [
            e.event_id for e in events[:2]
        ]
        dropped = spool.stats.dropped["full"]
        await spool.release([u.number for u in uploads])
        await spool.accept([make_record(events[2], 0, score=0.5, size=5000), start_of(events[2])])
        uploads = await spool.take_uploads(fresh=True, limit=10)
        assert [u.info.event_id for u in uploads if isinstance(u, FrameUpload)] == [
            e.event_id for e in events[1:]
        ]
        assert spool.stats.dropped["full"] > dropped


async def test_drop_newest_keeps_what_is_there(path: Path, clock: Clock) -> None:
    event, following = make_event(), make_event(index=60)
    async with new_spool(
        path, clock, max_bytes=room_for(3) + 2 * ROW_BYTES, when_full="drop_newest"
    ) as spool:
        await spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        for seq in range(1, 6):
            await spool.accept([make_record(event, seq, score=0.1)])
        assert await waiting_seqs(spool) == [0, 1, 2]
        assert spool.stats.dropped == {"full": 3}
        # A frame that opens an event outlives the middle of one: the newest of it goes.
        await spool.accept([make_record(following, 0), start_of(following)])
        assert await waiting_seqs(spool) == [0, 1, 0]


async def test_a_frame_larger_than_the_spool_is_dropped_alone(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock, max_bytes=20_000) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        await spool.accept([make_record(event, 1, size=30_000)])
        assert spool.stats.dropped == {"too_large": 1}
        assert await waiting_seqs(spool) == [0]


async def test_frames_in_the_hands_of_delivery_are_not_dropped(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock, max_bytes=room_for(3) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        await spool.accept([make_record(event, 1), make_record(event, 2)])
        taken = await spool.take_uploads(fresh=True, limit=2)
        assert seqs(taken) == [0, 1]
        await spool.accept([make_record(event, 3), make_record(event, 4)])
        assert seqs(await spool.take_uploads(fresh=True, limit=10)) == [4]


async def test_records_set_aside_and_bytes_of_stored_frames_go_before_records(
    path: Path, clock: Clock
) -> None:
    event = make_event()
    async with new_spool(path, clock, max_bytes=room_for(3) + 3 * ROW_BYTES) as spool:
        await spool.accept(
            [make_record(event, 0), make_record(event, 1), make_record(event, 2), start_of(event)]
        )
        uploads = await spool.take_uploads(fresh=True, limit=2)
        await spool.set_aside(uploads[0].number, "refused")
        await spool.mark_stored(uploads[1].number, stored(uploads[1]), keep_jpeg=True)
        await spool.accept([make_record(event, 3)])
        assert spool.stats.set_aside == 0
        assert spool.stats.dropped == {"full_aside": 1}
        await spool.accept([make_record(event, 4)])
        assert await spool.jpeg(uploads[1].number) is None
        assert spool.stats.dropped == {"full_aside": 1}
        assert await waiting_seqs(spool) == [2, 3, 4]


async def test_what_is_too_old_goes_and_its_event_goes_on(spool: Spool, clock: Clock) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), start_of(event)])
    clock.sleep(7 * 86400 - 1)
    await spool.accept([make_record(event, 1), end_of(event)])
    assert spool.stats.records == 2
    clock.sleep(2)
    await eventually_async(lambda: spool.stats.records == 1, what="the old record to go")
    assert spool.stats.dropped == {"age": 1, "age_phase": 1}
    assert seqs(await store_all(spool)) == [1]
    assert seqs(await announce_all(spool)) == [1]
    assert seqs(await store_all(spool)) == ["event.json"]
    assert seqs(await announce_all(spool)) == ["end"]
    assert spool.stats.empty


async def test_drops_are_reported_once_and_then_summed_up(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event = make_event()
    async with new_spool(path, clock, max_bytes=room_for(2) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.9), start_of(event)])
        for seq in range(1, 21):
            await spool.accept([make_record(event, seq)])
        assert len([r for r in caplog.records if "dropping records" in r.message]) == 1
        clock.sleep(61)
        await spool.accept([make_record(event, 21)])
        assert "still dropping records: full: 19 more" in caplog.text
        clock.sleep(61)
        await eventually_async(lambda: "drops no more records" in caplog.text, what="the end of the drops")


async def test_space_goes_back_to_the_file_system(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event)])
        for seq in range(80):
            await spool.accept([make_record(event, seq, size=200_000)])
        await store_all(spool)
        await announce_all(spool)
        # Less than half of what it held: 4 MiB are kept for the next records.
        await eventually_async(
            lambda: path.stat().st_size < 8_000_000 and wal_of(path).stat().st_size < 17_000_000,
            what="the file to shrink",
        )


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


# -- trouble


async def test_one_process_at_a_time(path: Path, clock: Clock) -> None:
    async with new_spool(path, clock):
        with pytest.raises(SpoolError, match=rf"in use by another async_motion \(process {os.getpid()}\)"):
            await new_spool(path, clock).open()
    async with new_spool(path, clock) as spool:
        assert spool.stats.empty


async def test_a_path_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError) as caught:
        await new_spool(tmp_path / "file" / "spool.db", clock).open()
    assert "spool.db: cannot be written" in str(caught.value)
    assert "choose another spool.path" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_folder_in_place_of_the_file(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(SpoolError, match="cannot be written"):
        await new_spool(tmp_path / "spool.db", clock).open()


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match="another program"):
        await new_spool(path, clock).open()
    assert path.read_bytes()[100:] == before[100:]  # the header notes that we looked with a WAL
    assert [p.name for p in tmp_path.glob("other.db.damaged*")] == []


async def test_a_newer_spool_is_set_aside(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    async with new_spool(path, clock) as spool:
        assert spool.stats.empty
        await spool.accept([make_record(event, 1)])
    assert "was written by a newer version" in caplog.text
    (aside,) = path.parent.glob("spool.db.newer-*")
    assert spool_package.look(path).set_aside_spools == (aside,)


@pytest.mark.parametrize("harm", ["header", "middle", "nonsense", "empty"])
async def test_a_damaged_spool_is_set_aside_and_a_fresh_one_begins(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([start_of(event), *(make_record(event, seq) for seq in range(20))])
    content = bytearray(path.read_bytes())
    if harm == "header":
        content[:100] = bytes(100)
    elif harm == "middle":
        content[8192 : 8192 * 12] = os.urandom(8192 * 11)
    else:
        content = bytearray(b"not a database at all" * 1000 if harm == "nonsense" else b"")
    path.write_bytes(content)
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 100)])
        assert 100 in await waiting_seqs(spool)
        assert spool.stats.records == 1
    kept = list(path.parent.glob("spool.db.damaged-*"))
    if harm == "empty":
        assert kept == []
    else:
        assert len(kept) == 1
        assert "is damaged" in caplog.text
        assert kept[0].read_bytes()[8192:50_000] == content[8192:50_000]


async def test_damage_met_at_work_does_not_stop_acceptance(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    broken = sqlite3.DatabaseError("database disk image is malformed")
    broken.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        (upload,) = await spool.take_uploads(fresh=True, limit=1)

        def fail(*_: object) -> None:
            raise broken

        with monkeypatch.context() as patched:
            patched.setattr(Tables, "accept", fail)
            with pytest.raises(SpoolError, match="was damaged and is set aside"):
                await spool.accept([make_record(event, 1)])
        await spool.accept([make_record(event, 1)])
        # What delivery still says about the old file's record does not touch the new one's.
        await spool.mark_stored(upload.number, stored(upload))
        assert await waiting_seqs(spool) == [1]
    assert len(list(path.parent.glob("spool.db.damaged-*"))) == 1


async def test_no_more_than_two_damaged_spools_are_kept(path: Path, clock: Clock) -> None:
    for _ in range(4):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nonsense" * 5000)
        async with new_spool(path, clock):
            clock.sleep(1)
    assert len(list(path.parent.glob("spool.db.damaged-*"))) == files.KEPT_DAMAGED


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


async def test_a_bug_in_the_thread_reaches_whoever_waits(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    async with new_spool(path, clock) as spool:
        monkeypatch.setattr(Tables, "accept", bug)
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(_meets_a_bug(spool, make_record(make_event(), seq)), name=f"{seq}")
                for seq in range(3)
            ]
        assert all(task.result() for task in waiting)
        assert await _meets_a_bug(spool, make_record(make_event(), 9))


async def _meets_a_bug(spool: Spool, record: Record) -> bool:
    try:
        await spool.accept([record])
    except ZeroDivisionError:
        return True
    return False


async def test_a_full_disk_refuses_records_but_takes_deletions(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event = make_event()
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(files, "is_nearly_full", lambda *_: True)
            for _ in range(3):
                with pytest.raises(SpoolError, match="no space left on its disk"):
                    await spool.accept([make_record(event, 1)])
            assert spool.stats.problem is not None
            async with asyncio.TaskGroup() as tasks:  # in one transaction, of which only the note holds
                accepting = tasks.create_task(_refused(spool, make_record(event, 1)), name="accept")
                (upload,) = await spool.take_uploads(fresh=True, limit=1)
                await spool.mark_stored(upload.number, stored(upload))
            assert accepting.result()
            assert seqs(await announce_all(spool)) == [0]
        await spool.accept([make_record(event, 2)])
        assert await waiting_seqs(spool) == [2]
        assert spool.stats.problem is None
    assert caplog.text.count("no space left") == 1
    assert "takes records again" in caplog.text


async def _refused(spool: Spool, record: Record) -> bool:
    try:
        await spool.accept([record])
    except SpoolError:
        return True
    return False


async def test_a_failed_fsync_is_followed_by_a_checkpoint(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event()
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"

    def fail(*_: object) -> None:
        raise error

    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "accept", fail)
            with pytest.raises(SpoolError, match="the disk fails \\(SQLITE_IOERR_FSYNC\\)"):
                await spool.accept([make_record(event, 1)])
        size = path.stat().st_size
        assert wal_of(path).stat().st_size > 0
        await spool.accept([make_record(event, 2)])
        # Checkpointed before: the record is in the log's first pages, all before it in the database.
        assert path.stat().st_size > size
        assert await waiting_seqs(spool) == [0, 2]


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_exit(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, begun, real = threading.Event(), threading.Event(), Tables.accept

    def hang(tables: Tables, items: Any) -> None:
        begun.set()
        hangs.wait(60)
        real(tables, items)

    event = make_event()
    spool = new_spool(path, clock, accept_timeout_s=0.5)
    await spool.open()
    await spool.accept([make_record(event, 0)])
    monkeypatch.setattr(Tables, "accept", hang)
    with pytest.raises(SpoolError, match=r"has not answered for 0\.5 s"):
        await spool.accept([make_record(event, 1)])
    assert begun.is_set()
    with pytest.raises(SpoolError, match="has not answered"):
        await spool.accept([make_record(event, 2)])
    await spool.aclose(timeout_s=0.05)
    assert "does not answer" in caplog.text
    hangs.set()
    await spool.aclose()
    async with new_spool(path, clock) as spool:
        # The second was given up before it began, and stays so; of the first nobody knew.
        assert await waiting_seqs(spool) == [0, 1]


async def test_a_closed_spool_says_so(path: Path, clock: Clock) -> None:
    spool = new_spool(path, clock)
    with pytest.raises(SpoolError, match="closed"):
        await spool.accept([])
    await spool.aclose()


async def test_memory_leaves_no_trace(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    event = make_event()
    async with new_spool(":memory:", clock, max_bytes=room_for(2) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        for seq in range(1, 9):
            await spool.accept([make_record(event, seq)])
        assert await waiting_seqs(spool) == [0, 8]
        assert spool.stats.bytes <= spool.stats.max_bytes
    assert list(tmp_path.iterdir()) == []
    async with new_spool(":memory:", clock) as spool:
        assert spool.stats.empty


# -- the command


async def test_looking_retrying_and_exporting_beside_the_service(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    event, other = make_event(), make_event("yard")
    async with new_spool(path, clock) as spool:
        await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event)])
        await spool.accept([make_record(other, 0)])
        first, second, _ = await spool.take_uploads(fresh=True, limit=10)
        await spool.set_aside(first.number, "EntityTooLarge: 3000 bytes")
        await spool.mark_stored(second.number, stored(second))

        report = spool_package.look(path)
        assert report.records == 2
        porch, yard = report.waiting
        assert (porch.camera, porch.to_store, porch.to_announce, porch.phases) == ("porch", 0, 1, 1)
        assert (yard.camera, yard.to_store) == ("yard", 1)
        (aside,) = report.aside
        assert (aside.info, aside.reason) == (make_record(event, 0).info, "EntityTooLarge: 3000 bytes")
        assert report.file_bytes > 0

        out = tmp_path / "out"
        assert {f.relative_to(out).as_posix() for f in spool_package.export(path, out)} == {
            make_record(event, 0).info.object_key,
            make_record(other, 0).info.object_key,
        }
        (only,) = spool_package.export(path, out, aside_only=True)
        assert only.read_bytes() == make_record(event, 0).jpeg

        assert spool_package.retry(path, [999]) == 0
        assert spool_package.retry(path) == 1
        await eventually_async(lambda: spool.stats.set_aside == 0, what="the service to notice")
        assert spool.stats.records == 3
        (again,) = await spool.take_uploads(fresh=True, limit=10)
        assert again.number == first.number


def test_looking_at_what_is_no_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        spool_package.look(tmp_path / "none.db")
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(SpoolError, match="is not a spool"):
        spool_package.look(tmp_path / "other.db")
    (tmp_path / "noise.db").write_bytes(b"noise" * 2000)
    with pytest.raises(SpoolError):
        spool_package.look(tmp_path / "noise.db")


async def test_an_export_never_leaves_its_folder(path: Path, tmp_path: Path, clock: Clock) -> None:
    record = make_record(make_event(), 0)
    async with new_spool(path, clock) as spool:
        await spool.accept([replace(record, info=replace(record.info, object_key="../../escaped.jpg"))])
    with pytest.raises(SpoolError, match="leads out of"):
        list(spool_package.export(path, tmp_path / "out"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the records whose bytes are read from the database, as they are read."""
    numbers: list[int] = []
    real = Leases.jpeg

    def jpeg(lanes: Leases, number: int) -> bytes | None:
        numbers.append(number)
        return real(lanes, number)

    monkeypatch.setattr(Leases, "jpeg", jpeg)
    return numbers


async def test_a_new_record_is_handed_out_from_memory_and_then_from_the_disk(
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


async def waiting_for_company(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    """Return an acceptance that has been asked for and is not committed until the spool is closed."""
    monkeypatch.setattr(spool_module, "GROUP_S", 3600.0)
    accepting = asyncio.create_task(spool.accept([make_record(make_event(), 0)]), name="accept")
    await asyncio.sleep(0)
    return accepting


async def test_who_only_looks_does_not_wait_with_an_acceptance_for_company(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting = await waiting_for_company(spool, monkeypatch)
    async with asyncio.timeout(20):
        assert await spool.take_uploads(fresh=True, limit=10) == [], "what is not committed is not handed out"
    assert not accepting.done()
    await spool.aclose()
    await accepting


async def test_a_bug_in_a_look_reaches_who_looked_and_all_others(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting = await waiting_for_company(spool, monkeypatch)
    monkeypatch.setattr(Leases, "take_late_news", lambda *_: 1 // 0)
    async with asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError):
            await spool.take_late_news(1)
        with pytest.raises(ZeroDivisionError):
            await accepting


async def test_the_bytes_in_memory_are_bounded(
    path: Path, clock: Clock, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "WARM_BYTES", 10_000)
    event = make_event()
    async with new_spool(path, clock) as spool:
        for seq in range(8):
            await spool.accept([make_record(event, seq, size=3000)])
        uploads = await spool.take_uploads(fresh=True, limit=10)
        assert [item.jpeg for item in uploads if isinstance(item, FrameUpload)] == [
            make_record(event, seq, size=3000).jpeg for seq in range(8)
        ]
        assert read == [item.number for item in uploads[3:]]  # the first three fit


async def test_a_deleted_picture_is_not_written_once_more(path: Path, clock: Clock) -> None:
    async with new_spool(path, clock):
        pass
    db = files.connect(path)
    assert db.execute("PRAGMA secure_delete").fetchone() == (0,)
    db.close()
