"""One worker of a fleet: which cameras it owns, and when it must give them up.

    view (worker.*, camera.*) ──placement──▶ acquire ──▶ start(camera, epoch)
                                                │
                                 renew every ttl/3, a task of its own for each lease
                                                │
             lost, shed, refused, drained, or fenced ──▶ stop(camera) ──▶ cut ──▶ release

- The view is a cache. Only the compare-and-set decides: a stale view costs an attempt, never a second owner.
- A worker regards a lease as expired `ttl_s` after it last saw it change, by its own clock. If the owner is
  alive after all, the bucket refuses the attempt.
- The fence is an event loop timer for each lease, set again by each renewal. It is also checked against the
  boot clock at every look, for machines that were suspended.
- A lease ends only when its camera is free. A stop that takes too long goes on without its camera, whose
  connections are cut. If that fails too, or the event loop is blocked, the guard ends the process.
- Without a quorum no worker can acquire a camera. `keep` goes on with the cameras that this worker owns, with
  `Assignment.held` False: its announcements are delayed, and a newer epoch wins. `stop` stops them in time.
- After its start a worker waits `SETTLE_S` to learn of the others: alone it would take every camera.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from async_motion.core.options import LEASE_TTL_S, ON_QUORUM_LOSS, OnQuorumLoss
from async_motion.errors import LeaseLost, LeaseUnavailable
from async_motion.fleet import placement
from async_motion.fleet.clock import boottime
from async_motion.fleet.guard import LeaseGuard
from async_motion.fleet.leases import (
    CAMERA,
    Entry,
    Fence,
    KeyTaken,
    KeyValueBucket,
    Lease,
    LeaseKeeper,
    parse_object,
    parse_owner,
)
from async_motion.fleet.placement import WorkerView

log = logging.getLogger(__name__)

WORKER = "worker."
"""Key prefix of the workers' reports."""
MOVE = "move."
"""Key prefix of manual moves: the camera's next owner."""
DRAIN = "drain."
"""Key prefix of manual drains: the worker hands its cameras over, and takes none until it starts again."""
INSTANCE = "=instance"
"""Stands for the instance itself among the cameras: its owner speaks for it. Not a valid camera name."""

LOOK_S = 0.25
"""How often the view is evaluated."""
SHED_EVERY_S = 5.0
"""How often a worker checks whether it has more than its share."""
SETTLED_S = 30.0
"""How long a worker owns a camera before it may shed it: the cost is measured by then."""
SETTLE_S = 2.0
STOP_S = 3.0
"""How long a lease waits for the stop of its camera before the camera's connections are cut."""
FREE_POLL_S = 0.05
DEFAULT_COST = 0.1
"""The cost, in cores, of a camera that was not measured yet."""
REFUSED_FOR_S = 300.0
"""How long a worker skips a camera that it could not open."""
INSTANCE_COST = 0.01
MAX_TOLD = 400
"""Maximum number of costs in a worker's report: it must fit into one value of the bucket."""
MAX_REASONS = 16
MAX_WORKERS = 256
"""Maximum number of other keys in the view: a bucket full of garbage must not fill memory."""


class OwnedCameras(Protocol):
    """Starts and stops this worker's cameras. No method raises."""

    def start(self, camera: str, epoch: int, note: Mapping[str, Any] | None) -> None:
        """Start the capture and return at once. `note` is that of the last owner if it was lost."""

    async def stop(self, camera: str) -> None:
        """End the capture at once; return when its frames are in the spool. May hang."""

    def cut(self, camera: str) -> bool:
        """End the camera's connections at once; return whether it is free.

        Called from any thread; must not wait. A camera that was cut is stopped next.
        """


class WatchedBucket(KeyValueBucket, Protocol):
    """A bucket whose changes can be followed."""

    def watch(self) -> AsyncIterator[Entry | None]:
        """Yield every key, then None, then each change. Raises LeaseUnavailable."""

    async def put(self, key: str, value: bytes) -> int:
        """Write a key unconditionally; return its revision. Raises LeaseUnavailable."""


@dataclass(slots=True)
class _SeenEntry:
    entry: Entry
    at: float


