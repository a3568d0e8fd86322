"""The cameras that a worker owns: acquire, renew, fence, give up.

    acquire ──▶ start(camera, epoch)
       │
    renew every ttl/3, a task of its own for each lease
       │
    lost, fenced, or given up ──▶ stop(camera) ──▶ cut ──▶ release

- The fence is an event loop timer for each lease, set again by each renewal. It is also checked against the
  boot clock at every `check`, for machines that were suspended.
- A lease ends only when its camera is free. A stop that takes too long goes on without its camera, whose
  connections are cut. If that fails too, or the event loop is blocked, the guard ends the process.
- Without a quorum `keep` goes on with the cameras that this worker owns, with `Assignment.held` False: its
  announcements are delayed, and a newer epoch wins. `stop` stops them in time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from async_motion.errors import LeaseLost, LeaseUnavailable
from async_motion.fleet.bucket_view import RETRY_S, BucketView
from async_motion.fleet.guard import LeaseGuard
from async_motion.fleet.leases import Fence, KeyValueBucket, Lease, LeaseKeeper, Owner
from async_motion.fleet.model import INSTANCE, Assignment, FleetSettings, OwnedCameras

log = logging.getLogger(__name__)

STOP_S: Final = 3.0
"""How long a lease waits for the stop of its camera before the camera's connections are cut."""
FREE_POLL_S: Final = 0.05


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


