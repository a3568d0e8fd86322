"""The view of the bucket: what it keeps, and when a key counts as expired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from async_motion.fleet.bucket_view import (
    DRAIN,
    MAX_OTHER_KEYS,
    MOVE,
    WORKER,
    BucketView,
    drain_value,
    move_value,
)
from async_motion.fleet.leases import CAMERA, Entry, Owner
from async_motion.fleet.report import WorkerReport
from tests.support.buckets import MemoryBucket
from tests.support.wait import eventually_async

TTL_S = 10.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(clock: Clock) -> BucketView:
    bucket = MemoryBucket(TTL_S)
    cameras = ("porch", "yard")
    return BucketView(bucket, worker="east", run="r1", cameras=cameras, ttl_s=TTL_S, clock=clock)


def owned_by(worker: str, revision: int) -> Entry:
    value = Owner(worker=worker, tenure="t", epoch=0).encode()
    return Entry(key=f"{CAMERA}porch", value=value, revision=revision)


def test_an_owner_that_is_silent_for_the_ttl_is_no_owner_and_is_still_known(
    view: BucketView, clock: Clock
) -> None:
    view.see(owned_by("west", 5))
    owner = view.owner("porch")
    assert owner is not None
    assert (owner.worker, owner.epoch, view.is_free("porch")) == ("west", 5, False)
    clock.now = TTL_S
    assert view.owner("porch") is None
    assert view.is_free("porch")
    assert view.last_owner("porch") == owner
    view.forget("porch")
    assert view.last_owner("porch") is None


def test_an_older_entry_changes_nothing(view: BucketView) -> None:
    view.see(owned_by("west", 5))
    view.see(owned_by("north", 4))
    owner = view.owner("porch")
    assert owner is not None
    assert owner.worker == "west"


def written(key: str, revision: int, at: float) -> Entry:
    return Entry(key=key, value=b'{"capacity": 1}', revision=revision, written_s=at)


def test_a_key_that_was_seen_late_expires_with_its_write(view: BucketView, clock: Clock) -> None:
    """A worker that starts, or stood still, reads old writes: it must not wait a whole TTL again."""
    view.see(written(f"{CAMERA}porch", 1, 1000.0))
    assert not view.is_free("porch")
    view.see(written(f"{WORKER}west", 2, 1008.0))
    clock.now = 1.9
    assert not view.is_free("porch")
    clock.now = 2.1
    assert view.is_free("porch")
    assert "west" in view.reports()


def test_a_step_of_the_servers_clock_frees_no_camera_for_long(view: BucketView, clock: Clock) -> None:
    view.see(written(f"{CAMERA}porch", 1, 1000.0))
    view.see(written(f"{WORKER}west", 2, 400.0))  # another server leads, whose clock is behind
    assert not view.is_free("porch")
    view.see(written(f"{CAMERA}porch", 3, 401.0))
    clock.now = TTL_S - 1.1
    assert not view.is_free("porch")
    view.see(written(f"{WORKER}west", 4, 9000.0))  # ahead: until each is renewed
    assert view.is_free("porch")
    view.see(written(f"{CAMERA}porch", 5, 9001.0))
    assert not view.is_free("porch")


def test_a_value_that_is_not_valid_blocks_the_camera(view: BucketView) -> None:
    view.see(Entry(key=f"{CAMERA}porch", value=b"[", revision=1))
    assert view.owner("porch") is None
    assert not view.is_free("porch")


def test_a_move_and_a_drain_by_hand(view: BucketView, clock: Clock) -> None:
    view.see(Entry(key=f"{MOVE}porch", value=move_value("west"), revision=1))
    view.see(Entry(key=f"{DRAIN}east", value=drain_value(draining=True, run="r1"), revision=2))
    assert (view.target("porch"), view.target("yard"), view.drained) == ("west", None, True)
    clock.now = TTL_S  # a move is over with its key, a drain lasts
    assert (view.target("porch"), view.drained) == (None, True)
    view.see(Entry(key=f"{DRAIN}east", value=drain_value(draining=False, run="r1"), revision=3))
    assert not view.drained


def test_a_drain_is_for_one_run_of_the_worker(view: BucketView) -> None:
    """The key outlives a restart: the worker must take cameras again then."""
    view.see(Entry(key=f"{DRAIN}east", value=drain_value(draining=True, run="r0"), revision=1))
    assert not view.drained
    view.see(Entry(key=f"{DRAIN}east", value=b'{"draining": true}', revision=2))  # of an older command
    assert view.drained


def test_garbage_does_not_fill_the_memory(view: BucketView) -> None:
    for number in range(2 * MAX_OTHER_KEYS):
        value = WorkerReport(capacity=1.0, fingerprint=None).encode()
        view.see(Entry(key=f"{WORKER}x{number}", value=value, revision=number + 1))
    assert len(view.reports()) <= MAX_OTHER_KEYS + 5


def test_workers_that_are_gone_make_room_for_new_ones(view: BucketView, clock: Clock) -> None:
    """A pod has another name after each start."""
    view.see(owned_by("west", 1))
    value = WorkerReport(capacity=1.0, fingerprint=None).encode()
    for number in range(2 * MAX_OTHER_KEYS):
        clock.now += TTL_S / 4
        view.see(Entry(key=f"{WORKER}x{number}", value=value, revision=number + 2))
    assert f"x{2 * MAX_OTHER_KEYS - 1}" in view.reports()
    assert view.last_owner("porch") is not None


def test_garbage_leaves_room_for_the_cameras(view: BucketView) -> None:
    for number in range(2 * MAX_OTHER_KEYS):
        view.see(Entry(key=f"x{number}", value=b"x", revision=number + 1))
    view.see(owned_by("west", 2 * MAX_OTHER_KEYS + 1))
    assert view.owner("porch") is not None


class LostWatch(MemoryBucket):
    """A bucket whose first watch is lost: it reports nothing, and ends long after the test."""

    watches = 0

    async def watch(self) -> AsyncIterator[Entry | None]:
        self.watches += 1
        if self.watches == 1:
            await asyncio.sleep(3600)
        async for entry in super().watch():
            yield entry


async def test_a_lost_watch_starts_again_once_the_bucket_answers() -> None:
    bucket = LostWatch(600.0)
    view = BucketView(bucket, worker="east", run="r1", cameras=("porch",), ttl_s=600.0, clock=Clock())
    following = asyncio.create_task(view.follow())
    try:
        await eventually_async(lambda: bucket.watches == 1, what="the lost watch")
        view.answered()
        assert (view.connected, view.complete) == (True, False)
        await eventually_async(lambda: view.complete, what="a complete watch")
        view.answered()
        assert bucket.watches == 2
        view.failed("gone")
        assert not view.complete
        view.answered()
        view.failed("gone")
        view.answered()  # twice before the watch has noticed the first
        await eventually_async(lambda: view.complete, what="a complete watch after the outage")
        assert not following.done()
    finally:
        following.cancel()


async def test_it_follows_the_bucket_and_tells_whether_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    bucket = MemoryBucket(60.0)
    view = BucketView(bucket, worker="east", run="r1", cameras=("porch",), ttl_s=60.0, clock=Clock())
    bucket.down = True
    following = asyncio.create_task(view.follow())
    try:
        await eventually_async(lambda: view.problem is not None, what="the problem")
        assert not view.connected
        bucket.down = False
        await eventually_async(lambda: view.connected, what="an answer")
        await bucket.put(f"{CAMERA}porch", Owner(worker="west", tenure="t", epoch=0).encode())
        await eventually_async(lambda: view.owner("porch") is not None, what="the owner")
        assert "do not answer" in caplog.text
    finally:
        following.cancel()
