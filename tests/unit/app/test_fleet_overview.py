"""The fleet commands (overview, move, drain), on a bucket in memory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from async_motion.app import fleet_overview
from async_motion.app.fleet import fingerprint
from async_motion.app.fleet_overview import drain, look, move
from async_motion.errors import LeaseUnavailable, UsageError
from async_motion.settings import Settings, load
from tests.support.buckets import MemoryBucket
from tests.support.wait import eventually_async


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "variables.yaml"
    file.write_text(
        "instance: town\nmqtt: {host: broker}\nminio: {endpoint: store, secret_key: k}\n"
        "fleet: {servers: ['nats://nats1:4222'], ttl: 1s}\n"
        "cameras: {porch: {source: 'demo:'}, yard: {source: 'demo:'},"
        " shed: {source: 'demo:', enabled: false}}\n"
    )
    return load(file, {})


async def tell(bucket: MemoryBucket, name: str, settings: Settings, **more: Any) -> None:
    said = {"capacity": 2, "fingerprint": fingerprint(settings), "costs": {"porch": 0.5}, **more}
    await bucket.put(f"worker.{name}", json.dumps(said).encode())


async def own(bucket: MemoryBucket, camera: str, worker: str) -> None:
    await bucket.put(f"camera.{camera}", json.dumps({"worker": worker, "tenure": "t", "epoch": 0}).encode())


async def test_the_fleet_as_the_bucket_tells_it(settings: Settings) -> None:
    bucket = MemoryBucket(60)
    await tell(bucket, "east", settings, about={"spool_records": 7}, refused={"yard": "no route"})
    await tell(bucket, "west", settings, fingerprint="other", draining=True)
    await bucket.put("worker.junk", b"[[[[")
    await own(bucket, "porch", "east")
    await own(bucket, "=instance", "west")
    said = (await look(bucket, settings)).to_json()
    assert said["workers"]["east"] == {
        "capacity": 2.0,
        "load": 0.5,
        "cameras": 1,
        "draining": False,
        "speaker": False,
        "different": False,
        "spool_records": 7,
        "refused": {"yard": "no route"},
    }
    west = said["workers"]["west"]
    assert (west["draining"], west["speaker"], west["different"]) == (True, True, True)
    assert said["cameras"]["porch"]["worker"] == "east"
    assert said["unowned"] == ["yard"]


async def test_a_move_waits_for_the_new_owner(settings: Settings) -> None:
    bucket = MemoryBucket(60)
    await tell(bucket, "east", settings)
    await tell(bucket, "west", settings)
    await own(bucket, "porch", "east")
    moving = asyncio.create_task(move(bucket, settings, "porch", "west"), name="move")
    await eventually_async(lambda: bucket.live("move.porch") is not None, what="the move in the bucket")
    assert not moving.done()
    await own(bucket, "porch", "west")
    assert await moving > 0
    assert await move(bucket, settings, "porch", "west") > 0, "it is there already"


async def test_unknown_names_are_reported(settings: Settings) -> None:
    bucket = MemoryBucket(60)
    await tell(bucket, "east", settings, draining=True)
    with pytest.raises(UsageError, match="attic: there is no such camera"):
        await move(bucket, settings, "attic", "east")
    with pytest.raises(UsageError, match="shed: there is no such camera"):
        await move(bucket, settings, "shed", "east")
    with pytest.raises(UsageError, match="north: there is no such worker, expected one of: east"):
        await move(bucket, settings, "porch", "north")
    with pytest.raises(UsageError, match="east: it is draining"):
        await move(bucket, settings, "porch", "east")


async def test_a_drain_counts_what_is_left_and_gives_up_in_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_overview, "MARGIN_S", -0.5)
    bucket = MemoryBucket(60)
    await tell(bucket, "east", settings)
    await own(bucket, "porch", "east")
    with pytest.raises(LeaseUnavailable, match=r"east: it does not answer within 0\.5 s"):
        await drain(bucket, settings, "east")
    await tell(bucket, "east", settings, draining=True)
    assert await drain(bucket, settings, "east") == 1, "there is no other worker"


async def test_a_drain_of_a_worker_that_is_started_again_says_so_at_once(settings: Settings) -> None:
    bucket = MemoryBucket(60)
    await tell(bucket, "east", settings, run="r1")
    await own(bucket, "porch", "east")
    draining = asyncio.create_task(drain(bucket, settings, "east"), name="drain")
    await eventually_async(lambda: bucket.live("drain.east") is not None, what="the drain in the bucket")
    await tell(bucket, "east", settings, run="r2")
    with pytest.raises(LeaseUnavailable, match="east: it was started again meanwhile; try again"):
        await draining


async def test_a_worker_that_is_started_again_drains_no_longer(settings: Settings) -> None:
    bucket = MemoryBucket(60)
    await tell(bucket, "east", settings, run="r1", draining=True)
    undoing = asyncio.create_task(drain(bucket, settings, "east", undo=True), name="undo")
    await eventually_async(lambda: bucket.live("drain.east") is not None, what="the change in the bucket")
    await tell(bucket, "east", settings, run="r2")
    assert await undoing == 0
