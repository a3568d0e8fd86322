"""Workers on an in-memory bucket: one owner at a time, failover, draining, moves, quorum loss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from async_motion.core.options import OnQuorumLoss
from async_motion.errors import LeaseUnavailable
from async_motion.fleet import worker as module
from async_motion.fleet.leases import CAMERA, Entry
from async_motion.fleet.worker import FleetSettings, FleetWorker
from tests.support.buckets import MemoryBucket
from tests.support.wait import eventually_async

TTL_S = 1.2
CAMERAS = tuple(f"cam{number}" for number in range(8))


class Line:
    """One worker's connection to the bucket, which can be cut."""

    def __init__(self, bucket: MemoryBucket) -> None:
        self._bucket = bucket
        self.cut = False

    def _check(self) -> None:
        if self.cut:
            raise LeaseUnavailable("cut")

    async def create(self, key: str, value: bytes) -> int:
        self._check()
        return await self._bucket.create(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self._check()
        return await self._bucket.update(key, value, revision)

    async def put(self, key: str, value: bytes) -> int:
        self._check()
        return await self._bucket.put(key, value)

    async def get(self, key: str) -> Entry | None:
        self._check()
        return await self._bucket.get(key)

    async def delete(self, key: str, revision: int) -> None:
        self._check()
        await self._bucket.delete(key, revision)

    async def watch(self) -> AsyncIterator[Entry | None]:
        self._check()
        async for entry in self._bucket.watch():
            self._check()
            yield entry


@dataclass
class Stage:
    """Record the owners of each camera, and every overlap of two."""

    owners: dict[str, set[str]] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)
    epochs: dict[str, list[int]] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)

    def start(self, worker: str, camera: str, epoch: int) -> None:
        owners = self.owners.setdefault(camera, set())
        owners.add(worker)
        if len(owners) > 1:
            self.overlaps.append(f"{camera}: {sorted(owners)}")
        self.epochs.setdefault(camera, []).append(epoch)
        self.starts[camera] = time.monotonic()

    def stop(self, worker: str, camera: str) -> None:
        self.owners.get(camera, set()).discard(worker)

    def of(self, worker: str) -> set[str]:
        return {camera for camera, owners in self.owners.items() if worker in owners}

    def all_owned(self) -> bool:
        return all(len(self.owners.get(camera, ())) == 1 for camera in CAMERAS)


def held(worker: FleetWorker, camera: str) -> bool:
    assignment = worker.assignment(camera)
    return assignment is not None and assignment.held


@dataclass
class Running:
    worker: FleetWorker
    line: Line
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@asynccontextmanager
async def running(
    name: str,
    bucket: MemoryBucket,
    stage: Stage,
    *,
    on_quorum_loss: OnQuorumLoss = "stop",
    fingerprint: str = "same",
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Running]:
    line = Line(bucket)

    async def stop(camera: str) -> None:
        stage.stop(name, camera)

    worker = FleetWorker(
        FleetSettings(
            worker=name,
            cameras=CAMERAS,
            capacity=4.0,
            fingerprint=fingerprint,
            ttl_s=TTL_S,
            on_quorum_loss=on_quorum_loss,
        ),
        line,
        start=lambda camera, epoch, _note: stage.start(name, camera, epoch),
        stop=stop,
        clock=clock,
    )
    one = Running(worker, line, asyncio.create_task(worker.run(), name=name))
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.3)
    monkeypatch.setattr(module, "LOOK_S", 0.02)


async def test_workers_share_the_cameras_and_never_two_have_one() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage), running("b", bucket, stage), running("c", bucket, stage):
        await eventually_async(stage.all_owned, what="an owner for each camera")
        assert len([name for name in "abc" if stage.of(name)]) > 1
    assert stage.overlaps == []
    assert not any(stage.owners.values()), "a worker that ends stops its cameras"


async def test_the_cameras_of_a_worker_that_vanishes_get_new_owners_with_higher_epochs() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as first, running("b", bucket, stage):
        await eventually_async(stage.all_owned)
        await eventually_async(lambda: bool(stage.of("a")) and bool(stage.of("b")))
        lost = stage.of("a")
        first.line.cut = True
        # Its own fence stops the cameras before their leases expire for other workers.
        await eventually_async(lambda: not stage.of("a"), what="the fence")
        await eventually_async(stage.all_owned, what="the failover")
        assert stage.overlaps == []
        for camera in lost:
            assert stage.epochs[camera] == sorted(set(stage.epochs[camera]))


