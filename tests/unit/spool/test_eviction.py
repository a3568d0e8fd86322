"""Eviction: what the spool drops at its bounds."""

from __future__ import annotations

from pathlib import Path

from async_motion.core.items import (
    FrameUpload,
)
from async_motion.spool import Spool
from async_motion.spool.schema import ROW_BYTES
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import (
    announce_all,
    new_spool,
    room_for,
    seqs,
    store_all,
    stored,
    waiting_seqs,
)
from tests.support.wait import eventually_async


async def test_the_oldest_of_the_middle_goes_first(path: Path, clock: Clock) -> None:
    event = make_event()
    # The start counts as a row.
    async with new_spool(path, clock, max_bytes=room_for(4) + ROW_BYTES) as spool:
        await spool.accept([make_record(event, 0, score=0.1), start_of(event)])
        for seq, score in ((1, 0.5), (2, 0.2), (3, 0.3), (4, 0.4)):
            await spool.accept([make_record(event, seq, score=score)])
            assert spool.stats.bytes <= spool.stats.max_bytes
        # 0 opens the event, 1 is its best: 2 was dropped.
        assert await waiting_seqs(spool) == [0, 1, 3, 4]
        assert spool.stats.dropped == {"full": 1}
        await spool.accept([make_record(event, 5, score=0.9)])
        assert await waiting_seqs(spool) == [0, 1, 4, 5]
        # 5 is the best now: 1 is a middle frame again.
        await spool.accept([make_record(event, 6, score=0.1)])
        assert await waiting_seqs(spool) == [0, 4, 5, 6]
        await spool.accept([make_record(event, 7), make_record(event, 8)])
        assert await waiting_seqs(spool) == [0, 5, 7, 8]


async def test_openers_make_room_for_openers_only(path: Path, clock: Clock) -> None:
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
        # A frame that opens an event outlives middle frames: the newest middle frame is dropped.
        await spool.accept([make_record(following, 0), start_of(following)])
        assert await waiting_seqs(spool) == [0, 1, 0]


async def test_a_frame_larger_than_the_spool_is_dropped_alone(path: Path, clock: Clock) -> None:
    event = make_event()
    async with new_spool(path, clock, max_bytes=20_000) as spool:
        await spool.accept([make_record(event, 0), start_of(event)])
        await spool.accept([make_record(event, 1, size=30_000)])
        assert spool.stats.dropped == {"too_large": 1}
        assert await waiting_seqs(spool) == [0]


async def test_leased_frames_are_not_dropped(path: Path, clock: Clock) -> None:
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
