"""Delivery as a whole: from spool to subscribers, outages, the backlog, health.

The spool is the real one, in memory; the peers fail on command; all delays are tiny.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from async_motion.core.health import PeerHealth
from async_motion.errors import (
    BrokerUnavailable,
    StoreRefused,
    StoreUnavailable,
)
from tests.support.delivering import BASE, NEVER, Bench, failing
from tests.support.records import make_event, make_record, start_of
from tests.support.wait import eventually_async


async def test_an_event_from_the_spool_to_the_subscribers(bench: Bench) -> None:
    records = await bench.accept_event(3)
    async with bench.delivering(update_every_s=0.0) as delivery:
        assert await delivery.drain(20)
    assert {k: v for k, v in bench.store.objects.items() if k.endswith(".jpg")} == {
        r.info.object_key: r.jpeg for r in records
    }
    topics = [topic.removeprefix(f"{BASE}/porch/") for topic, _, _ in bench.broker.messages]
    assert topics == ["frame", "event", "frame", "event", "frame", "event", "event"]
    assert [e["type"] for e in bench.broker.events] == ["start", "update", "update", "end"]
    assert bench.announced() == [0, 1, 2]
    end = bench.broker.events[-1]
    assert (end["frames_stored"], end["best_frame"]) == (3, records[2].info.object_key)
    assert (end["bucket"], end["url"]) == (bench.store.bucket, None)
    assert [frame["delayed"] for frame in bench.broker.frames] == [False] * 3
    assert not any(retain for _, _, retain in bench.broker.messages)


async def test_the_spool_is_not_asked_for_what_it_does_not_have(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        take = getattr(bench.spool, name)

        async def noted(*args: Any, **how: Any) -> Any:
            asked.append(name)
            return await take(*args, **how)

        return noted

    for name in ("take_uploads", "take_fresh_announcements", "take_backlog_announcements"):
        monkeypatch.setattr(bench.spool, name, noting(name))
    rung: list[None] = []
    async with bench.delivering() as delivery:
        bench.spool.on_work(lambda: rung.append(None))
        for value in (b"1", b"2", b"3"):
            await bench.spool.remember("key", value)
        await eventually_async(lambda: len(rung) >= 3, what="the spool's news of its changes")
        assert asked == []
        await bench.accept_event(1)
        assert await delivery.drain(20)
        assert "take_backlog_announcements" not in asked


async def test_what_is_published_and_written_keeps_to_the_schemas(bench: Bench) -> None:
    await bench.accept_event(3)
    async with bench.delivering(update_every_s=0.0, shrink=lambda jpeg: jpeg) as delivery:
        assert await delivery.drain(20)
    for frame in bench.broker.json_of("/frame"):
        jsonschema.validate(frame, schema("frame-1"))
    for event in bench.broker.events:
        jsonschema.validate(event, schema("event-1"))
    (summary,) = (json.loads(v) for k, v in bench.store.objects.items() if k.endswith("/event.json"))
    jsonschema.validate(summary, schema("event_summary-1"))
    assert [line["seq"] for line in summary["frames"]] == [0, 1, 2]
    assert bench.store.metadata[next(iter(bench.store.objects))]["content-type"] == "image/jpeg"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("async_motion").joinpath(f"schemas/{name}.json").read_text())
    return loaded


async def test_a_snapshot_on_command_is_a_frame_alone(bench: Bench) -> None:
    async with bench.delivering() as delivery:
        await bench.spool.accept([make_record(make_event(), 0)])
        assert await delivery.drain(20)
    assert bench.announced() == [0]
    assert bench.broker.events == []


async def test_a_store_that_comes_back_gets_everything(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.store.trouble = lambda _: StoreUnavailable("connection refused")
    records = await bench.accept_event(5)
    async with bench.delivering() as delivery:
        await eventually_async(lambda: len(bench.store.puts) >= 12, what="some trials")
        assert str(delivery.health().store) == "unavailable: connection refused"
        assert bench.broker.messages == []
        # Many records wait: the trials are real records, one at a time, not probes.
        bench.store.max_busy = 0
        tries = len(bench.store.puts)
        await eventually_async(lambda: len(bench.store.puts) >= tries + 5, what="more trials")
        assert bench.store.max_busy == 1
        assert bench.store.probes == 0
        bench.store.trouble = lambda _: None
        assert await delivery.drain(20)
        assert str(delivery.health().store) == "ok"
    assert bench.announced() == [0, 1, 2, 3, 4]
    assert len(bench.store.objects) == len(records) + 1
    said = "store: unavailable: connection refused; next try in"
    assert caplog.text.count(said) == 1, "a line for the outage, not for each trial"
    assert caplog.text.count("store: works again") == 1


async def test_one_broken_connection_is_not_an_outage(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.store.trouble = failing(1, StoreUnavailable("reset"), ".jpg")
    await bench.accept_event(8)
    async with bench.delivering(concurrency=2) as delivery:
        assert await delivery.drain(20)
        assert delivery.health().retries == 1
        assert delivery.health().repeats >= 1
    assert bench.announced() == list(range(8))
    assert caplog.text == ""


async def test_retry_after_is_kept(bench: Bench) -> None:
    bench.store.trouble = failing(1, StoreUnavailable("503", retry_after_s=0.3))
    await bench.accept_event(3)
    loop = asyncio.get_running_loop()
    async with bench.delivering(concurrency=1) as delivery:
        begun_at = loop.time()
        await eventually_async(lambda: len(bench.store.puts) >= 2, what="the trial")
        assert loop.time() - begun_at >= 0.3
        assert await delivery.drain(20)


async def test_a_refusal_pauses_and_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.store.trouble = lambda _: StoreRefused("InvalidAccessKeyId: the access key is not known")
    await bench.accept_event(3)
    async with bench.delivering() as delivery:
        await eventually_async(lambda: len(bench.store.puts) >= 8, what="some trials")
        assert str(delivery.health().store) == "refused: InvalidAccessKeyId: the access key is not known"
        bench.store.trouble = lambda _: StoreRefused("NoSuchBucket: motion")
        await eventually_async(lambda: "NoSuchBucket" in str(delivery.health().store), what="the new reason")
        assert bench.spool.stats.set_aside == 0
        bench.store.trouble = lambda _: None
        assert await delivery.drain(20)
    assert caplog.text.count("InvalidAccessKeyId") == 1
    assert caplog.text.count("NoSuchBucket") == 1
    assert bench.announced() == [0, 1, 2]


async def test_without_a_broker_frames_are_stored_once_and_announced_later(bench: Bench) -> None:
    bench.broker.connected = False
    bench.broker.trouble = lambda _: BrokerUnavailable("not connected")
    records = await bench.accept_event(5)
    async with bench.delivering(pace=NEVER) as delivery:
        await eventually_async(lambda: len(bench.store.objects) == 5, what="the frames to be stored")
        assert str(delivery.health().broker) == "unavailable: not connected"
        await eventually_async(lambda: delivery.health().retries >= 1, what="the first try to fail")
        tries = bench.broker.tries
        bench.clock.sleep(60)
        # Items that were leased before the breaker opened fail too.
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.broker.tries <= tries + 1
        # The reconnect ends the wait of an hour.
        bench.broker.come_back()
        assert await delivery.drain(20)
    assert sorted(bench.announced()) == [0, 1, 2, 3, 4]
    assert all(frame["delayed"] for frame in bench.broker.frames)
    assert len(bench.store.puts) == len(records) + 1
    assert [e["type"] for e in bench.broker.events] == ["start", "end"]


async def test_after_an_outage_fresh_frames_pass_the_backlog(bench: Bench) -> None:
    bench.store.trouble = lambda _: StoreUnavailable("away")
    for index in range(30):
        await bench.accept_event(2, index=index)
    bench.clock.sleep(100)
    bench.store.trouble = lambda _: None
    bench.store.hold = asyncio.Event()
    async with bench.delivering(concurrency=4, backlog_share=0.5) as delivery:
        await eventually_async(lambda: bench.store.busy == 2, what="the backlog's share")
        fresh = make_event("porch", 1000)
        await bench.spool.accept([make_record(fresh, 0), start_of(fresh)])
        await eventually_async(lambda: bench.store.busy == 3, what="the fresh frame's slot")
        assert bench.store.puts[-1] == make_record(fresh, 0).info.object_key
        bench.store.hold.set()
        await eventually_async(
            lambda: any(f["event_id"] == fresh.event_id for f in bench.broker.frames), what="the fresh frame"
        )
        assert await delivery.drain(20)
    position = [f["event_id"] for f in bench.broker.frames].index(fresh.event_id)
    assert position < 30
    delayed = {f["event_id"]: f["delayed"] for f in bench.broker.frames}
    assert not delayed.pop(fresh.event_id)
    assert all(delayed.values())
    assert len(delayed) == 30


async def test_what_an_earlier_run_left_is_delayed(bench: Bench) -> None:
    bench.store.hold = asyncio.Event()
    await bench.accept_event(3)
    async with bench.delivering():
        await eventually_async(lambda: bench.store.busy == 3, what="uploads")
    bench.store.hold = None
    bench.clock.sleep(30)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    assert sorted(bench.announced()) == [0, 1, 2]
    assert all(frame["delayed"] for frame in bench.broker.frames)


async def test_draining_gives_up_in_time(bench: Bench) -> None:
    bench.store.trouble = lambda _: StoreUnavailable("away")
    await bench.accept_event(2)
    async with bench.delivering() as delivery:
        assert not await delivery.drain(0.05)
    assert bench.spool.stats.records == 2


async def test_health_has_the_figures(bench: Bench) -> None:
    await bench.accept_event(3)
    async with bench.delivering() as delivery:
        assert delivery.health().upload_s == {"p50": None, "p99": None}
        assert await delivery.drain(20)
        health = delivery.health()
    assert (health.store, health.broker) == (PeerHealth(), PeerHealth())
    assert (health.stored, health.announced, health.stored_bytes) == (3, 3, 9000)
    assert health.upload_s["p99"] is not None
    json.dumps(asdict(health))
