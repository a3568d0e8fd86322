"""Rejections: the record's fault or the store's, the consequences, and the return of set-aside records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_motion.core.health import PeerState
from async_motion.delivery.rejections import FORGET_S, IN_A_ROW, Rejections
from async_motion.errors import RecordRejected
from tests.support.clock import Clock
from tests.support.delivering import QUICK, Bench
from tests.support.records import make_event, make_record
from tests.support.wait import eventually_async

TOO_LARGE = RecordRejected("a.jpg: HTTP 413", reason="HTTP 413")


def is_frame(key: str) -> bool:
    return key.endswith(".jpg")


def test_a_row_for_one_reason_is_the_stores() -> None:
    rejections = Rejections(Clock())
    assert rejections.add(1, "HTTP 413") is None
    assert rejections.add(2, "HTTP 413") is None
    assert rejections.add(3, "HTTP 413") == [1, 2]
    assert rejections.blames_store
    assert rejections.add(4, "HTTP 413") == []


def test_other_reasons_and_repeats_make_no_row() -> None:
    rejections = Rejections(Clock())
    for number, reason in enumerate(["a", "b"] * 5):
        assert rejections.add(number, reason) is None
    for _ in range(5):
        assert rejections.add(77, "c") is None


def test_a_stored_frame_ends_a_row_and_makes_the_next_one_longer() -> None:
    clock = Clock()
    rejections = Rejections(clock)
    for number in range(IN_A_ROW):
        rejections.add(number, "HTTP 413")
    rejections.stored()
    assert not rejections.blames_store
    for number in range(10, 10 + 2 * IN_A_ROW - 1):
        assert rejections.add(number, "HTTP 413") is None
    assert rejections.add(99, "HTTP 413") is not None
    rejections.stored()
    clock.sleep(FORGET_S + 1)
    assert [rejections.add(number, "HTTP 413") for number in (1, 2)] == [None, None]
    assert rejections.add(3, "HTTP 413") == [1, 2]


async def test_a_store_that_rejects_every_frame_is_in_trouble_and_loses_none(bench: Bench) -> None:
    """Behave like nginx with a limit of 1 MiB: `event.json` and probes pass."""
    bench.store.trouble = lambda key: TOO_LARGE if is_frame(key) else None
    for index in range(3):
        await bench.accept_event(3, index=index * 60)
    async with bench.delivering(concurrency=2) as delivery:
        await eventually_async(lambda: not delivery.health().store.ok, what="the store to be blamed")
        assert delivery.health().store.state is PeerState.REFUSED
        assert "HTTP 413" in (delivery.health().store.problem or "")
        tries = len(bench.store.puts)
        await eventually_async(lambda: len(bench.store.puts) > tries + 5, what="some trials")
        assert bench.spool.stats.set_aside == 0
        assert bench.spool.stats.records == 9
        assert bench.store.probes == 0, "a probe would tell nothing"
        bench.store.trouble = lambda _: None
        assert await delivery.drain(20)
        assert delivery.health().store.ok
    assert len(bench.announced()) == 9


async def test_a_summary_that_passes_does_not_clear_the_store(bench: Bench) -> None:
    bench.store.trouble = lambda key: TOO_LARGE if is_frame(key) else None
    async with bench.delivering(concurrency=2) as delivery:
        await bench.accept_event(3)
        await eventually_async(lambda: not delivery.health().store.ok, what="the store to be blamed")
        await bench.accept_event(1, "yard")
        await bench.accept_event(2, index=60)
        for _ in range(3):
            tries = len(bench.store.puts)
            await eventually_async(lambda: len(bench.store.puts) > tries + 3, what="trials")  # noqa: B023
            assert bench.spool.stats.set_aside == 0
        bench.store.trouble = lambda _: None


async def test_frames_at_fault_stop_the_others_only_for_a_moment(bench: Bench) -> None:
    """Fifty frames that are too large wait before another camera's frame, and the clock stands still."""
    bench.store.trouble = lambda key: TOO_LARGE if "/yard/" in key and is_frame(key) else None
    event = make_event("yard")
    for seq in range(50):
        await bench.spool.accept([make_record(event, seq)])
    await bench.accept_event(1, "porch")
    async with bench.delivering(concurrency=1):
        await eventually_async(lambda: bench.announced("porch") == [0], what="the other camera's frame")
    assert bench.announced("yard") == []


