"""Snapshots: which frame a camera shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from async_motion.core.items import FrameAnnouncement
from async_motion.core.names import Topics
from async_motion.delivery.snapshots import Snapshots, parse_announcements
from async_motion.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ImageError,
)
from tests.support.delivering import BASE, Bench
from tests.support.records import end_of, make_event, make_record, start_of, stored_of
from tests.support.wait import eventually_async


async def test_the_snapshot_is_the_best_frame_so_far_of_the_newest_event(bench: Bench) -> None:
    first, second = make_event(), make_event(index=60)
    async with bench.delivering(shrink=lambda jpeg: b"small" + jpeg[:8]) as delivery:
        for event, seq, score in (
            (first, 0, 0.3),
            (first, 1, 0.2),
            (first, 2, 0.5),
            (second, 0, 0.1),
            (first, 3, 0.9),  # an older event by now
            (second, 1, 0.2),
        ):
            items: list[Any] = [make_record(event, seq, score=score)]
            await bench.spool.accept(items + ([start_of(event)] if seq == 0 else []))
            assert await delivery.drain(20)
    shown = [(f["event_id"], f["seq"]) for f in bench.broker.json_of("/snapshot/frame")]
    assert shown == [(first.event_id, 0), (first.event_id, 2), (second.event_id, 0), (second.event_id, 1)]
    topics = [t.removeprefix(f"{BASE}/porch/") for t, _, _ in bench.broker.messages]
    assert topics[:5] == ["snapshot/attributes", "snapshot", "snapshot/frame", "frame", "event"]
    shown_jpegs = [p for t, p, retain in bench.broker.messages if t.endswith("/snapshot") and retain]
    assert shown_jpegs[0] == b"small" + make_record(first, 0).jpeg[:8]
    assert bench.spool.stats.bytes < 10_000  # no bytes are kept beyond the announcement


async def test_a_restart_does_not_show_an_older_event_again(bench: Bench) -> None:
    event = make_event()
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await bench.spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        assert await delivery.drain(20)
    bench.broker.server.messages.clear()
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await bench.spool.accept([make_record(event, 1, score=0.4)])
        assert await delivery.drain(20)
    assert bench.broker.json_of("/snapshot/frame") == []
    assert bench.announced() == [1]


async def test_snapshots_come_after_an_outage_of_the_broker(bench: Bench) -> None:
    bench.broker.trouble = lambda _: BrokerUnavailable("away")
    await bench.accept_event(3)
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await eventually_async(lambda: len(bench.store.objects) == 3, what="the frames to be stored")
        bench.broker.come_back()
        assert await delivery.drain(20)
    assert bench.broker.json_of("/snapshot/frame")[-1]["seq"] == 2


@pytest.mark.parametrize("how", ["refused", "undecodable"])
async def test_a_snapshot_in_trouble_blocks_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    def shrink(jpeg: bytes) -> bytes:
        if how == "undecodable":
            raise ImageError("cannot decode a JPEG")
        return jpeg

    if how == "refused":
        bench.broker.trouble = lambda t: BrokerRefused("packet too large") if "/snapshot" in t else None
    await bench.accept_event(4)
    async with bench.delivering(shrink=shrink) as delivery:
        assert await delivery.drain(20)
        assert str(delivery.health().broker) == "ok"
    assert bench.announced() == [0, 1, 2, 3]
    assert len([r for r in caplog.records if "announced without it" in r.message]) == 1


async def test_a_snapshot_during_an_event_does_not_stop_later_ones(bench: Bench) -> None:
    event, pressed = make_event(), make_event(index=3)
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await bench.spool.accept([make_record(event, 0, score=0.2), start_of(event)])
        assert await delivery.drain(20)
        await bench.spool.accept([make_record(pressed, 0, score=0.9)])
        assert await delivery.drain(20)
        await bench.spool.accept([make_record(event, 1, score=0.3), end_of(event)])
        assert await delivery.drain(20)
        shown = [(f["event_id"], f["seq"]) for f in bench.broker.json_of("/snapshot/frame")]
        assert shown == [(event.event_id, 0), (event.event_id, 1)]
        # Without an open event, the snapshot is the one on command.
        later = make_event(index=90)
        await bench.spool.accept([make_record(later, 0, score=0.0)])
        assert await delivery.drain(20)
    assert bench.broker.json_of("/snapshot/frame")[-1]["event_id"] == later.event_id


@pytest.mark.parametrize("forgets", [True, False])
async def test_what_was_shown_is_shown_again_where_the_broker_has_forgotten_it(
    bench: Bench, forgets: bool
) -> None:
    event = make_event()
    async with bench.delivering(shrink=lambda jpeg: b"small" + jpeg[:8]) as delivery:
        await bench.spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        assert await delivery.drain(20)
    bench.broker.server.messages.clear()
    topic = f"{BASE}/porch/snapshot"
    async with bench.delivering(shrink=lambda jpeg: b"small" + jpeg[:8]) as delivery:
        delivery.restore_snapshots(["porch"], [] if forgets else [topic])
        if forgets:
            await eventually_async(lambda: bench.broker.server.on(topic), what="the image")
            assert bench.broker.json_of("/snapshot/frame")[-1]["event_id"] == event.event_id
            assert bench.broker.server.on(topic)[-1].payload == b"small" + make_record(event, 0).jpeg[:8]
        assert await delivery.drain(20)
    assert bool(bench.broker.server.on(topic)) == forgets


async def test_the_snapshot_of_a_removed_camera_does_not_come_back(bench: Bench) -> None:
    porch, yard = make_event(), make_event(camera="yard")
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        for event in (porch, yard):
            await bench.spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        assert await delivery.drain(20)
    bench.broker.server.messages.clear()
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        # They are restored in the order of their first frames.
        delivery.restore_snapshots(["yard"], [])
        await eventually_async(lambda: bench.broker.server.on(f"{BASE}/yard/snapshot/frame"), what="yard's")
    assert not bench.broker.server.on(f"{BASE}/porch/snapshot")


@pytest.mark.parametrize("scores", [(0.1, 0.2), (0.2, 0.1)])
async def test_the_best_of_two_snapshots_at_the_same_time_stays(
    bench: Bench, scores: tuple[float, float]
) -> None:
    """A camera's fresh frames and its backlog are announced at the same time."""
    sent: list[bytes] = []
    first_is_out, goes_on = asyncio.Event(), asyncio.Event()

    async def publish(topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert retain
        if topic.endswith("/snapshot"):
            if not first_is_out.is_set():
                first_is_out.set()
                await goes_on.wait()
            sent.append(payload)

    snapshots = Snapshots(
        bench.spool,
        bench.store,
        topics=Topics(BASE),
        publish=publish,
        shrink=lambda jpeg: jpeg,
        get_timeout_s=20.0,
    )
    records = [make_record(make_event(), seq, score=score) for seq, score in enumerate(scores)]
    async with asyncio.TaskGroup() as shows:
        for number, record in enumerate(records):
            bench.store.objects[record.info.object_key] = record.jpeg
            item = FrameAnnouncement(
                number=number,
                event_number=1,
                delayed=False,
                age_s=0.0,
                stored=stored_of(record),
                has_jpeg=False,
            )
            assert snapshots.is_due(item)
            shows.create_task(snapshots.show(item, b"{}"))
        await first_is_out.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        goes_on.set()
    best = max(records, key=lambda record: record.info.score)
    assert sent[-1] == best.jpeg


async def test_a_frame_that_the_store_has_lost_is_not_shown_again_and_stops_nothing(bench: Bench) -> None:
    event = make_event()
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await bench.spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        assert await delivery.drain(20)
    bench.store.objects.clear()
    bench.broker.server.messages.clear()
    async with bench.delivering(shrink=lambda jpeg: jpeg) as delivery:
        delivery.restore_snapshots(["porch"], [])
        await bench.spool.accept([make_record(event, 1, score=0.6)])
        assert await delivery.drain(20)
    assert bench.announced()[-1] == 1


@pytest.mark.parametrize("junk", [b"", b"[" * 9000, b"[]", b'{"porch": 3}', b'{"porch": "\\ud800"}', b"\xff"])
def test_unreadable_announcements_are_ignored(junk: bytes) -> None:
    assert parse_announcements(junk) == {}