@dataclass(slots=True)
class _Held:
    """A camera that this worker owns."""

    lease: Lease
    since: float
    renewing: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    keeping: bool = False
    """Its lease has expired without a quorum, and the camera goes on."""
    note: Mapping[str, Any] | None = None
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the lease must be renewed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A camera of this worker. `held` is False while it goes on only because of `keep`."""

    camera: str
    epoch: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """What this worker knows of the fleet. `owners` maps each owned camera to its worker.

    `about` maps each worker to what it reports about itself, `speaker` is the worker that owns the instance.
    """

    connected: bool
    workers: tuple[WorkerView, ...]
    owners: Mapping[str, str]
    epochs: Mapping[str, int]
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    speaker: str | None = None
    keeping: bool = False
    """Whether cameras go on although their leases cannot be renewed."""
    problem: str | None = None
    different: tuple[str, ...] = ()
    """Workers with other settings than this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """Settings of a worker. `capacity` is in cores, > 0.

    `fingerprint` is a hash of the settings that all workers must share.
    """

    worker: str
    cameras: tuple[str, ...]
    capacity: float
    fingerprint: str
    ttl_s: float = LEASE_TTL_S
    on_quorum_loss: OnQuorumLoss = ON_QUORUM_LOSS

    @property
    def margin_s(self) -> float:
        """Return how long before the deadline a camera is stopped."""
        return min(1.5, self.ttl_s / 4)

    @property
    def cut_s(self) -> float:
        """Return how long before the deadline the connections of a camera that was not stopped are cut."""
        return self.margin_s / 2


@dataclass(slots=True)
class _State:
    seen: dict[str, _SeenEntry] = field(default_factory=dict)
    free_since: dict[str, float] = field(default_factory=dict)
    cooling: dict[str, float] = field(default_factory=dict)
    refused: dict[str, tuple[float, str]] = field(default_factory=dict)


