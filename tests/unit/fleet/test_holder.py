"""The leases of one worker: acquired with the note of a lost owner, renewed, released at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from async_motion.fleet.bucket_view import BucketView
from async_motion.fleet.holder import LeaseHolder
from async_motion.fleet.leases import CAMERA, Entry, Owner, parse_owner
from async_motion.fleet.model import FleetSettings
from tests.support.buckets import MemoryBucket
from tests.support.wait import eventually_async

TTL_S = 600.0
"""So long that what a test waits for is no regular renewal."""
NOTE = {"event_id": "e1"}


class Cameras:
    """Records what is started, with its note."""

    def __init__(self) -> None:
        self.started: dict[str, Mapping[str, Any] | None] = {}

    def start(self, camera: str, _epoch: int, note: Mapping[str, Any] | None) -> None:
        self.started[camera] = note

    async def stop(self, camera: str) -> None:
        self.started.pop(camera, None)

    def cut(self, _camera: str) -> bool:
        return True


class EchoBucket(MemoryBucket):
    """A bucket whose watch shows a new key before the writer has its answer, as a NATS server may."""

    view: BucketView | None = None

    async def create(self, key: str, value: bytes) -> int:
        revision = await super().create(key, value)
        if self.view is not None:
            self.view.see(Entry(key=key, value=value, revision=revision))
        return revision


@asynccontextmanager
async def holding(
    bucket: MemoryBucket, *, freed: list[str] | None = None
) -> AsyncIterator[tuple[LeaseHolder, BucketView, Cameras]]:
    settings = FleetSettings(worker="a", cameras=("porch",), capacity=1.0, fingerprint="", ttl_s=TTL_S)
    cameras = Cameras()
    view = BucketView(bucket, worker="a", run="r1", cameras=("porch",), ttl_s=TTL_S, clock=time.monotonic)
    holder = LeaseHolder(
        settings,
        bucket,
        view,
        cameras,
        freed=(freed if freed is not None else []).append,
        end=lambda _camera: None,
        clock=time.monotonic,
    )
    running = asyncio.create_task(holder.run(asyncio.sleep(3600)))
    await asyncio.sleep(0)
    try:
        yield holder, view, cameras
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def left_by(worker: str) -> Entry:
    owner = Owner(worker=worker, tenure="t", epoch=0, note=NOTE)
    return Entry(key=f"{CAMERA}porch", value=owner.encode(), revision=1)


async def test_the_note_of_a_lost_owner_comes_with_its_camera() -> None:
    bucket = EchoBucket(TTL_S)
    await bucket.put("other", b"{}")
    async with holding(bucket) as (holder, view, cameras):
        bucket.view = view
        view.see(left_by("lost"))
        holder.acquire("porch")
        await eventually_async(lambda: "porch" in cameras.started, what="the start")
        assert cameras.started["porch"] == NOTE
        assert holder.noted("porch") == NOTE


async def test_a_note_is_written_at_once_and_removed() -> None:
    bucket = MemoryBucket(TTL_S)

    def noted() -> object:
        entry = bucket.live(f"{CAMERA}porch")
        owner = parse_owner(entry) if entry is not None else None
        return owner.note if owner is not None else "no owner"

    async with holding(bucket) as (holder, _, _):
        holder.acquire("porch")
        await eventually_async(lambda: "porch" in holder, what="the lease")
        holder.note("porch", NOTE)
        await eventually_async(lambda: noted() == NOTE, what="the note")
        holder.note("porch", None)
        await eventually_async(lambda: noted() is None, what="its removal")


async def test_a_camera_of_another_worker_is_not_started_and_told_as_freed() -> None:
    bucket, freed = MemoryBucket(TTL_S), list[str]()
    await bucket.put(f"{CAMERA}porch", left_by("other").value)
    async with holding(bucket, freed=freed) as (holder, _, cameras):
        holder.acquire("porch")
        await eventually_async(lambda: freed == ["porch"], what="the refusal")
        assert holder.idle
        assert cameras.started == {}


@pytest.mark.parametrize("resume", [False, True])
async def test_an_acquisition_that_is_cancelled_before_it_begins_leaves_nothing_behind(resume: bool) -> None:
    bucket = MemoryBucket(TTL_S)
    async with holding(bucket) as (holder, _, _):
        holder.acquire("porch", resume=resume)
        (acquiring,) = [one for one in asyncio.all_tasks() if one.get_name() == "fleet: acquire[porch]"]
        acquiring.cancel()  # a coroutine that is never awaited would be a warning, so an error
    assert bucket.writes == 0


async def test_all_leases_are_released_at_the_end() -> None:
    bucket = MemoryBucket(60.0)
    async with holding(bucket) as (holder, _, cameras):
        holder.acquire("porch")
        await eventually_async(lambda: "porch" in holder, what="the lease")
        assert holder.epoch("porch") == 1
    assert bucket.live(f"{CAMERA}porch") is None
    assert cameras.started == {}