async def test_without_a_quorum_a_worker_that_keeps_goes_on_and_says_that_it_is_not_held() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage, on_quorum_loss="keep") as one:
        await eventually_async(stage.all_owned)
        bucket.down = True
        await eventually_async(lambda: not held(one.worker, "cam0"), what="the fence")
        assert stage.all_owned()
        assert one.worker.view().problem is not None
        # The worker's own deadline comes before the server's: until then a renewal keeps the epoch.
        await eventually_async(
            lambda: all(bucket.live(f"{CAMERA}{name}") is None for name in stage.epochs), what="the keys' end"
        )
        bucket.down = False
        await eventually_async(lambda: held(one.worker, "cam0"), what="a lease again")
        await eventually_async(lambda: all(len(epochs) > 1 for epochs in stage.epochs.values()))
        assert stage.overlaps == []
        # The key had expired: the camera goes on at the same worker, with a higher epoch.
        assert all(epochs == sorted(set(epochs)) for epochs in stage.epochs.values())
        await eventually_async(lambda: one.worker.view().problem is None, what="the end of the problem")


async def test_a_refusal_while_the_servers_wait_for_a_quorum_loses_no_camera() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage, on_quorum_loss="keep") as one:
        await eventually_async(stage.all_owned)
        bucket.refusing = True
        await eventually_async(lambda: not held(one.worker, "cam0"), what="the fence")
        assert stage.all_owned()
        bucket.refusing = False
        await eventually_async(lambda: held(one.worker, "cam0"), what="a lease again")


async def test_a_worker_that_stood_still_past_its_lease_gives_its_cameras_up_even_if_it_keeps() -> None:
    now = 0.0
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage, on_quorum_loss="keep", clock=lambda: time.monotonic() + now) as a:
        await eventually_async(stage.all_owned)
        a.line.cut = True
        now = 3600.0  # the machine was suspended
        await eventually_async(lambda: not stage.of("a"), what="the stop of the cameras")


async def test_without_a_quorum_a_worker_that_stops_stops_in_time() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage, on_quorum_loss="stop"):
        await eventually_async(stage.all_owned)
        bucket.down = True
        await eventually_async(lambda: not stage.of("a"), what="the fence")
        bucket.down = False
        await eventually_async(stage.all_owned, what="the cameras again")


async def test_a_worker_that_drains_gives_its_cameras_to_the_other() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as first, running("b", bucket, stage):
        await eventually_async(stage.all_owned)
        first.worker.drain()
        await eventually_async(lambda: stage.of("b") == set(CAMERAS), what="the drain")
        assert stage.overlaps == []


async def test_a_worker_alone_that_drains_keeps_its_cameras_until_it_ends() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as only:
        await eventually_async(stage.all_owned)
        only.worker.drain()
        await asyncio.sleep(2 * module.LOOK_S)
        assert stage.all_owned()


async def test_a_camera_that_cannot_be_opened_goes_to_another_worker() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as a, running("b", bucket, stage) as b:
        await eventually_async(stage.all_owned)
        owner = "a" if "cam3" in stage.of("a") else "b"
        (a if owner == "a" else b).worker.cannot_open("cam3", "no route to host")
        other = "b" if owner == "a" else "a"
        await eventually_async(lambda: "cam3" in stage.of(other), what="the other worker")
        assert stage.overlaps == []


async def test_a_camera_that_no_worker_can_open_is_still_tried() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as only:
        only.worker.cannot_open("cam3", "wrong password")
        await eventually_async(stage.all_owned, what="an owner for each camera")


async def test_a_camera_is_moved_by_hand() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage), running("b", bucket, stage):
        await eventually_async(stage.all_owned)
        target = "b" if "cam1" in stage.of("a") else "a"
        await bucket.put("move.cam1", f'{{"worker": "{target}"}}'.encode())
        await eventually_async(lambda: "cam1" in stage.of(target), what="the move")
        assert stage.overlaps == []


async def test_different_settings_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as first, running("b", bucket, stage, fingerprint="other"):
        await eventually_async(lambda: first.worker.view().different == ("b",))
    assert "the settings of b differ from ours" in caplog.text


async def test_nonsense_in_the_bucket_harms_no_worker() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as only:
        for number, value in enumerate((b"[" * 5000, b"NaN", b'"\\ud800"', b'{"capacity": -1}', b"\xff")):
            await bucket.put(f"worker.x{number}", value)
            await bucket.put(f"move.cam{number}", value)
        await bucket.put("worker.y", b'{"capacity": 2, "costs": [1], "refused": {"a": 1}}')
        await eventually_async(stage.all_owned)
        assert {worker.name for worker in only.worker.view().workers} <= {"a", "y"}