class FleetWorker:
    """Own a share of the cameras while `run` runs.

    `end(camera)` ends the process, because this camera cannot be freed in time; it is called in a thread of
    its own. `cost_of` returns a camera's cost in cores, or None while it is unknown. `about` returns further
    fields of this worker's report.
    """

    def __init__(
        self,
        settings: FleetSettings,
        bucket: WatchedBucket,
        cameras: OwnedCameras,
        *,
        end: Callable[[str], None],
        cost_of: Callable[[str], float | None] = lambda _camera: None,
        about: Callable[[], Mapping[str, Any]] = dict,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._settings = settings
        self._bucket = bucket
        self._cameras = cameras
        self._cost_of = cost_of
        self._about = about
        self._clock = clock
        self._keeper = LeaseKeeper(bucket, settings.worker, ttl_s=settings.ttl_s, clock=clock)
        self._fence = Fence(settings.margin_s, clock)
        self._guard = LeaseGuard(cut=cameras.cut, end=end, early_s=settings.cut_s, clock=clock)
        self._state = _State()
        self._held: dict[str, _Held] = {}
        self._busy: set[str] = set()
        """Cameras that are being acquired or given up."""
        self._leaving = False
        self._drained = False
        self._connected = False
        self._problem: str | None = None
        self._warned: tuple[str, ...] = ()
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def _draining(self) -> bool:
        return self._leaving or self._drained

    # State and requests

    def assignment(self, camera: str) -> Assignment | None:
        """Return this worker's assignment of a camera; None if it does not own it, or was cut off from it."""
        held = self._held.get(camera)
        if held is None or self._guard.has_cut(camera):
            return None
        return Assignment(camera=camera, epoch=held.lease.epoch, held=self._fence.holds(camera))

    def view(self) -> FleetView:
        """Return what this worker knows of the fleet now."""
        owners, epochs = {}, {}
        reports: dict[str, Mapping[str, Any]] = {self._settings.worker: self._about()}
        for key in self._state.seen:
            name = key.removeprefix(WORKER)
            if key.startswith(WORKER) and name != self._settings.worker and (seen := self._live(key)):
                about = parse_object(seen.entry.value).get("about")
                reports[name] = about if isinstance(about, dict) else {}
        for camera in self._settings.cameras:
            if camera in self._held:
                owners[camera], epochs[camera] = self._settings.worker, self._held[camera].lease.epoch
            elif (seen := self._live(CAMERA + camera)) and (owner := parse_owner(seen.entry)):
                owners[camera], epochs[camera] = owner.worker, owner.epoch
        return FleetView(
            connected=self._connected,
            workers=tuple(self._workers()),
            speaker=owners.pop(INSTANCE, None),
            owners=owners,
            epochs={camera: epoch for camera, epoch in epochs.items() if camera != INSTANCE},
            about=reports,
            keeping=any(held.keeping for held in self._held.values()),
            problem=self._problem,
            different=self._different(),
        )

    def cannot_open(self, camera: str, reason: str) -> None:
        """Report that this worker cannot open a camera, so that another one takes it."""
        self._state.refused[camera] = (self._clock() + REFUSED_FOR_S, reason)

    def refusal(self, camera: str) -> str | None:
        """Return why this worker cannot open a camera; None if it can."""
        return self._state.refused[camera][1] if camera in self._refused() else None

    def drain(self) -> None:
        """Hand all cameras over and take none, for the rest of this run."""
        self._leaving = True

    def note(self, camera: str, note: Mapping[str, Any] | None) -> None:
        """Store a note in the lease, for the next owner if this worker is lost. None removes it."""
        held = self._held.get(camera)
        if held is not None and held.note != note:
            held.note = note
            held.due.set()

    def noted(self, camera: str) -> Mapping[str, Any] | None:
        """Return the note in the lease of a camera that this worker owns; None without one."""
        held = self._held.get(camera)
        return held.note if held is not None else None

    @property
    def idle(self) -> bool:
        """Return whether this worker owns no camera and is not giving one up."""
        return not self._held and not self._busy

    # The life of a worker

    async def run(self) -> None:
        """Take part in the fleet until cancelled; then stop and release every camera."""
        self._guard.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._follow(), name="fleet: follow")
                tasks.create_task(self._tell(), name="fleet: tell")
                try:
                    await asyncio.sleep(SETTLE_S)
                    tasks.create_task(self._shed(), name="fleet: shed")
                    while True:
                        self._look()
                        await asyncio.sleep(LOOK_S)
                finally:
                    # From now on leases are not renewed reliably, even if a task of this group does not end.
                    for camera, held in self._held.items():
                        self._guard.set(camera, self._due(held.lease))
        finally:
            self._tasks = None
            try:
                await self._leave()
            finally:
                self._guard.stop()

    async def _leave(self) -> None:
        """Stop and release the remaining cameras, concurrently."""
        async with asyncio.TaskGroup() as tasks:
            for camera in list(self._held):
                lease = self._end_renewals(camera)
                tasks.create_task(self._hand_back(camera, lease), name=f"fleet: release[{camera}]")
        key = WORKER + self._settings.worker
        try:
            entry = await self._bucket.get(key)
            if entry is not None:
                await self._bucket.delete(key, entry.revision)
        except (LeaseUnavailable, KeyTaken) as exc:
            log.debug("fleet: cannot delete the worker's key; it expires by itself: %s", exc)

    async def _follow(self) -> None:
        """Keep the view up to date. The watch restarts every `ttl_s`, and after every lost connection."""
        while True:
            try:
                async with asyncio.timeout(self._settings.ttl_s):
                    async for entry in self._bucket.watch():
                        if entry is not None:
                            self._see(entry)
                        else:
                            self._set_connected(None)
            except TimeoutError:
                continue
            except LeaseUnavailable as exc:
                self._set_connected(str(exc))
                await asyncio.sleep(0.5)

    def _see(self, entry: Entry) -> None:
        known = self._state.seen.get(entry.key)
        if known is not None and known.entry.revision >= entry.revision:
            return
        if known is None and len(self._state.seen) > MAX_WORKERS + 2 * len(self._settings.cameras):
            return
        self._state.seen[entry.key] = _SeenEntry(entry, self._clock())
        if entry.key == DRAIN + self._settings.worker and entry.value:
            # Keep it in memory: the key itself expires.
            self._drained = parse_object(entry.value).get("draining") is True
            log.info("fleet: %s by command", "draining" if self._drained else "taking cameras again")

    def _set_connected(self, problem: str | None) -> None:
        if problem is None and not self._connected:
            log.info("fleet: connected to the NATS servers as worker %s", self._settings.worker)
        elif problem is not None and (self._connected or self._problem is None):
            log.warning("fleet: %s; retrying", problem)
        self._connected, self._problem = problem is None, problem

    async def _tell(self) -> None:
        """Write this worker's report every `ttl_s / 3`."""
        while True:
            value = {
                "capacity": self._settings.capacity,
                "draining": self._draining,
                "refused": {
                    camera: self._state.refused[camera][1][:80]
                    for camera in sorted(self._refused())[:MAX_REASONS]
                },
                "costs": {camera: round(self._cost(camera), 3) for camera in list(self._held)[:MAX_TOLD]},
                "about": dict(self._about()),
                "fingerprint": self._settings.fingerprint,
            }
            try:
                data = json.dumps(value, separators=(",", ":")).encode()
                await self._bucket.put(WORKER + self._settings.worker, data)
            except LeaseUnavailable as exc:
                self._set_connected(str(exc))
            await asyncio.sleep(self._settings.ttl_s / 3)

    # Evaluating the view

    def _live(self, key: str) -> _SeenEntry | None:
        """Return a key's entry; None if it was deleted, or has expired by our clock."""
        seen = self._state.seen.get(key)
        if seen is None or not seen.entry.value or self._clock() - seen.at >= self._settings.ttl_s:
            return None
        return seen

    def _refused(self) -> frozenset[str]:
        now = self._clock()
        self._state.refused = {
            camera: refusal for camera, refusal in self._state.refused.items() if refusal[0] > now
        }
        return frozenset(self._state.refused)

    def _cost(self, camera: str) -> float:
        cost = self._cost_of(camera) if camera != INSTANCE else INSTANCE_COST
        return cost if cost is not None and math.isfinite(cost) and cost > 0 else DEFAULT_COST

    def _workers(self) -> list[WorkerView]:
        """Return all workers, with loads computed from the leases in the view."""
        me = self._settings.worker
        owners: dict[str, list[str]] = {}
        for camera in self._settings.cameras:
            if camera in self._held:
                owners.setdefault(me, []).append(camera)
            elif (seen := self._live(CAMERA + camera)) and (owner := parse_owner(seen.entry)):
                owners.setdefault(owner.worker, []).append(camera)
        found = [
            WorkerView(
                name=me,
                capacity=self._settings.capacity,
                load=sum(self._cost(camera) for camera in owners.get(me, ())),
                draining=self._draining,
                refused=self._refused(),
            )
        ]
        for key in list(self._state.seen):
            name = key.removeprefix(WORKER)
            if not key.startswith(WORKER) or name == me or (seen := self._live(key)) is None:
                continue
            value = parse_object(seen.entry.value)
            capacity, costs, refused = value.get("capacity"), value.get("costs"), value.get("refused")
            if not isinstance(capacity, int | float) or not 0 < capacity < 1e6:
                continue
            known = costs if isinstance(costs, dict) else {}
            found.append(
                WorkerView(
                    name=name,
                    capacity=float(capacity),
                    load=sum(_number(known.get(camera), DEFAULT_COST) for camera in owners.get(name, ())),
                    draining=value.get("draining") is True,
                    refused=frozenset(refused) if isinstance(refused, dict) else frozenset(),
                )
            )
        return found

    def _different(self) -> tuple[str, ...]:
        """Return the workers whose settings differ; log each change of that list once."""
        different = []
        for key in self._state.seen:
            if key.startswith(WORKER) and (seen := self._live(key)) is not None:
                fingerprint = parse_object(seen.entry.value).get("fingerprint")
                if fingerprint != self._settings.fingerprint:
                    different.append(key.removeprefix(WORKER))
        found = tuple(sorted(different))
        if found != self._warned:
            self._warned = found
            if found:
                log.error(
                    "fleet: the settings of %s differ from ours: give all workers the same variables.yaml",
                    ", ".join(found),
                )
        return found

    def _look(self) -> None:
        """Act on the view: fence, drain, acquire free cameras."""
        now = self._clock()
        for camera in list(self._held):
            if self._guard.has_cut(camera):
                self._give_up(camera, "its connections were cut, for the event loop was late")
            elif not self._fence.holds(camera):
                self._fence_fell(camera)
        self._different()
        workers = self._workers()
        for camera in list(self._held):
            if camera not in self._busy and self._must_go(camera, workers):
                self._give_up(camera, "given to another worker")
        if not self._connected:
            return
        for camera in self._settings.cameras:
            if camera in self._held or camera in self._busy:
                continue
            if self._live(CAMERA + camera) is not None:
                self._state.free_since.pop(camera, None)
                continue
            since = self._state.free_since.setdefault(camera, now)
            if self._is_my_turn(camera, now - since, workers):
                self._busy.add(camera)
                self._spawn(self._acquire(camera), f"fleet: acquire[{camera}]")

    def _must_go(self, camera: str, workers: Collection[WorkerView]) -> bool:
        """Return whether a camera must leave this worker: a drain, a manual move, or it cannot be opened."""
        if self._target(camera) not in (None, self._settings.worker):
            return True
        others = [w for w in placement.preferred(camera, workers) if w.name != self._settings.worker]
        return bool(others) and (self._draining or camera in self._refused())

    def _target(self, camera: str) -> str | None:
        """Return the target of a camera's manual move; None without one."""
        seen = self._live(MOVE + camera)
        worker = parse_object(seen.entry.value).get("worker") if seen is not None else None
        return worker if isinstance(worker, str) else None

    def _is_my_turn(self, camera: str, free_s: float, workers: Collection[WorkerView]) -> bool:
        me = self._settings.worker
        target = self._target(camera)
        if target is not None and any(worker.name == target for worker in workers):
            # The chosen worker comes first; if it does not act within the TTL, any other may.
            return target == me or free_s > self._settings.ttl_s
        if self._state.cooling.get(camera, -math.inf) > self._clock() and free_s < self._settings.ttl_s:
            return False
        delay_s = placement.delay_s(camera, DEFAULT_COST, me, workers)
        if delay_s is None:
            # No worker can open it: one still takes it, so that the failure is reported.
            able = placement.preferred(camera, workers)
            return not able and not self._draining and free_s > placement.MAX_STAGGER_S
        return free_s >= delay_s

    async def _shed(self) -> None:
        while True:
            await asyncio.sleep(SHED_EVERY_S)
            now = self._clock()
            settled = [camera for camera, held in self._held.items() if now - held.since >= SETTLED_S]
            costs = {camera: self._cost(camera) for camera in self._held if camera != INSTANCE}
            camera = placement.to_shed(self._settings.worker, costs, self._workers(), settled=settled)
            if camera is not None and self._connected and camera not in self._busy:
                self._state.cooling[camera] = now + placement.COOL_DOWN_S
                self._give_up(camera, "shed: this worker has more than its share")

    # One camera

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._tasks is not None:
            self._tasks.create_task(work, name=name)

    async def _acquire(self, camera: str) -> None:
        try:
            lease = await self._keeper.acquire(camera)
        except LeaseUnavailable as exc:
            self._set_connected(str(exc))
            return
        finally:
            self._busy.discard(camera)
        if lease is None:
            # Our view was stale. The watch will show the owner; until then, wait as for a live lease.
            self._state.free_since[camera] = self._clock()
            return
        if self._tasks is None:
            await self._hand_back(camera, lease)
            return
        self._state.free_since.pop(camera, None)
        note = self._left_by_the_last(camera)
        held = self._held[camera] = _Held(lease=lease, since=self._clock(), note=note)
        held.renewing = self._tasks.create_task(self._renew(camera, held), name=f"fleet: renew[{camera}]")
        self._arm(camera, held)
        name = "the instance" if camera == INSTANCE else camera
        log.info("fleet: %s: lease acquired, epoch %d", name, lease.epoch)
        self._cameras.start(camera, lease.epoch, note)

    def _left_by_the_last(self, camera: str) -> Mapping[str, Any] | None:
        """Return the note of a lost owner; None if the last owner released the lease."""
        seen = self._state.seen.get(CAMERA + camera)
        owner = parse_owner(seen.entry) if seen is not None else None
        return owner.note if owner is not None and owner.worker != self._settings.worker else None

    async def _renew(self, camera: str, held: _Held) -> None:
        """Renew one lease until it is lost or given up."""
        wait_s = self._settings.ttl_s / 3
        while self._held.get(camera) is held:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await held.due.wait()
            held.due.clear()
            try:
                async with asyncio.timeout(self._settings.ttl_s / 3):
                    lease = await self._keeper.renew(held.lease, held.note)
            except LeaseLost as exc:
                log.warning("fleet: %s", exc)
                if self._held.get(camera) is held:
                    self._give_up(camera, "lost", lost=True)
                return
            except (LeaseUnavailable, TimeoutError) as exc:
                self._set_connected(str(exc) or "no answer to a renewal")
                wait_s = 0.5
                continue
            if self._held.get(camera) is not held:
                return  # given up meanwhile
            epoch, held.lease = held.lease.epoch, lease
            self._set_connected(None)
            if held.keeping:
                log.info("fleet: %s: the lease is renewed again, epoch %d", camera, lease.epoch)
                held.keeping = False
            self._arm(camera, held)
            if lease.epoch != epoch:
                self._spawn(self._restart(camera, held), f"fleet: restart[{camera}]")
            wait_s = self._settings.ttl_s / 3

    async def _restart(self, camera: str, held: _Held) -> None:
        """Restart a camera whose lease goes on with a new epoch: its key had expired."""
        epoch = held.lease.epoch
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._cameras.stop(camera), name=f"fleet: stop[{camera}]")
            await asyncio.wait([stopping], timeout=STOP_S)
            if not stopping.done() and self._held.get(camera) is held:
                self._give_up(camera, "it cannot be restarted")
        if self._held.get(camera) is held and held.lease.epoch == epoch:
            held.note = None
            self._cameras.start(camera, epoch, None)

    def _arm(self, camera: str, held: _Held) -> None:
        """Set the fence of a lease, and the timer that checks it."""
        self._fence.set(held.lease)
        if self._settings.on_quorum_loss == "stop":
            self._guard.set(camera, held.lease.deadline)
        if held.timer is not None:
            held.timer.cancel()
        left_s = max(self._fence.left_s(camera), 0.0)
        held.timer = asyncio.get_running_loop().call_later(left_s, self._fence_fell, camera)

    def _fence_fell(self, camera: str) -> None:
        """Stop a camera whose lease is about to expire; with `keep`, let it go on without a quorum."""
        held = self._held.get(camera)
        if held is None or self._fence.holds(camera) or camera in self._busy:
            return
        stood_still = not held.keeping and self._fence.left_s(camera) < -self._settings.margin_s
        if self._settings.on_quorum_loss == "keep" and not stood_still:
            if not held.keeping:
                held.keeping = True
                log.warning("fleet: %s: the lease cannot be renewed; continuing without it", camera)
            return
        # A worker that was suspended cannot say that there is no quorum: another one has the camera by now.
        why = "this worker stood still until its lease was over" if stood_still else "no answer to a renewal"
        self._give_up(camera, why)

    def _give_up(self, camera: str, why: str, *, lost: bool = False) -> None:
        if camera in self._held:
            log.info("fleet: %s leaves this worker: %s", camera, why)
            self._busy.add(camera)
            lease = self._end_renewals(camera, lost=lost)
            self._spawn(self._leave_one(camera, lease), f"fleet: give up[{camera}]")

    def _end_renewals(self, camera: str, *, lost: bool = False) -> Lease:
        """Renew a lease no more; return it with the time by which its camera must be free as its deadline.

        `lost`: another worker owns the camera.
        """
        held = self._held.pop(camera)
        due = self._due(None if lost else held.lease)
        self._guard.set(camera, due)
        if held.timer is not None:
            held.timer.cancel()
        if held.renewing is not None and held.renewing is not asyncio.current_task():
            held.renewing.cancel()
        return replace(held.lease, deadline=due)

    def _due(self, lease: Lease | None) -> float:
        """Return by when a camera must be free: the end of its lease, or soon if that has passed."""
        soon = self._clock() + self._settings.margin_s
        return soon if lease is None else max(lease.deadline, soon)

    async def _leave_one(self, camera: str, lease: Lease) -> None:
        try:
            await self._hand_back(camera, lease)
        finally:
            self._busy.discard(camera)
            self._state.seen.pop(CAMERA + camera, None)
            self._state.free_since[camera] = self._clock()

    async def _hand_back(self, camera: str, lease: Lease) -> None:
        """Stop a camera, then release its lease: in this order, so that two workers never capture at once.

        A stop that takes longer than `STOP_S`, or than `lease.deadline`, goes on after the release. Returns
        when it has ended.
        """
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._cameras.stop(camera), name=f"fleet: stop[{camera}]")
            left_s = lease.deadline - self._settings.cut_s - self._clock()
            await asyncio.wait([stopping], timeout=min(STOP_S, max(left_s, 0.0)))
            if not stopping.done():
                log.info("fleet: %s: its stop takes longer than its lease; cutting its connections", camera)
            while not self._cameras.cut(camera):  # noqa: ASYNC110 - a process may have to end
                # If it is never free, the guard ends this process when the lease ends.
                await asyncio.sleep(FREE_POLL_S)
            self._guard.clear(camera)
            self._fence.clear(camera)
            try:
                async with asyncio.timeout(self._settings.ttl_s / 3):
                    await self._keeper.release(lease)
            except (LeaseUnavailable, TimeoutError):
                log.info("fleet: %s: the lease could not be released; it expires by itself", camera)


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e6 else default
