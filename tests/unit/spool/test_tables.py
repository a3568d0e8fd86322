"""The tables: the states of items."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.core.items import (
    FrameAnnouncement,
    FrameUpload,
    PhaseAnnouncement,
    SummaryUpload,
)
from async_motion.core.model import EndReason, EventPhase, Phase, Record
from async_motion.spool import Spool
from tests.support.clock import BEGIN, Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import (
    announce_all,
    new_spool,
    seqs,
    store_all,
    stored,
)
from tests.support.wait import eventually_async


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

    # The start comes after the frames accepted before it, and before those accepted after it.
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


async def test_accepting_again_changes_nothing(spool: Spool) -> None:
    event = make_event()
    items: list[Record | EventPhase] = [make_record(event, 0), start_of(event)]
    for _ in range(3):
        await spool.accept(items)
    for _ in range(2):
        await spool.accept([end_of(event)])
    assert (spool.stats.records, spool.stats.phases) == (1, 2)


async def test_the_bytes_of_a_possible_snapshot_are_kept(spool: Spool) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event)])
    first, second = await spool.take_uploads(fresh=True, limit=2)
    await spool.mark_stored(first.number, stored(first))
    await spool.mark_stored(second.number, stored(second), keep_jpeg=True)
    assert await spool.jpeg(first.number) is None
    assert await spool.jpeg(second.number) == make_record(event, 1).jpeg
    (batch,) = await spool.take_fresh_announcements(10)
    assert [n.has_jpeg for n in batch if isinstance(n, FrameAnnouncement)] == [False, True]


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


@pytest.mark.parametrize(
    "retried", ["before the lease", "during the put", "before the end is announced", "after"]
)
async def test_the_summary_has_a_record_that_was_stored_late(spool: Spool, retried: str) -> None:
    event = make_event()
    await spool.accept([make_record(event, 0), make_record(event, 1), start_of(event), end_of(event)])
    refused, *_ = await spool.take_uploads(fresh=True, limit=1)
    await spool.set_aside(refused.number, "EntityTooLarge")
    await store_all(spool)
    await announce_all(spool)

    async def retry(now: str) -> None:
        if now == retried:
            assert await spool.restore() == [refused.number]
            (again,) = await spool.take_uploads(fresh=True, limit=1)
            await spool.mark_stored(again.number, stored(again))

    await retry("before the lease")
    (summary,) = await spool.take_uploads(fresh=True, limit=10)
    await retry("during the put")
    await spool.mark_stored(summary.number, None)
    await retry("before the end is announced")
    await announce_all(spool)
    await retry("after")
    await announce_all(spool)
    revisions = await store_all(spool)
    last = revisions[-1] if revisions else summary
    assert isinstance(last, SummaryUpload)
    assert [line["seq"] for line in last.lines] == [0, 1]
    assert spool.stats.empty


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
    wall = 1000.0  # 1970: the board's clock has no battery
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
        # The oldest record's grace period is over; the others are known to be younger.
        await eventually_async(lambda: spool.stats.dropped == {"age": 1}, what="the grace to be over")
