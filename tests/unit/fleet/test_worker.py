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
from async_motion.fleet import holder, placement, settling
from async_motion.fleet import worker as module
from async_motion.fleet.bucket_view import WORKER
from async_motion.fleet.leases import CAMERA, Entry
from async_motion.fleet.model import FleetSettings
from async_motion.fleet.worker import FleetWorker
from tests.support.buckets import MemoryBucket
from tests.support.wait import eventually_async

TTL_S = 1.2
CAMERAS = tuple(f"cam{number}" for number in range(8))


class Line:
    """One worker's connection to the bucket, which can be cut."""

    def __init__(self, bucket: MemoryBucket) -> None:
        self._bucket = bucket
        self.cut = False
        self.deaf = 0.0
        """Seconds that an update takes; it swallows a cancellation meanwhile, as nats-py may."""
        self.waiting = False
        self.unheard = False
        """Whether a lease is created without an answer, and cannot be read."""

    def _check(self) -> None:
        if self.cut:
            raise LeaseUnavailable("cut")

    async def create(self, key: str, value: bytes) -> int:
        self._check()
        revision = await self._bucket.create(key, value)
        if self.unheard:
            raise LeaseUnavailable("no answer")
        return revision

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self._check()
        if self.deaf:
            with suppress(asyncio.CancelledError):
                self.waiting = True
                await asyncio.sleep(self.deaf)
        return await self._bucket.update(key, value, revision)

    async def put(self, key: str, value: bytes) -> int:
        self._check()
        return await self._bucket.put(key, value)

    async def get(self, key: str) -> Entry | None:
        self._check()
        if self.unheard:
            raise LeaseUnavailable("no answer")
        entry = await self._bucket.get(key)
        # As `NatsBucket` does, for nats-py may have swallowed the cancellation.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return entry

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


class Owned:
    """The cameras of one worker. Those in `hanging` do not stop, those in `stuck` are not freed by a cut."""

    def __init__(self, worker: str, stage: Stage) -> None:
        self.worker = worker
        self.stage = stage
        self.hanging: set[str] = set()
        self.stuck: set[str] = set()
        self.cuts: set[str] = set()
        self.released = asyncio.Event()

    def start(self, camera: str, epoch: int, _note: object) -> None:
        self.stage.start(self.worker, camera, epoch)

    async def stop(self, camera: str) -> None:
        if camera in self.hanging:
            await self.released.wait()
        self.stage.stop(self.worker, camera)

    def cut(self, camera: str) -> bool:
        if camera in self.stuck:
            return False
        self.cuts.add(camera)
        self.stage.stop(self.worker, camera)
        return True


def held(worker: FleetWorker, camera: str) -> bool:
    assignment = worker.assignment(camera)
    return assignment is not None and assignment.held


@dataclass
class Running:
    worker: FleetWorker
    line: Line
    task: asyncio.Task[None]
    ended: list[str]
    """The cameras for which the process would have ended."""

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
    cameras: Owned | None = None,
    cost: float | None = None,
    ttl_s: float = TTL_S,
) -> AsyncIterator[Running]:
    line = Line(bucket)
    owned = cameras or Owned(name, stage)
    ended: list[str] = []
    worker = FleetWorker(
        FleetSettings(
            worker=name,
            cameras=CAMERAS,
            capacity=4.0,
            fingerprint=fingerprint,
            ttl_s=ttl_s,
            on_quorum_loss=on_quorum_loss,
        ),
        line,
        owned,
        end=ended.append,
        cost_of=lambda _camera: cost,
        clock=clock,
    )
    one = Running(worker, line, asyncio.create_task(worker.run(), name=name), ended)
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_S", 0.3)
    monkeypatch.setattr(module, "LOOK_S", 0.02)


async def test_workers_share_the_cameras_and_never_two_have_one() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage), running("b", bucket, stage), running("c", bucket, stage):
        await eventually_async(stage.all_owned, what="an owner for each camera")
        assert len([name for name in "abc" if stage.of(name)]) > 1
    assert stage.overlaps == []
    assert not any(stage.owners.values()), "a worker that ends stops its cameras"


async def test_a_worker_that_ends_deletes_its_report() -> None:
    bucket, stage = MemoryBucket(60.0), Stage()
    key = f"{WORKER}a"
    async with running("a", bucket, stage):
        await eventually_async(lambda: bucket.live(key) is not None, what="the report")
    assert bucket.live(key) is None


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


