"""One worker of a fleet: which cameras it should own.

    view (worker.*, camera.*) ──placement──▶ acquire …
                shed, refused, drained, moved ──▶ … give up

- `BucketView` is what it knows, `placement` what follows from that, `LeaseHolder` does it.
- Without a quorum no worker can acquire a camera.
- After its start and after an outage `Settling` waits for the others: alone a worker would take every camera.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from async_motion.errors import LeaseUnavailable
from async_motion.fleet import placement
from async_motion.fleet.bucket_view import PROBE_S, RETRY_S, WORKER, BucketView
from async_motion.fleet.clock import boottime
from async_motion.fleet.holder import LeaseHolder
from async_motion.fleet.leases import KeyTaken
from async_motion.fleet.model import (
    INSTANCE,
    Assignment,
    FleetSettings,
    FleetView,
    OwnedCameras,
    WatchedBucket,
)
from async_motion.fleet.placement import WorkerView
from async_motion.fleet.report import DEFAULT_COST, WorkerReport
from async_motion.fleet.settling import Settling

log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
"""How often the view is evaluated."""
SHED_EVERY_S: Final = 5.0
"""How often a worker checks whether it has more than its share."""
SETTLED_S: Final = 30.0
"""How long a worker owns a camera before it may shed it: the cost is measured by then."""
REFUSED_FOR_S: Final = 300.0
"""How long a worker skips a camera that it could not open."""
INSTANCE_COST: Final = 0.01


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
        self._cost_of = cost_of
        self._about = about
        self._clock = clock
        self._run = secrets.token_hex(4)
        self._view = BucketView(
            bucket,
            worker=settings.worker,
            run=self._run,
            cameras=settings.cameras,
            ttl_s=settings.ttl_s,
            clock=clock,
        )
        self._holder = LeaseHolder(
            settings, bucket, self._view, cameras, freed=self._freed, end=end, clock=clock
        )
        self._settling = Settling(self._view, ttl_s=settings.ttl_s, clock=clock)
        self._free_since: dict[str, float] = {}
        self._cooling: dict[str, float] = {}
        """Until when a camera that was shed is not taken back."""
        self._refusals: dict[str, tuple[float, str]] = {}
        """Until when a camera is refused, and why."""
        self._leaving = False
        self._warned: tuple[str, ...] = ()
        self._told: int | None = None
        """The revision of this worker's newest report."""
        self._namesake_until = -math.inf

    @property
    def _draining(self) -> bool:
        return self._leaving or self._view.drained

    # State and requests

    def assignment(self, camera: str) -> Assignment | None:
        """Return this worker's assignment of a camera; None if it does not own it, or was cut off from it."""
        return self._holder.assignment(camera)

    def view(self) -> FleetView:
        """Return what this worker knows of the fleet now."""
        owners, epochs = {}, {}
        for camera in self._settings.cameras:
            if camera in self._holder:
                owners[camera], epochs[camera] = self._settings.worker, self._holder.epoch(camera)
            elif (owner := self._view.owner(camera)) is not None:
                owners[camera], epochs[camera] = owner.worker, owner.epoch
        about = {name: report.about for name, report in self._view.reports().items()}
        return FleetView(
            connected=self._view.connected,
            workers=tuple(self._workers()),
            speaker=owners.pop(INSTANCE, None),
            owners=owners,
            epochs={camera: epoch for camera, epoch in epochs.items() if camera != INSTANCE},
            about=about | {self._settings.worker: self._about()},
            keeping=self._holder.keeping,
            problem=self._view.problem,
            different=self._different(),
            namesake=self._namesake_until > self._clock(),
        )

    def cannot_open(self, camera: str, reason: str) -> None:
        """Report that this worker cannot open a camera, so that another one takes it."""
        self._refusals[camera] = (self._clock() + REFUSED_FOR_S, reason)

    def refusal(self, camera: str) -> str | None:
        """Return why this worker cannot open a camera; None if it can."""
        return self._refused().get(camera)

    def drain(self) -> None:
        """Hand all cameras over and take none, for the rest of this run."""
        self._leaving = True

    def note(self, camera: str, note: Mapping[str, Any] | None) -> None:
        """Store a note in the lease, for the next owner if this worker is lost. None removes it."""
        self._holder.note(camera, note)

    def noted(self, camera: str) -> Mapping[str, Any] | None:
        """Return the note in the lease of a camera that this worker owns; None without one."""
        return self._holder.noted(camera)

    @property
    def idle(self) -> bool:
        """Whether this worker owns no camera and is not giving one up."""
        return self._holder.idle

    # The life of a worker

    async def run(self) -> None:
        """Take part in the fleet until cancelled; then stop and release every camera."""
        try:
            await self._holder.run(self._take_part())
        finally:
            # In a task of its own: this one may have been cancelled, and the bucket honors that in each call.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._withdraw(), name="fleet: withdraw")

    async def _take_part(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._view.follow(), name="fleet: follow")
            tasks.create_task(self._tell(), name="fleet: tell")
            tasks.create_task(self._shed(), name="fleet: shed")
            while True:
                self._look()
                await asyncio.sleep(LOOK_S)

    async def _withdraw(self) -> None:
        """Delete this worker's report."""
        key = WORKER + self._settings.worker
        try:
            entry = await self._bucket.get(key)
            if entry is not None:
                await self._bucket.delete(key, entry.revision)
        except (LeaseUnavailable, KeyTaken) as exc:
            log.debug("fleet: cannot delete the worker's key; it expires by itself: %s", exc)

    async def _tell(self) -> None:
        """Write this worker's report every `ttl_s / 3`; while there is no answer, more often."""
        key = WORKER + self._settings.worker
        while True:
            pause_s = RETRY_S
            try:
                async with asyncio.timeout(None if self._view.connected else PROBE_S):
                    self._told = await self._bucket.put(key, self._report().encode())
                self._view.answered()
                pause_s = self._settings.ttl_s / 3
            except (LeaseUnavailable, TimeoutError) as exc:
                self._view.failed(str(exc) or "no answer to a report")
            while pause_s > 0:
                await asyncio.sleep(min(pause_s, RETRY_S))
                # Another request may have had no answer: a report finds out when there is one again.
                pause_s = pause_s - RETRY_S if self._view.connected else 0.0

    def _report(self) -> WorkerReport:
        return WorkerReport(
            capacity=self._settings.capacity,
            fingerprint=self._settings.fingerprint,
            draining=self._draining,
            refused=self._refused(),
            costs={camera: self._cost(camera) for camera in self._holder},
            about=self._about(),
            run=self._run,
        )

    # Evaluating the view

    def _freed(self, camera: str) -> None:
        self._free_since[camera] = self._clock()

    def _refused(self) -> Mapping[str, str]:
        """Return the cameras that this worker cannot open, with the reasons."""
        now = self._clock()
        self._refusals = {camera: refusal for camera, refusal in self._refusals.items() if refusal[0] > now}
        return {camera: why for camera, (_, why) in self._refusals.items()}

    def _cost(self, camera: str) -> float:
        cost = self._cost_of(camera) if camera != INSTANCE else INSTANCE_COST
        return cost if cost is not None and math.isfinite(cost) and cost > 0 else DEFAULT_COST

    def _workers(self) -> list[WorkerView]:
        """Return all workers, with loads computed from the leases in the view."""
        me = self._settings.worker
        owned: dict[str, list[str]] = {}
        for camera in self._settings.cameras:
            if camera in self._holder:
                owned.setdefault(me, []).append(camera)
            elif (owner := self._view.owner(camera)) is not None:
                owned.setdefault(owner.worker, []).append(camera)
        reports = self._view.reports() | {me: self._report()}
        return [
            report.as_view(name, owned.get(name, ()))
            for name, report in reports.items()
            if report.capacity > 0
        ]

    def _different(self) -> tuple[str, ...]:
        """Return the workers whose settings differ; log each change of that list once."""
        found = tuple(
            sorted(
                name
                for name, report in self._view.reports().items()
                if report.fingerprint != self._settings.fingerprint
            )
        )
        if found != self._warned:
            self._warned = found
            if found:
                log.error(
                    "fleet: the settings of %s differ from ours: give all workers the same variables.yaml",
                    ", ".join(found),
                )
        return found

    def _find_namesake(self) -> None:
        """Notice another worker that reports under this worker's name; log it once."""
        if self._told is None:
            return
        report = self._view.told_since(self._settings.worker, self._told)
        if report is None or report.run == self._run:
            return
        now = self._clock()
        if self._namesake_until < now:
            log.error(
                "fleet: another worker is called %s too: give each host its own fleet.name",
                self._settings.worker,
            )
        self._namesake_until = now + self._settings.ttl_s

    def _look(self) -> None:
        """Act on the view: fence, drain, acquire free cameras."""
        now = self._clock()
        self._holder.check()
        self._different()
        self._find_namesake()
        workers = self._workers()
        for camera in self._holder:
            if not self._holder.is_busy(camera) and self._must_go(camera, workers):
                self._holder.give_up(camera, "given to another worker")
        if not self._settling.look():
            # Each worker counts its turn from when it may take cameras, or the first to be back takes all.
            self._free_since.clear()
            return
        for camera in self._settings.cameras:
            if camera in self._holder or self._holder.is_busy(camera):
                continue
            owner = self._view.owner(camera)
            if owner is not None and self._holder.is_ours(camera, owner):
                self._holder.acquire(camera, resume=True)
                continue
            if not self._view.is_free(camera):
                self._free_since.pop(camera, None)
                continue
            since = self._free_since.setdefault(camera, now)
            if self._is_my_turn(camera, now - since, workers):
                self._holder.acquire(camera)

    def _must_go(self, camera: str, workers: Collection[WorkerView]) -> bool:
        """Return whether a camera must leave this worker: a drain, a manual move, or it cannot be opened."""
        if self._moved_to(camera, workers) not in (None, self._settings.worker):
            return True
        if not self._draining and camera not in self._refused():
            return False
        return any(w.name != self._settings.worker for w in placement.preferred(camera, workers))

    def _moved_to(self, camera: str, workers: Collection[WorkerView]) -> str | None:
        """Return the target of a camera's manual move; None without one, or if that worker cannot take it."""
        target = self._view.target(camera)
        if target is None or all(w.name != target for w in placement.preferred(camera, workers)):
            return None
        return target

    def _is_my_turn(self, camera: str, free_s: float, workers: Collection[WorkerView]) -> bool:
        me = self._settings.worker
        target = self._moved_to(camera, workers)
        if target is not None:
            # The chosen worker comes first; if it does not act within the TTL, any other may.
            return target == me or free_s > self._settings.ttl_s
        if self._cooling.get(camera, -math.inf) > self._clock() and free_s < placement.MAX_STAGGER_S:
            return False  # Shed: take it back only after every other worker's turn.
        delay_s = placement.delay_s(camera, DEFAULT_COST, me, workers)
        if delay_s is None:
            # No worker can open it: one still takes it, so that the failure is reported.
            able = placement.preferred(camera, workers)
            return not able and not self._draining and free_s > placement.MAX_STAGGER_S
        return free_s >= delay_s

    async def _shed(self) -> None:
        while True:
            await asyncio.sleep(SHED_EVERY_S)
            settled = [camera for camera in self._holder if self._holder.held_for(camera) >= SETTLED_S]
            costs = {camera: self._cost(camera) for camera in self._holder if camera != INSTANCE}
            camera = placement.to_shed(self._settings.worker, costs, self._workers(), settled=settled)
            if camera is not None and self._view.connected and not self._holder.is_busy(camera):
                self._cooling[camera] = self._clock() + placement.COOL_DOWN_S
                self._holder.give_up(camera, "shed: this worker has more than its share")
