"""The uploader: slots, leases, rejections by the store, summaries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

import pytest

from async_motion.core.items import FrameUpload
from async_motion.core.model import StoredFrame
from async_motion.errors import (
    RecordRejected,
    SpoolError,
    StoreUnavailable,
)
from tests.support.delivering import Bench, failing
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.wait import eventually_async


async def test_the_summary_is_there_when_the_end_is_announced(bench: Bench) -> None:
    seen: list[bool] = []

    def check(topic: str, payload: bytes) -> None:
        if topic.endswith("/event") and json.loads(payload)["type"] == "end":
            seen.append(any(key.endswith("/event.json") for key in bench.store.objects))

    bench.broker.check = check
    await bench.accept_event(2)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    assert seen == [True]


async def test_an_event_without_frames_has_a_summary_too(bench: Bench) -> None:
    event = make_event()
    await bench.spool.accept([start_of(event), end_of(event)])
    async with bench.delivering(prefix="cams/") as delivery:
        assert await delivery.drain(20)
    (key,) = bench.store.objects
    assert key == f"cams/edge1/porch/2026/11/22/{event.event_id}/event.json"
    assert [e["best_frame"] for e in bench.broker.events] == [None, None]


async def test_on_stored_is_called_for_each_frame(bench: Bench) -> None:
    seen: list[StoredFrame] = []
    records = await bench.accept_event(3)
    async with bench.delivering() as delivery:
        delivery.on_stored(seen.append)
        assert await delivery.drain(20)
    assert [s.info for s in seen] == [r.info for r in records]


async def test_uploads_are_bounded_and_concurrent(bench: Bench) -> None:
    bench.store.hold = asyncio.Event()
    await bench.accept_event(20)
    async with bench.delivering(concurrency=4) as delivery:
        await eventually_async(lambda: bench.store.busy == 4, what="four uploads")
        bench.store.hold.set()
        assert await delivery.drain(20)
    assert bench.store.max_busy == 4


@pytest.mark.parametrize("delayed", [False, True])
async def test_no_more_records_are_leased_while_no_note_can_be_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, delayed: bool
) -> None:
    real, failures, writable = bench.spool.mark_stored, 0, False

    async def mark_stored(*what: Any, **how: Any) -> None:
        nonlocal failures
        if not writable:
            failures += 1
            raise SpoolError("the disk is read-only")
        await real(*what, **how)

    monkeypatch.setattr(bench.spool, "mark_stored", mark_stored)
    await bench.accept_event(30)
    if delayed:
        bench.clock.sleep(11)
    async with bench.delivering(concurrency=2) as delivery:
        # Each of at most four notes is retried: after this many failures, all allowed leases are taken.
        await eventually_async(lambda: failures >= 100, what="many tries")
        assert 2 <= len(bench.store.puts) <= 4
        writable = True
        assert await delivery.drain(20)
    assert sorted(bench.announced()) == list(range(30))
    assert len(set(bench.store.puts)) == len(bench.store.puts)


async def test_uploads_leased_ahead_are_released_when_the_store_fails(bench: Bench) -> None:
    bench.store.trouble = failing(1, StoreUnavailable("503", retry_after_s=0.3))
    await bench.accept_event(3)
    async with bench.delivering(concurrency=1) as delivery:
        await eventually_async(lambda: delivery.health().retries == 1, what="the first try")
        again = await bench.spool.take_uploads(fresh=True, limit=10)
        assert 1 in [item.info.seq for item in again if isinstance(item, FrameUpload)]
        assert len(bench.store.puts) == 1
        await bench.spool.release([item.number for item in again])
        assert await delivery.drain(20)
    assert bench.announced() == [0, 1, 2]


async def test_an_upload_being_leased_when_the_store_fails_does_not_begin(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store.hold, taken = asyncio.Event(), asyncio.Event()
    bench.store.trouble = failing(1, StoreUnavailable("503", retry_after_s=3600.0))
    await bench.accept_event(1)
    take, release = bench.spool.take_uploads, bench.spool.release
    in_hand: list[int] = []
    released: list[int] = []

    async def slow_take(**how: Any) -> Any:
        found = await take(**how)
        in_hand.extend(item.number for item in found)
        if found:
            await taken.wait()
        return found

    async def noted_release(numbers: Collection[int], delay_s: float = 0.0) -> None:
        await release(numbers, delay_s)
        released.extend(numbers)

    monkeypatch.setattr(bench.spool, "release", noted_release)
    async with bench.delivering(concurrency=2) as delivery:
        await eventually_async(lambda: bench.store.busy == 1, what="the first upload")
        monkeypatch.setattr(bench.spool, "take_uploads", slow_take)
        await bench.accept_event(1, index=1)
        await eventually_async(lambda: in_hand, what="the second one on its way")
        bench.store.hold.set()
        await eventually_async(lambda: delivery.health().retries == 1, what="the failure")
        taken.set()
        await eventually_async(lambda: in_hand[0] in released, what="its way back")
    assert len(bench.store.puts) == 1


async def test_the_next_upload_begins_as_soon_as_one_is_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store.hold = asyncio.Event()
    await bench.accept_event(3)
    async with bench.delivering(concurrency=1):
        await eventually_async(lambda: bench.store.busy == 1, what="the first upload")
        monkeypatch.setattr(bench.spool, "take_uploads", lambda **_: asyncio.Event().wait())
        bench.store.hold.set()
        await eventually_async(lambda: len(bench.store.puts) == 2, what="the second one")


async def test_a_rejected_record_is_set_aside_and_stops_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store.trouble = lambda key: RecordRejected("EntityTooLarge") if "000001" in key else None
    await bench.accept_event(4)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
        assert delivery.health().set_aside == 1
    assert bench.announced() == [0, 2, 3]
    assert bench.spool.stats.set_aside == 1
    assert "is set aside: EntityTooLarge" in caplog.text
    assert bench.broker.events[-1]["frames_stored"] == 3


async def test_a_rejected_summary_does_not_hold_up_the_end(bench: Bench) -> None:
    bench.store.trouble = lambda key: RecordRejected("no JSON here") if "event.json" in key else None
    await bench.accept_event(2)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    assert bench.broker.events[-1]["type"] == "end"


async def test_a_store_that_never_answers_meets_a_deadline(bench: Bench) -> None:
    bench.store.hold = asyncio.Event()
    await bench.accept_event(1)
    async with bench.delivering(put_timeout_s=0.05) as delivery:
        await eventually_async(lambda: "no answer" in str(delivery.health().store), what="the deadline")
        bench.store.hold.set()
        assert await delivery.drain(20)


async def test_a_large_frame_has_more_time(bench: Bench) -> None:
    bench.store.hold = asyncio.Event()
    event = make_event()
    await bench.spool.accept([make_record(event, 0, size=2 * 1024**2 + 1), start_of(event)])
    async with bench.delivering(put_timeout_s=0.5) as delivery:
        await eventually_async(lambda: "no answer" in str(delivery.health().store), what="the deadline")
        assert "no answer within 1.5 s" in str(delivery.health().store)
        bench.store.hold.set()
        assert await delivery.drain(20)


async def test_with_one_slot_or_no_share_the_backlog_still_drains(bench: Bench) -> None:
    await bench.accept_event(3)
    bench.clock.sleep(100)
    async with bench.delivering(concurrency=1, backlog_share=0.0) as delivery:
        assert await delivery.drain(20)
    assert sorted(bench.announced()) == [0, 1, 2]