class LeaseHolder:
    """Hold the leases of one worker's cameras while it is open, with `async with`; then release them all.

    `freed(camera)` is called when a camera was given up. `end(camera)` ends the process, because this camera
    cannot be freed in time; it is called in a thread of its own.
    """

    def __init__(
        self,
        settings: FleetSettings,
        bucket: KeyValueBucket,
        view: BucketView,
        cameras: OwnedCameras,
        *,
        freed: Callable[[str], None],
        end: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._view = view
        self._cameras = cameras
        self._freed = freed
        self._clock = clock
        self._keeper = LeaseKeeper(bucket, settings.worker, ttl_s=settings.ttl_s, clock=clock)
        self._fence = Fence(settings.margin_s, clock)
        self._guard = LeaseGuard(cut=cameras.cut, end=end, early_s=settings.cut_s, clock=clock)
        self._held: dict[str, _Held] = {}
        self._busy: set[str] = set()
        """Cameras that are being acquired or given up."""
        self._tasks: asyncio.TaskGroup | None = None

    # What is held

    def __contains__(self, camera: str) -> bool:
        return camera in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    @property
    def idle(self) -> bool:
        """Whether this worker owns no camera and is not giving one up."""
        return not self._held and not self._busy

    @property
    def keeping(self) -> bool:
        """Whether a camera goes on although its lease cannot be renewed."""
        return any(held.keeping for held in self._held.values())

    def is_busy(self, camera: str) -> bool:
        """Return whether a camera is being acquired or given up."""
        return camera in self._busy

    def epoch(self, camera: str) -> int:
        """Return the epoch of a camera that is held."""
        return self._held[camera].lease.epoch

    def held_for(self, camera: str) -> float:
        """Return for how many seconds a camera has been held."""
        return self._clock() - self._held[camera].since

    def assignment(self, camera: str) -> Assignment | None:
        """Return the assignment of a camera; None if it is not held, or its connections were cut."""
        held = self._held.get(camera)
        if held is None or self._guard.has_cut(camera):
            return None
        return Assignment(camera=camera, epoch=held.lease.epoch, held=self._fence.holds(camera))

    def note(self, camera: str, note: Mapping[str, Any] | None) -> None:
        """Store a note in the lease, for the next owner if this worker is lost. None removes it."""
        held = self._held.get(camera)
        if held is not None and held.note != note:
            held.note = note
            held.due.set()

    def noted(self, camera: str) -> Mapping[str, Any] | None:
        """Return the note in the lease of a camera that is held; None without one."""
        held = self._held.get(camera)
        return held.note if held is not None else None

    # The life of the leases

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Hold leases while `work` runs, in a group with their tasks; then stop and release every camera."""
        self._guard.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                try:
                    await work
                finally:
                    # From now on leases are not renewed reliably, even if a task of this group does not end.
                    for camera, held in self._held.items():
                        self._guard.set(camera, self._due(held.lease))
        finally:
            self._tasks = None
            try:
                async with asyncio.TaskGroup() as tasks:
                    for camera in list(self._held):
                        lease = self._end_renewals(camera)
                        tasks.create_task(self._hand_back(camera, lease), name=f"fleet: release[{camera}]")
            finally:
                self._guard.stop()

    def check(self) -> None:
        """Give up the cameras whose fence fell, or whose connections were cut."""
        for camera in list(self._held):
            if self._guard.has_cut(camera):
                self.give_up(camera, "its connections were cut, for the event loop was late")
            elif not self._fence.holds(camera):
                self._fence_fell(camera)

    def is_ours(self, camera: str, owner: Owner) -> bool:
        """Return whether a camera's lease in the bucket was written by this run of the worker."""
        return self._keeper.is_ours(camera, owner)

    def acquire(self, camera: str, *, resume: bool = False) -> None:
        """Try to acquire a camera, in a task; start it, or call `freed` if another worker owns it.

        `resume`: its lease in the bucket is ours.
        """
        self._busy.add(camera)
        self._spawn(self._acquire(camera, resume=resume), f"fleet: acquire[{camera}]")

    def give_up(self, camera: str, why: str, *, lost: bool = False) -> None:
        """Stop a camera and release its lease, in a task. `lost`: another worker owns it."""
        if camera in self._held:
            log.info("fleet: %s leaves this worker: %s", camera, why)
            self._busy.add(camera)
            lease = self._end_renewals(camera, lost=lost)
            self._spawn(self._leave(camera, lease), f"fleet: give up[{camera}]")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._tasks is not None:
            self._tasks.create_task(work, name=name)

    async def _acquire(self, camera: str, *, resume: bool) -> None:
        acquire = self._keeper.resume if resume else self._keeper.acquire
        # The watch may show our own key before the answer: then the last owner is no longer in the view.
        note = self._left_by_the_last(camera)
        try:
            lease = await acquire(camera)
        except LeaseUnavailable as exc:
            self._view.failed(str(exc))
            return
        finally:
            self._busy.discard(camera)
        if lease is None:
            # Our view was stale. The watch will show the owner; until then, wait as for a live lease.
            self._freed(camera)
            return
        if self._tasks is None:
            await self._hand_back(camera, lease)
            return
        held = self._held[camera] = _Held(lease=lease, since=self._clock(), note=note)
        held.renewing = self._tasks.create_task(self._renew(camera, held), name=f"fleet: renew[{camera}]")
        self._arm(camera, held)
        name = "the instance" if camera == INSTANCE else camera
        log.info("fleet: %s: lease acquired, epoch %d", name, lease.epoch)
        self._cameras.start(camera, lease.epoch, note)

    def _left_by_the_last(self, camera: str) -> Mapping[str, Any] | None:
        """Return the note of a lost owner; None if the last owner released the lease."""
        owner = self._view.last_owner(camera)
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
                    self.give_up(camera, "lost", lost=True)
                return
            except (LeaseUnavailable, TimeoutError) as exc:
                self._view.failed(str(exc) or "no answer to a renewal")
                wait_s = RETRY_S
                continue
            if self._held.get(camera) is not held:
                return  # given up meanwhile
            epoch, held.lease = held.lease.epoch, lease
            self._view.answered()
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
                self.give_up(camera, "it cannot be restarted")
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
        self.give_up(camera, why)

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

    async def _leave(self, camera: str, lease: Lease) -> None:
        try:
            await self._hand_back(camera, lease)
        finally:
            self._busy.discard(camera)
            self._view.forget(camera)
            self._freed(camera)

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