async def test_after_an_outage_the_worker_that_is_back_first_does_not_take_every_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "RETURN_S", 60.0)
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as first, running("b", bucket, stage) as second:
        await eventually_async(stage.all_owned)
        await eventually_async(lambda: bool(stage.of("a")) and bool(stage.of("b")))
        first.line.cut = second.line.cut = True
        await eventually_async(lambda: not any(stage.owners.values()), what="the fences")
        await eventually_async(lambda: not first.worker.view().owners, what="the leases' end")
        # On a busy machine both are late, and the first to look would have the turn of the other.
        monkeypatch.setattr(placement, "STAGGER_S", 10.0)
        monkeypatch.setattr(placement, "MAX_STAGGER_S", 10.0)
        first.line.cut = False
        await eventually_async(lambda: first.worker.view().connected, what="an answer")
        assert not stage.of("a")
        second.line.cut = False
        await eventually_async(stage.all_owned, what="an owner for each camera")
        assert stage.of("a")
        assert stage.of("b")
        assert stage.overlaps == []


async def test_a_worker_counts_no_turn_while_the_bucket_does_not_answer() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as only:
        await eventually_async(stage.all_owned)
        bucket.down = True
        await eventually_async(lambda: not any(stage.owners.values()), what="the fence")
        await eventually_async(lambda: only.worker.idle, what="the end of the stops")
        # Else the worker that is back first finds each camera free for long, and takes all.
        await eventually_async(lambda: not only.worker._free_since, what="no turns")  # noqa: SLF001


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


async def test_a_move_to_a_worker_that_cannot_take_the_camera_moves_nothing() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as a, running("b", bucket, stage) as b:
        await eventually_async(stage.all_owned)
        owner, other = ("a", b) if "cam1" in stage.of("a") else ("b", a)
        name = "b" if other is b else "a"
        other.worker.cannot_open("cam1", "no route to host")
        await eventually_async(lambda: says(bucket, name, b"no route"), what="the refusal")
        starts = len(stage.epochs["cam1"])
        for target in ("gone", name):
            await bucket.put("move.cam1", f'{{"worker": "{target}"}}'.encode())
            await asyncio.sleep(TTL_S / 2)
        assert "cam1" in stage.of(owner)
        assert len(stage.epochs["cam1"]) == starts, "it went to and fro"


def says(bucket: MemoryBucket, worker: str, what: bytes) -> bool:
    report = bucket.live(WORKER + worker)
    return report is not None and what in report.value


async def test_a_lease_that_a_write_without_an_answer_left_behind_is_taken_up() -> None:
    bucket, stage = MemoryBucket(600.0), Stage()
    async with running("a", bucket, stage, ttl_s=600.0) as only:
        only.line.unheard = True
        await eventually_async(lambda: bucket.live(CAMERA + "cam1") is not None, what="a lease")
        only.line.unheard = False
        # Otherwise its key blocks the camera for ten minutes.
        await eventually_async(lambda: "cam1" in stage.of("a"), what="its owner")


async def test_different_settings_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as first, running("b", bucket, stage, fingerprint="other"):
        await eventually_async(lambda: first.worker.view().different == ("b",))
    assert "the settings of b differ from ours" in caplog.text


async def test_two_workers_of_one_name_are_reported_and_share_no_camera(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    first, second = Owned("first", stage), Owned("second", stage)
    async with running("a", bucket, stage, cameras=first) as one:
        await eventually_async(stage.all_owned)
        assert not one.worker.view().namesake
        async with running("a", bucket, stage, cameras=second) as other:
            await eventually_async(lambda: one.worker.view().namesake, what="the namesake")
            await eventually_async(lambda: other.worker.view().namesake, what="the namesake")
        await eventually_async(lambda: not one.worker.view().namesake, what="its end")
        await eventually_async(stage.all_owned)
    assert stage.overlaps == []
    assert "another worker is called a too: give each host its own fleet.name" in caplog.text


async def test_nonsense_in_the_bucket_harms_no_worker() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as only:
        for number, value in enumerate((b"[" * 5000, b"NaN", b'"\\ud800"', b'{"capacity": -1}', b"\xff")):
            await bucket.put(f"worker.x{number}", value)
            await bucket.put(f"move.cam{number}", value)
        await bucket.put("worker.y", b'{"capacity": 2, "costs": [1], "refused": {"a": 1}}')
        await eventually_async(stage.all_owned)
        assert {worker.name for worker in only.worker.view().workers} <= {"a", "y"}


async def test_a_camera_whose_stop_hangs_is_free_before_another_worker_has_its_lease() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    owned = Owned("a", stage)
    async with running("a", bucket, stage, cameras=owned) as a:
        await eventually_async(stage.all_owned)
        owned.hanging.update(CAMERAS)
        async with running("b", bucket, stage):
            a.line.cut = True
            await eventually_async(lambda: stage.of("b") == set(CAMERAS), what="the failover")
            assert stage.overlaps == []
            assert owned.cuts == set(CAMERAS)
            assert a.ended == []
            # What hangs is not taken back meanwhile: its stop has not ended.
            a.line.cut = False
        owned.released.set()
        await eventually_async(stage.all_owned, what="the cameras at the first worker again")
    assert stage.overlaps == []


async def test_a_camera_that_is_given_away_and_does_not_stop_is_cut_and_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holder, "STOP_S", 0.2)
    bucket, stage = MemoryBucket(TTL_S), Stage()
    owned = Owned("a", stage)
    async with running("a", bucket, stage, cameras=owned) as a, running("b", bucket, stage):
        await eventually_async(stage.all_owned)
        owned.hanging.update(CAMERAS)
        a.worker.drain()
        await eventually_async(lambda: stage.of("b") == set(CAMERAS), what="the drain")
        assert not a.worker.idle
        owned.released.set()
        await eventually_async(lambda: a.worker.idle, what="the end of the stops")
    assert stage.overlaps == []