async def test_when_only_suspects_are_left_they_are_retried(bench: Bench) -> None:
    bench.store.trouble = lambda key: TOO_LARGE if is_frame(key) else None
    await bench.accept_event(4)
    async with bench.delivering(concurrency=1) as delivery:
        await eventually_async(lambda: not delivery.health().store.ok, what="the store to be blamed")
        for seq in range(4):  # each is retried repeatedly, though the tests' clock stands still
            key = next(k for k in bench.store.puts if k.endswith(f"{seq:06d}.jpg"))
            tries = bench.store.puts.count(key)
            await eventually_async(lambda: bench.store.puts.count(key) > tries + 1, what="a turn")  # noqa: B023
        assert bench.spool.stats.set_aside == 0
        bench.store.trouble = lambda _: None
        assert await delivery.drain(20)
    assert len(bench.announced()) == 4


async def test_what_was_set_aside_comes_back_by_itself_once_the_reason_has_gone(bench: Bench) -> None:
    bench.store.trouble = lambda key: TOO_LARGE if key.endswith(("000001.jpg", "000003.jpg")) else None
    await bench.accept_event(5)
    pace = replace(QUICK, aside_first_s=0.02, aside_max_s=0.02)
    async with bench.delivering(pace=pace) as delivery:
        await eventually_async(lambda: len(bench.announced()) == 3, what="the others")
        await eventually_async(lambda: bench.spool.stats.set_aside, what="them to be set aside")
        bench.store.trouble = lambda _: None
        await eventually_async(lambda: len(bench.announced()) == 5, what="those that were set aside")
        assert await delivery.drain(20)
    assert bench.spool.stats.set_aside == 0
    assert bench.spool.stats.alarm is None


async def test_what_is_set_aside_is_an_alarm(bench: Bench) -> None:
    bench.store.trouble = lambda key: TOO_LARGE if key.endswith("000001.jpg") else None
    await bench.accept_event(3)
    assert bench.spool.stats.alarm is None
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    assert bench.spool.stats.alarm == "records set aside: 1 (HTTP 413)"
    assert bench.spool.stats.problem is None


async def test_while_the_reason_stands_one_record_of_each_is_tried(bench: Bench) -> None:
    bench.store.trouble = lambda key: TOO_LARGE if key.endswith(("000001.jpg", "000003.jpg")) else None
    await bench.accept_event(5)
    pace = replace(QUICK, aside_first_s=0.05, aside_max_s=0.05)
    async with bench.delivering(pace=pace):
        await eventually_async(lambda: bench.spool.stats.set_aside == 2, what="both to be set aside")
        bench.store.puts.clear()
        await eventually_async(lambda: len(list(filter(is_frame, bench.store.puts))) >= 3, what="tries")
        assert len(set(filter(is_frame, bench.store.puts))) == 1, "the oldest stands for its reason"


@pytest.mark.parametrize("durable", [True, False])
async def test_unreadable_records_are_not_tried_again(bench: Bench, durable: bool) -> None:
    record = make_record(make_event(), 0)
    await bench.spool.accept([record])
    (upload,) = await bench.spool.take_uploads(fresh=True, limit=1)
    await bench.spool.set_aside(upload.number, "cannot be read back", unreadable=durable)
    assert bench.spool.stats.set_aside == 1
    restored = await bench.spool.restore_samples()
    assert restored == ({} if durable else {upload.number: "cannot be read back"})
