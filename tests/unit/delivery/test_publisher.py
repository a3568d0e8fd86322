"""The publisher: order, batches, updates, links."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from async_motion.errors import (
    BrokerNotReady,
    BrokerRefused,
    BrokerUnavailable,
    StoreUnavailable,
)
from tests.support.delivering import NEVER, QUICK, Bench, FakeStore, TroubledBroker, failing
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.wait import eventually_async


async def test_updates_are_throttled(bench: Bench) -> None:
    event = make_event()
    async with bench.delivering(update_every_s=1.0) as delivery:
        await bench.spool.accept([make_record(event, 0), start_of(event)])
        assert await delivery.drain(20)
        for seq in range(1, 9):
            bench.clock.sleep(0.4)
            await bench.spool.accept([make_record(event, seq)])
            assert await delivery.drain(20)
    assert [e["frames_stored"] for e in bench.broker.events] == [1, 4, 7]


@pytest.mark.parametrize("step_s", [0.0, 3600.0, -3600.0])
async def test_an_update_tells_how_long_the_event_has_lasted_whatever_the_wall_clock_does(
    bench: Bench, step_s: float
) -> None:
    event = replace(make_event(), started_at=bench.clock.now())
    async with bench.delivering(update_every_s=1.0) as delivery:
        bench.clock.sleep(0.5)  # it was confirmed half a second after its first motion
        await bench.spool.accept([make_record(event, 0), start_of(event)])
        assert await delivery.drain(20)
        bench.clock.ahead_s += step_s
        for seq in (1, 2):
            bench.clock.sleep(4.0)
            await bench.spool.accept([make_record(event, seq)])
            assert await delivery.drain(20)
    assert [said["duration_s"] for said in bench.broker.events] == [0.5, 4.5, 8.5]


async def test_a_late_update_tells_when_its_frame_came(bench: Bench) -> None:
    event = make_event()
    await bench.spool.accept([make_record(event, 0), start_of(event)])
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    bench.clock.sleep(2.0)
    await bench.spool.accept([make_record(event, 1)])
    bench.clock.sleep(7200.0)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    assert [said["duration_s"] for said in bench.broker.events] == [0.0, 2.0]


async def test_links_are_in_the_announcement(bench: Bench) -> None:
    async with bench.delivering(presign_s=60.0) as delivery:
        await bench.spool.accept([make_record(make_event(), 0)])
        assert await delivery.drain(20)
    (frame,) = bench.broker.frames
    assert frame["url"] == f"https://store/{frame['object_key']}?expires=60"


async def test_order_holds_although_uploads_overtake_each_other(bench: Bench) -> None:
    event = make_event()
    slow = asyncio.Event()

    class Overtaking(FakeStore):
        async def put(self, key: str, data: bytes, **how: Any) -> str:
            if key == make_record(event, 0).info.object_key:
                await slow.wait()
            return await super().put(key, data, **how)

    bench.store = Overtaking()
    await bench.spool.accept([make_record(event, 0), start_of(event)])
    for seq in range(1, 6):
        await bench.spool.accept([make_record(event, seq)])
    other = make_event("yard")
    await bench.spool.accept([make_record(other, 0)])
    async with bench.delivering() as delivery:
        await eventually_async(lambda: len(bench.store.objects) == 6, what="the others to be stored")
        await eventually_async(lambda: bench.announced("yard") == [0], what="the other camera")
        assert bench.announced() == []
        slow.set()
        assert await delivery.drain(20)
    assert bench.announced() == [0, 1, 2, 3, 4, 5]


async def test_a_frame_that_ages_behind_others_of_its_batch_is_delayed(bench: Bench) -> None:
    frames = 0

    def slow(topic: str) -> None:
        nonlocal frames
        frames += topic.endswith("/frame")
        if topic.endswith("/frame") and frames == 2:
            bench.clock.sleep(11)

    bench.broker.connected = False
    bench.broker.trouble = lambda _: BrokerUnavailable("not connected")
    await bench.accept_event(4)
    async with bench.delivering(pace=NEVER) as delivery:
        await eventually_async(lambda: len(bench.store.objects) == 4, what="the frames to be stored")
        # The first frame is the trial after the outage; the others are one batch.
        bench.broker.come_back()
        bench.broker.trouble = slow
        assert await delivery.drain(20)
    assert bench.announced() == [0, 1, 2, 3]
    assert [frame["delayed"] for frame in bench.broker.frames] == [False, False, True, True]


async def test_a_broker_that_refuses_is_tried_one_at_a_time(bench: Bench) -> None:
    bench.broker.trouble = lambda _: BrokerRefused("not authorized")
    for camera in ("porch", "yard", "gate"):
        await bench.accept_event(4, camera)
    async with bench.delivering() as delivery:
        await eventually_async(lambda: bench.broker.tries >= 8, what="some tries")
        assert str(delivery.health().broker) == "refused: not authorized"
        assert bench.spool.stats.set_aside == 0
        bench.broker.trouble = lambda _: None
        assert await delivery.drain(20)
    for camera in ("porch", "yard", "gate"):
        assert bench.announced(camera) == [0, 1, 2, 3]


async def test_one_camera_without_a_connection_is_no_outage_of_the_broker(bench: Bench) -> None:
    failed = 0

    def trouble(topic: str) -> BrokerNotReady | None:
        nonlocal failed
        if "/porch/" not in topic:
            return None
        failed += 1
        return BrokerNotReady("porch: not ready")

    bench.broker.trouble = trouble
    pace = replace(QUICK, first_s=5.0, max_s=5.0, item_max_s=3600.0)

    async def fail_once_more(index: int) -> None:
        await bench.accept_event(1, "yard", index)
        await eventually_async(lambda: len(bench.announced("yard")) > index, what="the other camera's frame")
        before = failed
        bench.clock.sleep(pace.item_max_s)
        await eventually_async(lambda: failed > before, what="another try")

    async with bench.delivering(pace=pace) as delivery:
        await bench.accept_event(3, "porch")
        for index in range(14):
            await fail_once_more(index)
            assert str(delivery.health().broker) == "ok"
        bench.broker.trouble = lambda _: None
        since = bench.clock()

        def time_passes() -> bool:
            bench.clock.sleep(0.1)
            return bench.spool.stats.empty

        await eventually_async(time_passes, what="the rest")
        assert bench.clock() - since < pace.item_max_s / 6, "its connection is back"
    assert sorted(bench.announced("porch")) == [0, 1, 2]


async def test_one_refused_topic_does_not_stop_the_others(bench: Bench) -> None:
    bench.broker.trouble = lambda topic: BrokerRefused("not authorized") if "/porch/" in topic else None
    async with bench.delivering() as delivery:
        await bench.accept_event(3, "porch")
        for index in range(5):
            await bench.accept_event(2, "yard", index)
        await eventually_async(lambda: len(bench.announced("yard")) == 10, what="the other camera's frames")
        assert bench.announced("porch") == []
        bench.broker.trouble = lambda _: None

        def time_passes() -> bool:
            bench.clock.sleep(0.1)
            return bench.spool.stats.empty

        await eventually_async(time_passes, what="the rest")
    assert sorted(bench.announced("porch")) == [0, 1, 2]
    assert delivery.health().announced == 13


async def test_an_unanswered_publish_is_repeated_with_the_same_identity(bench: Bench) -> None:
    bench.broker.trouble = failing(2, BrokerUnavailable("no answer"), "/frame")
    await bench.accept_event(2)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
        assert delivery.health().retries >= 1
    assert bench.announced() == [0, 1]


async def test_an_update_that_fails_does_not_repeat_its_frame(bench: Bench) -> None:
    event = make_event()
    async with bench.delivering(update_every_s=0.0) as delivery:
        await bench.spool.accept([make_record(event, 0), start_of(event)])
        assert await delivery.drain(20)
        bench.broker.trouble = failing(1, BrokerUnavailable("no answer"), "/event")
        await bench.spool.accept([make_record(event, 1)])
        assert await delivery.drain(20)
        await bench.spool.accept([make_record(event, 2)])
        assert await delivery.drain(20)
    assert bench.announced() == [0, 1, 2]
    assert [e["frames_stored"] for e in bench.broker.events] == [1, 3]


async def test_a_link_that_cannot_be_made_for_an_update_does_not_repeat_its_frame(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, asked = make_event(), 0

    async def link(_key: str, _expires_s: float) -> str:
        nonlocal asked
        asked += 1
        if asked == 4:  # after those of the frame, of the start and of the next frame
            raise StoreUnavailable("no credentials now")
        return "https://store/x"

    monkeypatch.setattr(bench.store, "link", link)
    async with bench.delivering(update_every_s=0.0, presign_s=60.0) as delivery:
        for seq in range(3):
            items: list[Any] = [make_record(event, seq)]
            await bench.spool.accept(items + ([start_of(event)] if seq == 0 else []))
            assert await delivery.drain(20)
    assert bench.announced() == [0, 1, 2]
    assert [e["frames_stored"] for e in bench.broker.events] == [1, 3]


async def test_what_was_accepted_under_an_older_lease_is_announced_as_delayed(bench: Bench) -> None:
    worker_broker, held = TroubledBroker(), {7}
    options = {
        "worker_broker": worker_broker,
        "is_current": lambda _camera, epoch: epoch in held,
        "shrink": bytes,
    }
    old, new = (
        make_event(index=number, worker="east", epoch=epoch) for number, epoch in enumerate((6, 7), 1)
    )
    async with bench.delivering(**options) as delivery:
        for event in (old, new):
            await bench.spool.accept([make_record(event, 0), start_of(event), end_of(event)])
        assert await delivery.drain(20)
    assert [said["type"] for said in worker_broker.events] == ["start", "end"]
    said = [*worker_broker.frames, *worker_broker.events]
    assert {(one["epoch"], one["worker"], one["delayed"]) for one in said} == {(6, "east", True)}
    said = [*bench.broker.frames, *bench.broker.events]
    assert {(one["epoch"], one["delayed"]) for one in said} == {(7, False)}
    # No snapshot is published under the lost lease.
    assert {said["epoch"] for said in bench.broker.json_of("/snapshot/frame")} == {7}


async def test_without_a_fleet_nothing_tells_of_one(bench: Bench) -> None:
    event = make_event()
    async with bench.delivering() as delivery:
        await bench.spool.accept([make_record(event, 0), start_of(event), end_of(event)])
        assert await delivery.drain(20)
    for said in (*bench.broker.frames, *bench.broker.events):
        assert said.keys().isdisjoint({"worker", "epoch"})
    assert all("delayed" not in said for said in bench.broker.events)