async def test_a_worker_that_cannot_free_a_camera_ends_its_process_and_keeps_the_lease() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    owned = Owned("a", stage)
    async with running("a", bucket, stage, cameras=owned) as a:
        await eventually_async(stage.all_owned)
        owned.stuck.add("cam3")
        a.worker.drain()
        async with running("b", bucket, stage):
            await eventually_async(lambda: a.ended, what="the end of the process")
            assert set(a.ended) == {"cam3"}
        owned.stuck.clear()


async def test_a_camera_is_cut_while_the_event_loop_is_blocked() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    owned = Owned("a", stage)
    async with running("a", bucket, stage, cameras=owned) as a:
        await eventually_async(stage.all_owned)
        time.sleep(2 * TTL_S)  # noqa: ASYNC251 - the event loop is blocked
        assert owned.cuts == set(CAMERAS)
        assert a.worker.assignment("cam0") is None
        await eventually_async(stage.all_owned, what="the cameras again, with new leases")
        assert all(len(epochs) > 1 for epochs in stage.epochs.values())


async def test_a_restart_under_a_new_epoch_that_hangs_gives_the_camera_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holder, "STOP_S", 0.2)
    bucket, stage = MemoryBucket(TTL_S), Stage()
    owned = Owned("a", stage)
    async with running("a", bucket, stage, on_quorum_loss="keep", cameras=owned):
        await eventually_async(stage.all_owned)
        owned.hanging.add("cam0")
        bucket.expire(CAMERA + "cam0")
        await eventually_async(lambda: "cam0" in owned.cuts, what="the cut")
        async with running("b", bucket, stage):
            await eventually_async(lambda: "cam0" in stage.of("b"), what="the other worker")
        owned.released.set()
    assert stage.overlaps == []


async def test_a_renewal_that_swallows_its_cancellation_harms_no_worker() -> None:
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage) as a, running("b", bucket, stage):
        await eventually_async(stage.all_owned)
        await eventually_async(lambda: bool(stage.of("a")))
        a.line.deaf = TTL_S / 4
        a.line.waiting = False
        await eventually_async(lambda: a.line.waiting, what="a renewal")
        a.worker.drain()
        await eventually_async(lambda: stage.of("b") == set(CAMERAS), what="the drain")
        await eventually_async(lambda: a.worker.idle)
        assert not a.task.done()
    assert stage.overlaps == []


async def test_what_was_shed_is_not_taken_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHED_EVERY_S", 0.1)
    monkeypatch.setattr(module, "SETTLED_S", 0.1)
    bucket, stage = MemoryBucket(TTL_S), Stage()
    async with running("a", bucket, stage, cost=0.4):
        await eventually_async(stage.all_owned)
        async with running("b", bucket, stage, cost=0.4) as b:
            await eventually_async(lambda: stage.of("b"), what="a shed camera")
            b.line.cut = True
            shed = min(stage.of("b"))
            key = CAMERA + shed
            await eventually_async(lambda: bucket.live(key) is None, what="the end of its lease")
            free_at = time.monotonic()
            await eventually_async(
                lambda: shed in stage.of("a"), what="the camera back, with no other worker"
            )
            # A camera that was not shed is taken as soon as it is free.
            assert time.monotonic() - free_at > 0.5 * TTL_S
    assert stage.overlaps == []
